"""Tampering, loss and archiving: what a check of the audit log reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connector_mcp.audit.archive import archive_before
from connector_mcp.audit.chain import seal
from connector_mcp.audit.check import CheckReport, verify_log
from connector_mcp.audit.reader import AuditReader
from connector_mcp.audit.record import AuditRecord
from connector_mcp.errors import StoreUnavailable
from connector_mcp.state.database import Database
from tests.engine.faulty_database import FaultyDatabase, Killed, StepFault
from tests.records import Clock, a_record, append, rows


def write(database: Database, *records: str | AuditRecord) -> None:
    """Write records, or those of calls, one by one."""
    for record in records:
        append(database, a_record(record) if isinstance(record, str) else record)


def check(database: Database, **options: Any) -> CheckReport:
    return verify_log(AuditReader(database), **options)


@pytest.fixture
def log(database: Database) -> Database:
    """A log of six records."""
    write(database, *"abcdef")
    return database


def forge(database: Database) -> None:
    """Make the next record with another key, as an attacker would."""
    (row,) = rows(database, "SELECT line FROM audit WHERE seq = 6")
    last = json.loads(row["line"])
    body = json.dumps({name: last[name] for name in last if name not in ("seq", "time", "prev", "hash")}).encode()
    line, _ = seal(body, 7, last["time"], last["hash"], b"x" * 32)
    rows(database, "INSERT INTO audit (seq, at, line) VALUES (7, 0, :line)", line=line)


def put_the_head_back(database: Database) -> None:
    """Put the head before the last record back, after another record."""
    (before,) = rows(database, "SELECT head FROM audit_chain")
    write(database, "x")
    rows(database, "UPDATE audit_chain SET head = :head", head=before["head"])


SWAP = "UPDATE audit SET seq = -seq WHERE seq IN (2, 3); UPDATE audit SET seq = 5 + seq WHERE seq < 0"
DOUBLE = "UPDATE audit SET line = (SELECT line FROM audit WHERE seq = 2) WHERE seq = 4"
FAR = 2**63 - 5
NOT_OURS = "its hash does not fit: it was altered, or was not written by this server."
NO_HEAD = "the head is missing or altered, so records at the end may have been removed."
HEAD_LOST = (
    "record 5: the head was missing or altered when this was written; records at the end before it may have been "
    "removed."
)
CUT_OFF = "the log is cut off: records {} to 6 are missing at its end."
# How, what is reported at once, and what after another record, if that is not the same.
TAMPERINGS: dict[str, tuple[str | Callable[[Database], None], list[str], list[str] | None]] = {
    "one removed": ("DELETE FROM audit WHERE seq = 3", ["record 4: before it record 3 is missing."], None),
    "the first removed": ("DELETE FROM audit WHERE seq = 1", ["record 2: before it record 1 is missing."], None),
    "several removed": (
        "DELETE FROM audit WHERE seq BETWEEN 2 AND 4", ["record 5: before it records 2 to 4 are missing."], None,
    ),
    "the last removed": (
        "DELETE FROM audit WHERE seq > 4", [CUT_OFF.format(5)], ["record 7: before it records 5 to 6 are missing."],
    ),
    "all removed": ("DELETE FROM audit", [CUT_OFF.format(1)], ["record 7: before it records 1 to 6 are missing."]),
    "swapped": (SWAP, [f"record {one}: record {other} is in its place." for one, other in ((2, 3), (3, 2))], None),
    "doubled": (DOUBLE, ["record 4: record 2 is in its place."], None),
    "altered": (
        "UPDATE audit SET line = replace(line, 'local', 'logal') WHERE seq = 3", [f"record 3: {NOT_OURS}"], None,
    ),
    "hidden from searches": (
        "UPDATE audit SET tool = 'other' WHERE seq = 3", ["record 3: its column tool does not agree with its line."],
        None,
    ),
    "moved in time": (
        "UPDATE audit SET at = at - 1 WHERE seq = 3", ["record 3: its column at does not agree with its line."], None,
    ),
    "forged": (forge, [f"record 7: {NOT_OURS}"], None),
    "nonsense": ("INSERT INTO audit (seq, at, line) VALUES (7, 0, 'ü')", [f"record 7: {NOT_OURS}"], None),
    "far from the others": (
        f"INSERT INTO audit (seq, at, line) VALUES ({FAR}, 0, 'x')",
        [f"record {FAR}: before it records 7 to {FAR - 1} are missing.", f"record {FAR}: {NOT_OURS}"], None,
    ),
    "the head removed": ("DELETE FROM audit WHERE seq > 4; DELETE FROM audit_chain", [NO_HEAD], [HEAD_LOST]),
    "the head altered": (
        "DELETE FROM audit WHERE seq > 4; UPDATE audit_chain SET head = '{}'", [NO_HEAD], [HEAD_LOST],
    ),
    "the head put back": (
        put_the_head_back, ["the head is not that of record 7 at the end."],
        ["record 8: record 8 does not follow record 7 as it is."],
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERINGS)
def test_tampering_is_reported_with_its_place_by_every_later_check(log: Database, how: str):
    tamper, told, told_later = TAMPERINGS[how]
    if isinstance(tamper, str):
        for statement in tamper.split("; "):
            rows(log, statement)
    else:
        tamper(log)
    assert check(log).problems == told
    write(log, "g", "h")
    assert check(log).problems == (told_later or told)


def test_every_byte_of_a_record_is_sealed(log: Database):
    (row,) = rows(log, "SELECT line FROM audit WHERE seq = 2")
    whole = row["line"]
    for position in range(0, len(whole), 7):
        changed = whole[:position] + chr(ord(whole[position]) ^ 1) + whole[position + 1 :]
        rows(log, "UPDATE audit SET line = :line WHERE seq = 2", line=changed)
        assert not check(log).intact, position


def test_a_restored_older_log_is_detected_by_a_hash_kept_elsewhere(log: Database):
    (before,) = rows(log, "SELECT head FROM audit_chain")
    write(log, "g")
    seen = check(log).last_hash
    assert check(log, seen=seen).intact
    rows(log, "DELETE FROM audit WHERE seq = 7")
    rows(log, "UPDATE audit_chain SET head = :head", head=before["head"])
    assert check(log).intact
    assert seen in check(log, seen=seen).problems[0]


@pytest.mark.parametrize("harm", ["DELETE FROM keys", "UPDATE keys SET value = 'ab'"])
def test_without_its_key_a_log_is_neither_checked_nor_continued(database: Database, harm: str):
    with pytest.raises(StoreUnavailable, match="there is none"):
        check(database)
    write(log := database, *"abcdef")
    rows(log, harm)
    with pytest.raises(StoreUnavailable, match="key"):
        check(log)
    with pytest.raises(StoreUnavailable, match="key"):
        write(log, "g")
    assert len(rows(log, "SELECT seq FROM audit")) == 6


def test_a_call_without_an_end_is_named(log: Database):
    write(log, a_record("g", phase="begun"), a_record("h", phase="begun"), "g")
    verdict = check(log)
    assert verdict.intact
    assert [note.partition(" was begun")[0] for note in verdict.notes] == ["record 8: call h of logto_list_connectors"]


def test_a_log_can_be_checked_while_it_is_written(log: Database, monkeypatch: pytest.MonkeyPatch):
    reader = AuditReader(log)
    end = reader.end
    calls = iter("ghij")

    def grow(*given: Any) -> Any:
        if (call := next(calls, None)) is not None:
            write(log, call)
        return end(*given)

    monkeypatch.setattr(reader, "end", grow)
    verdict = verify_log(reader)
    assert (verdict.problems, verdict.records) == ([], 10)


# Archives ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sqlite(tmp_path: Path, clock: Clock) -> FaultyDatabase:
    """A log of three records of one day and three of the next."""
    made = FaultyDatabase(tmp_path / "records.db", wall_clock=clock)
    write(made, *"abc")
    clock.now += 86_400
    write(made, *"def")
    return made


def move(database: Database, clock: Clock, to: Path) -> Path:
    """Archive what is older than half a day."""
    archived = archive_before(database, datetime.fromtimestamp(clock.now - 43_200, UTC), to)
    assert archived is not None
    return archived.path


def test_archived_records_leave_the_database_and_the_chain_goes_on(
    sqlite: FaultyDatabase, clock: Clock, tmp_path: Path
):
    path = move(sqlite, clock, tmp_path / "old")
    assert (path.name, path.stat().st_mode & 0o777) == ("audit-000000000001-000000000003.jsonl", 0o600)
    assert [json.loads(line)["call_id"] for line in path.read_text().splitlines()] == list("abc")
    write(sqlite, "g")
    verdict = check(sqlite)
    assert (verdict.problems, verdict.first, verdict.last) == ([], 4, 8)
    assert check(sqlite, archives=[path]).records == 8
    clock.now += 86_400
    second = move(sqlite, clock, tmp_path / "old")
    write(sqlite, "h")
    whole = check(sqlite, archives=[second, path])
    assert (whole.problems, whole.first, whole.last) == ([], 1, 10)
    assert check(sqlite, archives=[second]).intact
    assert archive_before(sqlite, datetime.fromtimestamp(0, UTC), tmp_path) is None


def test_archived_records_that_are_missing_or_altered_are_detected(
    sqlite: FaultyDatabase, clock: Clock, tmp_path: Path
):
    path = move(sqlite, clock, tmp_path)
    whole = path.read_text()
    for harmed in (whole.replace('"b"', '"x"'), "".join(whole.splitlines(keepends=True)[:2]), whole + whole):
        path.write_text(harmed)
        assert not check(sqlite, archives=[path]).intact
    rows(sqlite, "DELETE FROM audit WHERE seq = 7")
    assert "it begins after record 3, and no record says that it was archived." in check(sqlite).problems
    rows(sqlite, "DELETE FROM audit WHERE seq = 4")
    assert check(sqlite).problems[0] == "record 5: before it record 4 is missing."


@pytest.mark.parametrize("fault", ["killed before", "killed after"])
@pytest.mark.parametrize("number", range(6))
def test_an_archive_that_was_interrupted_at_any_step_is_completed_by_the_next(
    sqlite: FaultyDatabase, clock: Clock, tmp_path: Path, number: int, fault: StepFault
):
    sqlite.arm(number, fault)
    with pytest.raises(Killed):
        move(sqlite, clock, tmp_path)
    sqlite.arm(None)
    sqlite.restart()
    assert check(sqlite).intact
    archive_before(sqlite, datetime.fromtimestamp(clock.now - 43_200, UTC), tmp_path)
    assert [row["seq"] for row in rows(sqlite, "SELECT seq FROM audit ORDER BY seq")] == [4, 5, 6, 7]
    (path,) = tmp_path.glob("audit-*")
    assert check(sqlite, archives=[path]).intact


def test_an_archive_never_replaces_a_file_that_differs(sqlite: FaultyDatabase, clock: Clock, tmp_path: Path):
    (tmp_path / "audit-000000000001-000000000003.jsonl").write_text("other")
    with pytest.raises(StoreUnavailable, match="exists and differs"):
        move(sqlite, clock, tmp_path)
    assert check(sqlite).records == 6
    assert [path.name for path in tmp_path.glob("audit-*")] == ["audit-000000000001-000000000003.jsonl"]
