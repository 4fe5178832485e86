"""What orchestrators and Prometheus ask: `/readyz` and `/metrics`. `/healthz`, which asks nothing, is `http_app`'s own.

An answer names parts of ours and whether they work. Why one does not goes to the log: paths and hosts stand in that.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from connector_mcp.engine.engine import Engine
from connector_mcp.errors import ConnectorError
from connector_mcp.transport.http.shutdown import Drain

if TYPE_CHECKING:
    from connector_mcp.telemetry.metrics import Metrics

READY_SECONDS: Final = 1.0
"""How long an answer of `/readyz` is given again, so that nobody can keep the store busy by asking."""

COUNTED_SECONDS: Final = 5.0
"""The same for the approvals that `/metrics` counts: each count reads all of them."""

PATIENCE: Final = 3.0
"""Seconds in which the store must answer."""

_PROBES: Final = "probes"
_NO_STORE: Final = {"Cache-Control": "no-store"}

logger = logging.getLogger(__name__)


class Readiness:
    """Whether calls can be served, part by part. Checked at most once a second, by one request at a time."""

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = anyio.Lock()
        self._checked_at: float | None = None
        self._parts: dict[str, bool] = {}

    async def parts(self) -> Mapping[str, bool]:
        """Each part by name, and whether it works: `accounts`, `audit`, `store`."""
        async with self._lock:
            now = self._clock()
            if self._checked_at is None or now - self._checked_at >= READY_SECONDS:
                found = {
                    "accounts": bool(self._engine.accounts),
                    "audit": await self._can_audit(),
                    "store": await self._can_store(),
                }
                if found != self._parts and all(found.values()) and self._parts:
                    logger.warning("ready again")
                self._parts, self._checked_at = found, self._clock()
        return self._parts

    async def _can_audit(self) -> bool:
        try:
            await self._engine.check_audit()
        except ConnectorError as error:
            self._log(error, "audit")
            return False
        return True

    async def _can_store(self) -> bool:
        """Put something into the store and take it out again, as every decision does."""
        store, key = self._engine.store, secrets.token_hex(8)
        kept = False
        try:
            with anyio.move_on_after(PATIENCE):
                await store.put_once(_PROBES, key, {}, expires_at=time.time() + 60)
                kept = await store.take_once(_PROBES, key) is not None
        except ConnectorError as error:
            self._log(error, "store")
            return False
        return kept

    def _log(self, error: ConnectorError, part: str) -> None:
        # Once for each time that it breaks: probes come every few seconds.
        if self._parts.get(part, True):
            logger.error("not ready: %s", error.message)


class Waiting:
    """How many approvals there are in which state; None where the store does not say. Kept for some seconds."""

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = anyio.Lock()
        self._counted_at: float | None = None
        self._counted: Mapping[str, int] | None = None

    async def count(self) -> Mapping[str, int] | None:
        async with self._lock:
            now = self._clock()
            if self._counted_at is None or now - self._counted_at >= COUNTED_SECONDS:
                self._counted = None
                try:
                    with anyio.move_on_after(PATIENCE):
                        self._counted = Counter(approval.status for approval in await self._engine.approvals.list())
                except ConnectorError:
                    logger.debug("the approvals cannot be counted")
                self._counted_at = self._clock()
        return self._counted


def readyz(readiness: Readiness, drain: Drain) -> Route:
    """200 where every part works, 503 with the names of those that do not, or while the server is ending."""

    async def answer(_: Request) -> Response:
        if drain.has_begun:
            return JSONResponse({"status": "draining"}, 503, _NO_STORE)
        parts = await readiness.parts()
        told = {name: "ok" if works else "failed" for name, works in parts.items()}
        ready = all(parts.values())
        return JSONResponse(
            {"status": "ready" if ready else "not_ready", "parts": told}, 200 if ready else 503, _NO_STORE
        )

    return Route("/readyz", answer, methods=["GET"])


def exposition(metrics: Metrics, waiting: Waiting) -> Route:
    """`/metrics` in the form that the scraper asks for: Prometheus' text, or OpenMetrics."""
    from prometheus_client.exposition import choose_encoder

    async def answer(request: Request) -> Response:
        metrics.set_waiting(await waiting.count())
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), headers={"Content-Type": media_type, **_NO_STORE})

    return Route("/metrics", answer, methods=["GET"])


def observability_pages(engine: Engine, drain: Drain, metrics: Metrics | None) -> Sequence[BaseRoute]:
    """The pages of a server; `/metrics` only where there are any."""
    pages: list[BaseRoute] = [readyz(Readiness(engine), drain)]
    if metrics is not None:
        pages.append(exposition(metrics, Waiting(engine)))
    return pages
