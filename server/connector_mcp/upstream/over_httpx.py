"""A wire over an httpx transport: the sandbox in process, a stand-in of a test, a way through a proxy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import httpx

from connector_mcp.upstream import wire_errors
from connector_mcp.upstream.exchange import Outcome, Reply, Sending, Told, broken_off, make_reply
from connector_mcp.upstream.wire_errors import ReadError, WireError

_SAME: Final[Mapping[type[httpx.RequestError], type[WireError]]] = {
    httpx.ConnectError: wire_errors.ConnectError,
    httpx.ConnectTimeout: wire_errors.ConnectTimeout,
    httpx.PoolTimeout: wire_errors.PoolTimeout,
    httpx.ProxyError: wire_errors.ProxyError,
    httpx.LocalProtocolError: wire_errors.LocalProtocolError,
    httpx.UnsupportedProtocol: wire_errors.UnsupportedProtocol,
    httpx.RemoteProtocolError: wire_errors.RemoteProtocolError,
    httpx.WriteError: wire_errors.WriteError,
    httpx.ReadTimeout: wire_errors.ReadTimeout,
    httpx.WriteTimeout: wire_errors.WriteTimeout,
}


class HttpxWire:
    """A wire over an httpx transport, which is closed with it. `timeout` is in seconds, by httpx's names of phases."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        answer_bytes: int,
        timeout: Mapping[str, float],
        now: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._answer_bytes = answer_bytes
        self._extensions = {"timeout": timeout}
        self._now = now

    async def exchange(self, sending: Sending) -> Outcome:
        request = httpx.Request(
            sending.method,
            sending.address,
            headers=sending.headers,
            content=sending.content,
            extensions=self._extensions,
        )
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.RequestError as error:
            return _translate(error)
        told = Told.by(response.headers.raw, self._now)
        status = response.status_code
        try:
            body = None if told.announces_more_than(self._answer_bytes) else await _read(response, self._answer_bytes)
        except httpx.DecodingError:
            return Reply(status, b"", told.request_id, told.retry_after, unreadable=True)
        except httpx.RequestError as error:
            return broken_off(_translate(error), status, told)
        finally:
            await response.aclose()
        return make_reply(status, body, told)

    async def aclose(self) -> None:
        await self._transport.aclose()


def _translate(error: httpx.RequestError) -> WireError:
    """The error of ours with the same meaning; what is not known to come before sending counts as after it."""
    same = _SAME.get(type(error), ReadError)(str(error))
    same.__cause__ = error
    return same


async def _read(response: httpx.Response, answer_bytes: int) -> bytes | None:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > answer_bytes:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
