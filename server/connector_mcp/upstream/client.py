"""The shared client: every request to a platform goes through it and comes back as a response or an error.

It calls an `httpx.AsyncBaseTransport` directly. `httpx.AsyncClient` would add redirects, cookies, authentication flows
and logged addresses, which this client must not have, and as much processor time as the transport takes.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlencode

import anyio.lowlevel

from connector_mcp import __version__
from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.input_text import trim
from connector_mcp.operations.platform import NO_BODY, Platform, Request
from connector_mcp.telemetry.events import Attempt, RequestKind
from connector_mcp.telemetry.observer import NULL_OBSERVER, Observer
from connector_mcp.upstream.auth.credentials import make_authorizer
from connector_mcp.upstream.auth.tokens import Token, TokenRequest, read_token
from connector_mcp.upstream.errors import CallContext, make_deadline_error, make_error, make_malformed, make_too_large
from connector_mcp.upstream.rate import RateLimiter, SharedRateLimit
from connector_mcp.upstream.responses import AttemptResult, RawResponse, read_message, read_response
from connector_mcp.upstream.retries import is_read, is_uncertain, may_repeat, send_with_retries
from connector_mcp.upstream.urls import build_target, read_roots

if TYPE_CHECKING:
    import httpx

MAX_URL_LENGTH: Final = 65_536
"""Servers refuse longer URLs in any case."""

USER_AGENT: Final = f"connector-mcp/{__version__}"

logger = logging.getLogger("connector_mcp.upstream")


@dataclass(frozen=True)
class ClientLimits:
    """How long, how often, how many at once and how much. Times are in seconds, sizes in bytes.

    `connect` bounds the wait for a connection, TLS included, and `read` the wait for the next bytes. `deadline` bounds
    a whole call: the wait for its turn, a token, every attempt and the pauses between them.
    """

    connect: float = 10.0
    read: float = 30.0
    deadline: float = 50.0
    attempts: int = 4
    first_pause: float = 0.5
    """Upper bound of the random pause before the second attempt. It doubles with each further attempt."""
    longest_pause: float = 8.0
    answer_bytes: int = 5 * 1024 * 1024
    in_flight: int = 32
    requests_per_second: float | None = None
    """Sustained rate. None: the platform's own. Infinite: no limit."""
    burst_seconds: float = 1.0
    """How many seconds' worth of requests may go out at once after a quiet period."""
    keep_alive: float = 4.0
    """How long an idle connection is kept. Many servers close it after 5 seconds, and a write that meets that moment is
    of unknown outcome."""


DEFAULT_LIMITS: Final = ClientLimits()


@dataclass(frozen=True, slots=True)
class UpstreamResponse:
    """A success. `body` is the JSON value, None without one."""

    status: int
    body: Any
    request_id: str | None
    attempts: int


@dataclass(kw_only=True)
class _PendingCall(CallContext):
    """A request with its URL, and how far it has got."""

    request: Request
    url: str
    content: bytes | None
    sending: Callable[[], None] | None
    attempts: int = 0
    in_flight: bool = False
    renewed: bool = False


class UpstreamClient:
    """One platform under one account. Safe for concurrent calls on one event loop. Close it when done.

    `values` holds the platform's variables by name. An injected `transport` is closed with the client. With a
    `shared_rate_limit` all replicas keep the rate together under the name `account`. `clock` is monotonic, `now` is
    seconds since the epoch.

    Raises:
        Misconfigured: A variable is missing or invalid.
    """

    def __init__(
        self,
        platform: Platform,
        values: Mapping[str, str],
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        limits: ClientLimits = DEFAULT_LIMITS,
        shared_rate_limit: SharedRateLimit | None = None,
        account: str = "",
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        observer: Observer = NULL_OBSERVER,
    ) -> None:
        values = {name: value for name, given in values.items() if (value := trim(given))}
        self.platform = platform
        self._roots = read_roots(platform, values)
        self._address = self._roots[None]
        self._base_url = str(self._address)
        self._limits = limits
        self._clock = clock
        self._now = now
        self._retry = partial(send_with_retries, limits=limits, clock=clock, sleep=sleep)
        self._transport = transport
        self._proxy_setting = ""
        self._observer = observer
        self._authorizer = make_authorizer(platform, values, self._address, clock, now)
        self._headers = {
            "Host": self._address.authority,
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "Accept-Language": "en",
            "User-Agent": USER_AGENT,
        }
        self._slots = anyio.Semaphore(limits.in_flight, fast_acquire=True)
        rate = platform.requests_per_second if limits.requests_per_second is None else limits.requests_per_second
        self._rate_limiter = None
        if not math.isinf(rate):
            burst = max(1.0, rate * limits.burst_seconds)
            self._rate_limiter = RateLimiter(rate, burst, shared=shared_rate_limit, key=account, sleep=sleep)

    @property
    def base_url(self) -> str:
        """The platform's address."""
        return self._base_url

    @property
    def deadline(self) -> float:
        """Seconds that a call may take."""
        return self._limits.deadline

    def __repr__(self) -> str:
        return f"UpstreamClient({self.platform.name!r}, {self._base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. The client cannot be used afterwards."""
        if self._transport is not None:
            await self._transport.aclose()

    def open(self) -> httpx.AsyncBaseTransport:
        """Make ready to connect. `send` does so, too.

        Raises:
            Misconfigured: The machine's proxy or certificate settings are wrong.
        """
        if self._transport is None:
            from connector_mcp.upstream.proxy import find_proxy
            from connector_mcp.upstream.transport import open_transport

            proxy = find_proxy(self._address)
            self._proxy_setting = proxy.setting if proxy else ""
            self._transport = open_transport(self._address, self._limits, proxy)
        return self._transport

    def secrets(self) -> tuple[str, ...]:
        """Return every value of this account that must not be shown: key or secret, and the current access token."""
        return self._authorizer.secrets()

    async def lacks_scope(self) -> bool:
        """Whether the access token was granted less than was asked for."""
        return (await self._authorizer.get_token(self._fetch_token)).lacks_scope

    async def send(
        self, request: Request, *, tool: str | None = None, sending: Callable[[], None] | None = None
    ) -> UpstreamResponse:
        """Send `request` and return the response. `tool` names the call in errors.

        `sending` is called before each attempt; until then nothing has left this machine.

        Cancelling the caller cancels the request upstream.

        Raises:
            InvalidArguments: A path value or the body cannot be sent. Nothing was sent.
            Misconfigured: The machine's proxy or certificate settings are wrong. Nothing was sent.
            UpstreamError: The subclass says what happened; `OutcomeUnknown` if a change may have been made.
        """
        call = self._prepare(request, tool or f"{request.method} {request.path}", sending)
        started = self._clock()
        status: int | str = "no answer"
        # asyncio's own scope costs half of anyio's and cancels the same task.
        scope = asyncio.timeout(self._limits.deadline)
        try:
            async with scope:
                deadline = started + self._limits.deadline
                result = await self._retry(lambda: self._attempt(call), repeats=call.repeats, deadline=deadline)
            status = _status(result)
            return self._read_result(call, result)
        except TimeoutError:
            if not scope.expired():
                raise
            status = "deadline"
            raise make_deadline_error(
                call, self._limits.deadline, in_flight=call.in_flight, sent=call.attempts > 0
            ) from None
        finally:
            where = (self.platform.name, request.method, request.path)
            logger.debug(
                "%s %s %s -> %s in %.3f s, attempts: %d", *where, status, self._clock() - started, call.attempts
            )

    def _prepare(self, request: Request, what: str, sending: Callable[[], None] | None) -> _PendingCall:
        url = f"{self._roots[request.api]}{build_target(request, what)}"
        if len(url) > MAX_URL_LENGTH:
            raise InvalidArguments(what, [Issue("", "values too long for an address", "shorter values")])
        content = None if request.body is NO_BODY else _encode_body(request.body, what)
        self.open()
        return _PendingCall(
            platform=self.platform,
            what=what,
            reads=is_read(request),
            repeats=may_repeat(request),
            variables=self._authorizer.variables,
            secrets=self.secrets,
            proxy=self._proxy_setting,
            request=request,
            url=url,
            content=content,
            sending=sending,
        )

    async def _attempt(self, call: _PendingCall) -> AttemptResult:
        token = await self._authorizer.get_token(self._fetch_token)
        result = await self._send_once(call, token)
        if not (isinstance(result, RawResponse) and result.status == 401) or call.renewed:
            return result
        # The platform did nothing on a 401, so a request of any method may be sent again, once.
        if not self.platform.blames_credentials(read_message(self.platform, result)):
            return result
        call.renewed = True
        renewed = await self._authorizer.get_token(self._fetch_token, refused=token)
        return result if renewed is token else await self._send_once(call, renewed)

    async def _send_once(self, call: _PendingCall, token: Token) -> AttemptResult:
        call.lacks_scope = token.lacks_scope
        headers = {**self._headers, "Authorization": token.header}
        if call.content is not None:
            headers["Content-Type"] = "application/json"
        if not call.reads:
            # A change does not start for a caller that was cancelled.
            await anyio.lowlevel.checkpoint_if_cancelled()
        queued = self._clock()
        async with self._slots:
            if self._rate_limiter is not None:
                await self._rate_limiter.acquire()
            call.attempts += 1
            call.in_flight = True
            if call.sending is not None:
                call.sending()
            kind = "read" if call.reads else "write"
            waited = self._clock() - queued
            attempt = self._observed(kind, call.request.method, call.request.path, call.attempts, waited)
            result = await self._exchange(attempt, call.url, headers, call.content)
            call.in_flight = False
        if not call.reads and is_uncertain(self.platform, result):
            call.uncertain = True
        return result

    async def _fetch_token(self, token_request: TokenRequest) -> Token:
        headers = {**self._headers, "Content-Type": "application/x-www-form-urlencoded"}
        url, content = self._base_url + token_request.path, urlencode(token_request.form).encode("ascii")
        attempts = 0

        async def attempt() -> AttemptResult:
            nonlocal attempts
            attempts += 1
            observed = self._observed("token", "POST", token_request.path, attempts)
            return await self._exchange(observed, url, headers, content)

        self.open()
        context = CallContext(
            platform=self.platform,
            what="the request for an access token",
            reads=True,
            repeats=True,
            variables=self._authorizer.variables,
            secrets=lambda: (*self.secrets(), *token_request.secrets()),
            proxy=self._proxy_setting,
        )
        with self._observer.minting(self.platform.name):
            # A second token does no harm, so the request is repeated like a read.
            result = await self._retry(attempt, repeats=True, deadline=self._clock() + self._limits.deadline)
            return read_token(context, token_request, result)

    async def _exchange(
        self, attempt: Attempt, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> AttemptResult:
        """Send one request, read the response, and tell the observer."""
        # Imported here to save start-up time.
        import httpx

        request = httpx.Request(attempt.method, url, headers=headers, content=content)
        with self._observer.attempt(attempt) as ending:
            result: AttemptResult
            try:
                response = await self.open().handle_async_request(request)
                result = await read_response(response, self._limits.answer_bytes, self._now())
            except httpx.RequestError as error:
                result = error
            ending.status = _status(result)
        return result

    def _observed(self, kind: RequestKind, method: str, template: str, number: int, waited: float = 0.0) -> Attempt:
        where = self._address
        return Attempt(self.platform.name, kind, method, template, where.host, where.effective_port, number - 1, waited)

    def _read_result(self, call: _PendingCall, result: AttemptResult) -> UpstreamResponse:
        if not isinstance(result, RawResponse):
            raise make_error(call, result) from result
        if not 200 <= result.status < 300:
            raise make_error(call, result)
        if result.too_large:
            raise make_too_large(call, result, self._limits.answer_bytes)
        try:
            body = result.parse()
        except ValueError:
            raise make_malformed(call, result) from None
        return UpstreamResponse(result.status, body, result.request_id, call.attempts)


def warm_up() -> None:
    """Import what the first request needs. Safe to run in a thread."""
    importlib.import_module("connector_mcp.upstream.transport")


def _encode_body(body: Any, what: str) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        got = "text with half of a surrogate pair"
    except ValueError:
        got = "a number that JSON cannot express"
    raise InvalidArguments(what, [Issue("", got, "values that JSON can express")])


def _status(result: AttemptResult) -> int | str:
    return result.status if isinstance(result, RawResponse) else type(result).__name__
