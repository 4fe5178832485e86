"""The served face: all four platforms as one Starlette application, each under its own name."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from connector_mcp.sandbox.delivery import Answerer, Delivery
from connector_mcp.sandbox.wire import Call


def served_app(answerers: Mapping[str, Answerer]) -> Starlette:
    """One application; `/` tells which platforms it serves."""

    async def index(_request: Request) -> Response:
        return JSONResponse({"sandbox": True, "platforms": sorted(answerers)})

    mounts = [Mount(f"/{name}", app=_Served(f"/{name}", answerer)) for name, answerer in answerers.items()]
    return Starlette(routes=[Route("/", index), *mounts])


class _Served:
    """A platform as an ASGI application. It reads the percent-encoded path, which Starlette's own routes do not."""

    def __init__(self, prefix: str, answerer: Answerer) -> None:
        self._prefix = prefix
        self._answerer = answerer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        raw_path: bytes = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
        call = Call(
            method=request.method,
            path=raw_path.decode("ascii").removeprefix(self._prefix),
            query=scope["query_string"].decode("latin-1"),
            headers=dict(request.headers.items()),
            body=await request.body(),
        )
        await _send(self._answerer(call), receive, send)


async def _send(delivery: Delivery, receive: Receive, send: Send) -> None:
    if delivery.manner in ("timeout", "unreachable"):
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    answer = delivery.answer
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    if delivery.manner != "huge" and answer.status != 204:
        # Promising more than comes is what makes the other side see a connection that was cut.
        promised = len(answer.body) + (1 if delivery.manner in ("cut", "hang_up") else 0)
        headers.append((b"content-length", str(promised).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if delivery.manner == "hang_up":
        return
    async for piece in delivery.pieces():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    if delivery.manner != "cut":
        await send({"type": "http.response.body", "body": b"", "more_body": False})
