"""Faults that can be asked for: what a network and a platform do on a bad day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from connector_mcp.sandbox.wire import Call

FaultKind = Literal[
    "status", "html", "timeout", "unreachable", "hang_up", "slow", "cut", "truncated_json", "huge", "stale_read"
]

_NEEDS_THE_REAL_ANSWER: tuple[FaultKind, ...] = ("slow", "cut", "truncated_json", "stale_read")


@dataclass(frozen=True)
class Fault:
    """Answer the next `times` matching requests wrongly.

    `path_glob` is matched on the percent-encoded path as the platform sees it, its base path included
    (`/v1/org/*/connectors/sources`); `*` also matches slashes. The kinds:

    - `status`: `status` with `headers` (such as Retry-After) and `body`, or the platform's own error body without one.
    - `html`: a page instead of JSON, with `status` (200 is a proxy's login page, 502 its error page).
    - `timeout`: no answer ever. In process `httpx.ReadTimeout` is raised at once.
    - `unreachable`: no connection is made; in process only (`httpx.ConnectError`), and never carried out.
    - `hang_up`: the connection ends before any answer; over a socket after the headers.
    - `slow`: the real answer in small pieces, `delay` seconds before each.
    - `cut`: the real answer's headers and half its body, then the connection ends.
    - `truncated_json`: half the body as though it were all.
    - `huge`: a body of `size` bytes.
    - `stale_read`: a read shows the version before the last write; uses itself up only on reads that differ.

    `applied` decides whether the platform carries the request out before a `status`, `html`, `timeout`, `hang_up` or
    `huge`: true makes a write whose outcome its sender cannot know. Kinds that need the real answer always apply.
    """

    platform: str = "*"
    method: str = "*"
    path_glob: str = "*"
    times: int = 1
    kind: FaultKind = "status"
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Any = None
    delay: float = 0.05
    size: int = 50_000_000
    applied: bool = False

    @property
    def carries_out(self) -> bool:
        """Whether the platform does what was asked although the answer goes wrong."""
        return self.kind in _NEEDS_THE_REAL_ANSWER or (self.applied and self.kind != "unreachable")

    def matches(self, platform: str, call: Call) -> bool:
        if self.kind == "stale_read" and call.method != "GET":
            return False
        return (
            self.platform in ("*", platform)
            and self.method in ("*", call.method)
            and fnmatchcase(call.path, self.path_glob)
        )


@dataclass
class _Pending:
    fault: Fault
    left: int


class FaultPlan:
    """The faults still to come, in the order they were asked for."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._pending = [_Pending(fault, fault.times) for fault in faults]

    def add(self, fault: Fault) -> None:
        self._pending.append(_Pending(fault, fault.times))

    def next_for(self, platform: str, call: Call) -> Fault | None:
        """The fault for this request, if any. A stale read is not used up by asking: see `used`."""
        for pending in self._pending:
            if pending.left > 0 and pending.fault.matches(platform, call):
                if pending.fault.kind != "stale_read":
                    pending.left -= 1
                return pending.fault
        return None

    def used(self, fault: Fault) -> None:
        """Count a stale read that showed a difference."""
        for pending in self._pending:
            if pending.fault is fault and pending.left > 0:
                pending.left -= 1
                return
