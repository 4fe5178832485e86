"""The page of the platforms: whether each can be reached, checked on request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

import anyio
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from connector_mcp.console.access import PageShell
from connector_mcp.json_values import JsonObject

CHECK_SECONDS = 10.0
"""How long a check of the platforms may take, and how long its result is reused."""


class ConnectorPages:
    """The handlers of `/console/platforms`."""

    def __init__(
        self,
        shell: PageShell,
        check_platforms: Callable[[], Awaitable[Sequence[JsonObject]]],
        clock: Callable[[], float],
    ) -> None:
        self._shell = shell
        self._check = check_platforms
        self._clock = clock
        self._last_check: JsonObject | None = None
        """When the platforms were checked (`at`), and the result; None if it did not finish in time."""
        self._checking = anyio.Lock()

    async def platforms(self, request: Request) -> Response:
        visitor = await self._shell.visitor(request)
        return self._shell.page("platforms", visitor, here="platforms", check=self._last_check)

    async def check_platforms(self, request: Request) -> Response:
        await self._shell.submitted(request)
        async with self._checking:
            last = self._last_check
            if last is None or self._clock() - last["at"] >= CHECK_SECONDS:
                platforms = None
                with anyio.move_on_after(CHECK_SECONDS):
                    platforms = await self._check()
                self._last_check = {"at": self._clock(), "platforms": platforms}
        return RedirectResponse(f"{self._shell.home}/platforms", HTTPStatus.SEE_OTHER)
