"""`/readyz` and `/metrics`, for orchestrators and Prometheus. `/healthz`, which checks nothing, is in `app.py`.

A response names the server's parts and whether they work. Why one fails goes to the log only: it shows paths and hosts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from connector_mcp.engine.engine import Engine
from connector_mcp.errors import ConnectorError
from connector_mcp.transport.http.shutdown import Drain

if TYPE_CHECKING:
    from connector_mcp.telemetry.events import Backlog
    from connector_mcp.telemetry.metrics import Metrics

READY_SECONDS: Final = 1.0
"""Seconds for which a response of `/readyz` is reused."""

COUNTED_SECONDS: Final = 5.0
"""Seconds for which the numbers from the database in `/metrics` are reused."""

TIMEOUT: Final = 3.0
"""Seconds in which a part must answer."""

_NO_STORE: Final = {"Cache-Control": "no-store"}

_Value = TypeVar("_Value")

logger = logging.getLogger(__name__)


class CachedCheck(Generic[_Value]):
    """A check that runs at most once in `seconds` and one at a time, so that requests cannot keep the store busy."""

    def __init__(
        self, check: Callable[[], Awaitable[_Value]], seconds: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._check = check
        self._seconds = seconds
        self._clock = clock
        self._lock = anyio.Lock()
        self._last: tuple[float, _Value] | None = None

    async def result(self) -> _Value:
        """Return the last result, or that of a new check."""
        async with self._lock:
            if self._last is None or self._clock() - self._last[0] >= self._seconds:
                result = await self._check()
                self._last = (self._clock(), result)
            return self._last[1]


class PartChecks:
    """Checks whether each part works that a call needs. A change is logged once: probes come every few seconds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._parts: Mapping[str, bool] = {}

    async def check(self) -> Mapping[str, bool]:
        """Return whether each part works, by name: `accounts`, `audit`, `store`."""
        parts = {
            "accounts": bool(self._engine.accounts),
            "audit": await self._works("audit", self._engine.check_audit),
            "store": await self._works("store", self._engine.check_store),
        }
        if all(parts.values()) and not all(self._parts.values()):
            logger.warning("ready again")
        self._parts = parts
        return parts

    async def _works(self, part: str, check: Callable[[], Awaitable[object]]) -> bool:
        try:
            with anyio.move_on_after(TIMEOUT):
                await check()
                return True
        except ConnectorError as error:
            if self._parts.get(part, True):
                logger.error("not ready: %s", error.message)
        return False


async def read_backlog(engine: Engine) -> Backlog | None:
    """Return what waits in the database, or None if it does not answer."""
    try:
        with anyio.move_on_after(TIMEOUT):
            return await engine.backlog()
    except ConnectorError:
        logger.debug("what waits in the database cannot be counted")
    return None


def observability_pages(engine: Engine, drain: Drain, metrics: Metrics | None) -> Sequence[BaseRoute]:
    """Return the routes: `/readyz`, and `/metrics` if there are metrics."""
    readiness = CachedCheck(PartChecks(engine).check, READY_SECONDS)

    async def readyz(_: Request) -> Response:
        """200 if every part works; 503 with the names of those that do not, or while the server shuts down."""
        if drain.has_begun:
            return JSONResponse({"status": "draining"}, 503, _NO_STORE)
        parts = await readiness.result()
        ready = all(parts.values())
        body = {
            "status": "ready" if ready else "not_ready",
            "parts": {name: "ok" if works else "failed" for name, works in parts.items()},
        }
        return JSONResponse(body, 200 if ready else 503, _NO_STORE)

    if metrics is None:
        return [Route("/readyz", readyz, methods=["GET"])]
    from prometheus_client.exposition import choose_encoder

    backlog = CachedCheck(partial(read_backlog, engine), COUNTED_SECONDS)

    async def show_metrics(request: Request) -> Response:
        """The metrics in the format that the scraper accepts: Prometheus text or OpenMetrics."""
        metrics.set_backlog(await backlog.result())
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), headers={"Content-Type": media_type, **_NO_STORE})

    return [Route("/readyz", readyz, methods=["GET"]), Route("/metrics", show_metrics, methods=["GET"])]
