"""aiohttp underneath an httpx transport: the same requests and the same errors for less processor time.

What it buys is in benchmarks/README.md: against the bare server, a call's processor time went from 1.15 to 0.78 times.

The package `httpx-aiohttp` does the same and is not used, because it would make this client unsafe: it reports a server
that hangs up as a connection that was never made (so a create would go out twice), keeps cookies, lets aiohttp repeat
PUT and DELETE behind our back, and lets yarl write the address anew (`%2E%2E` becomes `..`).
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Final

import aiohttp
import httpx
from aiohttp.resolver import ThreadedResolver
from multidict import CIMultiDict
from yarl import URL

from connector_mcp.upstream.limits import Limits

_CHUNK: Final = 16 * 1024
"""Bytes at a time out of a body. What a compressed body swells to between two looks at the cap is bounded by it."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """A pool of HTTP/1.1 connections. Belongs to one event loop, opens nothing before the first request.

    Failures are `httpx.ConnectError`, `ConnectTimeout` or `PoolTimeout` only where no byte of the request was sent, and
    other subclasses of `httpx.RequestError` wherever one may have been. It follows no redirect, keeps no cookie,
    decodes no body and repeats no request. Closing an answer that was not read to its end closes its connection.
    """

    def __init__(self, limits: Limits, verify: ssl.SSLContext) -> None:
        # Token requests do not wait for a slot among the calls, so they find a connection of their own.
        self._limits = limits
        self._verify = verify
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            # Of the phases that `connect` bounds one is the wait for a free connection.
            connect=2 * limits.connect,
            sock_connect=limits.connect,
            sock_read=limits.read,
        )
        self._session: aiohttp.ClientSession | None = None
        self._parse = lru_cache(maxsize=256)(_as_it_stands)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        session = self._session
        if session is None:
            session = self._session = self._open()
        try:
            answer = await session.request(
                request.method,
                self._parse(str(request.url)),
                headers=CIMultiDict(
                    (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw
                ),
                data=request.content or None,
                allow_redirects=False,
                timeout=self._timeout,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _translate(error, request) from error
        except ValueError as error:
            # A header that would break its line. Its text may be a credential.
            raise httpx.LocalProtocolError("A header cannot be sent.", request=request) from error
        return httpx.Response(
            answer.status,
            headers=answer.raw_headers,
            stream=_Body(answer, request),
            request=request,
        )

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


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: aiohttp.ClientResponse, request: httpx.Request) -> None:
        self._answer = answer
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._answer.content.iter_chunked(_CHUNK):
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _translate(error, self._request) from error

    async def aclose(self) -> None:
        # Without effect on a connection that has gone back to the pool, which it does at the end of the body.
        self._answer.close()


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
