import ssl
from typing import Any

import httpx
import pytest

from connector_mcp.errors import NotFound, OutcomeUnknown, RateLimited, Rejected, TimedOut, Unreachable, UpstreamFailed
from connector_mcp.operations.platform import Request
from connector_mcp.upstream.client import ClientLimits
from connector_mcp.upstream.responses import read_retry_after
from connector_mcp.upstream.retries import may_repeat
from tests.upstream.conftest import CREATE, DELETE, PUT, READ, Rig, ok

pytestmark = pytest.mark.anyio


REFUSED = httpx.ConnectError("refused")
HUNG_UP = httpx.RemoteProtocolError("Server disconnected without sending a response.")
NEVER_CONNECTED = [REFUSED, httpx.ConnectTimeout("slow"), httpx.PoolTimeout("full"), httpx.ProxyError("no tunnel")]
BROKEN = [HUNG_UP, httpx.ReadError("reset"), httpx.WriteError("pipe"), httpx.ReadTimeout(""), httpx.WriteTimeout("")]


def status(code: int, **headers: str) -> httpx.Response:
    return httpx.Response(code, headers=headers, json={"error": "e"})


@pytest.mark.parametrize("request_", [READ, CREATE, PUT, DELETE])
async def test_a_429_is_repeated_for_any_method_after_the_seconds_it_names(rig: Rig, request_: Request) -> None:
    r = rig("vectorize", status(429, **{"Retry-After": "7"}), ok())
    answer = await r.client.send(request_)
    assert (answer.attempts, r.clock.naps) == (2, [7.0])


async def test_retry_after_may_be_a_date(rig: Rig) -> None:
    r = rig("vectorize", status(429, **{"Retry-After": "Tue, 14 Nov 2023 22:13:29 GMT"}), ok())
    await r.client.send(CREATE)
    assert r.clock.naps == [9.0]


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0.0), (" 12 ", 12.0), ("1.5", 1.5), ("Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0.0), ("-3", None), ("soon", None), ("1e400", None), ("inf", None),
        ("9" * 400, None), ("", None),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_seconds_or_as_a_date(said: str, seconds: float | None) -> None:
    assert read_retry_after(said, 1_700_000_000.0) == seconds


@pytest.mark.parametrize("failure", NEVER_CONNECTED)
@pytest.mark.parametrize("request_", [READ, CREATE, DELETE])
async def test_a_connection_never_made_is_retried_for_any_method(
    rig: Rig, request_: Request, failure: Exception
) -> None:
    assert (await rig("vectorize", failure, failure, ok()).client.send(request_)).attempts == 3


@pytest.mark.parametrize("request_", [READ, CREATE, DELETE])
async def test_no_connection_at_all_is_unreachable_and_says_that_nothing_was_sent(rig: Rig, request_: Request) -> None:
    r = rig("vectorize", *[REFUSED] * 4)
    assert (await r.fails(Unreachable, request_, match="was not sent")).retryable
    assert len(r.sent) == 4


async def test_a_certificate_that_cannot_be_verified_is_not_tried_again(rig: Rig) -> None:
    refused = httpx.ConnectError("handshake")
    refused.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    r = rig("vectorize", refused)
    failure = await r.fails(Unreachable, READ, match="certificate")
    assert not failure.retryable


@pytest.mark.parametrize("code", [502, 503, 504])
@pytest.mark.parametrize("request_", [READ, PUT, DELETE])
async def test_an_outage_is_retried_where_that_is_harmless(rig: Rig, request_: Request, code: int) -> None:
    assert (await rig("vectorize", status(code), status(code), ok()).client.send(request_)).attempts == 3


@pytest.mark.parametrize("failure", BROKEN)
@pytest.mark.parametrize("request_", [READ, PUT, DELETE])
async def test_a_broken_answer_is_retried_where_that_is_harmless(
    rig: Rig, request_: Request, failure: Exception
) -> None:
    assert (await rig("vectorize", failure, ok()).client.send(request_)).attempts == 2


@pytest.mark.parametrize("failure", [*BROKEN, status(502), status(504)])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_write_of_unknown_outcome_is_sent_once(rig: Rig, failure: Any, method: str, repeatable: bool) -> None:
    r = rig("vectorize", failure)
    raised = await r.fails(
        OutcomeUnknown,
        Request(method, "/things", body={}, repeatable=repeatable),
        match="may or may not have taken effect",
    )
    assert len(r.sent) == 1
    assert not raised.retryable
    assert "Read the target first" in raised.fix


async def test_a_503_turns_a_create_away_and_is_not_repeated(rig: Rig) -> None:
    r = rig("vectorize", status(503, **{"Retry-After": "30"}))
    failure = await r.fails(UpstreamFailed, CREATE, match="was not carried out")
    assert (failure.retryable, failure.retry_after) == (True, 30.0)
    assert len(r.sent) == 1


@pytest.mark.parametrize("failure", [HUNG_UP, httpx.ReadTimeout(""), status(502), status(504)])
@pytest.mark.parametrize("request_", [PUT, DELETE])
async def test_a_repeated_write_with_no_answer_is_of_unknown_outcome(rig: Rig, request_: Request, failure: Any) -> None:
    r = rig("vectorize", *[failure] * 4)
    await r.fails(OutcomeUnknown, request_)
    assert len(r.sent) == 4


@pytest.mark.parametrize("last", [[REFUSED] * 3, [status(429)] * 3, [status(503)] * 3, [status(500)]])
async def test_an_unknown_first_attempt_is_not_forgotten_over_a_harmless_last_one(rig: Rig, last: list[Any]) -> None:
    r = rig("vectorize", HUNG_UP, *last)
    await r.fails(OutcomeUnknown, PUT)


@pytest.mark.parametrize(
    ("steps", "request_", "kind", "told"),
    [
        ([HUNG_UP], Request("DELETE", "/things", repeatable=False), OutcomeUnknown, ""),
        ([HUNG_UP, status(400)], PUT, Rejected, ""),
        ([HUNG_UP, status(404)], DELETE, NotFound, "An earlier attempt of this call"),
        ([httpx.ReadTimeout("")] * 4, READ, TimedOut, ""),
        ([HUNG_UP] * 4, READ, UpstreamFailed, "broke the connection"),
        ([status(500)], READ, UpstreamFailed, ""),
    ],
    ids=["unsafe delete", "refusal", "gone after a delete", "timeouts", "hang-ups", "500"],
)
async def test_the_attempts_of_a_call_end_in_one_failure(
    rig: Rig, steps: list[Any], request_: Request, kind: Any, told: str
) -> None:
    r = rig("vectorize", *steps)
    await r.fails(kind, request_, match=told or None)
    assert len(r.sent) == len(steps)


async def test_pauses_are_random_below_a_bound_that_doubles(rig: Rig) -> None:
    limits = ClientLimits(attempts=6, first_pause=1.0, longest_pause=4.0, deadline=1000)
    r = rig("vectorize", *[status(503)] * 6, limits=limits)
    await r.fails(UpstreamFailed, READ)
    assert len(r.clock.naps) == 5
    assert all(0 <= nap <= bound for nap, bound in zip(r.clock.naps, [1, 2, 4, 4, 4], strict=True))
    assert len(set(r.clock.naps)) == 5


async def test_a_pause_beyond_the_deadline_is_not_begun(rig: Rig) -> None:
    r = rig("vectorize", status(429, **{"Retry-After": "120"}), limits=ClientLimits(deadline=60))
    failure = await r.fails(RateLimited, READ)
    assert (failure.retry_after, failure.retryable, r.clock.naps) == (120.0, True, [])


async def test_the_deadline_bounds_the_pauses_together(rig: Rig) -> None:
    r = rig("vectorize", *[status(429, **{"Retry-After": "25"})] * 3, limits=ClientLimits(deadline=60, attempts=10))
    await r.fails(RateLimited, READ)
    assert r.clock.naps == [25.0, 25.0]


def test_only_idempotent_methods_are_ever_repeated_blindly() -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert may_repeat(Request(method, "/", repeatable=True))
        assert not may_repeat(Request(method, "/", repeatable=False))
    for method in ("POST", "PATCH"):
        assert not may_repeat(Request(method, "/", repeatable=True))


async def test_a_post_that_changes_nothing_is_repeated_and_never_of_unknown_outcome(rig: Rig) -> None:
    asks = Request("POST", "/things/1/address", body={}, repeatable=True, changes=False)
    r = rig("vectorize", HUNG_UP, ok())
    assert (await r.client.send(asks)).attempts == 2
    r = rig("vectorize", *[HUNG_UP] * 4)
    await r.fails(UpstreamFailed, asks)
