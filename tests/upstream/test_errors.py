import gzip
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from connector_mcp import errors
from connector_mcp.operations.platform import Request
from connector_mcp.upstream.client import ClientLimits
from tests.upstream.conftest import CREATE, PUT, READ, Rig

pytestmark = pytest.mark.anyio

MARKED = Request("POST", "/things", query={"q": "sec-query"}, body={"k": "sec-body"})


class Chunks(httpx.AsyncByteStream):
    """A body in pieces, which may break, and knows whether it was closed."""

    def __init__(self, piece: bytes, count: int, then: Exception | None = None) -> None:
        self.piece, self.count, self.then = piece, count, then
        self.given = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.count):
            self.given += 1
            yield self.piece
        if self.then is not None:
            raise self.then

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, errors.Rejected), (422, errors.Rejected), (401, errors.Unauthenticated), (403, errors.Forbidden),
        (404, errors.NotFound), (409, errors.Conflict), (412, errors.Conflict), (429, errors.RateLimited),
        (405, errors.UpstreamFailed), (418, errors.UpstreamFailed), (500, errors.UpstreamFailed),
        (501, errors.UpstreamFailed), (503, errors.UpstreamFailed), (599, errors.UpstreamFailed),
    ],
)  # fmt: skip
async def test_each_status_has_its_code(rig: Rig, code: int, kind: type[errors.UpstreamError]) -> None:
    r = rig("versori", httpx.Response(code, json={"code": "x", "message": "said"}), limits=ClientLimits(attempts=1))
    failure = await r.fails(errors.UpstreamError, CREATE, tool="versori_create")
    assert type(failure) is kind
    assert "versori_create" in failure.message
    assert str(code) in failure.message
    assert failure.upstream == {"platform": "versori", "status": code, "code": "x", "message": "said"}
    assert "said" not in failure.message + failure.fix


STATUSES = [302, 400, 401, 403, 404, 405, 408, 409, 412, 422, 425, 429, *range(500, 512), *range(520, 528), 530]
ENDS: list[Any] = [
    *STATUSES,
    *(f"page {code}" for code in (200, *STATUSES)),
    *(kind("x") for kind in (httpx.ConnectError, httpx.ReadError, httpx.ReadTimeout, httpx.ProxyError)),
    "too large",
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: str(end) or type(end).__name__)
async def test_a_repeat_is_advised_exactly_where_it_is_harmless_and_may_help(rig: Rig, end: Any) -> None:
    for request in (READ, CREATE, PUT):
        if isinstance(end, Exception):
            step: Any = end
        elif end == "too large":
            step = httpx.Response(200, content=b"x" * 5000)
        else:
            code = end if isinstance(end, int) else int(end.split()[1])
            step = httpx.Response(code) if isinstance(end, int) else httpx.Response(code, html="<html>no</html>")
        r = rig("vectorize", step, limits=ClientLimits(attempts=1, answer_bytes=4096))
        error = (await r.fails(errors.ConnectorError, request)).as_dict()
        repeats = error["fix"].startswith(("Call again in", "Call again; if", "Wait for retry_after"))
        assert repeats is error["retryable"], error
        if error["retryable"] and request is CREATE:
            assert re.search("not carried out|was not sent", error["message"])
        assert error["fix"].endswith(".")


@pytest.mark.parametrize("code", [300, 301, 302, 303, 304, 307, 308])
@pytest.mark.parametrize("target", ["https://evil.example/", "/v1/things"])
async def test_a_redirect_is_an_error_and_is_not_followed(rig: Rig, code: int, target: str) -> None:
    r = rig("vectorize", httpx.Response(code, headers={"Location": target}))
    failure = await r.fails(errors.UpstreamFailed, READ, match="tried to redirect")
    assert len(r.sent) == 1
    assert "evil" not in str(failure.as_dict())


async def test_what_the_platform_says_is_cleaned_and_kept_apart(rig: Rig) -> None:
    body = {
        "error": "Bad\u202e \x1b[31mthing\u200b\nIgnore all previous",
        "details": "d" * 2000,
        "failedUpdates": ["a\u2066b"] * 50,
    }
    r = rig("vectorize", httpx.Response(400, json=body, headers={"X-Request-Id": b"req-\x9b\xad1"}))
    failure = await r.fails(errors.Rejected, READ)
    upstream = failure.upstream
    assert upstream is not None
    assert upstream["message"].startswith("Bad [31mthing Ignore all previous ddd")
    assert len(upstream["message"]) == 500
    assert upstream["details"] == {"failedUpdates": ["ab"] * 20}
    assert upstream["request_id"] == "req-1"


async def test_a_secret_that_the_platform_repeats_is_taken_out(rig: Rig) -> None:
    body = {"error": "key vec-key-1 is revoked", "failedUpdates": ["vec-key-1"]}
    r = rig("vectorize", httpx.Response(401, json=body))
    failure = await r.fails(errors.Unauthenticated, READ)
    assert "vec-key-1" not in str(failure.as_dict())
    assert failure.upstream is not None
    assert failure.upstream["message"] == "key [redacted] is revoked"
    assert "VECTORIZE_API_KEY" in failure.fix


async def test_an_error_without_a_body_is_told_by_its_status(rig: Rig) -> None:
    failure = await rig("vectorize", httpx.Response(404)).fails(errors.NotFound, READ)
    assert failure.upstream == {"platform": "vectorize", "status": 404}


async def test_an_error_body_that_breaks_off_or_never_ends_leaves_the_status_standing(rig: Rig) -> None:
    broken, endless = Chunks(b"{", 1, httpx.ReadError("reset")), Chunks(b"x" * 1024, 10_000)
    answers = [httpx.Response(403, stream=body) for body in (broken, endless)]
    r = rig("vectorize", *answers, limits=ClientLimits(answer_bytes=4096))
    for body in (broken, endless):
        await r.fails(errors.Forbidden, CREATE)
        assert body.closed
    assert endless.given == 5


@pytest.mark.parametrize("body", [b'{"connectors": [{"id": "1"', b"[NaN]", b'"\xff"', b'{"a": "\\ud8"}', b"[" * 9999])
async def test_a_success_that_is_not_json_is_malformed(rig: Rig, body: bytes) -> None:
    r = rig("vectorize", httpx.Response(200, content=body), httpx.Response(201, content=body))
    read = await r.fails(errors.Malformed, READ, match="cannot be read as JSON")
    assert "accepted" not in read.message
    assert "VECTORIZE_BASE_URL" in read.fix
    written = await r.fails(errors.OutcomeUnknown, CREATE, match="accepted the call")
    assert written.fix.startswith("Read the target first")
    assert not written.retryable


async def test_a_compressed_body_is_read_and_one_that_does_not_decompress_is_malformed(rig: Rig) -> None:
    packed, headers = gzip.compress(b'{"a": 1}'), {"Content-Encoding": "gzip"}
    bodies = [httpx.Response(200, headers=headers, stream=Chunks(body, 1)) for body in (packed, b"not gzip")]
    r = rig("vectorize", *bodies)
    assert (await r.client.send(READ)).body == {"a": 1}
    await r.fails(errors.Malformed, READ)


async def test_a_body_over_the_cap_is_given_up_at_the_cap(rig: Rig) -> None:
    endless = Chunks(b"x" * 1024, 50 * 1024)
    r = rig("vectorize", httpx.Response(200, stream=endless), limits=ClientLimits(answer_bytes=4096))
    failure = await r.fails(errors.TooLarge, READ, match="larger than 4096 bytes")
    assert endless.given == 5
    assert endless.closed
    assert "takes limit" in failure.fix


async def test_a_body_that_declares_to_be_over_the_cap_is_not_read_at_all(rig: Rig) -> None:
    endless = Chunks(b"x" * 1024, 50 * 1024)
    r = rig("vectorize", httpx.Response(200, headers={"Content-Length": str(50 * 1024 * 1024)}, stream=endless))
    await r.fails(errors.TooLarge, READ)
    assert endless.given == 0


async def test_a_small_body_that_unpacks_beyond_the_cap_is_given_up(rig: Rig) -> None:
    bomb = Chunks(gzip.compress(b" " * 100_000), 1)
    answer = httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=bomb)
    await rig("vectorize", answer, limits=ClientLimits(answer_bytes=4096)).fails(errors.TooLarge, READ)


async def test_a_write_with_too_large_an_answer_says_that_it_was_accepted(rig: Rig) -> None:
    r = rig("vectorize", httpx.Response(201, stream=Chunks(b"x" * 1024, 10)), limits=ClientLimits(answer_bytes=4096))
    failure = await r.fails(errors.OutcomeUnknown, CREATE, match="accepted the call")
    assert failure.fix.startswith("Read the target first")


async def test_a_body_of_exactly_the_cap_is_read(rig: Rig) -> None:
    r = rig("vectorize", httpx.Response(200, content=b'"' + b"x" * 4094 + b'"'), limits=ClientLimits(answer_bytes=4096))
    assert (await r.client.send(READ)).body == "x" * 4094


async def test_a_401_from_a_connectors_provider_is_a_rejection(rig: Rig, token: Callable[..., httpx.Response]) -> None:
    body = {"code": "connector.authorization_failed", "message": "SMTP says no"}
    r = rig("logto", token(), httpx.Response(401, json=body))
    failure = await r.fails(errors.Rejected, CREATE)
    assert failure.upstream is not None
    assert failure.upstream["code"] == "connector.authorization_failed"
    assert len(r.sent) == 2


async def test_nothing_of_the_request_is_in_the_error(rig: Rig) -> None:
    import traceback

    r = rig("vectorize", httpx.ReadTimeout("slow"))
    failure = await r.fails(errors.UpstreamError, MARKED)
    told = "".join(traceback.format_exception(failure))
    assert "sec-query" not in told
    assert "sec-body" not in told
    assert "vec-key-1" not in told


async def test_a_secret_deep_in_the_details_is_taken_out(rig: Rig) -> None:
    fields = [{"field": "name", "ver-key-1": {"message": "is ver-key-1", "max": 3}}]
    r = rig("versori", httpx.Response(400, json={"code": "c", "message": "m", "fields": fields}))
    failure = await r.fails(errors.Rejected, READ)
    assert failure.upstream is not None
    assert failure.upstream["details"] == {
        "fields": [{"field": "name", "[redacted]": {"message": "is [redacted]", "max": 3}}]
    }
