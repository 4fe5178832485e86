"""Reads the audit log page by page, for commands. Every method blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Final, Literal

from connector_mcp.audit.chain import UNKNOWN, CameBackOlder, Head, came_back_older, unseal, unseal_head
from connector_mcp.audit.record import PROBE
from connector_mcp.audit.trail import COLUMNS, END, KEY
from connector_mcp.errors import StoreUnavailable
from connector_mcp.json_values import JsonObject
from connector_mcp.state.database import Database, Row, Value, storable
from connector_mcp.state.keys import decode_key

UNSEALED: Final = "its hash does not fit: it was altered, or was not written by this server"
"""What is wrong with a line that has no valid seal."""

PAGE: Final = 500
"""Number of lines read at once."""

LAST: Final = 2**63 - 1
"""The highest number that a line can have."""

_WINDOW: Final = 5_000
"""Number of records that one step searches at most."""

_END: Final = f"SELECT (SELECT head FROM audit_chain WHERE id = 1) AS head, {END}"
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
    record: JsonObject | None
    """None if the seal is not valid."""
    fault: str | None
    """What is wrong with the line, taken by itself."""
    call_id: str = ""
    """The call that its row names."""

    @property
    def authentic(self) -> JsonObject | None:
        """The record; None if anything is wrong with the line."""
        return self.record if self.fault is None else None


@dataclass(frozen=True)
class Wanted:
    """Which records of calls are chosen. None matches all."""

    since: datetime | None = None
    until: datetime | None = None
    """Only records before then."""
    tool: str | None = None
    """A pattern of names."""
    principal: str | None = None
    outcome: str | None = None
    call_id: str | None = None
    target: str | None = None
    probes: bool = True
    """Whether to choose the checks that `doctor` and the console make too."""
    once: bool = False
    """Whether to choose one record for each call: its end, or its beginning if it did not end."""

    def condition(self) -> tuple[str, Mapping[str, Value]]:
        """Return the condition in SQL, and its values. It may match more tools than the pattern does."""
        like = None if self.tool is None else _as_like(self.tool)
        values: dict[str, Value] = {"principal": self.principal, "outcome": self.outcome, "call_id": self.call_id}
        values |= {"tool": like, "target": self.target, "transport": None if self.probes else PROBE}
        values |= {"since": self.since and self.since.timestamp(), "until": self.until and self.until.timestamp()}
        operators = {
            "since": "at >= :since",
            "until": "at < :until",
            "tool": "tool LIKE :tool ESCAPE '!'",
            "transport": "coalesce(transport, '') <> :transport",
        }
        parts = [operators.get(name, f"{name} = :{name}") for name, value in values.items() if value is not None]
        return " AND ".join(["call_id IS NOT NULL", *parts, *[_ENDED_OR_OPEN] * self.once]), values

    def accepts(self, line: Line) -> bool:
        """Check that the tool matches the pattern. A line with a fault matches every pattern."""
        record = line.authentic
        return record is None or self.tool is None or fnmatchcase(record["tool"], self.tool)


class AuditReader:
    """The audit log of a database, for one command."""

    def __init__(self, database: Database) -> None:
        """Read the key.

        Raises:
            StoreUnavailable: There is no log, its key is missing or damaged, or it cannot be read.
        """
        self._database = database
        found = self._all(_END, {"seq": 0})[0]
        if found["secret"] is None:
            reason, fix = "its key is missing", "Put the table `keys` back from a copy."
            if not found["top"]:
                reason = "there is none"
                settings = "CONNECTOR_MCP_STATE or CONNECTOR_MCP_STATE_DIR"
                fix = f"Make a call first, give the server's {settings}, or use --sandbox."
            raise StoreUnavailable(
                f"The audit log in {database.address} cannot be checked: {reason}.", fix=fix, retryable=False
            )
        self.key = decode_key(found["secret"], KEY)

    def end(self, last: Head = UNKNOWN, after: int = 0) -> tuple[Head | None, int]:
        """Return the head, or None if it is missing or altered, and the highest number of a line.

        Raises:
            CameBackOlder: The log no longer has its earlier end `last`, or no record with the number `after`.
        """
        found = self._all(_END, {"seq": last.seq})[0]
        head, top = unseal_head(found["head"] or "", self.key), found["top"] or 0
        if came_back_older(last, head, found["known"]) or after > top:
            raise CameBackOlder(
                f"Audit record {max(last.seq, after)} is no longer in the database {self._database.address}: it came "
                "back older.",
                fix="Run `connector-mcp audit verify`, then export again from the first record that is new.",
                retryable=False,
            )
        return head, top

    def lines(
        self, first: int = 1, last: int = LAST, wanted: Wanted | None = None, *, newest_first: bool = False
    ) -> Iterator[Line]:
        """Yield the lines in a range of numbers: all, or the chosen records."""
        condition, values = wanted.condition() if wanted else ("1 = 1", dict[str, Value]())
        order, window = "DESC" if newest_first else "ASC", _WINDOW if wanted else PAGE
        sql = f"SELECT * FROM audit WHERE seq BETWEEN :low AND :high AND {condition} ORDER BY seq {order} LIMIT {PAGE}"
        while first <= last and (end := self.end_of_part(first, last, window, order=order)) is not None:
            low, high = (end, last) if newest_first else (first, end)
            page = [read_line(row, self.key) for row in self._all(sql, {**values, "low": low, "high": high})]
            yield from filter(wanted.accepts, page) if wanted else page
            end = page[-1].seq if len(page) == PAGE else end
            first, last = (first, end - 1) if newest_first else (end + 1, last)

    def end_of_part(self, first: int, last: int, count: int, *, order: Literal["ASC", "DESC"] = "ASC") -> int | None:
        """Return the number of the last one of so many lines of a range, or None if the range is empty.

        Numbers do not tell how many lines there are: a line that was made up can be far from the others.
        """
        sql = f"""SELECT {"max" if order == "ASC" else "min"}(seq) AS seq FROM (
            SELECT seq FROM audit WHERE seq BETWEEN :first AND :last ORDER BY seq {order} LIMIT :count) AS part"""
        return self._all(sql, {"first": first, "last": last, "count": count})[0]["seq"]

    def exported(self, cursor: str) -> int:
        """Return the number of the last record that was exported under a name, or 0."""
        found = self._all("SELECT seq FROM export_cursors WHERE name = :name", {"name": cursor})
        return found[0]["seq"] if found else 0

    def remember(self, cursor: str, seq: int) -> None:
        """Keep the number of the last record that was exported under a name."""
        sql = """INSERT INTO export_cursors (name, seq) VALUES (:name, :seq)
            ON CONFLICT (name) DO UPDATE SET seq = excluded.seq"""
        self._database.write_now(lambda tx: tx.execute(sql, {"name": cursor, "seq": seq}).all())

    def _all(self, sql: str, values: Mapping[str, Value]) -> Sequence[Row]:
        return self._database.read_now(lambda tx: tx.execute(sql, values).all())


def read_line(row: Row, key: bytes) -> Line:
    """Return the line in a row of the log."""
    record = unseal(row["line"], key)
    return Line(f"record {row['seq']}", row["seq"], row["line"], record, _fault(row, record), row["call_id"] or "")


def _fault(row: Row, record: JsonObject | None) -> str | None:
    if record is None:
        return UNSEALED
    if record["seq"] != row["seq"]:
        return f"record {record['seq']} is in its place"
    expected = {name: record.get(name) for name in COLUMNS}
    expected["at"] = datetime.fromisoformat(record["time"]).timestamp()
    if row["transport"] is None:
        # A record of an earlier version. Without the column it is shown as the call of an agent.
        expected["transport"] = None
    wrong = [name for name, value in storable(expected).items() if row[name] != value]
    return f"its column {wrong[0]} does not agree with its line" if wrong else None


def _as_like(pattern: str) -> str:
    """Translate a pattern such as `logto_*`. From a set of characters on, everything matches."""
    start, bracket, _ = pattern.partition("[")
    for special in "!%_":
        start = start.replace(special, f"!{special}")
    return start.replace("*", "%").replace("?", "_") + ("%" if bracket else "")
