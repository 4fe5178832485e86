"""What an answer says about the request: the platform's verdict, or something in front of it."""

import codecs
import json
import time
from typing import Any

import httpx
import pytest

from connector_mcp import errors
from connector_mcp.operations.platform import Request
from connector_mcp.operations.versori.platform import VERSORI
from connector_mcp.upstream.client import ClientLimits
from connector_mcp.upstream.responses import RawResponse, is_open, read_message
from tests.upstream.conftest import CREATE, DELETE, PUT, READ, Rig

pytestmark = pytest.mark.anyio


ASK = Request("POST", "/things/search", body={}, changes=False)
PATCH = Request("PATCH", "/things/{id}", {"id": "1"}, body={}, repeatable=True)
WRITES = [CREATE, PATCH, PUT, DELETE]

OWN = {"content": b'{"code": "c", "message": "said"}', "headers": {"Content-Type": "application/json"}}
PAGE = {
    "content": b"<!DOCTYPE html><html><head><title>Attention Required! | Fire\x1bwall</title></head></html>",
    "headers": {"Content-Type": "text/html", "CF-RAY": "8a-ZRH", "Server": "cloudflare"},
}
TEXT = {"content": b"upstream connect error", "headers": {"Content-Type": "text/plain"}}
OTHER_JSON = {"content": b'{"fault": {"reason": "quota"}}', "headers": {"Content-Type": "application/json"}}
FOREIGN = [PAGE, TEXT, OTHER_JSON]

ONCE = ClientLimits(attempts=1)

OPEN_ALWAYS = (300, 303, 499, 502, 504, 520, 522, 524, 527)
OPEN_IF_FOREIGN = (500, 503, 506, 507, 508, 509, 510, 529, 561, 599)
NOT_CARRIED_OUT = (408, 425, 429, 521, 523, 525, 526, 530)
TURNED_AWAY_BY_A_PAGE = (400, 401, 402, 403, 404, 405, 407, 409, 410, 411, 412, 413, 414, 415, 417, 421, 422, 426, 428,
                         431, 451, 501, 505, 511)  # fmt: skip


@pytest.mark.parametrize("status", [*OPEN_ALWAYS, *OPEN_IF_FOREIGN])
@pytest.mark.parametrize("body", [OWN, *FOREIGN])
async def test_a_write_that_may_have_been_carried_out_is_of_unknown_outcome(
    rig: Rig, status: int, body: dict[str, Any]
) -> None:
    is_open = status in OPEN_ALWAYS or body is not OWN
    for request in WRITES:
        failure = await rig("versori", httpx.Response(status, **body), limits=ONCE).fails(errors.UpstreamError, request)
        assert isinstance(failure, errors.OutcomeUnknown) is is_open, (status, request.method)
        assert not (is_open and failure.retryable)


@pytest.mark.parametrize("status", NOT_CARRIED_OUT)
@pytest.mark.parametrize("body", [OWN, *FOREIGN, {}])
async def test_a_write_that_was_turned_away_says_so_and_may_be_called_again(
    rig: Rig, status: int, body: dict[str, Any]
) -> None:
    for request in [READ, *WRITES]:
        failure = await rig("versori", httpx.Response(status, **body), limits=ONCE).fails(errors.UpstreamError, request)
        assert "was not carried out" in failure.message
        assert failure.retryable
        assert not isinstance(failure, errors.OutcomeUnknown)


@pytest.mark.parametrize("status", TURNED_AWAY_BY_A_PAGE)
@pytest.mark.parametrize("body", FOREIGN)
async def test_a_page_is_never_told_as_the_platforms_verdict(rig: Rig, status: int, body: dict[str, Any]) -> None:
    verdicts = (errors.Rejected, errors.Unauthenticated, errors.Forbidden, errors.NotFound, errors.Conflict)
    for request in [READ, ASK, *WRITES]:
        answer = httpx.Response(status, **body)
        failure = await rig("versori", answer, answer, limits=ONCE).fails(errors.UpstreamError, request)
        assert not isinstance(failure, verdicts)
        assert "VERSORI_BASE_URL" in failure.fix
        assert "firewall" in failure.fix
        assert "VERSORI_API_KEY" not in failure.message + failure.fix
        assert failure.fix.startswith("Read the target first") is (request in WRITES)


@pytest.mark.parametrize("status", [200, 201, 403, 500, 502])
async def test_what_the_page_says_is_shown_as_upstream_detail(rig: Rig, status: int) -> None:
    for request in (READ, CREATE):
        failure = await rig("versori", httpx.Response(status, **PAGE), limits=ONCE).fails(errors.UpstreamError, request)
        assert failure.upstream is not None
        assert failure.upstream["page"] == {
            "title": "Attention Required! | Firewall",
            "content-type": "text/html",
            "server": "cloudflare",
            "cf-ray": "8a-ZRH",
        }
        assert "Attention" not in failure.message + failure.fix


async def test_a_secret_in_a_page_is_not_shown(rig: Rig) -> None:
    answer = httpx.Response(403, html="<title>ver-key-1 is blocked</title>")
    assert "ver-key-1" not in str((await rig("versori", answer).fails(errors.Malformed, READ)).as_dict())


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize("body", [PAGE, TEXT])
async def test_a_success_that_is_a_page_is_malformed_for_a_read_and_unknown_for_a_write(
    rig: Rig, status: int, body: dict[str, Any]
) -> None:
    for request in (READ, ASK):
        failure = await rig("versori", httpx.Response(status, **body)).fails(errors.Malformed, request)
        assert "VERSORI_BASE_URL" in failure.fix
    for request in WRITES:
        unknown = await rig("versori", httpx.Response(status, **body)).fails(errors.OutcomeUnknown, request)
        assert "accepted" not in unknown.message


async def test_a_page_after_a_broken_attempt_does_not_make_the_outcome_known(rig: Rig) -> None:
    broken = httpx.RemoteProtocolError("hang-up")
    for status in (401, 403, 404, 409):
        r = rig("versori", broken, httpx.Response(status, **PAGE), httpx.Response(status, **PAGE))
        await r.fails(errors.OutcomeUnknown, DELETE)


@pytest.mark.parametrize("status", [408, 425, 499, 502, 503, 504, 520, 521, 522, 523, 524, 525, 527, 530])
async def test_what_is_harmless_to_repeat_is_repeated_after_an_outage_at_a_gateway(rig: Rig, status: int) -> None:
    for request in (READ, PUT, DELETE):
        r = rig("versori", httpx.Response(status, **PAGE), httpx.Response(200, json={}))
        assert (await r.client.send(request)).attempts == 2
    for request in (CREATE, PATCH):
        r = rig("versori", httpx.Response(status, **PAGE))
        await r.fails(errors.UpstreamError, request)
        assert len(r.sent) == 1


async def test_a_503_counts_as_turned_away_only_in_the_platforms_words_or_with_retry_after(rig: Rig) -> None:
    for answer in (httpx.Response(503, **OWN), httpx.Response(503)):
        await rig("versori", answer).fails(errors.UpstreamFailed, CREATE, match="was not carried out")
    waits = httpx.Response(503, html="<p>Later", headers={"Retry-After": "9"})
    failure = await rig("versori", waits).fails(errors.UpstreamFailed, CREATE, match="was not carried out")
    assert failure.retry_after == 9.0


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (rb'{"a": "bad \ud83d end"}', {"a": "bad � end"}),
        (rb'{"a": "\uDE00\ud83d\ude00\ud83d"}', {"a": "�😀�"}),
        (rb'{"\ud800": ["\\ud83d", "\\\ud83d"]}', {"�": [r"\ud83d", "\\�"]}),
        (b'["\xed\xa0\xbd", "\xc3\xa9"]', ["\ufffd", "é"]),
        (b'["\xed\xa0\xbd\xed\xb8\x80"]', ["\ufffd\ufffd"]),
        (
            rb'[12345678901234567890123, 1.5e-7, true, null, "\ud800"]',
            [12345678901234567890123, 1.5e-7, True, None, "\ufffd"],
        ),
        (codecs.BOM_UTF8 + b' {"a": 1}\n', {"a": 1}),
        (codecs.BOM_UTF8, None),
        (b" \r\n", None),
        (b"null", None),
    ],
)
def test_half_a_surrogate_is_replaced_and_a_byte_order_mark_is_dropped(body: bytes, value: Any) -> None:
    assert RawResponse(200, body).parse() == value
    assert not RawResponse(200, body).is_foreign


@pytest.mark.parametrize(
    "body", [rb'[NaN, "\ud800"]', rb'["\ud800', b"[" * 9999 + rb'"\ud800"', b'["\xff\\ud800"]', rb'{"\ud800":}']
)
def test_what_is_no_json_even_with_its_surrogates_replaced_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        RawResponse(200, body).parse()


@pytest.mark.parametrize("piece", [b"\\\\", rb"\ud800", b"<title ", b"<", b"\xed\xa0\xbd", b"\\u"])
def test_a_large_hostile_body_is_judged_at_once(piece: bytes) -> None:
    for frame in (b"%b", b'["%b"]', b'["%b', b'"\\ud800", %b'):
        answer = RawResponse(502, frame % (piece * (1_000_000 // len(piece))))
        started = time.process_time()
        read_message(VERSORI, answer)
        is_open(VERSORI, answer)
        answer.page()
        assert time.process_time() - started < 5


async def test_one_odd_name_hides_neither_a_list_nor_the_success_of_a_write_nor_an_error(rig: Rig) -> None:
    odd = codecs.BOM_UTF8 + rb'{"code": "c\ud83d", "message": "m"}'
    for request in (READ, *WRITES):
        assert (await rig("versori", httpx.Response(200, content=odd)).client.send(request)).body["code"] == "c�"
        failure = await rig("versori", httpx.Response(400, content=odd)).fails(errors.Rejected, request)
        assert failure.upstream == {"platform": "versori", "status": 400, "code": "c\ufffd", "message": "m"}


async def test_an_error_in_another_encoding_keeps_the_words_that_can_be_read(rig: Rig) -> None:
    latin = json.dumps({"message": "Ungültiger Typ"}, ensure_ascii=False).encode("latin-1")
    failure = await rig("versori", httpx.Response(400, content=latin)).fails(errors.Rejected, CREATE)
    assert failure.upstream is not None
    assert failure.upstream["message"].endswith("ltiger Typ")
