"""A call at the gate, and the words for it: what is shown of it, the question, and the errors that end it.

Clients cut what they show: some to three rows and to a title of 46 characters. So the first line of a question has the
effect and the target, and the second line what is lost. What does not fit there is confirmed by typing a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import Field

from connector_mcp.engine.approval.parked_call import Approval, ParkedCall
from connector_mcp.engine.caller import Caller, ElicitationReply, Question
from connector_mcp.engine.preview import Preview, differences, leaves, path_text, shown
from connector_mcp.errors import ApprovalRequired, Blocked, ConfirmationInvalid, Refused, TargetChanged
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Effect
from connector_mcp.program import program
from connector_mcp.text import CUT, clean, same_text

HEADLINE: Final = 70
SECOND_LINE: Final = 80
TITLE: Final = 46
"""Characters that clients show of the first line, of the second line, and of a field's title."""

SAME_CALL: Final = "make the same call again"
"""What is to be done once a parked call is approved."""

_AFTER_NAME: Final = re.compile(r"^(\s*\(id [^)]*\))?[\s;,.]*(which )?")

MAX_LINES: Final = 40
"""Changes, and arguments, that a question shows one by one."""

MAX_PARKED: Final = 32
MAX_PARKED_BYTES: Final = 1_048_576
"""Calls that one principal may have parked at the same time, and the size of one."""


def tell_disclosures(disclosed: Sequence[tuple[str, str]]) -> str:
    """Say which secrets go to which hosts, in one sentence; empty if there are none."""
    told = "; ".join(f"sends the secret {name} to {host}" for name, host in disclosed)
    return f"{told[:1].upper()}{told[1:]}." if told else ""


class Candidate(ParkedCall):
    """A call at the gate."""

    declared: Effect = Field(exclude=True)
    """The effect of the operation's class. The effects of this call may be higher."""
    disclosures: str = Field("", exclude=True)
    """A sentence about the secrets that go to a host which the arguments choose; empty if there are none."""

    @staticmethod
    def of(preview: Preview, disclosed: tuple[tuple[str, str], ...] = (), **facts: Any) -> Candidate:
        """Put a call together from its preview and the other members.

        `disclosed` has names of secrets, each with a host that the arguments choose and its limits do not name.
        """
        disclosures = tell_disclosures(disclosed) if disclosed else ""
        return Candidate(
            effect=" ".join(filter(None, (preview.sentence, disclosures))),
            effects=(preview.effect, *((Effect.DISCLOSE,) if disclosed else ())),
            losses=preview.losses,
            target=preview.name,
            deletes=facts["declared"] is Effect.DESTROY,
            diff=preview.changes,
            snapshot=preview.snapshot,
            disclosures=disclosures,
            **facts,
        )

    @property
    def place(self) -> str:
        """Where the call would do it."""
        tenant = f", tenant {self.tenant}" if self.tenant else ""
        world = " in the sandbox" if self.sandbox else ""
        return clean(f"On {self.platform}{world}, profile {self.profile}{tenant}, at {self.address}")

    @property
    def name(self) -> str:
        """What is typed to confirm the call."""
        return self.target or self.tool

    @property
    def is_typed(self) -> bool:
        """Whether a yes is not enough: for deletions, and for losses and details that clients would cut."""
        if self.deletes or any(line.endswith(CUT) for line in self.details):
            return True
        return bool(self.losses or self.disclosures) and self.second_line.endswith(CUT)

    def headline(self, limit: int = HEADLINE) -> str:
        """Effect and target within a number of characters."""
        words = self.tool.removeprefix(f"{self.platform}_").replace("_", " ").capitalize()
        raised = ", ".join(effect for effect in self.effects if effect is not self.declared)
        start = f"{raised}: {words}".capitalize() if raised else words
        end = " (sandbox)" if self.sandbox else ""
        room = limit - len(start) - len(end) - 3
        name = f" “{clean(self.target, room)}”" if self.target and room > 0 else ""
        return clean(f"{start}{name}{end}", limit)

    @property
    def second_line(self) -> str:
        """What is lost, or else what the call does, within a line."""
        lost = f"Lost: {'; '.join(self.losses)}" if self.losses else ""
        # The first line has the target already.
        rest = _AFTER_NAME.sub("", self.effect.partition(f"“{self.target}”")[2])
        rest = f"{rest[:1].upper()}{rest[1:]}"
        return clean(lost or self.disclosures or rest or self.effect, SECOND_LINE)

    @property
    def details(self) -> list[str]:
        """Everything else that decides, line by line. A line that was cut ends with an ellipsis."""
        arguments = [f"{shown(path_text(path))}: {shown(value)}" for path, value in leaves(self.arguments) if path]
        losses = [loss for loss in self.losses if loss not in self.effect]
        lines = [self.effect, *_some([*losses, *map(str, self.diff)]), self.place]
        if arguments:
            lines += ["Arguments (secrets redacted):", *_some(arguments)]
        if self.hosts:
            lines.append(f"Credentials go to: {', '.join(self.hosts)}")
        if self.secrets:
            lines.append(f"Secrets: {', '.join(self.secrets)}")
        return lines


def _some(lines: list[str]) -> Iterator[str]:
    yield from map("- {}".format, lines[:MAX_LINES])
    if len(lines) > MAX_LINES:
        yield f"- and {len(lines) - MAX_LINES} more {CUT}"


def client_of(caller: Caller) -> str:
    """Return who answered a question. The server sees the client, and never the person."""
    return f"client {caller.client}" if caller.client else "client"


def approval_required(approval: Approval, page: str | None = None, because: str = "") -> ApprovalRequired:
    """Make the error for a call that waits for an operator: its effect, where it waits, and what to do next.

    `page` is the address of the page that decides it. `because` is a sentence that says why no answer of the client
    counted.
    """
    command = f"{program()} approvals approve {approval.id}"
    # A blank after the address: many clients make links of text up to the next blank.
    how = f"decides at {page} or runs `{command}` in a terminal" if page else f"runs `{command}` in a terminal"
    return ApprovalRequired(
        f"{approval.effect} {because}{' ' if because else ''}This waits for an operator's approval ({approval.id}); "
        "nothing was changed.",
        fix=f"An operator {how}. Then {SAME_CALL} and it runs once.",
        details={
            "effect": approval.effect,
            "losses": list(approval.losses),
            **({"hosts": list(approval.hosts)} if approval.hosts else {}),
            **({"secrets": list(approval.secrets)} if approval.secrets else {}),
            "approval": {
                "id": approval.id,
                "command": command,
                **({"page": page} if page else {}),
                "expires_at": datetime.fromtimestamp(approval.expires_at, UTC).isoformat(timespec="seconds"),
            },
        },
    )


def denied(approval: Approval) -> Refused:
    """Make the error for a call that an operator denied."""
    reason = f" Reason given: {approval.reason}" if approval.reason else ""
    return Refused(
        f"An operator denied this call ({approval.id}). Nothing was changed.{reason}",
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


def refused_by_client(caller: Caller, how: str) -> Refused:
    """Make the error for a call that the client said no to. `how` is a sentence."""
    return Refused(
        f"{how} Nothing was changed.",
        fix="Repeat the call only if the person you work for wants it; they are asked again.",
        details={"refused_by": client_of(caller)},
    )


def refuse_excess(candidate: Candidate, waiting: int) -> None:
    """Refuse a call that cannot be parked: it is too large, or its principal already has `waiting` parked calls.

    Raises:
        Blocked: The call cannot be parked.
    """
    size = len(candidate.model_dump_json().encode())
    if size > MAX_PARKED_BYTES:
        raise Blocked(
            f"{candidate.tool} needs an operator's approval, and with {size} bytes it is larger than a parked call may "
            f"be ({MAX_PARKED_BYTES}). Nothing was changed.",
            fix="Make it smaller, for example by changing fewer members in one call.",
        )
    if waiting >= MAX_PARKED:
        raise Blocked(
            f"{candidate.tool} needs an approval, and {waiting} calls of {candidate.principal} are parked already, "
            "the most for one caller. Nothing was changed.",
            fix="Have an operator decide some of them (`connector-mcp approvals list`), repeat the decided ones, "
            "or wait until they expire. Then make the call again.",
            retryable=True,
        )


def question(candidate: Candidate) -> Question:
    """Make the question: to type a name for a deletion or where clients cut what is lost, yes or no for the rest."""
    first, second = candidate.headline(), candidate.second_line
    told = f"{first}. {second}"
    if candidate.is_typed:
        title = f"Type “{candidate.name}” to {'delete' if candidate.deletes else 'go on'}"
        title = title if len(title) <= TITLE else candidate.headline(TITLE)
        member: JsonObject = {
            "type": "string",
            "title": title,
            "description": f"{told} Type {candidate.name} to confirm.",
        }
        closing = f"To confirm, type the name: {candidate.name}"
    else:
        member = {"type": "boolean", "title": candidate.headline(TITLE), "description": f"{told} Yes runs it as shown."}
        closing = "Run this call?"
    schema: JsonObject = {"type": "object", "properties": {"confirm": member}, "required": ["confirm"]}
    details = candidate.details[second == candidate.effect :]
    return Question("\n".join([first, second, *details, "", closing]), schema)


def judge(candidate: Candidate, reply: ElicitationReply, caller: Caller) -> None:
    """Accept only the confirmation that was asked for.

    Raises:
        Refused: The client answered no.
        ConfirmationInvalid: The answer is another one.
    """
    if reply.action != "accept":
        raise refused_by_client(caller, "The client answered no.")
    given = reply.content.get("confirm")
    is_name = isinstance(given, str) and same_text(given, candidate.name)
    if not (is_name if candidate.is_typed else given is True):
        wanted = "the name as shown" if candidate.is_typed else "yes"
        raise ConfirmationInvalid(
            f"The client's answer was not {wanted}. Nothing was changed.",
            fix="Make the call again only if the person you work for wants it; they will be asked again.",
            retryable=False,
            details={"refused_by": client_of(caller)},
        )
