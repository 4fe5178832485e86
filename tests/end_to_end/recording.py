"""A real HTTP server that records what it is sent and answers what it is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
from mcp.client import Client

from connector_mcp.config.settings import Settings
from tests.end_to_end.faces import attached, served


@dataclass(frozen=True)
class Recorded:
    """One request as it came over the socket."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content) if self.content else None

    @property
    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.content.decode())


CATALOG = ("POST", "/api/v1/connectorcatalog")
"""How ConductorOne is asked about a connector type. It changes nothing."""
UNDESCRIBED = (200, {"schema": None, "formSchema": None})


@dataclass
class RecordingServer:
    """Answers `answers[(method, raw path)]`: a status and a JSON value, None for no body. Otherwise 200 and `{}`."""

    origin: str = ""
    requests: list[Recorded] = field(default_factory=list)
    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=lambda: {CATALOG: UNDESCRIBED})
    respond: Callable[[Recorded], tuple[int, Any, Mapping[str, str]]] | None = None
    """Answers in place of `answers`: status, JSON value and headers."""
    silent: bool = False
    """Whether requests are taken and never answered; `reached` is set by the first."""
    reached: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        content = b""
        while (message := await receive())["type"] == "http.request":
            content += message.get("body", b"")
            if not message.get("more_body"):
                break
        sent = {name.decode(): value.decode() for name, value in scope["headers"]}
        path = scope["raw_path"].decode()
        self.requests.append(Recorded(scope["method"], path, scope["query_string"].decode(), sent, content))
        self.reached.set()
        if self.silent:
            await receive()  # the next thing to come is the end of the connection
            return
        status, body = self.answers.get((scope["method"], path), (200, {}))
        headers: Mapping[str, str] = {}
        if self.respond is not None:
            status, body, headers = self.respond(self.requests[-1])
        payload = b"" if body is None else json.dumps(body).encode()
        kind = [(b"content-type", b"application/json")] if payload else []
        length = [] if status == 204 else [(b"content-length", str(len(payload)).encode())]
        extra = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": [*kind, *length, *extra]})
        await send({"type": "http.response.body", "body": payload})


@asynccontextmanager
async def recording_server() -> AsyncIterator[RecordingServer]:
    """The server on a free loopback port, for as long as the context is open."""
    recorder = RecordingServer()
    async with served(recorder) as recorder.origin:
        yield recorder


# What every platform's calls are tried with ------------------------------------------------------------------------

ODD, ENCODED = "ü /a%b", "%C3%BC%20%2Fa%25b"
"""An id that only the right encoding carries, and how it is written in a path."""


@dataclass(frozen=True)
class WireCall:
    """A call of a tool, what the platform answers on the way, and what the last request must be."""

    tool: str
    arguments: dict[str, Any]
    answers: dict[tuple[str, str], tuple[int, Any]]
    sent: tuple[str, str, str, Any]
    """Method, path, query and body."""


@cache
def wire_file(platform: str) -> tuple[dict[str, Any], tuple[WireCall, ...]]:
    """The records and calls of `wire/<platform>.json`. There `@name` stands for a record, `{odd}` for `ODD`."""
    text = (Path(__file__).parent / "wire" / f"{platform}.json").read_text("utf-8")
    file = json.loads(text.replace("{odd}", ODD).replace("{encoded}", ENCODED))

    def whole(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("@"):
            return file["records"].get(value[1:], value)
        if isinstance(value, list):
            return [whole(each) for each in value]
        return {key: whole(each) for key, each in value.items()} if isinstance(value, dict) else value

    calls = [
        WireCall(
            each["tool"],
            each["arguments"],
            {(key.split()[0], key.split()[1]): tuple(whole(answer)) for key, answer in each["answers"].items()},
            tuple(each["sent"]),
        )
        for each in file["calls"]
    ]
    return file["records"], tuple(calls)


def environment(origin: str) -> dict[str, str]:
    """All four platforms at the recording server."""
    vectorize = {"API_KEY": "vectorize-key", "ORGANIZATION_ID": "org/1", "BASE_URL": f"{origin}/v1"}
    logto = {"ENDPOINT": origin, "APP_ID": "logto-app", "APP_SECRET": "logto-secret"}
    versori = {"API_KEY": "versori-key", "ORGANISATION_ID": "org 2", "AUTH_PREFIX": "JWT"}
    versori["BASE_URL"] = f"{origin}/api/connect/v1"
    conductorone = {"ACCESS_TOKEN": "c1-token", "BASE_URL": origin}
    platforms = {"VECTORIZE": vectorize, "LOGTO": logto, "VERSORI": versori, "CONDUCTORONE": conductorone}
    return {f"{name}_{member}": value for name, members in platforms.items() for member, value in members.items()}


@asynccontextmanager
async def connected(
    recorder: RecordingServer, state: Path, era: str = "auto", **variables: str
) -> AsyncIterator[Client]:
    """A client of a server that serves every tool at the recording server, and asks about nothing."""
    token = {"access_token": "logto-token", "expires_in": 3600, "token_type": "Bearer", "scope": "all"}
    recorder.answers["POST", "/oidc/token"] = (200, token)
    allowed = "destroy=allow,disclose=allow"
    settings = Settings.load({}, state_dir=state, policy=allowed, verify_writes=False, toolsets=("all",))
    async with attached(settings, environment(recorder.origin) | variables, mode=era) as client:
        yield client
