"""Searches the audit log by call, newest first, for the console. A search reads no more records than it returns."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from connector_mcp.audit.chain import Head, unseal_head
from connector_mcp.audit.reader import Line, Wanted, read_line
from connector_mcp.audit.trail import KEY
from connector_mcp.json_values import JsonObject
from connector_mcp.state.database import Database, Row, Transaction
from connector_mcp.state.keys import decode_key

CALLS: Final = 15
"""Calls on one page."""

_EXPORTED: Final = 500
"""Calls that an export reads at once."""

_SEEN: Final = 1_000
"""How many of the last records of a target are searched for its last change."""

_MEMBERS: Final = f"audit.*, (SELECT value FROM keys WHERE name = '{KEY}') AS secret"
# One statement, so that a record that is added meanwhile does not look like a fault.
_OF_CALL: Final = f"""
SELECT {_MEMBERS}, (SELECT head FROM audit_chain WHERE id = 1) AS head FROM audit WHERE seq IN (
    SELECT seq + place FROM (SELECT seq FROM audit WHERE call_id = :id ORDER BY seq LIMIT 8) AS own
    CROSS JOIN (SELECT -1 AS place UNION SELECT 0 UNION SELECT 1) AS beside
) ORDER BY seq
"""
# A call that changes something has a record of its beginning.
_LAST_CHANGE: Final = f"""
SELECT {_MEMBERS} FROM audit JOIN (
    SELECT max(call_id) AS call_id FROM (
        SELECT call_id FROM audit WHERE target = :target ORDER BY call_id DESC LIMIT {_SEEN}
    ) AS recent WHERE EXISTS (
        SELECT 1 FROM audit AS begun WHERE begun.call_id = recent.call_id AND begun.phase = 'begun'
    )
) AS last ON audit.call_id = last.call_id ORDER BY audit.seq DESC LIMIT 1
"""


@dataclass(frozen=True)
class CallPage:
    """Some calls, newest first, and the ids with which `CallLog.page` returns those beside them.

    A call is the line of its end, or of its beginning if it did not end.
    """

    calls: Sequence[Line]
    older: str | None = None
    """Pass it as `before`. None if there are no older ones."""
    newer: str | None = None
    """Pass it as `after`. None if there are no newer ones."""


@dataclass(frozen=True)
class CheckedRecord:
    """A record of a call, with what a check of it and of the links to its neighbors found."""

    line: Line
    problem: str | None
    """None if it is sealed and linked to the records beside it."""


class CallLog:
    """The audit log, call by call. Every method may raise `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: Wanted, *, before: str = "", after: str = "", count: int = CALLS) -> CallPage:
        """Return the calls next to a key on one side, or the newest ones."""
        found = await self._find(wanted, before or None, after or None, count + 1)
        there_is_more, found = len(found) > count, found[:count]
        if after:
            found = found[::-1]
        # On the side that the key is on, there was at least the page that it comes from.
        older, newer = (True, there_is_more) if after else (there_is_more, bool(before))
        return CallPage(
            found, found[-1].call_id if found and older else None, found[0].call_id if found and newer else None
        )

    async def export(self, wanted: Wanted) -> AsyncGenerator[Sequence[JsonObject]]:
        """Yield the records of all chosen calls, oldest first, some at a time. Altered ones are left out."""
        last = ""
        while found := await self._find(wanted, None, last, _EXPORTED):
            yield [line.authentic for line in found if line.authentic is not None]
            last = found[-1].call_id

    async def records(self, call_id: str) -> list[CheckedRecord]:
        """Return the records of one call, oldest first, each checked now."""

        rows = await self._database.read(lambda tx: tx.execute(_OF_CALL, {"id": call_id}).all())
        lines = {row["seq"]: _line(row) for row in rows}
        head = unseal_head(rows[0]["head"] or "", _key(rows[0])) if rows else None
        own = [line for line in lines.values() if line.call_id == call_id]
        return [CheckedRecord(line, _problem(line, lines, head)) for line in own]

    async def last_changes(self, targets: Iterable[str]) -> dict[str, Line]:
        """Return the last call that changed each target, or tried to, as far back as its last 1,000 records."""

        def work(tx: Transaction) -> dict[str, Line]:
            found = {target: tx.execute(_LAST_CHANGE, {"target": target}) for target in targets}
            return {target: _line(row) for target, rows in found.items() if (row := rows.first()) is not None}

        return await self._database.read(work)

    async def _find(self, wanted: Wanted, before: str | None, after: str | None, count: int) -> Sequence[Line]:
        condition, values = wanted.condition()
        key, order = (" AND call_id > :key", "ASC") if after is not None else (" AND call_id < :key", "DESC")
        key = key if before or after is not None else ""
        sql = f"SELECT {_MEMBERS} FROM audit WHERE {condition}{key} ORDER BY call_id {order} LIMIT :count"
        values = {**values, "key": before or after, "count": count}
        return await self._database.read(lambda tx: [_line(row) for row in tx.execute(sql, values).all()])


def _line(row: Row) -> Line:
    return read_line(row, _key(row))


def _key(row: Row) -> bytes:
    return decode_key(row["secret"], KEY) if row["secret"] else b""


def _problem(line: Line, lines: Mapping[int, Line], head: Head | None) -> str | None:
    """Return what is wrong with a record, or with the links to the records beside it."""
    record, seq = line.authentic, line.seq
    if record is None:
        return line.fault
    if head is None:
        return "the end of the log is missing or altered"
    if seq > head.seq:
        return "the end of the log does not know this record"
    for other, own, linked in ((seq - 1, "prev", "hash"), (seq + 1, "hash", "prev")):
        if not head.first <= other <= head.seq:
            continue
        beside = lines.get(other)
        if beside is None:
            return f"record {other} beside it is missing"
        if beside.record is None or beside.record["seq"] != other:
            return f"record {other} beside it was altered"
        if beside.record[linked] != record[own]:
            return f"the link between it and record {other} is broken"
    return None if seq < head.seq or record["hash"] == head.hash else "the end of the log is that of another record"
