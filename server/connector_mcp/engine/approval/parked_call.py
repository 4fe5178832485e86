"""A call that waits for an operator, and its decision."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from connector_mcp.engine.preview import Change
from connector_mcp.errors import StoreUnavailable
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Effect
from connector_mcp.state.database import Row
from connector_mcp.text import clean, same_text

ApprovalStatus = Literal["pending", "approved", "denied", "used", "void"]

Channel = Literal["approvals", "console", "webhook"]
"""How an operator decided: on the command line, in the console, or with a signed callback."""

COLUMNS: Final = (
    "id, digest, status, principal, tool, call, created_at, expires_at, decided_at, decided_by, channel, reason, "
    "decision_id, used_at, outcome, expires_at <= epoch() AS is_expired"
)
"""The columns that `read_approval` needs."""


class ParkedCall(BaseModel):
    """What a decision about a call depends on, and what a person is shown of it. All of it is already redacted."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    digest: str
    """Keyed digest of tool, account, world, principal and all arguments. Calls with equal digests are the same call."""
    tool: str
    platform: str
    profile: str
    tenant: str | None = None
    address: str = ""
    """The platform's address."""
    sandbox: bool = False
    """Whether the platform is the emulated one."""
    principal: str
    client: str | None = None
    effect: str
    """A sentence that says what the call would do."""
    effects: tuple[Effect, ...] = ()
    """The effects that the policy decided about."""
    target: str = ""
    """The name of the target, or of what the call creates. It is typed to confirm the call."""
    deletes: bool = False
    """Whether the call deletes the target."""
    losses: tuple[str, ...] = ()
    """What would be lost, one sentence each."""
    diff: tuple[Change, ...] = ()
    arguments: JsonObject
    hosts: tuple[str, ...] = ()
    """The hosts that the platform would send credentials to, as far as the call or the stored config names them."""
    secrets: tuple[str, ...] = ()
    """The names of the secrets that the call uses."""
    fingerprint: str = ""
    """The fingerprint of the target in the preview; empty if there is no target to read."""
    snapshot: Any = None
    """The target in the preview: its members by path."""


class Approval(ParkedCall):
    """A parked call and its decision. Times are epoch seconds."""

    id: str
    status: ApprovalStatus = "pending"
    created_at: float
    expires_at: float
    decided_by: str | None = None
    decided_at: float | None = None
    channel: Channel | None = None
    """The channel of the decision, as the audit log names it."""
    reason: str | None = None
    """The reason for the decision, or for voiding the approval."""
    decision_id: str | None = None
    """Distinguishes this decision from another with the same content."""
    used_at: float | None = None
    outcome: str | None = None
    """What became of the call that used it: `running`, `unknown`, or the outcome in the audit log; of a plan that is
    not done, `incomplete` or `in_progress`."""


def name_to_type(approval: Approval) -> str:
    """Return what an operator types to approve a call: the target's name as shown, or the id if it has none."""
    return clean(approval.target) or approval.id


def is_confirmed(approval: Approval, typed: str) -> bool:
    """Check whether what was typed approves this call. The id is accepted, too: the name may be hard to type."""
    return same_text(typed, name_to_type(approval)) or same_text(typed, approval.id)


def read_approval(row: Row) -> Approval:
    """Make an approval from its row.

    Raises:
        StoreUnavailable: The row is damaged, or another version wrote it.
    """
    try:
        return Approval.model_validate({**json.loads(row["call"]), **row})
    except (ValueError, TypeError) as invalid:
        raise StoreUnavailable(
            "The database contains an approval that this version cannot read, so nothing is decided.",
            fix="Run the same version of connector-mcp in all processes that share the database.",
            retryable=False,
        ) from invalid
