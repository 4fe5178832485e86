"""Where people are sent to enter a secret: pages of the server over HTTP, or a listener of their own over stdio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from urllib.parse import urlsplit

import anyio
from anyio.abc import TaskGroup

from connector_mcp.engine.engine import Engine
from connector_mcp.engine.secret_refs.secret_requests import SecretRequests


def offer_secret_pages(engine: Engine, address: str) -> None:
    """Tell calls over HTTP where the pages are, at which people reach this server.

    `address` is what the server listens on. Beyond this machine there are pages only where another one is known.
    """
    settings = engine.settings
    public = settings.public_url or next(iter(settings.allowed_origins), None)

    async def find() -> str | None:
        return public.rstrip("/") if public else address

    host = urlsplit(address).hostname or ""
    if engine.secret_requests is not None and (public or host == "localhost" or ip_address(host).is_loopback):
        engine.secret_requests.have_pages_at(find)


@asynccontextmanager
async def pages_on_demand(engine: Engine) -> AsyncGenerator[None]:
    """Pages on loopback from the first time that a call needs one, until the context ends."""
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
