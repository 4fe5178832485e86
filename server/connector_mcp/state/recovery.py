"""What is done when the database came back older: nothing that was open in it counts any more."""

from __future__ import annotations

from typing import Final

from connector_mcp.state.database import Transaction

REASON: Final = "The database came back older, so it is not known what was decided or used since."

_VOID: Final = """
UPDATE approvals SET status = 'void', is_open = 0, reason = :reason, decided_at = coalesce(decided_at, epoch())
WHERE status IN ('pending', 'approved')
"""


def void_open_records(transaction: Transaction) -> None:
    """Void waiting approvals, questions and sessions, and make the outcome of running calls unknown."""
    transaction.execute(_VOID, {"reason": REASON})
    for table in ("questions", "secret_requests", "console_sessions"):
        transaction.execute(f"DELETE FROM {table}")
    transaction.execute("UPDATE executions SET outcome = 'unknown' WHERE outcome = 'running'")
    transaction.notify()
