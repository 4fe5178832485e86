"""What the console is given: everything it shows and does comes from here."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.json_values import JsonObject
from connector_mcp.state.store import Store


@dataclass(frozen=True)
class Operators:
    """Who may sign in."""

    find: Callable[[str], str | None]
    """The name of the operator whose token this is; None where it is nobody's, or has expired."""
    holds: Callable[[bytes], bool]
    """Whether the token with this SHA-256 still counts: a session ends with the token it was begun with."""
    credential: str = "Operator token"
    """What the person is asked for."""
    hint: str = ""
    """Where they find it."""


@dataclass(frozen=True)
class Console:
    """The console's dependencies. Without `operators` nobody can sign in, and the page says what to set."""

    approvals: Approvals
    store: Store
    """Where sessions are kept."""
    operators: Operators | None
    recent_calls: Callable[[int], Awaitable[Sequence[JsonObject]]]
    """The audit records of up to that many calls, the newest of all."""
    check_platforms: Callable[[], Awaitable[Sequence[JsonObject]]]
    """Reads once from each platform: title, state, detail, fix, and the names of variables `set` and `missing`."""
    sandbox: bool = False
    clock: Callable[[], float] = time.time
