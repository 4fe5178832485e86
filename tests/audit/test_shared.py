"""The audit log that replicas share: all writers make one chain, and tampering is found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from redis import Redis

from connector_mcp.audit.chain import seal
from connector_mcp.audit.check import CheckReport, verify_log
from connector_mcp.audit.files import AuditTrail, FileTrail
from connector_mcp.audit.record import AuditRecord
from connector_mcp.audit.shared import SharedTrail, shared_snapshot
from connector_mcp.errors import StoreUnavailable
from connector_mcp.state.redis import RedisConnection, RedisJournal, RedisStore
from tests.audit.test_check import a_record
from tests.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.anyio

LINES = "{connector-mcp}:audit:lines"
HEAD = "{connector-mcp}:audit:head"


def opened(url: str) -> tuple[RedisJournal, RedisStore]:
    return RedisJournal(RedisConnection(url), "audit"), RedisStore(RedisConnection(url))


@asynccontextmanager
async def sharing(url: str) -> AsyncIterator[SharedTrail]:
    """A trail as one replica has it."""
    journal, store = opened(url)
    trail = SharedTrail(journal, store)
    yield trail
    await trail.aclose()
    await store.aclose()


async def write(url: str, *calls: str) -> None:
    async with sharing(url) as trail:
        for call in calls:
            await trail.write(a_record(call))


async def check(url: str, **options: Any) -> CheckReport:
    def verdict() -> CheckReport:
        with shared_snapshot(*opened(url)) as log:
            return verify_log(log, **options)

    return await anyio.to_thread.run_sync(verdict)


@pytest.fixture
async def url(redis: RedisServer) -> str:
    """A log of six records."""
    await write(redis.url, *"abcdef")
    return redis.url


async def test_an_untouched_log_is_intact(url: str):
    verdict = await check(url)
    assert (verdict.problems, verdict.notes) == ([], [])
    assert (verdict.records, verdict.first, verdict.last) == (6, 1, 6)


def replaced(client: Redis, change: Callable[[list[str]], list[str]]) -> None:
    """Replace all lines, as an attacker with access to the server but not to the key."""
    lines = [members["line"] for _, members in client.xrange(LINES)]
    client.delete(LINES)
    for line in change(lines):
        client.xadd(LINES, {"line": line})


def forged(client: Redis) -> None:
    (_, members), *_ = client.xrevrange(LINES, count=1)
    last = json.loads(members["line"])
    body = json.dumps({name: last[name] for name in last if name not in ("seq", "prev", "hash")}).encode()
    client.xadd(LINES, {"line": seal(body, last["seq"] + 1, last["hash"], b"x" * 32)[0].decode().strip()})


TAMPERINGS: dict[str, tuple[Callable[[Redis], Any], str]] = {
    "deleted": (lambda client: client.xdel(LINES, client.xrange(LINES)[2][0]), "record 3 is missing"),
    "the first deleted": (lambda client: client.xtrim(LINES, maxlen=5, approximate=False), "record 1 is missing"),
    "changed": (lambda c: replaced(c, lambda ls: [line.replace('"c"', '"x"') for line in ls]), "altered"),
    "swapped": (lambda c: replaced(c, lambda ls: [ls[0], ls[2], ls[1], *ls[3:]]), "order was changed"),
    "doubled": (lambda c: replaced(c, lambda ls: [*ls[:2], ls[1], *ls[2:]]), "is there twice"),
    "truncated": (lambda client: client.xdel(LINES, client.xrevrange(LINES)[0][0]), "record 6"),
    "emptied": (lambda client: client.delete(LINES), "records 1 to 6"),
    "forged": (forged, "was not written by this server"),
    "something else": (lambda client: client.xadd(LINES, {"other": "no line"}), "was not written by this server"),
    "without its head": (lambda client: client.delete(HEAD), "missing or altered"),
    "with another head": (lambda client: client.set(HEAD, "{}"), "missing or altered"),
}


@pytest.mark.parametrize("later", [False, True], ids=["at_once", "after_another_record"])
@pytest.mark.parametrize("how", TAMPERINGS)
async def test_tampering_is_found_whatever_is_written_afterwards(url: str, redis: RedisServer, how: str, later: bool):
    tamper, told = TAMPERINGS[how]
    with redis.client() as client:
        tamper(client)
    if later:
        await write(url, "g")
    (problem,) = (await check(url)).problems
    assert told in problem


async def test_a_hash_kept_elsewhere_detects_a_log_that_was_replaced(url: str, redis: RedisServer):
    seen = (await check(url)).last_hash
    assert (await check(url, seen=seen)).intact
    with redis.client() as client:
        client.flushall()
    await write(url, "a", "b")
    assert (await check(url)).intact
    assert not (await check(url, seen=seen)).intact


async def test_a_running_replica_records_that_redis_lost_its_data(redis: RedisServer):
    async with sharing(redis.url) as trail:
        await trail.write(a_record("before"))
        with redis.client() as client:
            client.flushall()
        await trail.write(a_record("after"))
    verdict = await check(redis.url)
    assert [("missing or altered" in problem) for problem in verdict.problems] == [True]
    assert verdict.records == 2


async def test_a_missing_log_is_never_intact(redis: RedisServer):
    with pytest.raises(StoreUnavailable, match="there is none"):
        await check(redis.url)


async def test_without_its_key_a_log_is_not_checked(url: str, redis: RedisServer):
    with redis.client() as client:
        client.delete("{connector-mcp}:values:keys")
    with pytest.raises(StoreUnavailable, match="key is missing"):
        await check(url)


async def test_records_of_many_calls_at_once_are_one_chain(redis: RedisServer):
    async with sharing(redis.url) as one, sharing(redis.url) as other, anyio.create_task_group() as group:
        for number in range(400):
            group.start_soon((one, other)[number % 2].write, a_record(str(number)))
    verdict = await check(redis.url)
    assert (verdict.problems, verdict.records) == ([], 400)


async def test_the_record_of_a_call_that_is_cancelled_is_written(redis: RedisServer):
    async with sharing(redis.url) as trail:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await trail.write(a_record("cancelled"))
        assert [record["call_id"] for record in await trail.recent(5)] == ["cancelled"]


async def test_records_are_refused_while_redis_is_down_and_the_chain_continues_afterwards():
    failures: list[str] = []

    async def lose(call: str) -> None:
        try:
            await trail.write(a_record(call))
        except StoreUnavailable as failure:
            failures.append(failure.message)

    with redis_server() as server:
        async with sharing(server.url) as trail:
            await trail.write(a_record("before"))
            server.kill()
            with pytest.raises(StoreUnavailable):
                await trail.check()
            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(lose, str(number))
            assert len(failures) == 20
            server.start()
            await trail.check()
            await trail.write(a_record("after"))
            assert [record["call_id"] for record in await trail.recent(5)] == ["after", "before"]
        assert (await check(server.url)).intact


WRITER = """
import sys, anyio
from tests.audit.test_shared import a_record, sharing

async def main():
    async with sharing(sys.argv[1]) as trail:
        for number in range(int(sys.argv[3])):
            async with anyio.create_task_group() as group:
                for part in "xyz":
                    group.start_soon(trail.write, a_record(f"{sys.argv[2]}-{number}-{part}"))
            if number == 20: print("under way", flush=True)

anyio.run(main)
"""


def test_a_log_of_two_processes_is_intact_though_one_was_killed(redis: RedisServer):
    def start(name: str, rounds: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER, redis.url, name, str(rounds)]
        root = Path(__file__).parents[2]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env={"PYTHONPATH": str(root)})

    with start("killed", 1_000_000) as killed, start("whole", 60) as whole:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "under way\n"
        killed.kill()
        assert whole.wait() == 0
    with shared_snapshot(*opened(redis.url)) as log:
        verdict = verify_log(log)
        calls = [entry.members["call_id"] for entry in log.entries()]
    assert (verdict.problems, verdict.notes) == ([], [])
    assert len([call for call in calls if call.startswith("whole")]) == 180
    assert len([call for call in calls if call.startswith("killed")]) >= 63


@pytest.fixture(params=["files", "shared"])
async def trail(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AuditTrail]:
    if request.param == "shared":
        async with sharing(request.getfixturevalue("redis").url) as made:
            yield made
        return
    files = FileTrail(tmp_path / "audit.jsonl", max_bytes=65_536)
    yield files
    await files.aclose()


async def test_the_calls_that_ended_last_come_newest_first(trail: AuditTrail):
    assert await trail.recent(10) == []
    filler = {"filler": "x" * 500}
    for number in range(600):
        await trail.write(a_record(str(number), phase="begun", outcome="begun"))
        await trail.write(a_record(str(number), arguments=filler))
    await trail.write(a_record("open", phase="begun", outcome="begun"))
    found = await trail.recent(550)
    assert [record["call_id"] for record in found] == [str(number) for number in range(599, 49, -1)]
    assert found[0]["arguments"] == filler
    assert len(await trail.recent(5_000)) == 600


async def test_a_record_is_the_same_in_files_and_in_the_store(trail: AuditTrail):
    record: AuditRecord = a_record("c", arguments={"id": "a\nb\u2028c"}, tenant="t")
    await trail.write(record)
    (found,) = await trail.recent(1)
    assert {name: found[name] for name in found if name not in ("seq", "prev", "hash")} == {
        name: getattr(record, name) for name in vars(record)
    }
