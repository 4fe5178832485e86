"""A call at the gate, and the words for it: the question to a person, and the errors for calls that may not go on."""

from __future__ import annotations

from dataclasses import dataclass

from connector_mcp.engine.approval.queue import Approval
from connector_mcp.engine.caller import ElicitationReply, Question
from connector_mcp.engine.preview import Preview, differences
from connector_mcp.errors import ApprovalRequired, ConfirmationInvalid, Refused, TargetChanged
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Effect

PERSON = "person"
"""The decider of a question that was asked at the client."""


@dataclass(frozen=True)
class Candidate:
    """A call at the gate."""

    tool: str
    platform: str
    profile: str
    declared: Effect
    """The effect of the operation's class. The preview's effect may be higher."""
    deletes: bool
    """Whether the operation is a deletion: then the person types the target's name to confirm."""
    preview: Preview
    fingerprint: str
    digest: str
    """Keyed digest of tool, profile, principal and all arguments. Calls with equal digests are the same call."""
    arguments: JsonObject
    """Redacted."""
    account_label: str = ""
    """The account in words, for the person who is asked; empty if the platform has only one."""


def approval_required(approval: Approval, decide_at: str | None = None) -> ApprovalRequired:
    """Make the error for a call that waits for an operator: its effect, where it waits, and what to do next."""
    command = f"connector-mcp approvals approve {approval.id}"
    page = f"{decide_at}/approvals/{approval.id}" if decide_at else None
    how = f"decides at {page}, or runs `{command}` in a terminal" if page else f"runs `{command}` in a terminal"
    return ApprovalRequired(
        f"{approval.effect} This waits for an operator's approval ({approval.id}); nothing was changed.",
        fix=f"An operator {how}; then make the same call again and it runs once.",
        details={
            "effect": approval.effect,
            "losses": list(approval.losses),
            "approval": {
                "id": approval.id,
                "command": command,
                **({"page": page} if page else {}),
                "expires_at": approval.expires_at,
            },
        },
    )


def denied(approval: Approval) -> Refused:
    """Make the error for a call that an operator denied."""
    reason = f" Reason given: {approval.reason}" if approval.reason else ""
    return Refused(
        f"An operator denied this call ({approval.id}).{reason} Nothing was changed.",
        fix="Do not repeat it unless the person you work for wants to ask again.",
        details={"refused_by": approval.decided_by or "operator", "channel": approval.channel or "approvals"},
    )


def target_changed(tool: str, before: JsonObject, now: JsonObject) -> TargetChanged:
    """Make the error for a call with a target that changed after it was shown. It names the visible differences."""
    return TargetChanged(
        f"The target of {tool} changed after it was shown for confirmation. Nothing was sent.",
        fix="Make the call again: the present state will be shown and must be confirmed again.",
        details={"differences": differences(before, now)},
    )


def question(candidate: Candidate) -> Question:
    """Make the question: to type the target's name for a deletion, yes or no for anything else."""
    if candidate.deletes:
        name = candidate.preview.name
        member: JsonObject = {"type": "string", "title": "Name", "description": f"Type {name} to confirm."}
        closing = f"To confirm, type the name: {name}"
    else:
        member = {"type": "boolean", "title": "Go on?", "description": "Yes runs the call as shown."}
        closing = "Run this call?"
    schema: JsonObject = {"type": "object", "properties": {"confirm": member}, "required": ["confirm"]}
    label = f"\nUnder {candidate.account_label}." if candidate.account_label else ""
    return Question(f"{candidate.preview.text()}{label}\n\n{closing}", schema)


def judge(candidate: Candidate, reply: ElicitationReply) -> None:
    """Accept only the exact confirmation.

    Raises:
        Refused: The person declined or cancelled.
        ConfirmationInvalid: The answer is not the one that was asked for.
    """
    if reply.action != "accept":
        raise Refused(
            f"The person {'declined' if reply.action == 'decline' else 'cancelled'}. Nothing was changed.",
            fix="Do not repeat the call unless the person wants it.",
            details={"refused_by": PERSON},
        )
    given = reply.content.get("confirm")
    right = given == candidate.preview.name and given != "" if candidate.deletes else given is True
    if not isinstance(given, str | bool) or not right:
        wanted = "the target's name exactly as shown" if candidate.deletes else "yes"
        raise ConfirmationInvalid(
            f"The answer was not {wanted}. Nothing was changed.",
            fix="Make the call again if the person wants it; they will be asked again.",
        )
