"""Every failure that the server can return, as one tree.

    ConnectorError
    ├── InvalidArguments        invalid_arguments      the call does not fit the tool's schema; nothing was sent
    ├── Blocked                 blocked                policy or --read-only refuses this effect
    ├── ApprovalRequired        approval_required      parked until an operator decides
    ├── Refused                 refused                a person or an operator said no
    ├── ConfirmationInvalid     confirmation_invalid   an answer that is stale, replayed or not the one asked for
    ├── TargetChanged           target_changed         the target is no longer what was previewed
    ├── InProgress              in_progress            the same write is already on its way
    ├── StoreUnavailable        store_unavailable      records cannot be read or written, so nothing is decided
    │   └── StoreUncertain      store_unavailable      a record was being saved: whether it was saved is not known
    ├── Misconfigured           misconfigured          a setting is missing or wrong
    ├── Internal                internal               a fault of this server
    └── UpstreamError
        ├── Rejected            rejected               400, 422: the platform refuses the content
        ├── Unauthenticated     unauthenticated        401: the platform refuses the credentials
        ├── Forbidden           forbidden              403: the credentials lack a permission
        ├── NotFound            not_found              404
        ├── Conflict            conflict               409, 412
        ├── RateLimited         rate_limited           429, after the retries
        ├── UpstreamFailed      upstream_failed        5xx, or another status the documents do not name
        ├── Unreachable         unreachable            no connection was made; nothing was sent
        ├── TimedOut            timed_out              no answer in time to a call that is harmless to repeat
        ├── OutcomeUnknown      outcome_unknown        a write was sent and its fate is not known; never repeated
        ├── Malformed           malformed_answer       not the JSON that the platform documents
        └── TooLarge            answer_too_large       the answer exceeds the size cap

The codes are a closed set: agents branch on them, the audit log records them, and the exit status of a command follows
from them (`exit_status`). `message` says what happened to which thing, `fix` is the next step. Neither contains text of
a platform: that goes to `upstream`, which is cleaned before it leaves the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from connector_mcp.program import runnable


class ConnectorError(Exception):
    """A failure the caller can act on.

    `message` and `fix` are the server's own sentences. `retryable` says that repeating the same call does no harm and
    may succeed; the default is that of the class. `retry_after` is in seconds. `upstream` is the platform's response:
    status, code, message, request id. `details` are further members of the answer, JSON values only.
    """

    code: ClassVar[str] = "internal"
    exit_status: ClassVar[int] = 1
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        fix: str,
        retryable: bool | None = None,
        retry_after: float | None = None,
        upstream: Mapping[str, Any] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        if retryable is not None:
            self.retryable = retryable
        self.message = message
        self._fix = fix
        self.retry_after = retry_after
        self.upstream = dict(upstream) if upstream else None
        self.details = dict(details) if details else {}

    @property
    def fix(self) -> str:
        """The next step, with each command as it can be run here."""
        return runnable(self._fix)

    @fix.setter
    def fix(self, text: str) -> None:
        self._fix = text

    def as_dict(self) -> dict[str, Any]:
        """Return the members of the answer: code, message, fix, retryable, and the others that are set."""
        members: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "fix": self.fix,
            "retryable": self.retryable,
        }
        if self.retry_after is not None:
            members["retry_after"] = round(self.retry_after, 3)
        if self.upstream:
            members["upstream"] = self.upstream
        members.update(self.details)
        return members


@dataclass(frozen=True)
class Issue:
    """One problem of the arguments: where it is, what was given, what is expected, and an example.

    `got` describes a value and never repeats a string, because it could be a secret in the wrong place.
    """

    path: str
    got: str
    wanted: str
    example: Any = None
    unknown: bool = False
    """True if only this server does not know it, so that the platform may take it."""
    candidates: Sequence[str] = ()
    """Valid alternatives: for an unknown name the known names, for a wrong value the values that may be meant."""

    def as_dict(self) -> dict[str, Any]:
        members: dict[str, Any] = {"path": self.path, "got": self.got, "wanted": self.wanted}
        if self.candidates:
            members["candidates"] = list(self.candidates)
        if self.example is not None:
            members["example"] = self.example
        return members


class InvalidArguments(ConnectorError):
    code = "invalid_arguments"
    exit_status = 2

    def __init__(self, tool: str, issues: Sequence[Issue], *, fix: str | None = None) -> None:
        first, fix = issues[0], fix or "Correct the arguments named in issues and call again."
        wanted = first.wanted.removesuffix(".")
        if any(issue.unknown for issue in issues):
            fix += " If the platform does take it, the operator can set CONNECTOR_MCP_UNKNOWN_CONFIG=warn."
        more = f" (and {len(issues) - 1} more, see issues)" if len(issues) > 1 else ""
        super().__init__(
            f"{tool}: at {first.path}: got {first.got}, wanted {wanted}{more}. Nothing was sent.",
            fix=fix,
            details={"issues": [issue.as_dict() for issue in issues]},
        )
        self.issues = tuple(issues)


class Blocked(ConnectorError):
    code = "blocked"
    exit_status = 3


class ApprovalRequired(ConnectorError):
    code = "approval_required"
    retryable = True
    exit_status = 3


class Refused(ConnectorError):
    code = "refused"
    exit_status = 3


class ConfirmationInvalid(ConnectorError):
    code = "confirmation_invalid"
    retryable = True
    exit_status = 3


class TargetChanged(ConnectorError):
    code = "target_changed"
    retryable = True
    exit_status = 3


class InProgress(ConnectorError):
    code = "in_progress"
    exit_status = 3


class StoreUnavailable(ConnectorError):
    code = "store_unavailable"
    retryable = True
    exit_status = 5


class StoreUncertain(StoreUnavailable):
    """The answer to a commit was lost. Read the record again, or say that its state is not known."""


class Misconfigured(ConnectorError):
    code = "misconfigured"
    exit_status = 2


class Internal(ConnectorError):
    code = "internal"
    exit_status = 1


class UpstreamError(ConnectorError):
    code = "upstream_failed"
    exit_status = 4


class Rejected(UpstreamError):
    code = "rejected"


class Unauthenticated(UpstreamError):
    code = "unauthenticated"


class Forbidden(UpstreamError):
    code = "forbidden"


class NotFound(UpstreamError):
    code = "not_found"


class Conflict(UpstreamError):
    code = "conflict"


class RateLimited(UpstreamError):
    code = "rate_limited"
    retryable = True


class UpstreamFailed(UpstreamError):
    code = "upstream_failed"
    retryable = True


class Unreachable(UpstreamError):
    code = "unreachable"
    retryable = True


class TimedOut(UpstreamError):
    code = "timed_out"
    retryable = True


class OutcomeUnknown(UpstreamError):
    code = "outcome_unknown"


class Malformed(UpstreamError):
    code = "malformed_answer"


class TooLarge(UpstreamError):
    code = "answer_too_large"
