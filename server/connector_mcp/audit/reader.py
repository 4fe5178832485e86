"""Reads the audit log page by page, for commands. Every method blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final

from connector_mcp.audit.chain import UNKNOWN, CameBackOlder, Entry, Head, came_back_older, unseal, unseal_head
from connector_mcp.audit.trail import COLUMNS, KEY
from connector_mcp.errors import StoreUnavailable
from connector_mcp.state.database import Database, Row, Value, storable
from connector_mcp.state.keys import decode_key

PAGE: Final = 500
"""Number of lines read at once."""

_WINDOW: Final = 5_000
"""Number of records that one step searches at most."""

_ENDED_OR_OPEN: Final = """
(phase = 'ended' OR phase = 'begun' AND NOT EXISTS (
    SELECT 1 FROM audit AS other WHERE other.call_id = audit.call_id AND other.phase = 'ended'))
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log."""

    place: str
    seq: int
    """The number of the record that must be in this place."""
    text: str
    entry: Entry | None
    """None if the seal is not valid."""
    fault: str | None
    """What is wrong with the line, taken by itself."""


@dataclass(frozen=True)
class Wanted:
    """Which records are chosen. None stands for all."""

    since: datetime | None = None
    tool: str | None = None
    """A pattern of names."""
    principal: str | None = None
    outcome: str | None = None

    def condition(self) -> tuple[str, Mapping[str, Value]]:
        """Return the condition in SQL, and its values. It lets a few more tools through."""
        like = None if self.tool is None else _as_like(self.tool)
        values: dict[str, Value] = {"principal": self.principal, "outcome": self.outcome, "tool": like}
        values["since"] = None if self.since is None else self.since.timestamp()
        operators = {"since": "at >= :since", "tool": "tool LIKE :tool ESCAPE '!'"}
        parts = [operators.get(name, f"{name} = :{name}") for name, value in values.items() if value is not None]
        return " AND ".join(["call_id IS NOT NULL", *parts]), values

    def accepts(self, line: Line) -> bool:
        """Check that the tool matches the pattern, and count a line that is at fault too."""
        return line.entry is None or self.tool is None or fnmatchcase(str(line.entry.members["tool"]), self.tool)


class AuditReader:
    """The audit log of a database, as one command sees it."""

    def __init__(self, database: Database) -> None:
        """Read the key.

        Raises:
            StoreUnavailable: There is no log, its key is missing or damaged, or it cannot be read.
        """
        self._database = database
        found = database.read_now(
            lambda tx: tx.execute(
                "SELECT (SELECT value FROM keys WHERE name = 'audit') AS key, max(seq) AS top FROM audit"
            ).first()
        )
        if found is None or found["key"] is None:
            there_is_none = found is None or not found["top"]
            raise StoreUnavailable(
                f"The audit log in {database.address} cannot be checked: "
                f"{'there is none' if there_is_none else 'its key is missing'}.",
                fix="Make a call first, name the server's directory with CONNECTOR_MCP_STATE_DIR, or use --sandbox."
                if there_is_none
                else "Put the table `keys` back from a copy.",
                retryable=False,
            )
        self.key = decode_key(found["key"], KEY)

    def end(self, last: Head = UNKNOWN, after: int = 0) -> tuple[Head | None, int]:
        """Return the head, or None if it is missing or altered, and the highest number of a line.

        Raises:
            CameBackOlder: The log no longer has its earlier end `last`, or no record with the number `after`.
        """
        sql = """SELECT (SELECT head FROM audit_chain WHERE id = 1) AS head, max(seq) AS top,
            (SELECT substr(line, length(line) - 65, 64) FROM audit WHERE seq = :seq) AS known FROM audit"""
        row = self._database.read_now(lambda tx: tx.execute(sql, {"seq": last.seq}).first()) or {}
        head = unseal_head(row.get("head") or "", self.key)
        top: int = row.get("top") or 0
        if came_back_older(last, head, row.get("known")) or after > top:
            raise CameBackOlder(
                f"Audit record {max(last.seq, after)} is no longer in the database {self._database.address}: it came "
                "back older.",
                fix="Run `connector-mcp audit verify`, then export again from the first record that is new.",
                retryable=False,
            )
        return head, top

    def lines(self, after: int = 0) -> Iterator[Line]:
        """Yield all lines after a number, oldest first."""
        while page := self._page("seq > :low", {"low": after}):
            yield from page
            after = page[-1].seq

    def records(self, wanted: Wanted, first: int, last: int) -> Iterator[Line]:
        """Yield the chosen records in a range of numbers, oldest first."""
        condition, values = wanted.condition()
        low = first - 1
        while low < last:
            high = min(low + _WINDOW, last)
            page = self._page(f"seq > :low AND seq <= :high AND {condition}", {**values, "low": low, "high": high})
            yield from filter(wanted.accepts, page)
            low = page[-1].seq if len(page) == PAGE else high

    def calls(self, wanted: Wanted, first: int, last: int) -> Iterator[Line]:
        """Yield one record for each chosen call, newest first: its end, or its beginning if it did not end."""
        condition, values = wanted.condition()
        high = last
        while high >= first:
            low = max(high - _WINDOW, first - 1)
            values = {**values, "low": low, "high": high}
            page = self._page(
                f"seq > :low AND seq <= :high AND {condition} AND {_ENDED_OR_OPEN}", values, newest_first=True
            )
            yield from filter(wanted.accepts, page)
            high = page[-1].seq - 1 if len(page) == PAGE else low

    def _page(self, condition: str, values: Mapping[str, Value], *, newest_first: bool = False) -> list[Line]:
        order = "DESC" if newest_first else "ASC"
        sql = f"SELECT * FROM audit WHERE {condition} ORDER BY seq {order} LIMIT {PAGE}"
        rows = self._database.read_now(lambda tx: tx.execute(sql, values).all())
        return [self._line(row) for row in rows]

    def _line(self, row: Row) -> Line:
        entry = unseal(row["line"], self.key)
        return Line(f"record {row['seq']}", row["seq"], row["line"], entry, _fault(row, entry))


def unsealed_fault(entry: Entry | None) -> str | None:
    """Return what is wrong with a line that has no valid seal."""
    return None if entry else "its hash does not fit: it was altered, or was not written by this server"


def _fault(row: Row, entry: Entry | None) -> str | None:
    if entry is None:
        return unsealed_fault(entry)
    if entry.seq != row["seq"]:
        return f"record {entry.seq} is in its place"
    members: Mapping[str, Any] = entry.members
    expected = {name: storable(members.get(name)) for name in COLUMNS}
    expected["at"] = datetime.fromisoformat(members["time"]).timestamp()
    wrong = [name for name, value in expected.items() if row[name] != value]
    return f"its column {wrong[0]} does not agree with its line" if wrong else None


def _as_like(pattern: str) -> str:
    """Translate a pattern such as `logto_*`. From a set of characters on, everything matches."""
    start, bracket, _ = pattern.partition("[")
    for special in "!%_":
        start = start.replace(special, f"!{special}")
    return start.replace("*", "%").replace("?", "_") + ("%" if bracket else "")
