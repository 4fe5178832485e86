"""What the console is made of, from settings: for a server over HTTP, and for one on this machine over stdio."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import anyio
from starlette.routing import BaseRoute

from connector_mcp.composition.health import report_on
from connector_mcp.composition.http_access import Access
from connector_mcp.composition.readiness import platform_states
from connector_mcp.config.settings import Settings
from connector_mcp.console.pages import Console, Operators, console_pages
from connector_mcp.console.secret_pages import secret_pages
from connector_mcp.engine.engine import Engine
from connector_mcp.json_values import JsonObject
from connector_mcp.transport.auth.authorization import Callers
from connector_mcp.transport.auth.static_tokens import TokenFile, find_token
from connector_mcp.transport.mcp.elicitation import ANYBODY


def pages_for(engine: Engine, environ: Mapping[str, str]) -> list[BaseRoute]:
    """The console of a server over HTTP.

    Raises:
        Misconfigured: The operators' file is not what it should be.
    """
    settings = engine.settings
    return console_pages(
        Console(
            approvals=engine.approvals,
            store=engine.store,
            operators=operators_of(settings),
            recent_calls=engine.recent_calls,
            check_platforms=partial(_check, engine, environ),
            sandbox=settings.sandbox,
        )
    )


def secret_pages_for(engine: Engine, access: Access) -> list[BaseRoute]:
    """Where people enter secrets that calls over HTTP are missing; nothing where they cannot."""
    callers = Callers(access.tokens, access.token_file, access.oauth)

    async def identify(token: str) -> str | None:
        holder = await callers.identify(token)
        return holder.name if holder else None

    if engine.secret_requests is None:
        return []
    return secret_pages(
        engine.secret_requests, identify=None if callers.allow_anonymous else identify, anonymous=ANYBODY
    )


def operators_of(settings: Settings) -> Operators | None:
    """Who may sign in to the console of a server over HTTP.

    Raises:
        Misconfigured: The operators' file is not what it should be.
    """
    if settings.operators_file is None:
        return None
    file = TokenFile(settings.operators_file, scoped=False)

    def find(token: str) -> str | None:
        operator = file.find(token)
        return operator.name if operator else None

    return Operators(find, lambda digest: find_token(file.tokens(), digest) is not None)


async def _check(engine: Engine, environ: Mapping[str, str]) -> list[JsonObject]:
    states = platform_states(engine.settings, environ)
    found: dict[int, JsonObject] = {}

    async def check(index: int) -> None:
        found[index] = (await report_on(engine, states[index])).as_dict()

    async with anyio.create_task_group() as tasks:
        for index in range(len(states)):
            tasks.start_soon(check, index)
    return [found[index] for index in range(len(states))]
