"""The records in a database, as tests look at them, and the time that a database has in tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from connector_mcp.state.database import Database, Row, Value
from connector_mcp.state.sqlite import SqliteDatabase


class Clock:
    """The time of a database in seconds since the epoch, moved by hand where that is possible."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def rows(database: Database, sql: str, **values: Value) -> Sequence[Row]:
    """What a statement returns."""
    return database.write_now(lambda tx: tx.execute(sql, values).all())


def audit_lines(directory: Path) -> list[str]:
    """The lines of the audit logs of a state directory, of real servers or of the sandbox."""
    found: list[str] = []
    for path in directory.glob("*records.db"):
        with closing(SqliteDatabase(path)) as database:
            found += [row["line"] for row in rows(database, "SELECT line FROM audit ORDER BY seq")]
    return found


def audited(directory: Path) -> list[dict[str, Any]]:
    """The audit records of a state directory."""
    return [json.loads(line) for line in audit_lines(directory)]
