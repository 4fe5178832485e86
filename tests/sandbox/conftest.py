"""A sandbox and clients of its platforms, authorized as each platform demands."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest

from connector_mcp.sandbox import seed
from connector_mcp.sandbox.app import Sandbox
from tests.sandbox.checked import CheckedSandbox

Connect = Callable[..., Awaitable[httpx.AsyncClient]]
CONDUCTORONE_HOST = "conductorone.sandbox.invalid"


def assertion_form(now: int, claims: Any = None, header: Any = None, **more: str) -> dict[str, str]:
    """A request for a token of ConductorOne by a signed assertion."""
    encoded = seed.CONDUCTORONE_CLIENT_SECRET.rpartition(":")[2]
    key = jwt.PyJWK(json.loads(base64.urlsafe_b64decode(encoded + "==")), algorithm="EdDSA")
    name = seed.CONDUCTORONE_CLIENT_ID
    payload = {"iss": name, "sub": name, "aud": [CONDUCTORONE_HOST], "iat": now, "nbf": now - 120, "exp": now + 120}
    signed = jwt.encode(payload | (claims or {}), key, "EdDSA", {"nonce": "00" * 16} if header is None else header)
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    form = {"grant_type": "client_credentials", "client_id": name, "client_assertion_type": kind}
    return form | {"client_assertion": signed} | more


class MovableClock:
    """A clock that a test moves instead of waiting."""

    def __init__(self) -> None:
        self.now = datetime(2026, 9, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def sandbox(clock: MovableClock) -> Iterator[Sandbox]:
    made = CheckedSandbox(clock=clock)
    yield made
    made.close()
    assert made.flaws == []


@pytest.fixture
async def connect(sandbox: Sandbox) -> AsyncIterator[Connect]:
    """Open a client with the base URL to which the platform's documented paths are relative."""
    async with AsyncExitStack() as clients:

        async def open_client(platform: str, *, authorized: bool = True) -> httpx.AsyncClient:
            values = sandbox.variables(platform)
            address = next(value for name, value in values.items() if name.endswith(("_BASE_URL", "_ENDPOINT")))
            client = httpx.AsyncClient(base_url=address, transport=sandbox.transport(platform))
            await clients.enter_async_context(client)
            if not authorized:
                return client
            match platform:
                case "vectorize" | "versori":
                    key = values[f"{platform.upper()}_API_KEY"]
                case "logto":
                    form = {"resource": seed.LOGTO_RESOURCE, "scope": "all", "client_id": seed.LOGTO_APP_ID}
                    form |= {"grant_type": "client_credentials", "client_secret": seed.LOGTO_APP_SECRET}
                    key = (await client.post("/oidc/token", data=form)).json()["access_token"]
                case _:
                    form = {"grant_type": "client_credentials", "client_id": seed.CONDUCTORONE_CLIENT_ID}
                    form |= {"client_secret": seed.CONDUCTORONE_PLAIN_SECRET}
                    key = (await client.post("/auth/v1/token", data=form)).json()["access_token"]
            client.headers["authorization"] = f"Bearer {key}"
            return client

        yield open_client


@pytest.fixture
async def client(request: pytest.FixtureRequest, connect: Connect) -> httpx.AsyncClient:
    """An authorized client of the platform that the test's module names."""
    return await connect(request.module.PLATFORM)


@pytest.fixture
async def anonymous(request: pytest.FixtureRequest, connect: Connect) -> httpx.AsyncClient:
    """A client of the same platform without credentials."""
    return await connect(request.module.PLATFORM, authorized=False)
