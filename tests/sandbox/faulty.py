"""A sandbox that records the requests that reach it, and fails those that a test chooses."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import httpx
from starlette.requests import Request
from starlette.responses import Response

from connector_mcp.sandbox.app import Sandbox

FaultKind = Literal["status", "html", "timeout", "unreachable", "hang_up", "cut", "huge"]

_PAGE = b"<!doctype html><html><head><title>Sandbox</title></head><body><h1>Not the API</h1></body></html>"
_HUGE_PIECE = b" " * 65_536


@dataclass(frozen=True)
class Fault:
    """Fail the next `times` matching requests that are sent in process.

    `path_glob` is matched against the percent-encoded path as the platform sees it, including its base path
    (`/v1/org/*/connectors/sources`); `*` also matches slashes. The kinds:

    - `status`: `status` with `headers` (such as Retry-After) and `body`; without `body`, the platform's own error body.
    - `html`: a page instead of JSON, with `status` (200 is a proxy's login page, 502 its error page).
    - `timeout`, `hang_up`: no response.
    - `unreachable`: no connection. The request is never carried out.
    - `cut`: the real response's headers and half its body, then the connection ends.
    - `huge`: a body of `size` bytes.

    `applied` decides whether the platform carries out the request before it fails; with it, the sender of a write
    cannot know the outcome. A `cut` response is always that of a request that was carried out.
    """

    platform: str = "*"
    method: str = "*"
    path_glob: str = "*"
    times: int = 1
    kind: FaultKind = "status"
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Any = None
    size: int = 50_000_000
    applied: bool = False

    def matches(self, platform: str, method: str, path: str) -> bool:
        return self.platform in ("*", platform) and self.method in ("*", method) and fnmatchcase(path, self.path_glob)


@dataclass(frozen=True)
class RecordedRequest:
    """A request that reached the sandbox. `raw_path` is percent-encoded, without the query; header names lower case."""

    platform: str
    method: str
    raw_path: str
    query: str
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)


class FaultySandbox(Sandbox):
    """A sandbox whose requests are recorded, and fail in the order in which faults were injected."""

    def __init__(self, data: Path | None = None, *, faults: Sequence[Fault] = (), **options: Any) -> None:
        super().__init__(data, **options)
        self._pending = [[fault] * fault.times for fault in faults]
        self._requests: deque[RecordedRequest] = deque(maxlen=500)

    @property
    def requests(self) -> list[RecordedRequest]:
        """The latest 500 requests, oldest first."""
        return list(self._requests)

    def inject(self, fault: Fault) -> None:
        """Add a fault after those already injected."""
        self._pending.append([fault] * fault.times)

    def next_fault(self, platform: str, method: str, path: str) -> Fault | None:
        """Take the first pending fault that matches a request."""
        matching = (each for each in self._pending if each and each[0].matches(platform, method, path))
        return next((each.pop() for each in matching), None)

    async def respond(self, platform: str, request: Request) -> Response:
        body, query = await request.body(), request.scope["query_string"].decode("latin-1")
        made = RecordedRequest(platform, request.method, request.scope["path"], query, body, dict(request.headers))
        self._requests.append(made)
        return await super().respond(platform, request)

    def record(self, platform: str, request: httpx.Request, body: bytes) -> None:
        """Record a request that is not carried out."""
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        self._requests.append(RecordedRequest(platform, request.method, path, query, body, dict(request.headers)))

    def error_response(self, platform: str, status: int) -> Response:
        """The platform's own error response for a status."""
        return self._emulators[platform].error_response(status)

    def transport(self, platform: str) -> httpx.AsyncBaseTransport:
        return _FaultyTransport(self, platform, super().transport(platform))


class _FaultyTransport(httpx.AsyncBaseTransport):
    """A platform in process. Faults raise the errors that httpx raises on a real connection."""

    def __init__(self, sandbox: FaultySandbox, platform: str, real: httpx.AsyncBaseTransport) -> None:
        self._sandbox, self._platform, self._real = sandbox, platform, real

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.partition(b"?")[0].decode("ascii")
        fault = self._sandbox.next_fault(self._platform, request.method, path)
        if fault is not None and fault.kind == "unreachable":
            raise httpx.ConnectError("All connection attempts failed", request=request)
        if fault is None or fault.applied or fault.kind == "cut":
            real = await self._real.handle_async_request(request)
        else:
            self._sandbox.record(self._platform, request, await request.aread())
            real = httpx.Response(200)
        return real if fault is None else await self._failed(fault, request, real)

    async def _failed(self, fault: Fault, request: httpx.Request, real: httpx.Response) -> httpx.Response:
        if fault.kind == "timeout":
            raise httpx.ReadTimeout("The read operation timed out", request=request)
        if fault.kind == "hang_up":
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)
        if fault.kind in ("cut", "huge"):
            headers = [("content-type", "application/json")]
            body = _cut(await real.aread(), request) if fault.kind == "cut" else _huge(fault.size)
            return httpx.Response(real.status_code, headers=headers, stream=_Body(body))
        if fault.kind == "html":
            return httpx.Response(fault.status, headers={"content-type": "text/html", **fault.headers}, content=_PAGE)
        if fault.body is not None:
            return httpx.Response(fault.status, headers=fault.headers, json=fault.body)
        error = self._sandbox.error_response(self._platform, fault.status)
        error.headers.update(fault.headers)
        return httpx.Response(error.status_code, headers=error.raw_headers, content=bytes(error.body))


class _Body(httpx.AsyncByteStream):
    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces


async def _cut(body: bytes, request: httpx.Request) -> AsyncIterator[bytes]:
    yield body[: len(body) // 2]
    raise httpx.RemoteProtocolError("peer closed connection without sending complete message body", request=request)


async def _huge(size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, len(_HUGE_PIECE)):
        yield _HUGE_PIECE[: size - start]
