"""A database in which a chosen step fails, as a server that is killed and a database that is cut off make it fail."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from connector_mcp.state.database import Step
from connector_mcp.state.sqlite import SqliteDatabase

_T = TypeVar("_T")

StepFault = Literal["refused", "lost", "undone", "killed before", "killed after"]
"""How a step fails.

- `refused`: it did not take effect, and the error says so.
- `lost`: it took effect, but the answer was lost.
- `undone`: it did not take effect, but the answer was lost.
- `killed`: the process ends before or after it.
"""


class Killed(BaseException):
    """The process was killed."""


class FaultyDatabase(SqliteDatabase):
    """Fails the step with the number `fails_at`, counted from 0."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fails_at: int | None = None
        self.fault: StepFault = "refused"
        self.steps = 0
        self.is_dead = False
        self.was_killed = False

    def arm(self, fails_at: int | None, fault: StepFault = "refused") -> None:
        """Fail a step from now on."""
        self.fails_at, self.fault, self.steps, self.was_killed = fails_at, fault, 0, False

    def restart(self) -> None:
        """Go on as another process."""
        self.is_dead = False

    def run(self, step: Step[_T]) -> _T:
        if self.is_dead:
            raise Killed
        number, self.steps = self.steps, self.steps + 1
        if number != self.fails_at:
            return super().run(step)
        if self.fault in ("lost", "killed after"):
            super().run(step)
        if self.fault.startswith("killed"):
            self.is_dead = self.was_killed = True
            raise Killed
        # The answer to a step that only reads may be lost too, but then nothing is uncertain.
        raise self.failure("it was cut off", uncertain=step.writes and self.fault != "refused")
