"""Minted tokens: kept, renewed, shared, refused."""

from typing import Any

import anyio
import httpx
import pytest

from connector_mcp import errors
from connector_mcp.operations.platform import Request
from tests.upstream.conftest import CREATE, READ, Rig, Token, hang, ok

pytestmark = pytest.mark.anyio


ODD = [(odd, 239) for odd in (None, "soon", -5, 0, 1e300, [1])]


@pytest.mark.parametrize(("expires_in", "kept"), [(600, 539), (40, 19), *ODD])
async def test_a_token_is_renewed_a_minute_before_its_end_or_at_half_a_short_life_or_after_four_minutes(
    rig: Rig, token: Token, expires_in: Any, kept: int
) -> None:
    r = rig("logto", token("tok-1", expires_in), ok(), ok(), token("tok-2"), ok())
    await r.client.send(READ)
    for seconds in (kept, 1):
        r.clock.at += seconds
        await r.client.send(READ)
    used = [request.headers.get("authorization") for request in r.sent]
    assert used == [None, "Bearer tok-1", "Bearer tok-1", None, "Bearer tok-2"]


async def test_concurrent_callers_fetch_one_token(rig: Rig, token: Token) -> None:
    released = anyio.Event()

    async def slow(_: httpx.Request) -> httpx.Response:
        await released.wait()
        return token("tok-1")

    r = rig("logto", slow, *[ok] * 10)
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(r.client.send, READ)
        await anyio.wait_all_tasks_blocked()
        assert len(r.sent) == 1
        released.set()
    assert {request.headers["authorization"] for request in r.sent[1:]} == {"Bearer tok-1"}


async def test_callers_who_waited_share_the_failure_of_the_one_who_asked(rig: Rig, token: Token) -> None:
    released = anyio.Event()
    failures: list[errors.ConnectorError] = []

    async def slow(_: httpx.Request) -> httpx.Response:
        await released.wait()
        return httpx.Response(401, json={"error": "invalid_client"})

    r = rig("logto", slow, token(), ok)

    async def call() -> None:
        try:
            await r.client.send(READ)
        except errors.Unauthenticated as failure:
            failures.append(failure)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        released.set()
    assert (len(failures), len(r.sent)) == (5, 1)
    await r.client.send(READ)


async def test_when_the_caller_who_fetches_is_cancelled_the_next_one_fetches(rig: Rig, token: Token) -> None:
    r = rig("logto", hang, token("tok-2"), ok)
    first = anyio.CancelScope()

    async def impatient() -> None:
        with first:
            await r.client.send(READ)

    async with anyio.create_task_group() as group:
        group.start_soon(impatient)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(r.client.send, READ)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
    assert r.sent[-1].headers["authorization"] == "Bearer tok-2"


@pytest.mark.parametrize("request_", [READ, CREATE])
async def test_a_refused_token_is_renewed_once_and_the_call_repeated(rig: Rig, token: Token, request_: Request) -> None:
    r = rig("logto", token("old"), httpx.Response(401), token("new"), ok())
    assert (await r.client.send(request_)).attempts == 2
    assert [request.headers.get("authorization") for request in r.sent] == [None, "Bearer old", None, "Bearer new"]
    assert r.client.secrets() == ("app-secret-1", "new")


async def test_a_second_refusal_names_what_to_check(rig: Rig, token: Token) -> None:
    r = rig(
        "logto", token("a"), httpx.Response(401), token("b"), httpx.Response(401, json={"code": "auth.unauthorized"})
    )
    failure = await r.fails(errors.Unauthenticated, READ)
    assert "LOGTO_APP_ID, LOGTO_APP_SECRET and LOGTO_RESOURCE" in failure.fix
    assert len(r.sent) == 4


async def test_callers_with_a_refused_token_renew_it_once_together(rig: Rig, token: Token) -> None:
    released = anyio.Event()

    async def refuse(_: httpx.Request) -> httpx.Response:
        await released.wait()
        return httpx.Response(401)

    r = rig("logto", token("old"), ok, refuse, refuse, refuse, token("new"), ok, ok, ok)
    await r.client.send(READ)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(r.client.send, READ)
        await anyio.wait_all_tasks_blocked()
        released.set()
    assert [request.url.path for request in r.sent].count("/oidc/token") == 2


async def test_a_token_endpoint_that_refuses_names_the_variables_and_no_secret(rig: Rig) -> None:
    body = {"error": "invalid_client", "error_description": "secret app-secret-1 is wrong\u202e"}
    r = rig("logto", httpx.Response(400, json=body))
    failure = await r.fails(errors.Unauthenticated, CREATE, match="gave no access token")
    told = str(failure.as_dict())
    assert "LOGTO_APP_SECRET" in failure.fix
    assert "app-secret-1" not in told
    assert failure.upstream == {
        "platform": "logto",
        "status": 400,
        "code": "invalid_client",
        "message": "secret [redacted] is wrong",
    }
    assert len(r.sent) == 1


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (httpx.Response(400, json={"error": "invalid_target"}), "LOGTO_RESOURCE"),
        (httpx.Response(404, json={"message": "no"}), "LOGTO_ENDPOINT"),
    ],
    ids=["a wrong resource indicator", "no token endpoint"],
)
async def test_the_setting_to_check_is_named(rig: Rig, answer: httpx.Response, named: str) -> None:
    failure = await rig("logto", answer).fails(errors.Unauthenticated, READ)
    assert failure.fix == f"The operator should check {named}."


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404])
async def test_a_page_in_place_of_a_token_is_no_verdict_on_the_credentials(rig: Rig, status: int) -> None:
    failure = await rig("logto", httpx.Response(status, html="<title>Blocked</title>")).fails(errors.Malformed, CREATE)
    assert "LOGTO_ENDPOINT" in failure.fix
    assert "LOGTO_APP_SECRET" not in failure.message + failure.fix
    assert failure.upstream is not None
    assert failure.upstream["page"]["title"] == "Blocked"


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ([httpx.Response(500)], errors.UpstreamFailed),
        ([httpx.Response(302, headers={"Location": "https://x.example"})], errors.UpstreamFailed),
        ([httpx.Response(429)] * 4, errors.RateLimited),
        ([httpx.ConnectError("")] * 4, errors.Unreachable),
        ([httpx.ReadTimeout("")] * 4, errors.TimedOut),
        ([httpx.Response(200, text="<html>")], errors.Malformed),
        ([httpx.Response(200, json={"token_type": "Bearer"})], errors.Malformed),
        ([httpx.Response(200, json={"access_token": "a\r\nX: y"})], errors.Malformed),
        ([httpx.Response(200, json={"access_token": "t", "token_type": "DPoP"})], errors.Unauthenticated),
    ],
)
async def test_without_a_token_the_call_is_not_sent(
    rig: Rig, steps: list[Any], kind: type[errors.ConnectorError]
) -> None:
    r = rig("logto", *steps)
    failure = await r.fails(errors.ConnectorError, CREATE)
    assert type(failure) is kind
    assert {request.url.path for request in r.sent} == {"/oidc/token"}


async def test_an_outage_of_the_token_endpoint_is_waited_out(rig: Rig, token: Token) -> None:
    r = rig("logto", httpx.Response(503, headers={"Retry-After": "3"}), token(), ok())
    assert ((await r.client.send(CREATE)).attempts, r.clock.naps) == (1, [3.0])


async def test_a_403_under_a_token_with_less_than_asked_for_says_so(rig: Rig, token: Token) -> None:
    r = rig("logto", token(scope=""), httpx.Response(403, json={"code": "auth.forbidden"}))
    await r.fails(errors.Forbidden, READ, match="granted less than was asked for")
    r = rig("logto", token(), httpx.Response(403))
    failure = await r.fails(errors.Forbidden, READ)
    assert "granted less" not in failure.message
