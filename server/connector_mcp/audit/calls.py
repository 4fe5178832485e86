"""Searches the audit log by call, newest first, for the console. A search reads no more records than it returns."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from connector_mcp.audit.chain import START, Head, unseal_head
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
"""Records of a target among which its last change is looked for."""

_STATE: Final = """
SELECT (SELECT value FROM keys WHERE name = 'audit') AS secret, (SELECT head FROM audit_chain WHERE id = 1) AS head
"""
# A call that changes something has a record of its beginning.
_LAST_CHANGE: Final = f"""
SELECT audit.* FROM audit JOIN (
    SELECT max(call_id) AS call_id FROM (
        SELECT call_id FROM audit WHERE target = :target ORDER BY call_id DESC LIMIT {_SEEN}
    ) AS recent WHERE EXISTS (
        SELECT 1 FROM audit AS begun WHERE begun.call_id = recent.call_id AND begun.phase = 'begun'
    )
) AS last ON audit.call_id = last.call_id ORDER BY audit.seq DESC LIMIT 1
"""


@dataclass(frozen=True)
class LoggedCall:
    """A call as the log has it: the record of its end, or of its beginning if it did not end."""

    id: str
    line: Line

    @property
    def record(self) -> JsonObject | None:
        """The record; None if it was altered."""
        return self.line.record if self.line.fault is None else None


@dataclass(frozen=True)
class CallPage:
    """Some calls, newest first, and the ids with which `CallLog.page` returns those beside them."""

    calls: Sequence[LoggedCall]
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
        return CallPage(found, found[-1].id if found and older else None, found[0].id if found and newer else None)

    async def export(self, wanted: Wanted) -> AsyncGenerator[Sequence[JsonObject]]:
        """Yield the records of all chosen calls, oldest first, some at a time. Altered ones are left out."""
        last = ""
        while found := await self._find(wanted, None, last, _EXPORTED):
            yield [call.record for call in found if call.record is not None]
            last = found[-1].id

    async def records(self, call_id: str) -> list[CheckedRecord]:
        """Return the records of one call, oldest first, each checked now."""

        def work(tx: Transaction) -> list[CheckedRecord]:
            # In this order, a record that is added meanwhile does not look like a fault.
            rows = tx.execute("SELECT * FROM audit WHERE call_id = :id ORDER BY seq LIMIT 8", {"id": call_id}).all()
            key, head = _state(tx)
            beside = [tx.execute("SELECT * FROM audit WHERE seq IN (:before, :after)", _neighbors(row)) for row in rows]
            checked: list[CheckedRecord] = []
            for row, found in zip(rows, beside, strict=True):
                neighbors = {each["seq"]: read_line(each, key) for each in found.all()}
                line = read_line(row, key)
                checked.append(CheckedRecord(line, _problem(line, neighbors, head)))
            return checked

        return await self._database.read(work)

    async def last_changes(self, targets: Iterable[str]) -> dict[str, LoggedCall]:
        """Return the last call that changed each target, or tried to, as far back as its last 1,000 records."""
        named = list(dict.fromkeys(targets))

        def work(tx: Transaction) -> dict[str, LoggedCall]:
            key, _ = _state(tx)
            found = [tx.execute(_LAST_CHANGE, {"target": target}) for target in named]
            rows = [each.first() for each in found]
            return {target: _call(row, key) for target, row in zip(named, rows, strict=True) if row is not None}

        return await self._database.read(work)

    async def _find(self, wanted: Wanted, before: str | None, after: str | None, count: int) -> Sequence[LoggedCall]:
        condition, values = wanted.condition()
        key, order = (" AND call_id > :key", "ASC") if after is not None else (" AND call_id < :key", "DESC")
        key = key if before or after is not None else ""
        sql = f"SELECT * FROM audit WHERE {condition}{key} ORDER BY call_id {order} LIMIT :count"

        def work(tx: Transaction) -> Sequence[LoggedCall]:
            rows = tx.execute(sql, {**values, "key": before or after, "count": count})
            seal, _ = _state(tx)
            return [_call(row, seal) for row in rows.all()]

        return await self._database.read(work)


def _call(row: Row, key: bytes) -> LoggedCall:
    return LoggedCall(row["call_id"], read_line(row, key))


def _state(tx: Transaction) -> tuple[bytes, Head | None]:
    """Return the key of the chain, and its head if that is valid."""
    row = tx.execute(_STATE).all()[0]
    key = decode_key(row["secret"], KEY) if row["secret"] else b""
    return key, unseal_head(row["head"] or "", key)


def _neighbors(row: Row) -> Mapping[str, int]:
    return {"before": row["seq"] - 1, "after": row["seq"] + 1}


def _problem(line: Line, neighbors: Mapping[int, Line], head: Head | None) -> str | None:
    """Return what is wrong with a record, or with the links to the records beside it."""
    record, seq = line.record, line.seq
    if line.fault is not None or record is None:
        return line.fault
    if head is None:
        return "the end of the log is missing or altered"
    if seq > head.seq:
        return "the end of the log does not know this record"
    if seq == 1 and record["prev"] != START:
        return "it is the first record and names another one before it"
    if seq > head.first and (problem := _broken(neighbors, seq - 1, record["prev"], "hash")):
        return problem
    if seq == head.seq:
        return None if record["hash"] == head.hash else "the end of the log is that of another record"
    return _broken(neighbors, seq + 1, record["hash"], "prev")


def _broken(neighbors: Mapping[int, Line], seq: int, expected: str, member: str) -> str | None:
    """Return what is wrong with a record beside another one, as far as it concerns the link between them."""
    line = neighbors.get(seq)
    if line is None:
        return f"record {seq} beside it is missing"
    if line.record is None or line.record["seq"] != seq:
        return f"record {seq} beside it was altered"
    return None if line.record[member] == expected else f"the link between it and record {seq} is broken"
