"""The records in a database, as tests make and read them, and the time that a database has in tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from connector_mcp.audit.record import AuditRecord
from connector_mcp.audit.trail import AuditTrail, encode
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


def a_record(call_id: str = "c1", **members: Any) -> AuditRecord:
    """The audit record of a read that succeeded, unless `members` say otherwise."""
    given: dict[str, Any] = {
        "principal": "local", "client": None, "transport": "stdio", "platform": "logto", "profile": "default",
        "tool": "logto_list_connectors", "effect": "read", "decision": "allow", "outcome": "ok", "duration_ms": 1.0,
    }  # fmt: skip
    return AuditRecord(call_id=call_id, **(given | members))


def append(database: Database, *records: AuditRecord) -> None:
    """Append records to the audit log, as another process would."""
    entries = [encode(vars(record)) for record in records]
    database.write_now(lambda tx: AuditTrail(database).lock(tx).append(entries))


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
