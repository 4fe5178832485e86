"""The database of records: transactions, time limits and failures, the same for SQLite and PostgreSQL.

A piece of work is a function that takes a `Transaction`. It runs in a worker thread and may run twice, so it must have
no other effect than its statements. What it returns is returned to the caller once the transaction is committed. If it
raises, the transaction is rolled back.

SQL is the subset that both databases share. Values are named (`:name`). `epoch()` is the database's time in seconds.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import anyio
import anyio.to_thread

from connector_mcp.errors import StoreUnavailable, StoreUncertain
from connector_mcp.state.schema import MIGRATIONS, VERSION

STEP_SECONDS: Final = 2.0
"""How long all steps of one call may wait for the database together, and how long a step without a call may wait."""

COMMAND_SECONDS: Final = 10.0
"""How long a step of a command may wait for the database."""

PAUSE_SECONDS: Final = 5.0
"""How long steps fail at once after the database was silent. Then one step tries again."""

WORKERS: Final = 4
"""Number of steps that run at the same time."""

Value = str | int | float | None
Values = Mapping[str, Value]
Row = Mapping[str, Any]

_T = TypeVar("_T")


class Rows:
    """The result of a statement. Use RETURNING to learn what a statement changed.

    PostgreSQL sends statements only when a result is asked for, so execute those that belong together before that.
    """

    def __init__(self, fetch: Callable[[], Sequence[Row]]) -> None:
        self.all = fetch
        """Returns all rows."""

    def first(self) -> Row | None:
        """Return the first row, or None."""
        return next(iter(self.all()), None)


class Transaction:
    """One transaction. Valid only while its work runs."""

    def __init__(
        self,
        step: Step[Any],
        execute: Callable[[str, Values], Rows],
        insert: Callable[[str, Sequence[Values]], object],
    ) -> None:
        self._step = step
        self._execute = execute
        self._insert = insert

    def execute(self, sql: str, values: Mapping[str, Value] = {}) -> Rows:
        """Run one statement. Characters that no database can store are stored as U+FFFD."""
        return self._execute(sql, storable(values))

    def insert(self, table: str, rows: Iterable[Values]) -> None:
        """Insert rows, each with the same columns, as with one statement."""
        self._insert(table, [storable(values) for values in rows])

    def notify(self) -> None:
        """Wake every `Database.changed` of all processes once this transaction is committed."""
        self._step.notifies = True

    def after_commit(self, function: Callable[[], object]) -> None:
        """Call a function in the worker thread once this transaction is committed."""
        self._step.after_commit.append(function)


Work = Callable[[Transaction], _T]


class _Allowance:
    def __init__(self) -> None:
        self.left = STEP_SECONDS
        """The time that the steps of one call may still take."""


_ALLOWANCE: ContextVar[_Allowance | None] = ContextVar("store_allowance", default=None)


@contextmanager
def one_allowance() -> Generator[None]:
    """Let all steps inside the context share one time limit, whatever happens between them."""
    token = _ALLOWANCE.set(_Allowance())
    try:
        yield
    finally:
        _ALLOWANCE.reset(token)


class Abandoned(Exception):
    """The time of a step was up before it could commit."""


@dataclass(eq=False)
class Step(Generic[_T]):
    """One piece of work on its way through the database."""

    work: Work[_T]
    writes: bool
    durable: bool = True
    """Whether it must survive a power cut. It survives the end of the process in any case."""
    until: float = 0.0
    """When its time is up, by `time.monotonic`."""
    notifies: bool = False
    after_commit: list[Callable[[], object]] = field(default_factory=list[Callable[[], object]])
    interrupt: Callable[[], object] | None = None
    """Ends the step from another thread."""
    committing: bool = False
    """A failure from now on does not say whether the work took effect."""
    abandoned: bool = False
    _fate: threading.Lock = field(default_factory=threading.Lock)
    """Taken once: by the commit or by the end of the time."""

    def begin_commit(self) -> None:
        """Claim the right to commit, in the step's thread.

        Raises:
            Abandoned: The time was up, and the caller knows that the step has no effect.
        """
        if not self._fate.acquire(blocking=False):
            raise Abandoned
        self.committing = True

    def abandon(self) -> bool:
        """End the step from another thread. Return whether it certainly has no effect."""
        self.abandoned = certain = self._fate.acquire(blocking=False)
        if (interrupt := self.interrupt) is not None:
            interrupt()
        return certain


class Database(ABC):
    """A database of records. It is opened by the first step; close it when done.

    Every step raises `StoreUnavailable` if it did not take effect, and `StoreUncertain` if it may have. A step goes on
    if its call is cancelled; the time limit bounds it.
    """

    def __init__(self, address: str) -> None:
        """`address` names the database in errors."""
        self.address = address
        self.on_failure: Callable[[str], None] = lambda _: None
        """Called with `read` or `write` for each step that fails."""
        self.on_reconnect: Callable[[], object] = lambda: None
        """Called in a thread of its own when a lost connection for notifications was made again."""
        self.known_keys: dict[str, bytes] = {}
        """The keys that `state.keys` has read."""
        self.changes = 0
        """Number of changes that this process has heard of. Read it before you look at what may change."""
        self._clock = time.monotonic
        self._limiter = anyio.CapacityLimiter(WORKERS)
        self._silent_until: float | None = None
        self._changed = anyio.Event()

    async def read(self, work: Work[_T]) -> _T:
        """Run work that only reads."""
        return await self._take_step(Step(work, writes=False))

    async def write(self, work: Work[_T], *, durable: bool = True) -> _T:
        """Run work in one transaction."""
        return await self._take_step(Step(work, writes=True, durable=durable))

    def read_now(self, work: Work[_T]) -> _T:
        """Run work that only reads, in this thread. For commands; it blocks."""
        return self._run_now(Step(work, writes=False))

    def write_now(self, work: Work[_T]) -> _T:
        """Run work in one transaction, in this thread. For commands; it blocks."""
        return self._run_now(Step(work, writes=True))

    async def changed(self, seconds: float, since: int | None = None) -> None:
        """Return when another transaction has notified, or after `seconds`. It may return early for no reason.

        `since` is the value of `changes` before you looked: what has changed meanwhile is not missed. The time limit of
        the call begins again, because it does not bound how long a person takes.
        """
        if since in (None, self.changes):
            with anyio.move_on_after(seconds):
                await self.watch(self._changed)
        if allowance := _ALLOWANCE.get():
            allowance.left = STEP_SECONDS

    @abstractmethod
    async def watch(self, event: anyio.Event) -> None:
        """Return when the event is set. Set it with `wake` if another process may have changed something."""

    @abstractmethod
    def run(self, step: Step[_T]) -> _T:
        """Run a step in this thread.

        Raises:
            StoreUnavailable, StoreUncertain: As for every step.
        """

    @abstractmethod
    def warnings(self) -> list[str]:
        """Return a warning for each setting with which stored records can be lost. It blocks."""

    @abstractmethod
    def close(self) -> None:
        """Close files and connections. A later step opens them again."""

    async def aclose(self) -> None:
        """Close files and connections, even while the server is being cancelled."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.close)

    def wake(self) -> None:
        """Wake every `changed` of this process. Call it on the event loop."""
        self.changes += 1
        event, self._changed = self._changed, anyio.Event()
        event.set()

    def _run_now(self, step: Step[_T]) -> _T:
        step.until = time.monotonic() + COMMAND_SECONDS
        timer = threading.Timer(COMMAND_SECONDS, step.abandon)
        timer.daemon = True
        timer.start()
        try:
            return self.run(step)
        except Abandoned:
            raise self.failure("it did not answer in time") from None
        finally:
            timer.cancel()

    async def _take_step(self, step: Step[_T]) -> _T:
        allowance = _ALLOWANCE.get() or _Allowance()
        started, seconds = self._clock(), max(0.0, allowance.left)
        self._refuse_while_silent(started, step)
        results: list[_T] = []
        try:
            step.until = time.monotonic() + seconds
            # An abandoned thread ends soon: its connection is shut down, and its locks have time limits.
            with anyio.fail_after(seconds, shield=True):
                results.append(
                    await anyio.to_thread.run_sync(self.run, step, limiter=self._limiter, abandon_on_cancel=True)
                )
        except TimeoutError:
            certain = step.abandon()
            self._note_failure(step, seconds)
            raise self.failure("it did not answer in time", uncertain=not certain) from None
        except StoreUnavailable:
            self._note_failure(step, self._clock() - started)
            raise
        finally:
            allowance.left -= self._clock() - started
        self._silent_until = None
        if step.notifies:
            self.wake()
        return results[0]

    def _note_failure(self, step: Step[Any], waited: float) -> None:
        # A step that had little time left does not show that the database is silent.
        if waited >= 0.9 * STEP_SECONDS:
            self._silent_until = self._clock() + PAUSE_SECONDS
        self.on_failure("write" if step.writes else "read")

    def _refuse_while_silent(self, now: float, step: Step[Any]) -> None:
        if self._silent_until is None:
            return
        if now < self._silent_until:
            self.on_failure("write" if step.writes else "read")
            raise self.failure("it did not answer a moment ago")
        # Only this step tries again; the others do not wait for the database.
        self._silent_until = now + PAUSE_SECONDS

    def migrations(self, version: int, fix: str = "Update connector-mcp.") -> list[str]:
        """Return the statements from the version that was found to the present one, or refuse a newer one."""
        if version > VERSION:
            reason = f"its version {version} was made by a newer connector-mcp"
            raise self.failure(reason, fix=fix, retryable=False)
        return [each for migration in MIGRATIONS[version:] for each in migration.split(";\n") if each.strip()]

    def failure(
        self, reason: str, *, uncertain: bool = False, retryable: bool = True, fix: str = ""
    ) -> StoreUnavailable:
        """Make the error of a step."""
        if uncertain:
            return StoreUncertain(
                f"The database {self.address} failed while it saved a change: {reason}. It may have saved the change.",
                fix=fix or "Look at the present state before you repeat anything.",
                retryable=False,
            )
        return StoreUnavailable(
            f"The database {self.address} cannot be used: {reason}.",
            fix=fix or "Call again. If the error persists, run `connector-mcp doctor`.",
            retryable=retryable,
        )


def storable(values: Values) -> Values:
    """Return values that both databases can store: text without NUL and halves of surrogate pairs."""
    # One look at all of them is enough for nearly every statement.
    text = "".join([value for value in values.values() if isinstance(value, str)])
    if text.isascii() and "\0" not in text:
        return values
    return {name: _storable_text(value) if isinstance(value, str) else value for name, value in values.items()}


def _storable_text(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
