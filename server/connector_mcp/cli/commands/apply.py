"""`connector-mcp apply`: carry out a plan, from its id or right from a manifest."""

from __future__ import annotations

import os
import re
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import anyio
import click

from connector_mcp.cli.commands.manifests import (
    apply_command,
    checked,
    make_plan,
    provisioning_settings,
    read_file,
    show_plan,
    with_profile,
)
from connector_mcp.cli.options import with_overrides
from connector_mcp.cli.output import INTERRUPTED, Failure, exit_status_of, json_text, one_line
from connector_mcp.cli.terminal import CliCaller, is_terminal
from connector_mcp.composition.engine import open_engine
from connector_mcp.composition.storage import open_database
from connector_mcp.config.settings import Settings
from connector_mcp.engine.approval.wording import SAME_CALL
from connector_mcp.errors import ApprovalRequired, Internal
from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.provisioning.tools import APPLY_PLAN
from connector_mcp.program import runnable
from connector_mcp.provisioning.journal import Journal
from connector_mcp.provisioning.report import report
from connector_mcp.transport.process import logging_to_stderr

_PLAN_ID: Final = re.compile(r"pl-[a-z0-9]+")
_COUNTS: Final = re.compile(r"(\d+) of (\d+) done: ")
_BAR: Final = 30
"""Characters of the progress bar."""


@click.command()
@click.argument("what", metavar="FILE|PLAN_ID")
@click.option("--prune", is_flag=True, help="With FILE: also delete what this manifest made and no longer has.")
@click.option(
    "--on-failure",
    type=click.Choice(["go_on", "stop"]),
    default="go_on",
    help="After a failure go on with what does not depend on it, or stop.",
)
@with_profile
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_overrides
def apply(
    overrides: dict[str, Any], what: str, prune: bool, on_failure: str, profile: str | None, as_json: bool
) -> None:
    """Make the platforms what the manifest FILE says, or carry out the plan PLAN_ID.

    One question, or one approval, decides about all of it. The same command goes on where an earlier one ended. The
    exit status is 0 if all of it is done; otherwise it is that of the first error.

    \b
    connector-mcp apply connectors.yaml
    connector-mcp plan connectors.yaml && connector-mcp apply pl-...
    """
    settings, plan_id = provisioning_settings(overrides), what
    if not _PLAN_ID.fullmatch(what) or Path(what).exists():
        planned = anyio.run(make_plan, settings, read_file(what), profile, {"prune": prune})
        plan_id = planned["data"]["plan_id"]
        if not as_json:
            show_plan(planned, as_json, overrides)
    command = apply_command(plan_id, overrides)
    try:
        content = anyio.run(_apply, settings, {"plan_id": plan_id, "on_failure": on_failure})
    except KeyboardInterrupt:
        counts = anyio.run(_counts, settings, plan_id)
        told = f"Interrupted. {_in_words(counts)} {runnable(f'`{command}`')} goes on."
        raise Failure(told, fix="", exit_status=INTERRUPTED) from None
    error = members(content.get("error"))
    if error.get("code") == ApprovalRequired.code:
        # With a file, the same command would make another plan, which is approved by itself.
        error["fix"] = str(error["fix"]).replace(SAME_CALL, runnable(f"run `{command}`"))
    checked(content)
    data: JsonObject = content["data"]
    if as_json:
        click.echo(json_text(content))
    else:
        again = f"call apply_plan again with plan_id {plan_id}"
        _show(data | {"next": str(data.get("next", "")).replace(again, runnable(f"run `{command}`"))})
    sys.exit(_status(data))


async def _apply(settings: Settings, arguments: JsonObject) -> JsonObject:
    """Apply a plan until all of it is done, or something keeps it from that."""
    caller = _ProgressCaller()
    async with open_engine(settings, os.environ, "cli") as engine:
        with logging_to_stderr(engine.scrub, settings.log_level, settings.log_format):
            while True:
                content = (await engine.call(APPLY_PLAN, arguments, caller)).content
                if members(content.get("data")).get("status") != "in_progress":
                    caller.finish()
                    return content


async def _counts(settings: Settings, plan_id: str) -> JsonObject:
    """Return how many actions of a plan are done, not done and not known, from the journal."""
    async with aclosing(open_database(settings)) as database:
        stored = await Journal(database).load(plan_id)
        return report(stored.plan, stored.steps, has_stopped=False)["counts"]


def _in_words(counts: JsonObject) -> str:
    return f"{counts['done']} done, {counts['not_done']} not done, {counts['unknown']} not known."


class _ProgressCaller(CliCaller):
    """Shows progress as a bar on a terminal, and as plain lines otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self._is_drawn = False

    async def progress(self, message: str) -> None:
        counted = _COUNTS.match(message)
        if counted is None or not is_terminal(sys.stderr):
            await super().progress(message)
            return
        done, total = int(counted[1]), int(counted[2])
        filled = _BAR * done // max(1, total)
        click.echo(f"\r[{'#' * filled:.<{_BAR}}] {done} of {total}", nl=False, err=True)
        self._is_drawn = True

    def finish(self) -> None:
        """End the line of the bar."""
        if self._is_drawn:
            click.echo(err=True)


def _show(data: JsonObject) -> None:
    for kind, title in (("unknown", "not known"), ("not_done", "not done")):
        for row in map(members, items(data.get(kind))):
            click.echo(one_line(f"{title}: {row['verb']} {row['entry']}: {row['why']}"))
    for row in map(members, items(data.get("done"))):
        works = f", works: {row['works']}" if "works" in row else ""
        reason = f" ({row['reason']})" if row.get("works") not in (None, "yes") else ""
        click.echo(one_line(f"done: {row['verb']} {row['entry']} ({row.get('id', 'no id')}){works}{reason}"))
    click.echo(_in_words(data["counts"]))
    if data["next"]:
        click.echo(one_line(data["next"]))


def _status(data: JsonObject) -> int:
    """Return the exit status: that of the first error of an action, if not all is done."""
    if data["status"] == "done":
        return 0
    rows = [members(row) for kind in ("unknown", "not_done") for row in items(data.get(kind))]
    codes = (str(row["code"]) for row in rows if row.get("code") not in (None, "ok"))
    return exit_status_of(next(codes, Internal.code))
