"""Tells a team's own tools, by a signed webhook, that a call waits for an operator.

An announcement is a courtesy: the approval is in the store before it goes out, and can be decided whether or not it
arrives. So nothing here holds up a call, and no failure here is one of the call. What goes out is what an operator is
shown, redacted; what comes back is not read, and decides nothing.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import anyio
import httpx
from anyio.abc import TaskGroup
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt, wait_random_exponential

from connector_mcp import __version__
from connector_mcp.engine.approval.queue import Approval
from connector_mcp.engine.approval.webhook_signature import SigningKey
from connector_mcp.engine.preview import shown
from connector_mcp.errors import Misconfigured, StoreUnavailable
from connector_mcp.json_values import JsonObject
from connector_mcp.state.store import Store
from connector_mcp.text import clean
from connector_mcp.upstream.urls import is_local

ATTEMPTS: Final = 6
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds before another attempt: random, up to a bound that doubles from the first to the longest."""

SHUTDOWN_SECONDS: Final = 5.0
"""How long announcements on their way may take when the engine ends."""

AT_ONCE: Final = 100
"""Announcements on their way at once; one more is left to the next time that its call is made."""

_ANNOUNCED: Final = "announced"
_SENTENCE: Final = 1000
_LINES: Final = 40
_NAME: Final = 120

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Failure:
    """Why an attempt was in vain, and whether another may help."""

    why: str
    passing: bool


class Announcements:
    """The webhook that is told of parked calls. `running` must be entered for anything to be sent.

    Of any number of processes that share the store one announces an approval. Where it does not get through, the
    log says so, and the approval is announced anew when its call is made again.
    """

    def __init__(
        self,
        url: str,
        key: SigningKey,
        store: Store,
        *,
        timeout: float,
        callback_url: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        """`timeout` bounds one attempt, in seconds. `callback_url` is the address under which decisions are taken.

        Raises:
            Misconfigured: The address is no https one, and is not on loopback.
        """
        self._url = _checked(url)
        self._key = key
        self._store = store
        self._timeout = timeout
        self._callback_url = callback_url.rstrip("/") if callback_url else None
        # The transport alone follows no redirect, keeps no cookie, reads no environment and logs no address.
        self._transport = transport or httpx.AsyncHTTPTransport()
        self._clock = clock
        self._sleep = sleep
        self._tasks: TaskGroup | None = None
        self._on_their_way: set[str] = set()
        self._none_left = anyio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Announce for as long as the context is open. What is on its way then has a few seconds to arrive."""
        async with self._transport, anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                self._tasks = None
                with anyio.move_on_after(SHUTDOWN_SECONDS, shield=True):
                    if self._on_their_way:
                        await self._none_left.wait()
                tasks.cancel_scope.cancel()

    def announce(self, approval: Approval) -> None:
        """See to it that an approval that waits is announced once; returns at once."""
        if approval.status != "pending" or approval.id in self._on_their_way:
            return
        if self._tasks is None or len(self._on_their_way) >= AT_ONCE:
            why = "the server is ending" if self._tasks is None else f"{AT_ONCE} others are on their way"
            logger.warning("%s is not announced to the webhook: %s", approval.id, why)
            return
        self._on_their_way.add(approval.id)
        self._tasks.start_soon(self._see_to, approval)

    async def _see_to(self, approval: Approval) -> None:
        try:
            await self._announce_once(approval)
        except StoreUnavailable as error:
            logger.error("%s may not have been announced: %s", approval.id, error.message)
        except Exception:  # the boundary of a task that nobody waits for: the server goes on without it
            logger.exception("the announcement of %s failed inside the server", approval.id)
        finally:
            self._on_their_way.discard(approval.id)
            if not self._on_their_way and self._tasks is None:
                self._none_left.set()

    async def _announce_once(self, approval: Approval) -> None:
        mark: JsonObject = {"at": self._clock()}
        if not await self._store.put_once(_ANNOUNCED, approval.id, mark, expires_at=approval.expires_at):
            return
        failure: _Failure | None = _Failure("the server ended first", passing=True)
        try:
            failure = await self._deliver(approval)
        finally:
            if failure is not None:
                logger.error("%s could not be announced to the webhook: %s", approval.id, failure.why)
                with anyio.CancelScope(shield=True):
                    await self._store.remove(_ANNOUNCED, approval.id)

    async def _deliver(self, approval: Approval) -> _Failure | None:
        body = json.dumps(announcement(approval, self._callback_url), separators=(",", ":")).encode()

        async def attempt() -> _Failure | None:
            return await self._post(approval.id, body)

        def last(state: RetryCallState) -> _Failure | None:
            return state.outcome.result() if state.outcome else None

        retrying = AsyncRetrying(
            sleep=self._sleep,
            retry=retry_if_result(lambda failure: failure is not None and failure.passing),
            wait=wait_random_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE),
            stop=stop_after_attempt(ATTEMPTS),
            retry_error_callback=last,
        )
        return await retrying(attempt)

    async def _post(self, approval_id: str, body: bytes) -> _Failure | None:
        signed = self._key.headers(f"parked-{approval_id}", int(self._clock()), body)
        request = httpx.Request(
            "POST",
            self._url,
            headers={"content-type": "application/json", "user-agent": f"connector-mcp/{__version__}", **signed},
            content=body,
        )
        try:
            with anyio.fail_after(self._timeout):
                answer = await self._transport.handle_async_request(request)
                # What the receiver says is of no interest, and is not read.
                await answer.aclose()
        except (httpx.TransportError, TimeoutError) as failure:
            return _Failure(type(failure).__name__, passing=True)
        status = answer.status_code
        if 200 <= status < 300:
            return None
        return _Failure(f"it answered {status}", passing=status == 429 or status >= 500)


def announcement(approval: Approval, callback_url: str | None = None) -> JsonObject:
    """What is told of a parked call: what an operator is shown, redacted, on single lines of visible characters."""
    losses = [clean(loss, _SENTENCE) for loss in approval.losses[:_LINES]]
    diff = [
        {
            "field": clean(change.field, _NAME),
            "before": None if change.before is None else shown(change.before),
            "after": None if change.after is None else shown(change.after),
        }
        for change in approval.diff[:_LINES]
    ]
    data: JsonObject = {
        "id": approval.id,
        "tool": approval.tool,
        "platform": approval.platform,
        "profile": clean(approval.profile, _NAME),
        "principal": clean(approval.principal, _NAME),
        "client": clean(approval.client, _NAME) if approval.client else None,
        "effect": clean(approval.effect, _SENTENCE),
        "target": clean(approval.target, _NAME),
        "losses": losses,
        "diff": diff,
        "complete": len(losses) == len(approval.losses) and len(diff) == len(approval.diff),
        "created_at": _moment(approval.created_at),
        "expires_at": _moment(approval.expires_at),
    }
    if callback_url:
        data["callback_url"] = f"{callback_url}/{approval.id}"
    return {"type": "approval.parked", "timestamp": _moment(approval.created_at), "data": data}


def _moment(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds")


def _checked(url: str) -> httpx.URL:
    # The address is not repeated: those of chat services are secrets.
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        address = httpx.URL("")
    secure = address.scheme == "https" or (address.scheme == "http" and is_local(address.host))
    if not address.host or not secure or address.userinfo:
        raise Misconfigured(
            "CONNECTOR_MCP_WEBHOOK_URL (its value is not shown) is no https address without a user name.",
            fix="Set it to an address such as https://hooks.example.com/approvals; http:// is for loopback only.",
        )
    return address
