"""A scripted transport and a clock that only moves when told to."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import anyio.lowlevel
import httpx
import pytest

from connector_mcp.errors import ConnectorError
from connector_mcp.operations.conductorone.platform import CONDUCTORONE
from connector_mcp.operations.logto.platform import LOGTO
from connector_mcp.operations.platform import Platform, Request
from connector_mcp.operations.vectorize.platform import VECTORIZE
from connector_mcp.operations.versori.platform import VERSORI
from connector_mcp.upstream.client import ClientLimits, UpstreamClient
from tests.passing_time import let_pass

VALUES: Mapping[str, Mapping[str, str]] = {
    "vectorize": {"VECTORIZE_API_KEY": "vec-key-1"},
    "logto": {"LOGTO_ENDPOINT": "https://acme.logto.app", "LOGTO_APP_ID": "app-1", "LOGTO_APP_SECRET": "app-secret-1"},
    "versori": {"VERSORI_API_KEY": "ver-key-1"},
    "conductorone": {
        "CONDUCTORONE_CLIENT_ID": "fox-1@acme.conductor.one/pcc",
        "CONDUCTORONE_CLIENT_SECRET": "plain-secret-1",
    },
}

READ = Request("GET", "/things", repeatable=True)
CREATE = Request("POST", "/things", body={})
PUT = Request("PUT", "/things/{id}", {"id": "1"}, body={}, repeatable=True)
DELETE = Request("DELETE", "/things/{id}", {"id": "1"}, repeatable=True)

Rig = Callable[..., Any]
Token = Callable[..., httpx.Response]
"""What the fixtures `rig` and `token` return."""

Failure = TypeVar("Failure", bound=ConnectorError)
Step = httpx.Response | Exception | Callable[[httpx.Request], Any]


def ok(_: httpx.Request | None = None) -> httpx.Response:
    return httpx.Response(200, json={})


async def hang(_: httpx.Request) -> httpx.Response:
    await anyio.sleep_forever()
    raise AssertionError


async def outlast(request: httpx.Request) -> httpx.Response:
    """Do not answer before the deadline."""
    let_pass(ClientLimits().deadline)
    return await hang(request)


async def no_pause(_: float) -> None:
    await anyio.lowlevel.checkpoint()


class Script(httpx.AsyncBaseTransport):
    """Answers each request with the next step and keeps the requests."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.steps = list(steps)
        self.requests: list[httpx.Request] = []
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if not self.steps:
            raise AssertionError(f"unexpected request {len(self.requests)}: {request.method} {request.url}")
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if isinstance(step, httpx.Response):
            return step
        made = step(request)
        return await made if inspect.isawaitable(made) else made

    async def aclose(self) -> None:
        self.closed = True


class Clock:
    """Monotonic seconds; sleeping moves it on at once and is recorded."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.at += seconds


class ScriptedClient:
    """A client on a script."""

    def __init__(self, client: UpstreamClient, script: Script, clock: Clock) -> None:
        self.client = client
        self.script = script
        self.clock = clock

    @property
    def sent(self) -> list[httpx.Request]:
        return self.script.requests

    async def fails(self, kind: type[Failure], request: Request, *, match: str | None = None, **more: Any) -> Failure:
        """Send the request, which has to fail, and return the failure."""
        with pytest.raises(kind, match=match) as failure:
            await self.client.send(request, **more)
        return failure.value


@pytest.fixture
def rig() -> Callable[..., ScriptedClient]:
    """Makes a client of a platform that gets these answers, in this order."""

    def make(
        platform: Platform | str, *steps: Step, values: Mapping[str, str] | None = None, **more: Any
    ) -> ScriptedClient:
        if isinstance(platform, str):
            platform = {p.name: p for p in (VECTORIZE, LOGTO, VERSORI, CONDUCTORONE)}[platform]
        script, clock = Script(steps), Clock()
        given = VALUES[platform.name] if values is None else values
        more.setdefault("limits", ClientLimits(requests_per_second=math.inf))
        more.setdefault("sleep", clock.sleep)
        client = UpstreamClient(platform, given, transport=script, clock=clock, now=lambda: 1_700_000_000.0, **more)
        return ScriptedClient(client, script, clock)

    return make


@pytest.fixture
def token() -> Callable[..., httpx.Response]:
    """Makes a token endpoint's answer."""

    def make(value: str = "tok-1", expires_in: Any = 3600, **more: Any) -> httpx.Response:
        return httpx.Response(
            200, json={"access_token": value, "expires_in": expires_in, "token_type": "Bearer", "scope": "all", **more}
        )

    return make
