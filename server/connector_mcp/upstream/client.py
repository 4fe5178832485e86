"""The shared client: everything that is sent to a platform goes through here, and comes back as an answer or an error.

It speaks to a `Wire` rather than through `httpx.AsyncClient`: redirects, cookies, authentication flows and logged
addresses are what this client must not have, and leaving them out saves 100 us of each call.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlencode

import anyio
import anyio.lowlevel

from connector_mcp import __version__
from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.operations.platform import NO_BODY, Platform, Request
from connector_mcp.telemetry.observer import NULL_OBSERVER, Observer
from connector_mcp.upstream.auth.credentials import Ask, Environment, Proof, make_authorizer
from connector_mcp.upstream.auth.token_response import read_token
from connector_mcp.upstream.auth.tokens import Token
from connector_mcp.upstream.errors import (
    Call,
    make_deadline_error,
    make_error,
    make_malformed,
    make_too_large,
    read_message,
)
from connector_mcp.upstream.exchange import Outcome, Reply, Sending, Wire
from connector_mcp.upstream.instrumentation import Watch
from connector_mcp.upstream.limits import DEFAULT_LIMITS, Limits
from connector_mcp.upstream.retries import deserves_another, is_read, is_uncertain, keep_trying, may_repeat
from connector_mcp.upstream.urls import build_target, read_base_url
from connector_mcp.upstream.wire import open_wire, over_httpx

if TYPE_CHECKING:
    import httpx

LONGEST_ADDRESS: Final = 65_536
"""Characters of an address; more would be refused on the way in any case."""

USER_AGENT: Final = f"connector-mcp/{__version__}"

logger = logging.getLogger("connector_mcp.upstream")


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: the JSON value, None where there was no body. `duration` is in seconds, all attempts included."""

    status: int
    body: Any
    request_id: str | None
    duration: float
    attempts: int


@dataclass(slots=True)
class _Outgoing:
    """A request tied to its address, and how far it has got."""

    request: Request
    what: str
    address: str
    content: bytes | None
    reads: bool
    repeats: bool
    attempts: int = 0
    in_flight: bool = False
    uncertain: bool = False
    renewed: bool = False
    proof: Proof | None = field(default=None, repr=False)


class UpstreamClient:
    """One platform under one account. Safe for concurrent calls on one event loop; close it when done.

    `values` holds the platform's variables by name; an injected `transport` is closed with the client. `clock` is
    monotonic, `now` is seconds since the epoch.

    Raises:
        Misconfigured: A variable is missing or cannot be what it should be.
    """

    def __init__(
        self,
        platform: Platform,
        values: Mapping[str, str],
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        limits: Limits = DEFAULT_LIMITS,
        user_agent: str = USER_AGENT,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        observer: Observer = NULL_OBSERVER,
    ) -> None:
        given = {name: value.strip() for name, value in values.items() if value.strip()}
        self.platform = platform
        address = read_base_url(platform, given)
        self._address = address
        self._base = str(address)
        self._limits = limits
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._wire = None if transport is None else over_httpx(transport, limits, now)
        self._watch = Watch(observer, platform.name, address)
        environment = Environment(self._base, address.host, self._mint, clock, now)
        self._authorizer = make_authorizer(platform, given, environment)
        self._headers = {
            "Host": address.authority,
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "Accept-Language": "en",
            "Connection": "keep-alive",
            "User-Agent": user_agent,
        }
        self._proven: tuple[Proof, dict[str, str]] | None = None
        self._slots = anyio.Semaphore(limits.in_flight, fast_acquire=True)
        rate = platform.requests_per_second if limits.requests_per_second is None else limits.requests_per_second
        self._pace = None
        if not math.isinf(rate):
            # A bucket that starts empty and drains at `rate`: the first burst waits for nothing.
            burst = max(1.0, rate * limits.burst_seconds)
            self._pace = limits.make_pace(burst, burst / rate)

    def __repr__(self) -> str:
        return f"UpstreamClient({self.platform.name!r}, {self._base!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. The client cannot be used afterwards."""
        if self._wire is not None:
            await self._wire.aclose()

    def secrets(self) -> tuple[str, ...]:
        """Every value of this account that must not be seen: key or secret, and the current access token."""
        return self._authorizer.secrets()

    async def send(self, request: Request, *, tool: str | None = None) -> Answer:
        """Send `request` and return its answer; `tool` names the call in errors.

        Cancelling the caller cancels the request upstream.

        Raises:
            InvalidArguments: A path value or the body cannot be sent. Nothing was.
            UpstreamError: The subclass says what happened; `OutcomeUnknown` where a change may have been made.
        """
        outgoing = self._prepare(request, tool or f"{request.method} {request.path}")
        started = self._clock()
        status: int | str = "no answer"
        # Half of what a scope of anyio's takes, and it cancels the same task.
        bound = asyncio.timeout(self._limits.deadline)
        try:
            async with bound:
                outcome = await self._attempt(outgoing)
                if deserves_another(outcome, repeats=outgoing.repeats):
                    outcome = await self._keep_trying(outgoing, outcome, started + self._limits.deadline)
            status = outcome.status if isinstance(outcome, Reply) else type(outcome).__name__
            return self._read_answer(outgoing, outcome, started)
        except TimeoutError:
            if not bound.expired():
                raise
            status = "deadline"
            raise make_deadline_error(
                self._call(outgoing),
                self._limits.deadline,
                in_flight=outgoing.in_flight,
                sent=outgoing.attempts > 0,
            ) from None
        finally:
            if logger.isEnabledFor(logging.DEBUG):
                taken = self._clock() - started
                logger.debug(
                    "%s %s %s -> %s in %.3f s, attempts: %d",
                    self.platform.name,
                    request.method,
                    request.path,
                    status,
                    taken,
                    outgoing.attempts,
                )

    def _prepare(self, request: Request, what: str) -> _Outgoing:
        address = self._base + build_target(request, what)
        if len(address) > LONGEST_ADDRESS:
            raise InvalidArguments(what, [Issue("", "values too long for an address", "shorter values")])
        content = None if request.body is NO_BODY else _encode_body(request.body, what)
        return _Outgoing(request, what, address, content, is_read(request), may_repeat(request))

    async def _keep_trying(self, outgoing: _Outgoing, first: Outcome, deadline: float) -> Outcome:
        return await keep_trying(
            first,
            lambda: self._attempt(outgoing),
            repeats=outgoing.repeats,
            limits=self._limits,
            remaining=lambda: deadline - self._clock(),
            sleep=self._sleep,
        )

    async def _attempt(self, outgoing: _Outgoing) -> Outcome:
        proof = await self._authorizer.prove()
        outcome = await self._exchange(outgoing, proof)
        if not (isinstance(outcome, Reply) and outcome.status == 401) or outgoing.renewed:
            return outcome
        # A 401 was not carried out, so the same request may go out again, once, whatever its method.
        if not self.platform.blames_credentials(read_message(self.platform, outcome)):
            return outcome
        outgoing.renewed = True
        other = await self._authorizer.renew(proof)
        return outcome if other is None else await self._exchange(outgoing, other)

    async def _exchange(self, outgoing: _Outgoing, proof: Proof) -> Outcome:
        outgoing.proof = proof
        headers = self._headers_for(proof)
        if outgoing.content is not None:
            headers = headers | {"Content-Type": "application/json"}
        sending = Sending(outgoing.request.method, outgoing.address, headers, outgoing.content)
        if not outgoing.reads:
            # A change does not begin for a caller who has gone.
            await anyio.lowlevel.checkpoint_if_cancelled()
        try:
            self._slots.acquire_nowait()
        except anyio.WouldBlock:
            await self._slots.acquire()
        try:
            if self._pace is not None:
                await self._pace.acquire()
            outgoing.attempts += 1
            outgoing.in_flight = True
            sent = self._open().exchange(sending)
            outcome = await self._watch(sent, outgoing.request, outgoing.attempts, reads=outgoing.reads)
            outgoing.in_flight = False
        finally:
            self._slots.release()
        if not outgoing.reads and is_uncertain(outcome):
            outgoing.uncertain = True
        return outcome

    async def _mint(self, ask: Ask) -> Token:
        with self._watch.minting():
            return await self._fetch_token(ask)

    async def _fetch_token(self, ask: Ask) -> Token:
        headers = self._headers | {"Content-Type": "application/x-www-form-urlencoded"}
        sending = Sending("POST", self._base + ask.path, headers, urlencode(ask.form).encode("ascii"))
        attempts = 0

        async def post() -> Outcome:
            nonlocal attempts
            attempts += 1
            return await self._watch.token(self._open().exchange(sending), ask.path, attempts)

        deadline = self._clock() + self._limits.deadline
        outcome = await post()
        # Minting a token twice does no harm, so it is repeated like a read.
        if deserves_another(outcome, repeats=True):
            outcome = await keep_trying(
                outcome,
                post,
                repeats=True,
                limits=self._limits,
                remaining=lambda: deadline - self._clock(),
                sleep=self._sleep,
            )
        call = Call(
            platform=self.platform,
            what="the request for an access token",
            reads=True,
            repeats=True,
            variables=self._authorizer.variables,
            secrets=lambda: (*self._authorizer.secrets(), *_hidden_fields(ask)),
        )
        return read_token(call, ask, outcome)

    def _read_answer(self, outgoing: _Outgoing, outcome: Outcome, started: float) -> Answer:
        if not isinstance(outcome, Reply) or not 200 <= outcome.status < 300:
            raise make_error(self._call(outgoing), outcome) from (None if isinstance(outcome, Reply) else outcome)
        if outcome.too_large:
            raise make_too_large(self._call(outgoing), outcome, self._limits.answer_bytes)
        try:
            body = outcome.parse()
        except ValueError:
            raise make_malformed(self._call(outgoing), outcome) from None
        if outcome.unreadable:
            raise make_malformed(self._call(outgoing), outcome)
        return Answer(outcome.status, body, outcome.request_id, self._clock() - started, outgoing.attempts)

    def _call(self, outgoing: _Outgoing) -> Call:
        token = outgoing.proof.token if outgoing.proof else None
        return Call(
            platform=self.platform,
            what=outgoing.what,
            reads=outgoing.reads,
            repeats=outgoing.repeats,
            variables=self._authorizer.variables,
            secrets=self.secrets,
            lacks_scope=token is not None and token.lacks_scope,
            uncertain=outgoing.uncertain,
        )

    def _headers_for(self, proof: Proof) -> dict[str, str]:
        proven = self._proven
        if proven is None or proven[0] is not proof:
            proven = self._proven = (proof, self._headers | {"Authorization": proof.header})
        return proven[1]

    def _open(self) -> Wire:
        if self._wire is None:
            self._wire = open_wire(self._address, self._limits, self._now)
        return self._wire


def _encode_body(body: Any, what: str) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        got = "text with half of a surrogate pair"
    except ValueError:
        got = "a number that JSON cannot express"
    raise InvalidArguments(what, [Issue("", got, "values that JSON can express")])


def _hidden_fields(ask: Ask) -> tuple[str, ...]:
    return tuple(value for name, value in ask.form.items() if name in {"client_secret", "client_assertion"})
