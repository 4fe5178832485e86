"""The whole OAuth flow with an authorization server from npm and the SDK's own clients."""

from __future__ import annotations

import logging
import subprocess
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp.client import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider, OAuthFlowError
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.transport.auth.authorization import Callers, ProtectedResource
from connector_mcp.transport.auth.jwt import UNKNOWN_KEY_SECONDS, JwtVerifier, KeySet
from connector_mcp.transport.http.addresses import PublicAddress
from connector_mcp.transport.http.app import serve_http
from tests.clients.node import HERE, node
from tests.end_to_end.test_nothing_is_destroyed_undecided import DESTRUCTIVE
from tests.nginx import free_port
from tests.transport.auth.issuer import Clock, Memory

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

READ = "vectorize_get_source_connectors"
DELETE, S3, *_ = DESTRUCTIVE[0]
CALLBACK = "http://127.0.0.1/callback"


@dataclass
class Issuer:
    """The authorization server, and the clock by which the server under test keeps its keys."""

    url: str
    process: Process
    lines: BufferedByteReceiveStream
    clock: Clock

    async def command(self, line: str) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send(f"{line}\n".encode())
        assert await self.lines.receive_until(b"\n", 100) == b"done"


class Storage(Memory):
    """What a client stores; `scopes` has those of each token that it was given.

    A client that registers itself does so for the scopes that it needs first, so one that is to have more is `known`.
    """

    def __init__(self, known: str | None = None) -> None:
        super().__init__()
        self.scopes: list[str | None] = []
        self.client = known and OAuthClientInformationFull(
            client_id=known, redirect_uris=[AnyUrl(CALLBACK)], token_endpoint_auth_method="none"
        )

    async def set_tokens(self, tokens: OAuthToken) -> None:
        await super().set_tokens(tokens)
        self.scopes.append(tokens.scope)


@pytest.fixture
async def issuer() -> AsyncGenerator[Issuer]:
    command = [node(), "authorization_server.mjs"]
    async with await anyio.open_process(command, cwd=HERE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines = BufferedByteReceiveStream(process.stdout)
        with anyio.fail_after(300):
            url = (await lines.receive_until(b"\n", 100)).decode()
            yield Issuer(url, process, lines, Clock())
        await process.stdin.aclose()


@pytest.fixture
async def server(issuer: Issuer, tmp_path: Path) -> AsyncGenerator[str]:
    """A server that takes tokens of the issuer. Its policy allows deletions."""
    environ = {"CONNECTOR_MCP_SANDBOX": "true", "CONNECTOR_MCP_POLICY": "destroy=allow"}
    environ["CONNECTOR_MCP_STATE_DIR"] = str(tmp_path)
    port = free_port()
    address = PublicAddress(f"http://127.0.0.1:{port}")
    oauth = JwtVerifier(ProtectedResource(address, issuer.url), KeySet(issuer.url, clock=issuer.clock))
    async with (
        open_engine(Settings.load(environ), environ, "http") as engine,
        anyio.create_task_group() as tasks,
    ):
        await tasks.start(partial(serve_http, engine, "127.0.0.1", port, callers=Callers(oauth=oauth)))
        yield str(address)
        tasks.cancel_scope.cancel()


class Person(OAuthClientProvider):
    """A client with a person who signs in with a browser, which follows every redirect."""

    def __init__(self, server: str, memory: Storage, registered_for: str | None = None) -> None:
        metadata = OAuthClientMetadata(
            redirect_uris=[AnyUrl(CALLBACK)],
            grant_types=["authorization_code"],
            token_endpoint_auth_method="none",
            scope=registered_for,
        )
        super().__init__(f"{server}/mcp", metadata, memory, self._open, self._come_back)
        self._result = AuthorizationCodeResult(code="", state=None)
        self.asked_for: list[str] = []

    async def _open(self, url: str) -> None:
        self.asked_for.append(httpx2.URL(url).params["scope"])
        async with httpx2.AsyncClient() as browser:
            while not url.startswith(CALLBACK):
                answer = await browser.get(url)
                assert answer.is_redirect, answer.text
                url = str(answer.url.join(answer.headers["location"]))
        given = dict(httpx2.URL(url).params)
        if "error" in given:
            raise OAuthFlowError(given["error"])
        self._result = AuthorizationCodeResult(code=given["code"], state=given["state"], iss=given.get("iss"))

    async def _come_back(self) -> AuthorizationCodeResult:
        return self._result


@asynccontextmanager
async def connected(
    server: str, provider: OAuthClientProvider, era: Any = "auto", statuses: list[int] | None = None
) -> AsyncGenerator[Client]:
    """A client; the last status of each request is added to `statuses`."""

    async def note(response: httpx2.Response) -> None:
        if statuses is not None:
            statuses.append(response.status_code)

    async with (
        httpx2.AsyncClient(auth=provider, timeout=30, event_hooks={"response": [note]}) as http,
        Client(streamable_http_client(f"{server}/mcp", http_client=http), mode=era) as client,
    ):
        yield client


async def refused(server: str, provider: OAuthClientProvider, tool: str = READ) -> str:
    """Check that a call fails; return the last status and the errors that the client raises."""
    statuses: list[int] = []
    with pytest.raises(BaseException) as caught:
        async with connected(server, provider, statuses=statuses) as client:
            await client.call_tool(tool, S3 if tool == DELETE else {})
    return f"{statuses[-1:]} {''.join(traceback.format_exception(caught.value))}"


async def test_a_client_that_is_registered_for_reading_connects_and_gets_no_more(server: str) -> None:
    memory = Storage()
    person = Person(server, memory, registered_for="connectors:read")
    async with connected(server, person) as client:
        assert DELETE in {tool.name for tool in (await client.list_tools()).tools}
        assert not (await client.call_tool(READ, {})).is_error
    assert memory.scopes == person.asked_for == ["connectors:read"]
    assert "invalid_scope" in await refused(server, Person(server, memory, "connectors:read"), DELETE)


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_client_steps_up_when_a_call_needs_another_scope(server: str, era: str) -> None:
    memory = Storage("agent")
    person = Person(server, memory)
    async with connected(server, person, era) as client:
        assert not (await client.call_tool(READ, {})).is_error
        deleted = await client.call_tool(DELETE, S3)
        assert not deleted.is_error, deleted.content
        assert not (await client.call_tool(READ, {})).is_error
    assert person.asked_for == ["connectors:read", "connectors:read connectors:destroy"]
    assert memory.scopes == person.asked_for


async def test_a_token_that_a_new_key_signs_is_accepted_once_the_key_can_be_looked_up(
    server: str, issuer: Issuer
) -> None:
    async with connected(server, Person(server, Storage())) as client:
        assert not (await client.call_tool(READ, {})).is_error
    await issuer.command("rotate")
    # Within seconds of the last look-up the server cannot tell whether the key exists.
    assert "503" in await refused(server, Person(server, Storage()))
    issuer.clock.now += UNKNOWN_KEY_SECONDS
    async with connected(server, Person(server, Storage())) as client:
        assert not (await client.call_tool(READ, {})).is_error


async def test_a_token_for_another_audience_is_refused_and_the_log_says_so(
    server: str, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    await issuer.command("audience https://other.example")
    assert "401" in await refused(server, Person(server, Storage()))
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(f"its audience 'https://other.example' is not one of {server}," in line for line in lines)
    await issuer.command("audience")
    async with connected(server, Person(server, Storage())) as client:
        assert not (await client.call_tool(READ, {})).is_error


async def test_a_machine_gets_a_token_and_steps_up_without_a_person(server: str, issuer: Issuer) -> None:
    memory = Storage()
    machine = ClientCredentialsOAuthProvider(f"{server}/mcp", memory, "machine", "machine-secret", issuer=issuer.url)
    async with connected(server, machine) as client:
        assert not (await client.call_tool(READ, {})).is_error
        assert not (await client.call_tool(DELETE, S3)).is_error
    assert memory.scopes == ["connectors:read", "connectors:read connectors:destroy"]
