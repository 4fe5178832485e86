"""An engine over the sandbox, and callers that answer as they are told."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from connector_mcp.audit.record import AuditRecord
from connector_mcp.audit.trail import AuditTrail
from connector_mcp.config.settings import Settings
from connector_mcp.engine.accounts import Account
from connector_mcp.engine.approval.gate import Gate, Passage
from connector_mcp.engine.approval.hold import ApprovalHold
from connector_mcp.engine.approval.parked_call import Approval
from connector_mcp.engine.approval.wording import Candidate
from connector_mcp.engine.caller import AnswerDue, CannotAsk, ElicitationReply, Question, Resumed, TransportName, Visit
from connector_mcp.engine.engine import Engine
from connector_mcp.engine.ledger import Claim, Execution, Ledger
from connector_mcp.engine.policy import Policy
from connector_mcp.engine.secret_refs.secret_requests import SecretRequests
from connector_mcp.operations.catalog import PLATFORMS, catalog, in_toolsets, platform_folder
from connector_mcp.provisioning.calls import CALLS
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.secrets.collection import Secrets
from connector_mcp.state.database import Database
from connector_mcp.state.sqlite import SqliteDatabase
from connector_mcp.upstream.client import DEFAULT_LIMITS, ClientLimits, UpstreamClient
from tests.records import Clock, audit_lines


@pytest.fixture
def clock() -> Clock:
    return Clock()


class VirtualTime:
    """Seconds that pass when a test says so, and those who sleep through them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.changes = 0
        self._sleeping: list[tuple[float, anyio.Event]] = []
        self._changed = anyio.Event()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        entry = (self.now + seconds, anyio.Event())
        self._sleeping.append(entry)
        self._changed.set()
        self._changed = anyio.Event()
        try:
            await entry[1].wait()
        finally:
            if entry in self._sleeping:
                self._sleeping.remove(entry)

    async def changed(self, seconds: float, since: int | None = None) -> None:
        """Wait as for a database in which nothing changes."""
        await self.sleep(seconds)

    async def asleep(self, count: int = 1) -> None:
        """Wait until so many sleep."""
        while len(self._sleeping) < count:
            await self._changed.wait()

    def pass_by(self, seconds: float) -> None:
        """Let time pass, and wake those whose sleep is over."""
        self.now += seconds
        for entry in [entry for entry in self._sleeping if entry[0] <= self.now]:
            self._sleeping.remove(entry)
            entry[1].set()


@pytest.fixture
def virtual_time() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
async def database(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteDatabase]:
    made = SqliteDatabase(tmp_path / "records.db", wall_clock=clock)
    yield made
    await made.aclose()


def a_record(digest: str = "d1", call_id: str = "c1", effect: str = "destroy", tool: str = "tool") -> AuditRecord:
    """The record of a beginning."""
    return AuditRecord(
        phase="begun", call_id=call_id, principal="local", client=None, transport="stdio", platform="logto",
        profile="default", tool=tool, effect=effect, decision="approve", digest=digest, outcome="begun", duration_ms=1,
    )  # fmt: skip


Use = Callable[..., Awaitable[Approval | None]]


@pytest.fixture
def use(database: SqliteDatabase) -> Use:
    """Runs an approved call, and returns the approval that it took."""

    async def run(digest: str = "d1") -> Approval | None:
        ledger = Ledger(database, AuditTrail(database), longest=120.0)
        found = await ledger.begin(a_record(digest), Claim(fingerprint="f1"))
        if not isinstance(found, Execution):
            return None
        await database.write(ledger.end(found, "ok"))
        return found.approval

    return run


@dataclass(frozen=True)
class Passed:
    """A call that passed the gate."""

    decided_by: str | None
    channel: str | None = None
    took_time: bool = False


async def cross(database: Database, gate: Gate, candidate: Candidate, caller: Any) -> Passed:
    """Pass a call through the gate as the engine does, and end its execution."""
    ledger = Ledger(database, AuditTrail(database), longest=120.0)
    passages: list[Passage] = []

    async def begin(passage: Passage) -> Execution | Approval | None:
        passages.append(passage)
        record = a_record(candidate.digest, secrets.token_hex(8), tool=candidate.tool)
        return await ledger.begin(record, passage.claim)

    look = partial(ledger.look, candidate.digest, candidate.tool)
    execution = await gate.pass_through(candidate, caller, begin, look)
    await database.write(ledger.end(execution, "ok"))
    if (approval := execution.approval) is not None:
        return Passed(approval.decided_by, approval.channel, passages[-1].took_time)
    return Passed(passages[-1].decided_by, took_time=passages[-1].took_time)


async def _reply(said: Any, asked: Any) -> ElicitationReply:
    """What a person answers: as it is, or made of what they are asked; an exception is raised."""
    answer = said(asked) if callable(said) else said
    if isinstance(answer, Exception):
        raise answer
    if hasattr(answer, "__await__"):
        answer = await answer
    assert isinstance(answer, ElicitationReply)
    return answer


@dataclass
class FakeCaller:
    """A caller; `answer` is what its person answers, an exception what asking raises."""

    answer: ElicitationReply | Exception | Callable[[Question], Any] | None = None
    principal: str = "local"
    client: str | None = "test 1"
    transport: TransportName = "stdio"
    scopes: frozenset[str] | None = None
    profiles: frozenset[str] | None = None
    resumed: Resumed | None = None
    questions: list[Question] = field(default_factory=list[Question])
    tickets: list[str] = field(default_factory=list[str])
    told: list[str] = field(default_factory=list[str])
    gone: bool = False
    sends: Callable[[Visit], Any] | ElicitationReply | Exception | None = None
    """What the person does who is sent to a page."""
    visits: list[Visit] = field(default_factory=list[Visit])
    done: list[Visit] = field(default_factory=list[Visit])

    @property
    def can_ask(self) -> bool:
        return self.answer is not None or self.resumed is not None

    async def ask(self, question: Question, ticket: str) -> ElicitationReply:
        self.questions.append(question)
        self.tickets.append(ticket)
        return await _reply(self.answer, question)

    @property
    def can_send(self) -> bool:
        return self.sends is not None

    async def send_to(self, visit: Visit, ticket: str) -> ElicitationReply:
        if self.sends is None:
            raise CannotAsk
        self.visits.append(visit)
        self.tickets.append(ticket)
        return await _reply(self.sends, visit)

    async def visited(self, visit: Visit) -> None:
        self.done.append(visit)

    async def progress(self, message: str) -> None:
        self.told.append(message)


class AsksByReturning(FakeCaller):
    """A caller of the protocol's later era, which is asked by being answered the question."""

    @property
    def can_ask(self) -> bool:
        return True

    async def ask(self, question: Question, ticket: str) -> ElicitationReply:
        self.questions.append(question)
        self.tickets.append(ticket)
        raise AnswerDue(question, ticket)

    async def send_to(self, visit: Visit, ticket: str) -> ElicitationReply:
        self.visits.append(visit)
        self.tickets.append(ticket)
        raise AnswerDue(visit, ticket)


def yes(confirm: Any = True) -> ElicitationReply:
    """An accepted form."""
    return ElicitationReply("accept", {"confirm": confirm})


@dataclass
class Bench:
    """An engine with what a test wants to look at."""

    engine: Engine
    sandbox: Sandbox
    directory: Path

    def account(self, platform: str) -> Account:
        """The platform's first account."""
        return next(account for account in self.engine.accounts if account.platform.name == platform)

    @property
    def audit_lines(self) -> list[str]:
        return audit_lines(self.directory)

    def requests(self, method: str = "*") -> list[tuple[str, str]]:
        """Method and path of what reached a platform, tokens and descriptions of types apart."""
        return [
            (made.method, made.raw_path)
            for made in self.sandbox.requests
            if method in ("*", made.method) and not made.raw_path.endswith(("token", "connectorcatalog"))
        ]


BenchMaker = Callable[..., Bench]


async def _never(_: float) -> None:
    await anyio.lowlevel.checkpoint()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[BenchMaker]:
    """Makes engines over one sandbox each; `policy`, `transport` and settings as given."""
    async with AsyncExitStack() as stack:

        def make(
            *,
            policy: str = "",
            transport: TransportName = "stdio",
            database: Database | None = None,
            limits: ClientLimits = DEFAULT_LIMITS,
            read_only: bool = False,
            hold: ApprovalHold | None = None,
            announce: Callable[[Approval], None] | None = None,
            secrets: Secrets | None = None,
            secret_requests: SecretRequests | None = None,
            ask_reading_time: float = 0.0,
            platforms: tuple[str, ...] = PLATFORMS,
            **settings: Any,
        ) -> Bench:
            sandbox = Sandbox()
            stack.callback(sandbox.close)
            accounts: dict[str, Account] = {}
            for name in platforms:
                platform = platform_folder(name).platform
                values = sandbox.variables(name)
                secret = {variable.name for variable in platform.variables if variable.secret}
                client = UpstreamClient(
                    platform, values, transport=sandbox.transport(name), limits=limits, sleep=_never
                )
                options = {key: value for key, value in values.items() if key not in secret}
                accounts[name] = Account(platform=platform, client=client, options=options, sandbox=True)
            database = database or SqliteDatabase(tmp_path / "records.db")
            settings = {"toolsets": ("all",), **settings}
            engine = Engine(
                Settings.load({}, sandbox=True, state_dir=tmp_path, ask_reading_time=ask_reading_time, **settings),
                in_toolsets(catalog(platforms), settings["toolsets"]),
                accounts.values(),
                policy=Policy.parse(policy, read_only=read_only, transport=transport),
                database=database,
                hold=hold,
                announce=announce,
                secrets=secrets,
                secret_requests=secret_requests,
                audit=AuditTrail(database),
                calls=CALLS,
            )
            stack.push_async_callback(engine.aclose)
            return Bench(engine, sandbox, tmp_path)

        yield make


@pytest.fixture
def made(bench: BenchMaker) -> Bench:
    """An engine with the default settings."""
    return bench()
