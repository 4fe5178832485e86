import json
import os
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connector_mcp.audit import files as audit
from connector_mcp.audit.chain import START
from connector_mcp.audit.files import AuditLog
from connector_mcp.audit.record import MAX_LINE
from connector_mcp.errors import StoreUnavailable
from tests.audit.test_check import a_record, write


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "audit.jsonl"


def test_a_record_is_one_line_with_all_its_members(path: Path):
    record = a_record(
        client="a client 1.0", arguments={"id": "a\nb\u2028c"}, decided_by="the person at the client",
        channel="elicitation", tenant="t1", digest="d1", fingerprint_before="f1", fingerprint_after="f2",
        upstream_status=204, upstream_request_id="r1", sandbox=True, time="2026-01-02T03:04:05.678Z",
    )  # fmt: skip
    write(path, record, a_record(outcome="cancelled"))
    first, second = lines(path)
    chain = {name: first.pop(name) for name in ("seq", "prev", "hash")}
    assert list(first) == [
        "time", "phase", "call_id", "principal", "client", "transport", "platform", "profile", "tenant", "tool",
        "effect", "decision", "decided_by", "channel", "arguments", "digest", "fingerprint_before",
        "fingerprint_after", "upstream_status", "upstream_request_id", "outcome", "duration_ms", "sandbox",
    ]  # fmt: skip
    assert first == {name: getattr(record, name) for name in first}
    assert (chain["seq"], chain["prev"], len(chain["hash"])) == (1, START, 64)
    assert (second["seq"], second["prev"]) == (2, chain["hash"])
    assert second["outcome"] == "cancelled"


def test_the_time_is_utc_to_the_millisecond():
    before = datetime.now(UTC)
    written = a_record().time
    assert written.endswith("Z")
    assert abs((datetime.fromisoformat(written) - before).total_seconds()) < 60


def test_nothing_is_opened_before_the_first_record(path: Path):
    AuditLog(path).close()
    assert not path.parent.exists()


def test_only_the_owner_can_read_the_files_and_their_directory(path: Path):
    with closing(AuditLog(path)) as log:
        log.check()
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("audit.jsonl", "audit.key", "audit.head"), 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_records_are_added_to_those_of_an_earlier_process(path: Path):
    write(path, "c1")
    write(path, "c2")
    assert [line["call_id"] for line in lines(path)] == ["c1", "c2"]


def test_a_moved_file_is_created_again(path: Path):
    with closing(AuditLog(path)) as log:
        log.write(a_record("c1"))
        path.rename(path.with_suffix(".1"))
        log.write(a_record("c2"))
    assert [[line["call_id"] for line in lines(file)] for file in (path.with_suffix(".1"), path)] == [["c1"], ["c2"]]


def test_lines_of_several_processes_do_not_mix(path: Path):
    script = (
        "import sys; from pathlib import Path; from connector_mcp.audit.record import AuditRecord\n"
        "from connector_mcp.audit.files import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]))\n"
        "for number in range(300):\n"
        "    log.write(AuditRecord(call_id=f'{sys.argv[2]}-{number}', principal='p', client=None, transport='cli',\n"
        "        platform=None, profile=None, tool='t', effect='read', decision='allow', outcome='ok',\n"
        "        duration_ms=1.0, arguments={'filler': sys.argv[2] * 5000}))\n"
        "log.close()\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), name]) for name in ("a", "b")]
    assert [writer.wait() for writer in writers] == [0, 0]
    written = lines(path)
    assert {line["call_id"] for line in written} == {f"{name}-{number}" for name in "ab" for number in range(300)}
    assert len(written) == 600


def test_a_directory_that_cannot_be_made_is_reported_before_and_when_writing(tmp_path: Path):
    (tmp_path / "file").touch()
    log = AuditLog(tmp_path / "file" / "audit.jsonl")
    with pytest.raises(StoreUnavailable, match=r"audit\.jsonl"):
        log.check()
    with pytest.raises(StoreUnavailable):
        log.write(a_record())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
def test_a_write_that_fails_is_reported(path: Path):
    path.parent.mkdir()
    path.symlink_to("/dev/full")
    with pytest.raises(StoreUnavailable, match="No space left"):
        write(path, "c1")


def test_a_full_disk_is_reported_before_anything_is_sent(path: Path, monkeypatch: pytest.MonkeyPatch):
    with closing(AuditLog(path)) as log:
        log.check()
        monkeypatch.setattr(audit, "MIN_FREE", sys.maxsize)
        with pytest.raises(StoreUnavailable, match="disk is full"):
            log.check()


def test_a_partial_line_is_reported_and_the_next_line_is_complete(path: Path, monkeypatch: pytest.MonkeyPatch):
    write_all = os.write
    with closing(AuditLog(path)) as log:
        log.check()
        with monkeypatch.context() as patched:
            patched.setattr(audit.os, "write", lambda descriptor, data: write_all(descriptor, data[:20]))
            with pytest.raises(StoreUnavailable, match="cut short"):
                log.write(a_record("c1"))
        log.write(a_record("c2"))
    cut, vouching, whole = path.read_text().splitlines()
    assert len(cut) == 20
    assert (json.loads(vouching)["event"], json.loads(vouching)["bytes"]) == ("torn", 20)
    assert json.loads(whole)["call_id"] == "c2"


def test_arguments_that_would_make_a_line_too_long_are_left_out(path: Path):
    write(path, a_record(arguments={"long": "x" * MAX_LINE}, digest="d1"))
    assert path.stat().st_size < MAX_LINE
    assert lines(path)[0]["arguments"] == {"omitted_bytes": MAX_LINE + len('{"long":""}')}
    assert lines(path)[0]["digest"] == "d1"


def test_a_value_that_json_cannot_hold_is_named_by_its_type(path: Path):
    class Credential:
        def __repr__(self) -> str:
            return "hunter2"

    write(path, a_record(arguments={"key": Credential()}))
    assert lines(path)[0]["arguments"] == {"key": "<Credential>"}


def test_without_file_locks_the_server_starts_with_one_warning_and_refuses_changes(path: Path):
    script = (
        "import sys; sys.modules['fcntl'] = None\n"
        "import asyncio, logging; logging.basicConfig(format='%(message)s')\n"
        "from pathlib import Path\n"
        "from connector_mcp.audit.files import FileTrail\n"
        "import connector_mcp.cli.commands.serve\n"
        "asyncio.run(FileTrail(Path(sys.argv[1])).check())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    warning, *_, error = done.stderr.strip().splitlines()
    assert warning.startswith("This system has no POSIX file locks, so the audit log")
    assert "StoreUnavailable" in error
    assert "cannot be written: this system has no POSIX file locks" in error
