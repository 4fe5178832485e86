"""Tampering and crashes: what a check of the audit log reports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connector_mcp.audit import files as audit
from connector_mcp.audit.chain import LogPaths, seal
from connector_mcp.audit.check import CheckReport, snapshot, verify_log
from connector_mcp.audit.files import AuditLog
from connector_mcp.audit.record import AuditRecord
from connector_mcp.errors import StoreUnavailable

WRITER = (
    "import os, sys; from pathlib import Path; from connector_mcp.audit.record import AuditRecord\n"
    "from connector_mcp.audit.files import AuditLog\n"
    "log, name = AuditLog(Path(sys.argv[1]), max_bytes=300_000), sys.argv[2]\n"
    "for number in range(int(sys.argv[3])):\n"
    "    log.write(AuditRecord(call_id=f'{name}-{number}', principal='p', client=None, transport='cli',\n"
    "        platform=None, profile=None, tool='t', effect='read', decision='allow', outcome='ok',\n"
    "        duration_ms=1.0, arguments={'filler': name * 200}))\n"
    "    if number == 50: print('under way', flush=True)\n"
)


def a_record(call_id: str = "c1", **members: Any) -> AuditRecord:
    given: dict[str, Any] = {
        "principal": "local", "client": None, "transport": "stdio", "platform": "logto", "profile": "default",
        "tool": "logto_list_connectors", "effect": "read", "decision": "allow", "outcome": "ok", "duration_ms": 1.0,
    }  # fmt: skip
    return AuditRecord(call_id=call_id, **(given | members))


def write(path: Path, *records: str | AuditRecord, max_bytes: int = audit.MAX_FILE) -> None:
    """Write records, or those of calls, in a process of their own."""
    with closing(AuditLog(path, max_bytes=max_bytes)) as log:
        for record in records:
            log.write(a_record(record) if isinstance(record, str) else record)


def check(path: Path, **options: Any) -> CheckReport:
    with snapshot(path) as log:
        return verify_log(log, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of six records."""
    path = tmp_path / "audit.jsonl"
    write(path, *"abcdef")
    return path


def change(path: Path, how: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(how(path.read_bytes().splitlines(keepends=True))))


def forged(path: Path, **members: Any) -> bytes:
    """Make the next record with another key, as an attacker would."""
    last = json.loads(path.read_bytes().splitlines()[-1])
    body = json.dumps({name: last[name] for name in last if name not in ("seq", "prev", "hash")} | members).encode()
    return seal(body, last["seq"] + 1, last["hash"], b"x" * 32)[0]


def test_an_untouched_log_is_intact(path: Path):
    verdict = check(path)
    assert (verdict.problems, verdict.notes) == ([], [])
    assert (verdict.records, verdict.first, verdict.last) == (6, 1, 6)


NOT_OURS = "its hash does not fit: the line was altered, or was not written by this server."
TAMPERINGS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "a line": (lambda old: old[:2] + old[3:], "3: before it record 3 is missing."),
    "the first": (lambda old: old[1:], "1: before it record 1 is missing."),
    "several": (lambda old: old[:1] + old[4:], "2: before it records 2 to 4 are missing."),
    "swapped": (
        lambda old: [old[0], old[2], old[1], *old[3:]],
        "3: record 2 comes after record 3: the order was changed.",
    ),
    "doubled": (lambda old: [*old[:3], old[1], *old[3:]], "4: record 2 is there twice, or is out of its place."),
    "altered": (lambda old: [*old[:2], old[2].replace(b'"local"', b'"logal"'), *old[3:]], f"3: {NOT_OURS}"),
}
later_too = pytest.mark.parametrize("later", [False, True], ids=["at_once", "after_another_record"])


@later_too
@pytest.mark.parametrize("how", TAMPERINGS)
def test_tampering_is_reported_with_its_line(path: Path, how: str, later: bool):
    tamper, told = TAMPERINGS[how]
    change(path, tamper)
    if later:
        write(path, "g")
    assert check(path).problems == [f"audit.jsonl line {told}"]


@later_too
def test_a_shortened_log_is_detected(path: Path, later: bool):
    change(path, lambda lines: lines[:4])
    told = "the log is cut off: records 5 to 6 are missing at its end."
    if later:
        write(path, "g")
        told = "audit.jsonl line 5: before it records 5 to 6 are missing."
    assert check(path).problems == [told]


@later_too
def test_a_log_cut_off_within_a_line_lacks_that_record(path: Path, later: bool):
    os.truncate(path, path.stat().st_size - 30)
    if later:
        write(path, "g")
    (problem,) = check(path).problems
    assert "record 6" in problem
    assert "is missing" in problem


@later_too
@pytest.mark.parametrize("end", [b"\n", b""], ids=["ended", "unended"])
def test_a_forged_line_is_detected(path: Path, later: bool, end: bytes):
    with path.open("ab") as file:
        file.write(forged(path, principal="somebody else").rstrip(b"\n") + end)
    if later:
        write(path, "g")
    assert check(path).problems == [f"audit.jsonl line 7: {NOT_OURS}"]


def test_every_byte_of_a_record_is_sealed(path: Path):
    whole = path.read_bytes()
    begin = whole.index(b"\n") + 1
    for position in range(begin, whole.index(b"\n", begin) + 1):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert not check(path).intact, position


@pytest.mark.parametrize("harm", [Path.unlink, lambda head: head.write_text("{}")], ids=["removed", "altered"])
def test_a_removed_head_is_reported_by_every_later_check(path: Path, harm: Callable[[Path], Any]):
    change(path, lambda lines: lines[:4])
    harm(LogPaths(path).head)
    assert check(path).problems == ["the head is missing or altered, so records at the end may have been removed."]
    write(path, "g", "h")
    (problem,) = check(path).problems
    assert "audit.head was missing or altered when this was written" in problem


def test_a_restored_older_log_is_detected_by_a_hash_kept_elsewhere(path: Path):
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    write(path, "g")
    seen = check(path).last_hash
    assert check(path, seen=seen).intact
    for file, content in before.items():
        file.write_bytes(content)
    assert check(path).intact
    assert seen in check(path, seen=seen).problems[0]


def test_a_key_that_others_can_read_is_a_problem(path: Path):
    LogPaths(path).key.chmod(0o644)
    assert "the key can be read by others" in check(path).problems[0]


@pytest.mark.parametrize("harm", [Path.unlink, lambda key: key.write_text("ab")], ids=["gone", "damaged"])
def test_without_its_key_a_log_is_neither_checked_nor_continued(path: Path, harm: Callable[[Path], Any]):
    harm(LogPaths(path).key)
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable):
        check(path)
    with closing(AuditLog(path)) as log, pytest.raises(StoreUnavailable, match="key"):
        log.check()
    with pytest.raises(StoreUnavailable, match="key"):
        write(path, "g")
    assert path.read_bytes() == before


def test_a_missing_log_is_never_intact(tmp_path: Path):
    with pytest.raises(StoreUnavailable, match="there is none"):
        check(tmp_path / "audit.jsonl")


def test_a_record_that_the_head_does_not_know_yet_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as killed:
        killed.setattr(audit.os, "pwrite", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write(path, "g")
    assert check(path).intact
    write(path, "h")
    verdict = check(path)
    assert (verdict.problems, verdict.notes, verdict.last) == ([], [], 8)


@later_too
@pytest.mark.parametrize("kept", [1, 200, -1], ids=["a_byte", "a_part", "all_but_its_end"])
def test_a_partial_record_is_explained(path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, later: bool):
    write_all = os.write
    with monkeypatch.context() as patched:
        patched.setattr(audit.os, "write", lambda descriptor, data: write_all(descriptor, data[:kept]))
        with pytest.raises(StoreUnavailable, match="cut short"):
            write(path, "g")
    if later:
        write(path, "h")
    verdict = check(path)
    assert verdict.intact
    explained = [] if kept == -1 else ["audit.jsonl line 7: a record was cut off while it was written"]
    assert [note.partition(" (")[0] for note in verdict.notes] == explained


def test_a_call_without_an_end_is_named(path: Path):
    write(path, a_record("g", phase="begun"), a_record("h", phase="begun"), "g")
    verdict = check(path)
    assert verdict.intact
    assert [note.partition(" was begun")[0] for note in verdict.notes] == ["record 8: call h of logto_list_connectors"]


def test_a_full_file_is_put_away_and_the_chain_continues(tmp_path: Path):
    path = tmp_path / "audit.jsonl"
    write(path, *map(str, range(40)), max_bytes=5_000)
    names = sorted(file.name for file in tmp_path.glob("audit*.jsonl"))
    assert len(names) > 3
    assert all(file.stat().st_size <= 5_000 for file in tmp_path.glob("audit*.jsonl"))
    assert names[0] == "audit-000000000001.jsonl"
    verdict = check(path)
    assert (verdict.problems, verdict.notes, verdict.records) == ([], [], 40)
    (tmp_path / names[0]).rename(tmp_path / "archived")
    (problem,) = check(path).problems
    assert "before it records 1 to" in problem
    first = json.loads((tmp_path / names[1]).read_bytes().splitlines()[0])["seq"]
    assert check(path, begins_with=first).intact
    (tmp_path / names[2]).unlink()
    assert not check(path, begins_with=first).intact


def test_a_moved_log_is_continued_and_complete_only_with_the_moved_file(path: Path):
    path.rename(path.with_name("moved"))
    write(path, "g")
    (problem,) = check(path).problems
    assert problem == "audit.jsonl line 1: before it records 1 to 6 are missing."
    path.with_name("moved").rename(LogPaths(path).full(1))
    assert check(path).intact


def test_all_files_moved_away_begin_a_new_log_under_a_running_writer(path: Path):
    away = path.parent / "away"
    away.mkdir()
    with closing(AuditLog(path)) as log:
        log.write(a_record("g"))
        for file in path.parent.glob("audit*"):
            file.rename(away / file.name)
        log.write(a_record("h"))
    assert (check(path).records, check(path).intact) == (1, True)
    assert check(away / path.name).records == 7


def test_a_log_of_two_processes_is_intact_though_one_was_killed(tmp_path: Path):
    path = tmp_path / "audit.jsonl"
    write(path, "begin")

    def start(name: str, count: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", WRITER, path, name, str(count)], stdout=subprocess.PIPE)

    with start("victim", 10_000_000) as victim, start("other", 800) as other:
        assert [writer.stdout and writer.stdout.readline() for writer in (victim, other)] == [b"under way\n"] * 2
        victim.kill()
        assert (victim.wait(), other.wait()) == (-signal.SIGKILL, 0)
    write(path, "end")
    assert check(path).problems == []
    with snapshot(path) as log:
        calls = [str(entry.members.get("call_id")) for entry in log.entries()]
    assert [call for call in calls if call.startswith("other")] == [f"other-{number}" for number in range(800)]
    lived = [call for call in calls if call.startswith("victim")]
    assert lived == [f"victim-{number}" for number in range(len(lived))]
    assert len(lived) > 50
    assert (calls[0], calls[-1]) == ("begin", "end")
    assert len(LogPaths(path).earlier()) > 0


def test_a_log_can_be_checked_while_it_is_written(path: Path):
    with snapshot(path) as log:
        write(path, "g", max_bytes=100)
        assert verify_log(log).intact
        assert len(list(log.entries())) == 6
    assert check(path).records == 7
