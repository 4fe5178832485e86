"""A compressed body as it is to be read, without letting a small one swell to any size."""

from __future__ import annotations

import zlib
from typing import Final

_PIECE: Final = 16 * 1024
"""Bytes at a time. What a body swells to between two looks at the cap is bounded by it."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_BARE: Final = -zlib.MAX_WBITS


def inflate(body: bytes, coding: bytes, most: int) -> bytes | None:
    """`body` without the coding that `Content-Encoding` names; None where that is more than `most` bytes.

    A coding that was not asked for leaves the body as it is: whether that can be read shows further on.

    Raises:
        ValueError: It is not what the coding says, or breaks off, or is coded more than once.
    """
    named = coding.strip().lower()
    if b"," in named:
        # Allowed, sent by nobody, and a way to have gigabytes inflated that are never seen.
        raise ValueError("coded more than once")
    if not body:
        return body
    match named:
        case b"gzip" | b"x-gzip":
            return _inflate(body, _GZIP, most)
        case b"deflate":
            # Some send it without the envelope that the standard asks for.
            try:
                return _inflate(body, _ZLIB, most)
            except ValueError:
                return _inflate(body, _BARE, most)
        case _:
            return body


def _inflate(body: bytes, window: int, most: int) -> bytes | None:
    decoder = zlib.decompressobj(window)
    pieces: list[bytes] = []
    size = 0
    for start in range(0, len(body), _PIECE):
        left, full = body[start : start + _PIECE], True
        # A full piece may have more behind it, also where all of the input is taken.
        while (left or full) and not decoder.eof:
            try:
                piece = decoder.decompress(left, _PIECE)
            except zlib.error as error:
                raise ValueError("not compressed as it says") from error
            left, full = decoder.unconsumed_tail, len(piece) == _PIECE
            size += len(piece)
            if size > most:
                return None
            pieces.append(piece)
    if not decoder.eof:
        raise ValueError("breaks off")
    return b"".join(pieces)
