"""Which call and which HTTP request the code that runs now belongs to, for whoever writes about it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

CALL_ID: Final[ContextVar[str | None]] = ContextVar("call_id", default=None)
"""Id of the call of a tool, the same as in the audit log."""

REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""Id of the HTTP request that brought the message: its own, or one that we gave it."""


def known_ids() -> dict[str, str]:
    """The ids that are known here, by the name they have in logs."""
    ids = {"call_id": CALL_ID.get(), "request_id": REQUEST_ID.get()}
    return {name: value for name, value in ids.items() if value is not None}
