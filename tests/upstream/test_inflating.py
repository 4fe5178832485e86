import gzip
import tracemalloc
import zlib

import pytest

from connector_mcp.upstream.inflating import inflate

TEXT = b'{"name":"a connector"}' * 5000


def bare(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        (b"gzip", gzip.compress(TEXT, mtime=0)),
        (b"x-gzip", gzip.compress(TEXT, mtime=0)),
        (b"deflate", zlib.compress(TEXT)),
        (b"Deflate", bare(TEXT)),
        (b"identity", TEXT),
        # Not asked for; whether it can be read shows where it is read.
        (b"br", TEXT),
    ],
)
def test_a_body_comes_out_as_it_went_in_unless_it_exceeds_the_cap(coding: bytes, packed: bytes) -> None:
    assert inflate(packed, coding, len(TEXT)) == TEXT
    if packed is not TEXT:
        assert inflate(packed, coding, len(TEXT) - 1) is None


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
def test_no_body_is_no_body_however_it_is_said_to_be_coded(coding: bytes) -> None:
    assert inflate(b"", coding, 0) == b""


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        (b"gzip", TEXT),
        (b"gzip", zlib.compress(TEXT)),
        (b"gzip", gzip.compress(TEXT, mtime=0)[:-1]),
        (b"gzip", gzip.compress(TEXT, mtime=0)[:100]),
        (b"deflate", bare(TEXT)[:-3]),
        (b"deflate", b"\xff" * 100),
        (b"gzip, gzip", gzip.compress(gzip.compress(TEXT, mtime=0), mtime=0)),
    ],
)
def test_what_is_not_what_it_says_or_breaks_off_is_refused(coding: bytes, packed: bytes) -> None:
    with pytest.raises(ValueError):
        inflate(packed, coding, len(TEXT))


def test_a_bomb_takes_no_more_memory_than_the_cap() -> None:
    bomb = gzip.compress(bytes(50_000_000), compresslevel=1)
    tracemalloc.start()
    try:
        assert inflate(bomb, b"gzip", 100_000) is None
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()
