"""What calls tell while they run, and to whom: metrics, spans, both or, by default, nobody.

Those who tell do not know who listens. With nobody listening a word costs a fraction of a microsecond, and neither
Prometheus' nor OpenTelemetry's library is imported for it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from contextvars import Token
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from connector_mcp.telemetry.correlation import CALL_ID

if TYPE_CHECKING:
    from connector_mcp.telemetry.metrics import Metrics
    from connector_mcp.telemetry.spans import Spans, Step

StepName = Literal["validate", "policy", "read_target", "gate", "ledger", "send", "verify", "shape", "audit"]
RequestKind = Literal["read", "write", "token"]


class EndedCall(Protocol):
    """What is told of a call that is over: the members of its audit record that hold nobody's words but ours."""

    @property
    def call_id(self) -> str: ...
    @property
    def tool(self) -> str: ...
    @property
    def platform(self) -> str | None: ...
    @property
    def effect(self) -> str: ...
    @property
    def decision(self) -> str: ...
    @property
    def channel(self) -> str | None: ...
    @property
    def outcome(self) -> str: ...
    @property
    def duration_ms(self) -> float: ...
    @property
    def sandbox(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to a platform. `template` is the path before any id is filled in; `resends` counts those before."""

    platform: str
    kind: RequestKind
    method: str
    template: str
    host: str
    port: int
    resends: int


@dataclass(slots=True)
class Ending:
    """How an attempt ended: an HTTP status, or the kind of failure."""

    status: int | str = "cancelled"


class Observer:
    """Passes on what it is told. Safe for concurrent calls on one event loop."""

    def __init__(self, metrics: Metrics | None = None, spans: Spans | None = None) -> None:
        self.metrics = metrics
        self.spans = spans
        self.listens: Final = metrics is not None or spans is not None

    def call(self, call_id: str) -> RunningCall:
        """A call runs for as long as the context is open; what is logged in it bears its id."""
        return RunningCall(call_id, self.metrics)

    def step(self, name: StepName) -> Step | nullcontext[None]:
        """A step of a call runs for as long as the context is open."""
        return _NOTHING if self.spans is None else self.spans.step(name)

    def call_ended(self, call: EndedCall) -> None:
        """A call is over."""
        if self.metrics is not None:
            self.metrics.call_ended(call)
        if self.spans is not None:
            self.spans.call_ended(call)

    def tool_unknown(self) -> None:
        """A tool was called that does not exist. Its name is the caller's, so it is not told."""
        if self.metrics is not None:
            self.metrics.unknown_tools.inc()

    def approval_changed(self, state: str) -> None:
        """A call was parked (`pending`), or an approval came to another state of the closed set."""
        if self.metrics is not None:
            self.metrics.approval_changed(state)

    def store_failed(self, operation: str) -> None:
        """The store, or the audit log, could not do what was asked of it."""
        if self.metrics is not None:
            self.metrics.store_failed(operation)

    @contextmanager
    def attempt(self, attempt: Attempt) -> Generator[Ending]:
        """A request is under way for as long as the context is open; whoever sends it says how it ended."""
        ending = Ending()
        counted = _NOTHING if self.metrics is None else self.metrics.attempt(attempt, ending)
        traced = _NOTHING if self.spans is None else self.spans.attempt(attempt, ending)
        with counted, traced:
            yield ending

    @contextmanager
    def minting(self, platform: str) -> Generator[None]:
        """An access token is obtained or renewed for as long as the context is open."""
        counted = _NOTHING if self.metrics is None else self.metrics.minting(platform)
        with counted:
            yield


class RunningCall:
    """The context of one call."""

    __slots__ = ("_call_id", "_metrics", "_outer")

    def __init__(self, call_id: str, metrics: Metrics | None) -> None:
        self._call_id = call_id
        self._metrics = metrics
        self._outer: Token[str | None] | None = None

    def __enter__(self) -> None:
        self._outer = CALL_ID.set(self._call_id)
        if self._metrics is not None:
            self._metrics.calls_in_flight.inc()

    def __exit__(self, *_: object) -> None:
        if self._metrics is not None:
            self._metrics.calls_in_flight.dec()
        if self._outer is not None:
            CALL_ID.reset(self._outer)


_NOTHING: Final = nullcontext()

NULL_OBSERVER: Final = Observer()
"""Listens to nothing."""
