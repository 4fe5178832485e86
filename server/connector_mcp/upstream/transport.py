"""aiohttp's session behind httpx's transport interface.

aiohttp takes less than half the processor time of httpx's own transport. The package `httpx-aiohttp` is not used: it
reports a hang-up after sending as a connection that was never made, so a create would go out twice; it keeps cookies;
it lets aiohttp repeat PUT and DELETE.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import aiohttp
import httpx
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from connector_mcp.upstream.proxy import Proxy, ProxyRefusal, make_ssl_context
from connector_mcp.upstream.urls import Address

if TYPE_CHECKING:
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

    from connector_mcp.upstream.client import ClientLimits

_MAX_HEADER_BYTES: Final = 64 * 1024
_CONTENT_CODINGS: Final = frozenset({"gzip", "deflate", "identity"})
"""The codings that aiohttp decodes piece by piece, never further ahead than its read buffer."""


def open_transport(address: Address, limits: ClientLimits, proxy: Proxy | None) -> httpx.AsyncBaseTransport:
    """Return a transport to one platform that honors the machine's certificate settings.

    Raises:
        Misconfigured: One of these settings is wrong.
    """
    if address.scheme == "http":
        return AiohttpTransport(limits)
    return AiohttpTransport(limits, make_ssl_context(), proxy.url if proxy else None)


class AiohttpTransport(httpx.AsyncBaseTransport):
    """A pool of HTTP/1.1 connections. Belongs to one event loop and opens nothing before the first request.

    Raises `httpx.ConnectError`, `ConnectTimeout` or `ProxyError` only if no byte of the request was sent, and another
    `httpx.RequestError` if one may have been. Follows no redirect, keeps no cookie and repeats no request. Response
    bodies arrive decompressed. Closing a response before its end closes the connection.
    """

    def __init__(
        self, limits: ClientLimits, ssl_context: ssl.SSLContext | None = None, proxy: str | None = None
    ) -> None:
        self._limits = limits
        self._ssl_context = ssl_context
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._session is None:
            self._session = self._open_session()
        elif self._session.closed:
            raise httpx.ConnectError("The transport is closed.")
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        try:
            response = await self._session.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=headers,
                data=request.content or None,
                allow_redirects=False,
            )
        # uvloop raises RuntimeErrors for some failures that are OSErrors on asyncio's own loop.
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            raise _to_httpx(error) from None
        raw_headers = response.raw_headers
        codings = response.headers.getall("Content-Encoding", None)
        if codings:
            # aiohttp decodes the body, so the response that httpx sees has no coding.
            raw_headers = tuple(header for header in raw_headers if header[0].lower() != b"content-encoding")
        is_known = not codings or (len(codings) == 1 and codings[0].lower() in _CONTENT_CODINGS)
        return httpx.Response(response.status, headers=raw_headers, stream=_Body(response, is_known))

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        connector = (_ProxyConnector if self._proxy else aiohttp.TCPConnector)(
            # The machine's own resolver for each new connection, even where aiodns is installed.
            resolver=aiohttp.ThreadedResolver(),
            use_dns_cache=False,
            ssl=self._ssl_context or True,
            # Token requests do not wait for a slot among the calls, so they need connections of their own.
            limit=self._limits.in_flight + 4,
            keepalive_timeout=self._limits.keep_alive,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._limits.connect, sock_read=self._limits.read),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            trust_env=False,
            proxy=self._proxy,
            middlewares=(_send_once,),
            response_class=_Response,
        )


class _ProxyConnector(aiohttp.TCPConnector):
    """Tells failures of the proxy apart: until a connection through it is made, nothing was sent to the platform."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the name is aiohttp's
    ) -> Connection:
        try:
            return await super().connect(req, traces, timeout)
        except aiohttp.ClientHttpProxyError as refusal:
            raise ProxyRefusal(refusal.status) from None
        except aiohttp.ClientConnectorError as error:
            # Behind an open tunnel the other side is the platform.
            if error.host == req.url.host and not isinstance(error, aiohttp.ClientConnectorDNSError):
                raise
            raise httpx.ProxyError(type(error).__name__) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise httpx.ProxyError(type(error).__name__) from error


class _Response(aiohttp.ClientResponse):
    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        # aiohttp would take what arrived on an idle connection for the answer to this request.
        if connection.protocol is None or connection.protocol.should_close:
            raise aiohttp.ServerDisconnectedError
        return await super().start(connection)


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse, is_known_coding: bool) -> None:
        self._response = response
        self._is_known_coding = is_known_coding

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if not self._is_known_coding:
            raise httpx.DecodingError("The content coding is unknown, or there is more than one.")
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise _to_httpx(error) from None

    async def aclose(self) -> None:
        # No effect on a connection that is back in the pool, which it is at the end of the body.
        self._response.close()


async def _send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET, PUT or DELETE again: it repeats only after errors of its own classes."""
    try:
        return await handler(request)
    except (aiohttp.ClientError, OSError) as error:
        raise _to_httpx(error) from None


def _to_httpx(error: Exception) -> httpx.RequestError:
    """Return httpx's error with the same meaning. What is not known to have come before sending counts as sent."""
    kind: type[httpx.RequestError]
    match error:
        case aiohttp.ConnectionTimeoutError():
            kind = httpx.ConnectTimeout
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            kind = httpx.ProxyError
        case aiohttp.ClientConnectorError():
            kind = httpx.ConnectError
        case TimeoutError():
            kind = httpx.ReadTimeout
        case aiohttp.ClientPayloadError() if isinstance(error.__cause__, ContentEncodingError):
            kind = httpx.DecodingError
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | aiohttp.ClientResponseError():
            kind = httpx.RemoteProtocolError
        case ValueError():
            kind = httpx.LocalProtocolError
        case _:
            kind = httpx.ReadError
    # The texts of aiohttp's errors hold the URL with its query, and values of headers.
    return kind(type(error).__name__)
