"""What calls report while they run, and the ids that join log lines, spans and audit records to a call."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

CALL_ID: Final[ContextVar[str | None]] = ContextVar("call_id", default=None)
"""Id of the running tool call, the same as in the audit log."""

REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""Id of the HTTP request that carried the message: the client's or one of this server."""

StepName = Literal["validate", "policy", "read_target", "gate", "ledger", "send", "verify", "shape", "audit"]
RequestKind = Literal["read", "write", "token"]


def current_ids() -> dict[str, str]:
    """Return the ids that are set here, by their names in logs."""
    ids = {"call_id": CALL_ID.get(), "request_id": REQUEST_ID.get()}
    return {name: value for name, value in ids.items() if value is not None}


class EndedCall(Protocol):
    """The members of a call's audit record that hold no text of a caller or a platform."""

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


class Backlog(NamedTuple):
    """What waits in the database."""

    approvals: Mapping[str, int]
    """Number of live approvals by status."""
    oldest_seconds: float
    """Age of the oldest call that waits for an operator; 0 if none does."""
    unexported: Mapping[str, int]
    """Number of audit records that have not been exported, by the cursor of the export."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP request to a platform."""

    platform: str
    kind: RequestKind
    method: str
    template: str
    """The path with placeholders instead of ids."""
    host: str
    port: int
    resends: int
    """Number of attempts before this one."""
    waited: float = 0.0
    """Seconds that it waited for a free connection and for the rate limit."""

    @property
    def attributes(self) -> dict[str, str | int]:
        """The attributes of its span and its metrics. Together with those of its ending they are complete."""
        return {
            "http.request.method": self.method,
            "url.template": self.template,
            "server.address": self.host,
            "server.port": self.port,
            "connector_mcp.platform": self.platform,
            "connector_mcp.request.kind": self.kind,
            **({"http.request.resend_count": self.resends} if self.resends else {}),
        }


@dataclass(slots=True)
class Ending:
    """How an attempt ended: an HTTP status, or the kind of failure."""

    status: int | str = "cancelled"

    @property
    def attributes(self) -> dict[str, str | int]:
        """The attributes that say so. A status outside of HTTP's range is no attribute: a platform may send any."""
        if isinstance(self.status, str):
            return {"error.type": self.status}
        if not 100 <= self.status < 600:
            return {"error.type": "_OTHER"}
        failed = {"error.type": str(self.status)} if self.status >= 400 else {}
        return {"http.response.status_code": self.status, **failed}
