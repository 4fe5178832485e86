"""What calls report while they run, and the ids that join log lines, spans and audit records to a call.

The duration metrics are those of the OpenTelemetry conventions: for MCP those of the repository
open-telemetry/semantic-conventions-genai, for HTTP clients those of open-telemetry/semantic-conventions. Attributes
that begin with `connector_mcp.` are additions of this server.
"""

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
    """The outcome of an attempt: an HTTP status, or the kind of failure."""

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


Attributes = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class DurationMetric:
    """A histogram of seconds. What is measured may have further attributes, which are for spans only."""

    name: str
    description: str
    attributes: tuple[str, ...]
    buckets: tuple[float, ...]


MCP_OPERATION: Final = DurationMetric(
    "mcp.server.operation.duration",
    "Time from the arrival of an MCP request or notification to its answer.",
    (
        "mcp.method.name", "gen_ai.operation.name", "gen_ai.tool.name", "gen_ai.prompt.name", "error.type",
        "rpc.response.status_code", "mcp.protocol.version", "network.transport", "network.protocol.name",
        "network.protocol.version",
    ),
    (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)  # fmt: skip

HTTP_REQUEST: Final = DurationMetric(
    "http.client.request.duration",
    "Time from sending a request to a platform to the end of its answer; each attempt by itself.",
    (
        "connector_mcp.platform", "connector_mcp.request.kind", "http.request.method", "http.response.status_code",
        "error.type", "server.address", "server.port",
    ),
    (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)  # fmt: skip

DURATIONS: Final = (MCP_OPERATION, HTTP_REQUEST)
