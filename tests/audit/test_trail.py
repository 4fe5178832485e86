"""Records of calls that end together: each is in its place, and each call gets the outcome of its own."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from connector_mcp.audit.check import snapshot, verify_log
from connector_mcp.audit.files import FileTrail
from connector_mcp.errors import StoreUnavailable
from tests.audit.test_check import a_record

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the log is locked."""
    taken: list[int] = []
    flock = fcntl.flock

    def counted(descriptor: int, operation: int) -> None:
        if operation != fcntl.LOCK_UN:
            taken.append(operation)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", counted)
    return taken


async def write_together(trail: FileTrail, *calls: str, **members: Any) -> dict[str, Exception | None]:
    """Write records in one iteration of the event loop, and return the failure of each call."""
    told: dict[str, Exception | None] = {}

    async def write(call: str) -> None:
        try:
            await trail.write(a_record(call, **members))
        except StoreUnavailable as failure:
            told[call] = failure
        else:
            told[call] = None

    async with anyio.create_task_group() as group:
        for call in calls:
            group.start_soon(write, call)
    return told


def calls_in(path: Path) -> list[str]:
    with snapshot(path) as log:
        verdict = verify_log(log)
        assert (verdict.problems, verdict.notes) == ([], [])
        return [entry.members["call_id"] for entry in log.entries()]


def failing(function: Callable[..., int], times: int) -> Callable[..., int]:
    """Return the function, which fails as on a full disk after some calls."""
    left = times

    def fail(*given: Any) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(*given)

    return fail


async def test_calls_that_end_together_share_a_lock_and_keep_their_places(path: Path, locks: list[int]):
    trail = FileTrail(path)
    calls = [str(number) for number in range(64)]
    assert await write_together(trail, *calls) == dict.fromkeys(calls)
    assert len(locks) == 2
    assert await write_together(trail, "last") == {"last": None}
    await trail.aclose()
    assert calls_in(path) == [*calls, "last"]


async def test_a_record_alone_in_its_loop_iteration_is_written_at_once(path: Path):
    trail = FileTrail(path)
    writing = trail.write(a_record("a"))
    with pytest.raises(StopIteration):
        writing.send(None)
    assert calls_in(path) == ["a"]
    await anyio.lowlevel.checkpoint()
    writing = trail.write(a_record("b"))
    with pytest.raises(StopIteration):
        writing.send(None)
    assert calls_in(path) == ["a", "b"]
    await trail.aclose()


async def test_a_call_continues_only_after_its_record_is_written(path: Path):
    trail = FileTrail(path)
    seen: dict[str, bool] = {}

    async def write(call: str) -> None:
        await trail.write(a_record(call))
        seen[call] = call in calls_in(path)

    async with anyio.create_task_group() as group:
        for call in "abc":
            group.start_soon(write, call)
    await trail.aclose()
    assert seen == {"a": True, "b": True, "c": True}


async def test_a_failed_write_reaches_every_call_without_a_record(path: Path, monkeypatch: pytest.MonkeyPatch):
    trail = FileTrail(path)
    await write_together(trail, "first")
    with monkeypatch.context() as full:
        full.setattr(os, "write", failing(os.write, 1))
        told = await write_together(trail, *"abc")
    assert told["a"] is None
    assert ["No space left" in str(told[call]) for call in "bc"] == [True, True]
    assert await write_together(trail, *"de") == {"d": None, "e": None}
    await trail.aclose()
    assert calls_in(path) == ["first", "a", "d", "e"]


async def test_an_unexpected_error_reaches_every_waiting_call(path: Path, monkeypatch: pytest.MonkeyPatch):
    trail = FileTrail(path)
    await trail.write(a_record("a"))

    def break_down(*_: Any) -> None:
        raise KeyError("unexpected")

    monkeypatch.setattr(trail, "_log", type("Broken", (), {"append": break_down, "close": break_down})())
    with pytest.raises(KeyError):
        await trail.write(a_record("b"))


@pytest.mark.parametrize("full", [False, True], ids=["written", "failed"])
async def test_the_record_of_a_cancelled_call_is_still_written(path: Path, monkeypatch: pytest.MonkeyPatch, full: bool):
    trail = FileTrail(path)
    told: list[str] = []

    async def write(call: str) -> None:
        try:
            await trail.write(a_record(call))
        except StoreUnavailable:
            told.append(call)

    await write_together(trail, "first")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await write("second")
        if full:
            monkeypatch.setattr(os, "write", failing(os.write, 0))
        await write("cancelled")
    await write("later")
    await trail.aclose()
    assert scope.cancelled_caught is not full
    assert calls_in(path) == ["first", "second", *([] if full else ["cancelled", "later"])]
    assert told == (["cancelled", "later"] if full else [])


async def test_records_that_wait_are_written_before_the_log_is_closed(path: Path):
    trail = FileTrail(path)
    await trail.write(a_record("a"))
    writing = trail.write(a_record("b"))
    writing.send(None)
    await trail.aclose()
    assert calls_in(path) == ["a", "b"]
    writing.close()


async def test_records_that_are_written_together_keep_files_to_their_size(path: Path):
    trail = FileTrail(path, max_bytes=5_000)
    calls = [str(number) for number in range(60)]
    assert await write_together(trail, *calls) == dict.fromkeys(calls)
    await trail.aclose()
    files = sorted(path.parent.glob("audit*.jsonl"))
    assert len(files) > 5
    assert all(file.stat().st_size <= 5_000 for file in files)
    assert calls_in(path) == calls


async def test_two_writers_that_alternate_make_one_chain(path: Path):
    trails = FileTrail(path), FileTrail(path)
    for start in range(0, 24, 4):
        for trail in trails:
            await write_together(trail, *(f"{number:02d}" for number in range(start, start + 4)))
    for trail in trails:
        await trail.aclose()
    assert sorted(calls_in(path)) == sorted(f"{number:02d}" for number in range(24) for _ in trails)


class Named:
    def __repr__(self) -> str:
        return "hunter2"


@pytest.mark.parametrize(
    "arguments",
    [
        {"id": "plain", "n": 7, "yes": True, "none": None, "half": 0.5, "list": [1, {"a": "b"}]},
        {"text": 'quote " back \\ slash / line\nend\ttab \x00 \x1f \x7f'},
        {"name": "Jürgen \u2028 \U0001f600"},
        {"half": "\ud83d"},
        {"large": 2**70},
        {"key": Named()},
        {"list": [[Named()]]},
    ],
    ids=["plain", "escaped", "not ascii", "half a pair", "large", "an object", "an object inside"],
)
async def test_a_line_is_json_in_ascii(path: Path, arguments: Any):
    trail = FileTrail(path)
    record = a_record("a", arguments=arguments)
    await trail.write(record)
    await trail.aclose()
    with snapshot(path) as log:
        (line,) = log.lines()
    assert line.entry is not None
    expected = {"seq": 1, **vars(record), "prev": line.entry.prev, "hash": line.entry.hash}
    assert line.raw.decode("ascii") == json.dumps(expected, separators=(",", ":"), default=lambda _: "<Named>")
