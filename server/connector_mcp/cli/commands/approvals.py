"""`connector-mcp approvals`: the operator's channel. What decides insists on a terminal, which no agent's pipe is."""

from __future__ import annotations

import getpass
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import anyio
import click

from connector_mcp.cli.options import load_settings
from connector_mcp.cli.output.approval_text import as_rows, as_text, public
from connector_mcp.cli.output.terminal import is_terminal
from connector_mcp.cli.output.text import json_text, table
from connector_mcp.composition.storage import open_store
from connector_mcp.engine.approval.queue import Approval, Approvals, is_confirmed, name_to_type
from connector_mcp.errors import Blocked, ConfirmationInvalid, Refused

_Result = TypeVar("_Result")


@click.group()
def approvals() -> None:
    """See and decide the calls that wait for an operator."""


@approvals.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those decided in the last 90 days.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_approvals(everything: bool, as_json: bool) -> None:
    """List the calls that wait, oldest first."""
    found = _with_queue(partial(_listed, everything=everything))
    if as_json:
        click.echo(json_text([public(approval) for approval in found]))
    elif found:
        click.echo(table(as_rows(found), header=("id", "status", "tool", "profile", "target", "who", "expires")))
    else:
        click.echo("No call was parked." if everything else "No call waits for an operator.")


@approvals.command()
@click.argument("approval_id", metavar="ID")
def show(approval_id: str) -> None:
    """Show what the call with this ID would do."""
    click.echo(as_text(_with_queue(lambda queue: queue.get(approval_id))))


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.option("--reason", help="Why; kept with the decision.")
def approve(approval_id: str, reason: str | None) -> None:
    """Let the call with this ID run once, when the agent makes it again.

    Shows the call and asks for the name of its target; works only in a terminal.
    """
    _insist_on_terminal("approve", approval_id)
    approval = _pending(approval_id)
    click.echo(as_text(approval))
    wanted = name_to_type(approval)
    typed: str = click.prompt(f"\nTo approve, type {wanted}", default="", show_default=False)
    if not is_confirmed(approval, typed):
        raise Refused(
            f"That is not {wanted}; {approval.id} still waits and nothing was decided.",
            fix=f"Approve it again and type the name as shown, or run `connector-mcp approvals deny {approval.id}`.",
        )
    _with_queue(lambda queue: queue.decide(approval.id, True, _operator(), reason))
    click.echo(f"{approval.id} is approved. The same call runs once, until {as_rows([approval])[0][-1]}.")


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.option("--reason", help="Why; the agent is told.")
def deny(approval_id: str, reason: str | None) -> None:
    """Refuse the call with this ID; the agent is told when it makes it again. Works only in a terminal."""
    _insist_on_terminal("deny", approval_id)
    approval = _pending(approval_id)
    click.echo(as_text(approval))
    if not click.confirm(f"\nDeny {approval.id}?", default=True):
        raise Refused(f"{approval.id} still waits and nothing was decided.", fix="")
    _with_queue(lambda queue: queue.decide(approval.id, False, _operator(), reason))
    click.echo(f"{approval.id} is denied.")


def _pending(approval_id: str) -> Approval:
    approval = _with_queue(lambda queue: queue.get(approval_id))
    if approval.status != "pending":
        raise ConfirmationInvalid(
            f"{approval.id} is {approval.status}, so there is nothing to decide.",
            fix=f"Look at it with `connector-mcp approvals show {approval.id}`.",
        )
    return approval


def _insist_on_terminal(verb: str, approval_id: str) -> None:
    if not is_terminal(sys.stdin):
        raise Blocked(
            f"Standard input is no terminal, so {approval_id} was not decided: a pipe may be an agent's.",
            fix=f"A person runs `connector-mcp approvals {verb} {approval_id}` in a terminal.",
        )


def _operator() -> str:
    try:
        return f"operator {getpass.getuser()}"
    except (KeyError, OSError):
        return "operator"


async def _listed(queue: Approvals, *, everything: bool) -> list[Approval]:
    live = await queue.list()
    if not everything:
        return [approval for approval in live if approval.status == "pending"]
    known = {approval.id: approval for approval in (*await queue.history(), *live)}
    return sorted(known.values(), key=lambda approval: approval.created_at)


def _with_queue(use: Callable[[Approvals], Awaitable[_Result]]) -> _Result:
    async def run() -> _Result:
        async with _queue() as queue:
            return await use(queue)

    return anyio.run(run)


@asynccontextmanager
async def _queue() -> AsyncGenerator[Approvals]:
    settings = load_settings()
    store = open_store(settings)
    try:
        yield Approvals(store, ttl=settings.approval_ttl)
    finally:
        await store.aclose()
