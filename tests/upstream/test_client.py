import json
import logging
import math
from typing import Any

import anyio
import httpx
import pytest
import respx

from connector_mcp.errors import InvalidArguments, OutcomeUnknown, TimedOut
from connector_mcp.operations.platform import NO_BODY, Request
from connector_mcp.operations.vectorize.platform import VECTORIZE
from connector_mcp.upstream.client import USER_AGENT, ClientLimits, UpstreamClient, UpstreamResponse
from tests.upstream.conftest import CREATE, READ, Rig, ok, outlast

pytestmark = pytest.mark.anyio

FREE = ClientLimits(requests_per_second=math.inf)


async def test_an_answer_carries_body_status_request_id_and_attempts(rig: Rig) -> None:
    r = rig("vectorize", httpx.Response(201, json={"id": "1", "big": 2**70}, headers={"X-Request-ID": "r-1"}))
    assert await r.client.send(CREATE) == UpstreamResponse(201, {"id": "1", "big": 2**70}, "r-1", 1)


@pytest.mark.parametrize(
    "reply",
    [httpx.Response(204), httpx.Response(200), httpx.Response(202, content=b" \r\n"), httpx.Response(200, text="null")],
)
async def test_an_empty_body_is_none(rig: Rig, reply: httpx.Response) -> None:
    assert (await rig("logto", httpx.Response(200, json={"access_token": "t"}), reply).client.send(CREATE)).body is None


async def test_the_headers_are_those_of_a_json_client(rig: Rig) -> None:
    r = rig("vectorize", ok(), ok())
    await r.client.send(READ)
    await r.client.send(Request("DELETE", "/things", body={"userId": "ü"}, repeatable=True))
    read, delete = r.sent
    assert dict(read.headers) == {
        "host": "api.vectorize.io",
        "accept": "application/json",
        "accept-encoding": "gzip, deflate",
        "accept-language": "en",
        "user-agent": USER_AGENT,
        "authorization": "Bearer vec-key-1",
    }
    assert read.content == b""
    assert (delete.method, delete.content) == ("DELETE", '{"userId":"ü"}'.encode())
    assert delete.headers["content-type"] == "application/json"
    assert delete.headers["content-length"] == "15"
    assert "content-type" not in read.headers


@pytest.mark.parametrize(("body", "content"), [(None, b"null"), ({}, b"{}"), ([1, None], b"[1,null]"), (NO_BODY, b"")])
async def test_null_is_sent_and_no_body_is_not(rig: Rig, body: Any, content: bytes) -> None:
    r = rig("vectorize", ok())
    await r.client.send(Request("POST", "/things", body=body))
    assert r.sent[0].content == content
    assert ("content-type" in r.sent[0].headers) is (body is not NO_BODY)


@pytest.mark.parametrize("body", [{"a": math.nan}, {"a": math.inf}, {"a": "\ud800"}])
async def test_a_body_that_json_cannot_express_is_refused_before_anything_is_sent(rig: Rig, body: Any) -> None:
    r = rig("vectorize")
    await r.fails(InvalidArguments, Request("POST", "/things", body=body), match="Nothing was sent")
    assert r.sent == []


@pytest.mark.parametrize("value", ["", ".", "..", "x" * 70_000])
async def test_an_invalid_path_value_is_refused_before_a_token_is_requested(rig: Rig, value: str) -> None:
    r = rig("logto")
    await r.fails(
        InvalidArguments,
        Request("GET", "/api/connectors/{id}", {"id": value}),
        tool="logto_get_connector",
        match="logto_get_connector",
    )
    assert r.sent == []


async def test_cookies_are_not_kept(rig: Rig) -> None:
    r = rig("vectorize", httpx.Response(200, json={}, headers={"Set-Cookie": "session=1; Path=/"}), ok())
    await r.client.send(READ)
    await r.client.send(READ)
    assert "cookie" not in r.sent[1].headers


async def test_closing_the_client_closes_its_transport(rig: Rig) -> None:
    r = rig("vectorize", ok())
    async with r.client as client:
        await client.send(READ)
        assert not r.script.closed
    assert r.script.closed


async def test_cancelling_the_caller_cancels_the_request(rig: Rig) -> None:
    ended = anyio.Event()

    async def watched(_: httpx.Request) -> httpx.Response:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()
        raise AssertionError

    r = rig("vectorize", watched, ok)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(r.client.send, CREATE)
            await anyio.wait_all_tasks_blocked()
            assert not ended.is_set()
            scope.cancel()
    assert ended.is_set()
    assert scope.cancelled_caught
    await r.client.send(READ)


async def test_a_read_that_outlasts_the_deadline_is_timed_out(rig: Rig) -> None:
    r = rig("vectorize", outlast)
    await r.fails(TimedOut, READ, match="within 50 s")


async def test_a_write_that_outlasts_the_deadline_is_of_unknown_outcome(rig: Rig) -> None:
    r = rig("vectorize", outlast)
    await r.fails(OutcomeUnknown, CREATE)
    assert len(r.sent) == 1


async def test_a_write_that_ran_out_of_time_before_it_was_sent_is_merely_timed_out(rig: Rig) -> None:
    r = rig("logto", outlast)
    await r.fails(TimedOut, CREATE, match="Nothing was sent")
    assert [request.url.path for request in r.sent] == ["/oidc/token"]


async def test_calls_in_flight_are_bounded(rig: Rig) -> None:
    released = anyio.Event()

    async def slow(_: httpx.Request) -> httpx.Response:
        await released.wait()
        return ok()

    r = rig("vectorize", *[slow] * 5, limits=ClientLimits(in_flight=2, requests_per_second=math.inf))
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(r.client.send, READ)
        await anyio.wait_all_tasks_blocked()
        assert len(r.sent) == 2
        released.set()
    assert len(r.sent) == 5


async def test_a_burst_goes_out_at_once_and_what_exceeds_it_waits(rig: Rig) -> None:
    # Six in a burst, and the next one only hours later.
    r = rig("vectorize", *[ok] * 7, limits=ClientLimits(requests_per_second=0.0001, burst_seconds=60_000))
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(r.client.send, READ)
        await anyio.wait_all_tasks_blocked()
        assert len(r.sent) == 6
        group.cancel_scope.cancel()


async def test_the_platforms_own_rate_applies_unless_another_is_set() -> None:
    from dataclasses import replace

    sent = 0

    async def count(_: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        return ok()

    slow = replace(VECTORIZE, requests_per_second=0.0001)
    limits = ClientLimits(burst_seconds=20_000)
    async with (
        UpstreamClient(slow, {"VECTORIZE_API_KEY": "k"}, transport=httpx.MockTransport(count), limits=limits) as c,
        anyio.create_task_group() as group,
    ):
        for _ in range(4):
            group.start_soon(c.send, READ)
        await anyio.wait_all_tasks_blocked()
        assert sent == 2
        group.cancel_scope.cancel()


async def test_the_log_names_only_method_path_template_and_status(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    request = Request("POST", "/things/{id}", {"id": "id-7"}, {"q": "query-7"}, {"k": "body-7"})
    r = rig("vectorize", ok(), httpx.ReadError(""))
    with caplog.at_level(logging.DEBUG):
        await r.client.send(request)
        await r.fails(OutcomeUnknown, request)
    assert [record.getMessage() for record in caplog.records if record.name == "connector_mcp.upstream"] == [
        "vectorize POST /things/{id} -> 200 in 0.000 s, attempts: 1",
        "vectorize POST /things/{id} -> ReadError in 0.000 s, attempts: 1",
    ]
    assert not any(word in caplog.text for word in ("id-7", "query-7", "body-7", "vec-key-1", "/v1/"))


@respx.mock
async def test_respx_can_stand_in_for_the_platform() -> None:
    route = respx.patch("https://api.vectorize.io/v1/org/o/connectors/sources/a%2Fb").respond(200, json={"ok": 1})
    transport = httpx.AsyncHTTPTransport()
    async with UpstreamClient(VECTORIZE, {"VECTORIZE_API_KEY": "k"}, transport=transport, limits=FREE) as client:
        values = {"organization_id": "o", "source_connector_id": "a/b"}
        request = Request(
            "PATCH", "/org/{organization_id}/connectors/sources/{source_connector_id}", values, {}, {"config": {}}
        )
        assert (await client.send(request)).body == {"ok": 1}
    assert json.loads(route.calls.last.request.content) == {"config": {}}


async def test_an_asgi_application_can_stand_in_for_the_platform() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["raw_path"] == b"/things/a%2Fb"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b'{"sandbox":true}'})

    values = {"VECTORIZE_API_KEY": "k", "VECTORIZE_BASE_URL": "http://vectorize.sandbox.invalid"}
    async with UpstreamClient(VECTORIZE, values, transport=httpx.ASGITransport(app)) as client:
        assert (await client.send(Request("GET", "/things/{id}", {"id": "a/b"}))).body == {"sandbox": True}
