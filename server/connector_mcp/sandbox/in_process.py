"""The in-process face: an emulated platform as the transport of an `httpx.AsyncClient`, without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from connector_mcp.sandbox.delivery import Answerer, Delivery
from connector_mcp.sandbox.wire import Call


class InProcessTransport(httpx.AsyncBaseTransport):
    """Answers requests by calling the emulator. Faults raise what httpx raises for them on a real connection."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        headers = {name.lower(): value for name, value in request.headers.items()}
        delivery = self._answerer(Call(request.method, path, query, headers, await request.aread()))
        match delivery.manner:
            case "unreachable":
                raise httpx.ConnectError("All connection attempts failed", request=request)
            case "timeout":
                raise httpx.ReadTimeout("The read operation timed out", request=request)
            case "hang_up":
                raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)
            case "whole":
                answer = delivery.answer
                return httpx.Response(answer.status, headers=answer.headers, content=answer.body)
            case _:
                return httpx.Response(
                    delivery.answer.status, headers=delivery.answer.headers, stream=_Spoiled(delivery, request)
                )


class _Spoiled(httpx.AsyncByteStream):
    def __init__(self, delivery: Delivery, request: httpx.Request) -> None:
        self._delivery = delivery
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        patience: float | None = self._request.extensions.get("timeout", {}).get("read")
        if self._delivery.manner == "slow" and patience is not None and self._delivery.delay >= patience:
            raise httpx.ReadTimeout("The read operation timed out", request=self._request)
        async for piece in self._delivery.pieces():
            yield piece
        if self._delivery.manner == "cut":
            message = "peer closed connection without sending complete message body"
            raise httpx.RemoteProtocolError(message, request=self._request)
