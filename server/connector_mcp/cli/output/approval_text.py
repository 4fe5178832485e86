"""A parked call as an operator reads it. Names and values come from platforms and agents: every one is cleaned."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from connector_mcp.cli.output.text import one_line
from connector_mcp.engine.approval.queue import Approval
from connector_mcp.json_values import JsonObject

_LINE = 100
_VALUE = 160


def as_text(approval: Approval) -> str:
    """The call on several lines: what it would do, what is lost, what changes, who wants it, and until when."""
    sentence = one_line(approval.effect) or f"Calls {approval.tool}."
    lines = [click.style(click.wrap_text(sentence, width=_LINE), bold=True)]
    if approval.losses:
        lines += ["", "What is lost:", *(f"  - {one_line(loss)}" for loss in approval.losses)]
    if approval.diff:
        lines += ["", "What changes:"]
        for change in approval.diff:
            before, after = click.style(shown(change.before), fg="red"), click.style(shown(change.after), fg="green")
            lines.append(f"  {one_line(change.field)}: {before} → {after}")
    if approval.arguments:
        lines += ["", "Arguments (secrets redacted):"]
        lines += [f"  {one_line(name)}: {shown(value)}" for name, value in approval.arguments.items()]
    lines += ["", *_facts(approval)]
    return "\n".join(lines)


def _facts(approval: Approval) -> list[str]:
    client = f" through {one_line(approval.client)}" if approval.client else ""
    facts = [
        ("id", approval.id),
        ("status", approval.status),
        ("tool", approval.tool),
        ("target", one_line(approval.target) or "none"),
        ("platform", f"{approval.platform}, profile {one_line(approval.profile)}"),
        ("asked by", f"{one_line(approval.principal)}{client}"),
        ("asked at", moment(approval.created_at)),
        ("expires", f"{moment(approval.expires_at)} ({remaining(approval.expires_at)})"),
    ]
    if approval.decided_by and approval.decided_at:
        facts.append(("decided", f"by {one_line(approval.decided_by)} at {moment(approval.decided_at)}"))
    if approval.reason:
        facts.append(("reason", one_line(approval.reason)))
    if approval.used_at:
        facts.append(("used", moment(approval.used_at)))
    return [f"{name.ljust(8)}  {value}" for name, value in facts]


def as_rows(found: Sequence[Approval]) -> list[tuple[str, ...]]:
    """One row an approval: id, status, tool, profile, target, who, expiry."""
    return [
        (
            approval.id,
            approval.status,
            approval.tool,
            one_line(approval.profile, width=24),
            one_line(approval.target, width=40),
            one_line(approval.principal, width=24),
            moment(approval.expires_at),
        )
        for approval in found
    ]


def public(approval: Approval) -> JsonObject:
    """The members for a program: all but what only the engine compares."""
    return approval.model_dump(mode="json", exclude={"digest", "fingerprint", "snapshot"})


def shown(value: Any) -> str:
    """A value on one line; an absent one in words."""
    if value is None:
        return "(unset)"
    return one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), width=_VALUE)


def moment(epoch: float) -> str:
    """A time in the operator's own zone."""
    return datetime.fromtimestamp(epoch).astimezone().isoformat(sep=" ", timespec="minutes")


def remaining(epoch: float) -> str:
    """How long until then, in words."""
    minutes = int((epoch - time.time()) // 60)
    if minutes < 0:
        return "expired"
    hours, minutes = divmod(minutes, 60)
    return f"in {hours} h {minutes} min" if hours else f"in {minutes} min"
