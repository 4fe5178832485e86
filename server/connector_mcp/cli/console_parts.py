"""What the console is made of, from settings: for a server over HTTP, and for one on this machine over stdio."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import anyio
import anyio.to_thread
from starlette.routing import BaseRoute

from connector_mcp.cli.checkup import report_on
from connector_mcp.cli.served import platform_states
from connector_mcp.cli.stores import audit_path
from connector_mcp.console.console import Console, Operators
from connector_mcp.console.pages import console_pages
from connector_mcp.engine.audit_check import snapshot
from connector_mcp.engine.call import Engine
from connector_mcp.operations.platform import JsonObject
from connector_mcp.settings import Settings
from connector_mcp.transport.bearer import find_holder
from connector_mcp.transport.token_file import TokenFile

_FILES_READ = 2
"""Files of the audit log that recent calls are looked for in: reading it from its beginning has no bound."""


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
            recent_calls=recent_calls(settings),
            check_platforms=partial(_check, engine, environ),
            sandbox=settings.sandbox,
        )
    )


def recent_calls(settings: Settings) -> Callable[[int], Awaitable[Sequence[JsonObject]]]:
    """The newest records of the audit log, up to a number of them."""
    path = audit_path(settings)

    def read(limit: int) -> list[JsonObject]:
        if not path.exists():
            return []
        with snapshot(path) as log:
            last = replace(log, files=log.files[-_FILES_READ:], opened=log.opened[-_FILES_READ:])
            calls = (entry.members for entry in last.entries() if "call_id" in entry.members)
            return list(deque(calls, maxlen=limit))

    async def recent(limit: int) -> list[JsonObject]:
        return await anyio.to_thread.run_sync(read, limit)

    return recent


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

    return Operators(find, lambda digest: find_holder(file.tokens(), digest) is not None)


async def _check(engine: Engine, environ: Mapping[str, str]) -> list[JsonObject]:
    states = platform_states(engine.settings, environ)
    found: dict[str, JsonObject] = {}

    async def check(name: str, index: int) -> None:
        found[name] = (await report_on(engine, states[index])).as_dict()

    async with anyio.create_task_group() as tasks:
        for index, state in enumerate(states):
            tasks.start_soon(check, state.platform.name, index)
    return [found[state.platform.name] for state in states]
