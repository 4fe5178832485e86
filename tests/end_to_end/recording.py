"""A real HTTP server that records what it is sent and answers what it is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import anyio

from tests.end_to_end.faces import served


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
