"""The pages where people enter secrets: on the HTTP server, or on a listener of their own over stdio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
from anyio.abc import TaskGroup

from connector_mcp.engine.engine import Engine
from connector_mcp.engine.secret_refs.secret_requests import SecretRequests

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from connector_mcp.composition.http_access import HttpAccess


def make_secret_pages(engine: Engine, access: HttpAccess) -> list[BaseRoute]:
    """Return the pages of a server over HTTP; none if secrets cannot be stored."""
    from connector_mcp.console.secret_pages import secret_pages
    from connector_mcp.transport.auth.authorization import Callers
    from connector_mcp.transport.mcp.elicitation import ANYBODY

    if engine.secret_requests is None:
        return []
    callers = Callers(access.tokens, access.token_file, access.oauth)

    async def identify(token: str) -> str | None:
        holder = await callers.identify(token)
        return holder.name if holder else None

    return secret_pages(
        engine.secret_requests, identify=None if callers.allow_anonymous else identify, anonymous=ANYBODY
    )


def announce_secret_pages(engine: Engine, address: str) -> None:
    """Tell calls over HTTP the address of the pages.

    `address` is what the server listens on. If that is not loopback, a public address must be configured.
    """
    settings = engine.settings
    public = settings.public_url or next(iter(settings.allowed_origins), None)

    async def find() -> str | None:
        return public.rstrip("/") if public else address

    host = urlsplit(address).hostname or ""
    if engine.secret_requests is not None and (public or host == "localhost" or ip_address(host).is_loopback):
        engine.secret_requests.have_pages_at(find)


@asynccontextmanager
async def serve_secret_pages_on_demand(engine: Engine) -> AsyncGenerator[None]:
    """Serve the pages on loopback from the first call that needs one until the context ends."""
    if engine.secret_requests is None:
        yield
        return
    async with anyio.create_task_group() as tasks:
        engine.secret_requests.have_pages_at(_OnDemand(engine.secret_requests, tasks).find)
        yield
        tasks.cancel_scope.cancel()


class _OnDemand:
    def __init__(self, requests: SecretRequests, tasks: TaskGroup) -> None:
        self._requests = requests
        self._tasks = tasks
        self._lock = anyio.Lock()
        self._address: str | None = None

    async def find(self) -> str:
        async with self._lock:
            if self._address is None:
                # The web server and the templates take a tenth of a second to import, and few servers need them.
                from connector_mcp.console.secret_pages import secret_pages
                from connector_mcp.transport.http.listener import serve_pages_beside
                from connector_mcp.transport.mcp.elicitation import LOCAL

                pages = secret_pages(self._requests, identify=None, anonymous=LOCAL)
                address: str = await self._tasks.start(serve_pages_beside, pages)
                self._address = address
            return self._address
