"""aiohttp underneath an httpx transport: the same requests and the same errors for less processor time.

What it buys is in benchmarks/README.md: against the bare server, a call's processor time went from 1.15 to 0.78 times.

The package `httpx-aiohttp` does the same and is not used, because it would make this client unsafe: it reports a server
that hangs up as a connection that was never made (so a create would go out twice), keeps cookies, lets aiohttp repeat
PUT and DELETE behind our back, and lets yarl write the address anew (`%2E%2E` becomes `..`).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache
from typing import Final

import aiohttp
import httpx
from aiohttp.resolver import ThreadedResolver
from multidict import CIMultiDict
from yarl import URL

from connector_mcp.upstream.exchange import Outcome, Sending, Told, broken_off, make_reply, read_response
from connector_mcp.upstream.limits import Limits

_CHUNK: Final = 16 * 1024
"""Bytes at a time out of a body. What a compressed body swells to between two looks at the cap is bounded by it."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """A pool of HTTP/1.1 connections. Belongs to one event loop, opens nothing before the first request.

    Failures are `httpx.ConnectError`, `ConnectTimeout` or `PoolTimeout` only where no byte of the request was sent, and
    other subclasses of `httpx.RequestError` wherever one may have been. It follows no redirect, keeps no cookie,
    decodes no body and repeats no request. Closing an answer that was not read to its end closes its connection.
    """

    def __init__(self, limits: Limits, verify: ssl.SSLContext, *, now: Callable[[], float] = time.time) -> None:
        # Token requests do not wait for a slot among the calls, so they find a connection of their own.
        self._limits = limits
        self._verify = verify
        self._now = now
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            # Of the phases that `connect` bounds one is the wait for a free connection.
            connect=2 * limits.connect,
            sock_connect=limits.connect,
            sock_read=limits.read,
        )
        self._session: aiohttp.ClientSession | None = None
        self._parse = lru_cache(maxsize=256)(_as_it_stands)

    async def exchange(self, sending: Sending) -> Outcome:
        """Send once and read the answer, without httpx's objects unless the body is compressed."""
        try:
            answer = await self._send(sending.method, sending.address, sending.headers, sending.content, None)
        except httpx.RequestError as error:
            return error
        told = Told.by(answer.raw_headers, self._now)
        most = self._limits.answer_bytes
        if told.encoded:
            return await read_response(_as_httpx(answer, None), most, told)
        try:
            body = None if told.announces_more_than(most) else await _read(answer.content, most)
        except _FAILURES as error:
            return broken_off(_translate(error, None), answer.status, told)
        finally:
            # Without effect on a connection that has gone back to the pool, which it does at the end of the body.
            answer.close()
        return make_reply(answer.status, body, told)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = CIMultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw)
        return _as_httpx(
            await self._send(request.method, str(request.url), headers, request.content or None, request), request
        )

    async def _send(
        self,
        method: str,
        address: str,
        headers: Mapping[str, str],
        content: bytes | None,
        request: httpx.Request | None,
    ) -> aiohttp.ClientResponse:
        session = self._session
        if session is None:
            session = self._session = self._open()
        try:
            return await session.request(
                method,
                self._parse(address),
                headers=headers,
                data=content,
                allow_redirects=False,
                timeout=self._timeout,
            )
        except _FAILURES as error:
            raise _translate(error, request) from error
        except ValueError as error:
            # A header that would break its line. Its text may be a credential.
            raise httpx.LocalProtocolError("A header cannot be sent.", request=request) from error

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            # The machine's own resolver each time a connection is opened, also where aiodns is installed.
            resolver=ThreadedResolver(),
            use_dns_cache=False,
            ssl=self._verify,
            limit=self._limits.in_flight + 4,
            keepalive_timeout=self._limits.keep_alive,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            middlewares=(_once,),
        )


_FAILURES: Final = (aiohttp.ClientError, TimeoutError, OSError)


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: aiohttp.ClientResponse, request: httpx.Request | None) -> None:
        self._answer = answer
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._answer.content.iter_chunked(_CHUNK):
                yield chunk
        except _FAILURES as error:
            raise _translate(error, self._request) from error

    async def aclose(self) -> None:
        # Without effect on a connection that has gone back to the pool, which it does at the end of the body.
        self._answer.close()


def _as_httpx(answer: aiohttp.ClientResponse, request: httpx.Request | None) -> httpx.Response:
    return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer, request), request=request)


async def _read(content: aiohttp.StreamReader, answer_bytes: int) -> bytes | None:
    chunks: list[bytes] = []
    size = 0
    while chunk := await content.readany():
        size += len(chunk)
        if size > answer_bytes:
            return None
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET, PUT or DELETE again, which it does when a kept connection was closed.

    Whether that is allowed is for `retries` to say. aiohttp repeats after errors of its own only: this raises another.
    """
    try:
        return await send(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _translate(error, None) from error


def _as_it_stands(address: str) -> URL:
    return URL(address, encoded=True)


def _translate(error: Exception, request: httpx.Request | None) -> httpx.RequestError:
    """The httpx error with the same meaning; what is not known to come before sending counts as after it."""
    kind: type[httpx.RequestError]
    match error:
        case aiohttp.ConnectionTimeoutError():
            kind = httpx.ConnectTimeout
        case aiohttp.ClientConnectorError():
            kind = httpx.ConnectError
        case aiohttp.InvalidURL():
            kind = httpx.UnsupportedProtocol
        case TimeoutError():
            kind = httpx.ReadTimeout
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | aiohttp.ClientResponseError():
            kind = httpx.RemoteProtocolError
        case _:
            kind = httpx.ReadError
    return kind(str(error) or type(error).__name__, request=request)
