"""Injected faults, and the two transports that express them: in process for httpx, and over a socket for ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal
from urllib.parse import quote

import anyio
import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from connector_mcp.sandbox.emulator import Emulator, json_response

FaultKind = Literal[
    "status", "html", "timeout", "unreachable", "hang_up", "slow", "cut", "truncated_json", "huge", "stale_read"
]

_NEEDS_THE_REAL_RESPONSE: tuple[FaultKind, ...] = ("slow", "cut", "truncated_json", "stale_read")
_PAGE = b"<!doctype html><html><head><title>Sandbox</title></head><body><h1>Not the API</h1></body></html>"
_SLOW_PIECE = 64
_HUGE_PIECE = b" " * 65_536


@dataclass(frozen=True)
class Fault:
    """Fail the next `times` matching requests.

    `path_glob` is matched against the percent-encoded path as the platform sees it, including its base path
    (`/v1/org/*/connectors/sources`); `*` also matches slashes. The kinds:

    - `status`: `status` with `headers` (such as Retry-After) and `body`; without `body`, the platform's own error body.
    - `html`: a page instead of JSON, with `status` (200 is a proxy's login page, 502 its error page).
    - `timeout`: no response. In process, `httpx.ReadTimeout` is raised at once.
    - `unreachable`: no connection; in process only (`httpx.ConnectError`). The request is never carried out.
    - `hang_up`: the connection ends before any response; over a socket after the headers.
    - `slow`: the real response in small pieces, with `delay` seconds before each.
    - `cut`: the real response's headers and half its body, then the connection ends.
    - `truncated_json`: half the body, presented as complete.
    - `huge`: a body of `size` bytes.
    - `stale_read`: a read shows the version before the last write. Only reads that differ count towards `times`.

    `applied` decides whether the platform carries out the request before a `status`, `html`, `timeout`, `hang_up` or
    `huge`; with it, the sender of a write cannot know the outcome. Kinds that need the real response always apply.
    """

    platform: str = "*"
    method: str = "*"
    path_glob: str = "*"
    times: int = 1
    kind: FaultKind = "status"
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Any = None
    delay: float = 0.05
    size: int = 50_000_000
    applied: bool = False

    @property
    def carries_out(self) -> bool:
        """Whether the platform carries out the request although the response fails."""
        return self.kind in _NEEDS_THE_REAL_RESPONSE or (self.applied and self.kind != "unreachable")

    def matches(self, platform: str, method: str, path: str) -> bool:
        if self.kind == "stale_read" and method != "GET":
            return False
        return self.platform in ("*", platform) and self.method in ("*", method) and fnmatchcase(path, self.path_glob)

    async def apply(self, emulator: Emulator, request: Request) -> Delivery:
        """Answer this request with the fault. A `stale_read` changes the world instead, not the delivery."""
        real = await emulator.respond(request) if self.carries_out else Response()
        match self.kind:
            case "slow" | "cut" | "timeout" | "unreachable" | "hang_up":
                return Delivery(real, self)
            case "truncated_json":
                half = bytes(real.body[: len(real.body) // 2])
                return Delivery(Response(half, real.status_code, {"content-type": real.headers["content-type"]}))
            case "status":
                error = (
                    emulator.error_response(self.status) if self.body is None else json_response(self.body, self.status)
                )
                error.headers.update(self.headers)
                return Delivery(error)
            case "html":
                page = Response(_PAGE, self.status, {"content-type": "text/html"})
                page.headers.update(self.headers)
                return Delivery(page)
            case "huge":
                return Delivery(Response(headers={"content-type": "application/json"}), self)
            case "stale_read":
                return Delivery(real)


class FaultPlan:
    """The faults still to come, in the order they were injected."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._pending = [[fault] * fault.times for fault in faults]

    def add(self, fault: Fault) -> None:
        self._pending.append([fault] * fault.times)

    def next_for(self, platform: str, method: str, path: str) -> Fault | None:
        """The fault for this request, if any. A stale read is counted by `count_stale_read` instead."""
        for left in self._pending:
            if left and left[0].matches(platform, method, path):
                return left[0] if left[0].kind == "stale_read" else left.pop()
        return None

    def count_stale_read(self, fault: Fault) -> None:
        """Count a stale read that differed from the present."""
        for left in self._pending:
            if left and left[0] is fault:
                left.pop()
                return


@dataclass(frozen=True)
class Delivery:
    """A response and, where the connection fails it, the fault."""

    response: Response
    fault: Fault | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body in pieces. A `cut` one ends early; the sender then breaks the connection."""
        body = bytes(self.response.body)
        match self.fault:
            case Fault(kind="slow", delay=delay):
                for start in range(0, len(body), _SLOW_PIECE):
                    await anyio.sleep(delay)
                    yield body[start : start + _SLOW_PIECE]
            case Fault(kind="cut"):
                yield body[: len(body) // 2]
            case Fault(kind="huge", size=size):
                for start in range(0, size, len(_HUGE_PIECE)):
                    yield _HUGE_PIECE[: size - start]
            case _:
                yield body


Responder = Callable[[Request], Awaitable[Delivery]]
"""What both transports call for each request."""


class InProcessTransport(httpx.AsyncBaseTransport):
    """A platform without a socket. Faults raise the errors that httpx raises on a real connection."""

    def __init__(self, respond: Responder) -> None:
        self._respond = respond

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raw_path, _, query = request.url.raw_path.partition(b"?")
        body = await request.aread()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        scope: Scope = {
            "type": "http",
            "method": request.method,
            "path": raw_path.decode("ascii"),
            "query_string": query,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
        }
        delivery = await self._respond(Request(scope, receive))
        response = delivery.response
        match delivery.fault and delivery.fault.kind:
            case "unreachable":
                raise httpx.ConnectError("All connection attempts failed", request=request)
            case "timeout":
                raise httpx.ReadTimeout("The read operation timed out", request=request)
            case "hang_up":
                raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)
            case None:
                return httpx.Response(response.status_code, headers=response.raw_headers, content=bytes(response.body))
            case _:
                headers = [each for each in response.raw_headers if each[0] != b"content-length"]
                return httpx.Response(response.status_code, headers=headers, stream=_FaultyBody(delivery, request))


class _FaultyBody(httpx.AsyncByteStream):
    def __init__(self, delivery: Delivery, request: httpx.Request) -> None:
        self._delivery = delivery
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        timeout: float | None = self._request.extensions.get("timeout", {}).get("read")
        fault = self._delivery.fault
        if fault and fault.kind == "slow" and timeout is not None and fault.delay >= timeout:
            raise httpx.ReadTimeout("The read operation timed out", request=self._request)
        async for piece in self._delivery.pieces():
            yield piece
        if fault and fault.kind == "cut":
            message = "peer closed connection without sending complete message body"
            raise httpx.RemoteProtocolError(message, request=self._request)


class ServedPlatform:
    """A platform as an ASGI application, mounted under `prefix`."""

    def __init__(self, prefix: str, respond: Responder) -> None:
        self._prefix = prefix
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw_path: bytes = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
        path = raw_path.decode("ascii").removeprefix(self._prefix)
        delivery = await self._respond(Request({**scope, "path": path, "root_path": ""}, receive))
        kind = delivery.fault and delivery.fault.kind
        if kind in ("timeout", "unreachable"):
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        response = delivery.response
        headers = [each for each in response.raw_headers if each[0] != b"content-length"]
        if kind != "huge" and response.status_code != 204:
            # More is promised than sent: the client sees a broken connection.
            promised = len(response.body) + (1 if kind in ("cut", "hang_up") else 0)
            headers.append((b"content-length", str(promised).encode()))
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        if kind == "hang_up":
            return
        async for piece in delivery.pieces():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if kind != "cut":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
