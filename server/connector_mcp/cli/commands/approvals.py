"""`connector-mcp approvals`: the operator's channel. Deciding requires a terminal, which an agent's pipe is not."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Any

import anyio
import click

from connector_mcp.cli.options import load_settings
from connector_mcp.cli.output import json_text, print_list
from connector_mcp.cli.terminal import is_terminal, require_terminal, user_name
from connector_mcp.composition.storage import open_database, with_sandbox
from connector_mcp.config.settings import Settings
from connector_mcp.engine.approval.parked_call import Approval, is_confirmed, name_to_type
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.engine.preview import leaves, path_text
from connector_mcp.errors import ConfirmationInvalid, InvalidArguments, Refused
from connector_mcp.suggest import closest
from connector_mcp.text import CUT, clean

_WithQueue = Callable[[Callable[[Approvals], Awaitable[Any]]], Any]
"""Runs a function on one queue of approvals."""

_LINE_WIDTH = 100
_VALUE_WIDTH = 2_000
_READ = 500
"""Approvals read at once."""
_HEADER = ("id", "status", "world", "tool", "profile", "target", "who", "expires")
_INTERNAL = {"digest", "fingerprint", "snapshot", "decision_id"}
"""Members that only the engine compares."""


@click.group()
def approvals() -> None:
    """See and decide the calls that wait for an operator."""


@approvals.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those decided in the last 90 days.")
@click.option("--limit", type=click.IntRange(min=1), help="Only so many: the oldest, with --all the newest.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_approvals(everything: bool, limit: int | None, as_json: bool) -> None:
    """List the calls that wait, oldest first."""
    list_some = partial(_list, everything=everything, limit=limit)
    found = [approval for queue in _each_queue() for approval in queue(list_some)]
    records = [approval.model_dump(mode="json", exclude=_INTERNAL) for approval in found]
    empty = "No call was parked." if everything else "No call waits for an operator."
    print_list(records, map(_row, found), header=_HEADER, as_json=as_json, empty=empty)


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def show(approval_id: str, as_json: bool) -> None:
    """Show what the call with this ID would do."""
    approval, _ = _find(approval_id)
    record = approval.model_dump(mode="json", exclude=_INTERNAL)
    click.echo(json_text(record) if as_json else _describe(approval))


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.option("--reason", help="Why; kept with the decision.")
def approve(approval_id: str, reason: str | None) -> None:
    """Let the call with this ID run once, when the agent repeats it.

    Shows the call and asks for the name of its target; works only in a terminal.
    """
    approval, with_queue = _show_pending("approve", approval_id)
    expected = name_to_type(approval)
    typed: str = click.prompt(f"\nTo approve, type {expected}", default="", show_default=False)
    if not is_confirmed(approval, typed):
        raise Refused(
            f"That is not {expected}. Nothing was decided; {approval.id} still waits.",
            fix=f"Approve it again and type the name as shown, or run `connector-mcp approvals deny {approval.id}`.",
        )
    with_queue(lambda queue: queue.decide(approval.id, True, _operator(), reason))
    click.echo(f"{approval.id} is approved. The same call runs once, until {_moment(approval.expires_at)}.")


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.option("--reason", help="Why; the agent is told.")
def deny(approval_id: str, reason: str | None) -> None:
    """Refuse the call with this ID; the agent is told when it repeats the call. Works only in a terminal."""
    approval, with_queue = _show_pending("deny", approval_id)
    if not click.confirm(f"\nDeny {approval.id}?", default=True):
        raise Refused(f"Nothing was decided; {approval.id} still waits.", fix="")
    with_queue(lambda queue: queue.decide(approval.id, False, _operator(), reason))
    click.echo(f"{approval.id} is denied.")


def _show_pending(verb: str, approval_id: str) -> tuple[Approval, _WithQueue]:
    """Show a call that is about to be decided, and return it with its queue.

    Raises:
        Blocked: Standard input is not a terminal.
        ConfirmationInvalid: The call is already decided, used or expired.
    """
    require_terminal(is_terminal(sys.stdin), f"{approval_id} was not decided", f"approvals {verb} {approval_id}")
    approval, with_queue = _find(approval_id)
    if approval.status != "pending":
        raise ConfirmationInvalid(
            f"{approval.id} is {approval.status}, so there is nothing to decide.",
            fix=f"Look at it with `connector-mcp approvals show {approval.id}`.",
        )
    click.echo(_describe(approval))
    return approval, with_queue


def _operator() -> str:
    return f"operator {user_name()}".rstrip()


async def _list(queue: Approvals, *, everything: bool, limit: int | None) -> list[Approval]:
    found: list[Approval] = []
    key: str | None = ""
    while key is not None and (limit is None or len(found) < limit):
        if everything:
            page = await queue.everything(before=key, count=_READ)
            found, key = [*page.approvals, *found], page.older
        else:
            page = await queue.waiting(after=key, count=_READ)
            found, key = [*found, *page.approvals], page.newer
    return found if limit is None else found[-limit:] if everything else found[:limit]


def _each_queue() -> list[_WithQueue]:
    """Return how to use each queue of this machine: the real one, and that of sandbox servers if there is one."""
    return [partial(_with_queue, settings) for settings in with_sandbox(load_settings())]


def _find(approval_id: str) -> tuple[Approval, _WithQueue]:
    unknown: dict[str, InvalidArguments] = {}
    for queue in _each_queue():
        try:
            return queue(lambda each: each.get(approval_id)), queue
        except InvalidArguments as error:
            unknown.setdefault(error.issues[0].example or "", error)
    # The example of a queue without calls is empty.
    raise unknown[closest(approval_id, unknown) or max(unknown)]


def _with_queue(settings: Settings, use: Callable[[Approvals], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with aclosing(open_database(settings)) as database:
            return await use(Approvals(database, ttl=settings.approval_ttl))

    return anyio.run(run)


def _describe(approval: Approval) -> str:
    """Describe the call on several lines. Names and values come from platforms and agents, so each is cleaned."""
    sentence = clean(approval.effect, _VALUE_WIDTH) or f"Calls {approval.tool}."
    lines = [click.style(click.wrap_text(sentence, width=_LINE_WIDTH), bold=True)]
    if approval.losses:
        lines += ["", "What is lost:", *(f"  - {clean(loss)}" for loss in approval.losses)]
    if approval.diff:
        lines += ["", "What changes:"]
        for change in approval.diff:
            before, after = click.style(_value(change.before), fg="red"), click.style(_value(change.after), fg="green")
            lines.append(f"  {clean(change.field)}: {before} → {after}")
    if approval.arguments:
        lines += ["", "Arguments (secrets redacted):"]
        lines += [f"  {path_text(path)}: {_value(value)}" for path, value in leaves(approval.arguments)]
    if approval.hosts:
        lines += ["", "Credentials go to:", *(f"  {clean(host)}" for host in approval.hosts)]
    if approval.secrets:
        lines += ["", "Secrets:", *(f"  {clean(name)}" for name in approval.secrets)]
    lines.append("")
    lines += [f"{name.ljust(8)}  {value}" for name, value in _facts(approval).items() if value]
    return "\n".join(lines)


def _facts(approval: Approval) -> dict[str, str | None]:
    client = f" through {clean(approval.client)}" if approval.client else ""
    decided = approval.decided_by and approval.decided_at
    return {
        "id": approval.id,
        "status": approval.status,
        "tool": approval.tool,
        "target": clean(approval.target) or "none",
        "effect": ", ".join(approval.effects) or None,
        "platform": f"{approval.platform}, profile {clean(approval.profile)}",
        "world": _world(approval),
        "tenant": clean(approval.tenant) if approval.tenant else None,
        "address": clean(approval.address),
        "asked by": f"{clean(approval.principal)}{client}",
        "asked at": _moment(approval.created_at),
        "expires": f"{_moment(approval.expires_at)} ({_remaining(approval.expires_at)})",
        "decided": f"by {clean(approval.decided_by or '')} at {_moment(approval.decided_at or 0)}" if decided else None,
        "reason": clean(approval.reason) if approval.reason else None,
        "used": _moment(approval.used_at) if approval.used_at else None,
        "outcome": approval.outcome,
    }


def _row(approval: Approval) -> tuple[str, ...]:
    return (
        approval.id,
        approval.status,
        _world(approval),
        approval.tool,
        clean(approval.profile, 24),
        clean(approval.target, 40),
        clean(approval.principal, 24),
        _moment(approval.expires_at),
    )


def _world(approval: Approval) -> str:
    return "sandbox" if approval.sandbox else "real"


def _value(value: Any) -> str:
    if value is None:
        return "(unset)"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    shown = clean(text, _VALUE_WIDTH)
    return f"{shown} (all of it: approvals show --json)" if shown.endswith(CUT) and not text.endswith(CUT) else shown


def _moment(epoch: float) -> str:
    """Return a time in the operator's own time zone."""
    return datetime.fromtimestamp(epoch).astimezone().isoformat(sep=" ", timespec="minutes")


def _remaining(epoch: float) -> str:
    minutes = int((epoch - time.time()) // 60)
    if minutes < 0:
        return "expired"
    hours, minutes = divmod(minutes, 60)
    return f"in {hours} h {minutes} min" if hours else f"in {minutes} min"
