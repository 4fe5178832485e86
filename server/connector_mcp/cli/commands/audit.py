"""`connector-mcp audit`: who did what, on whose decision, and whether the log of it is whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import wraps
from typing import Any

import click

from connector_mcp.audit.check import Line, verify_log
from connector_mcp.audit.record import as_ocsf_event
from connector_mcp.cli.options import load_settings
from connector_mcp.cli.output.audit_text import HEADER, as_row, as_summary
from connector_mcp.cli.output.text import json_text, printable, table
from connector_mcp.composition.storage import read_audit
from connector_mcp.json_values import JsonObject

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class _Since(click.ParamType[datetime]):
    """A moment, or how long ago it was."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        ago = re.fullmatch(r"(\d{1,6})([mhd])", value)
        if ago:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except ValueError:
            self.fail(f"{value!r} is no time; wanted such as 24h, 7d, 2026-01-31 or 2026-01-31T09:30Z.", param, ctx)


_CHOICES = (
    click.option("--since", type=_Since(), metavar="WHEN", help="From then on: 24h, 7d, 2026-01-31T09:30Z."),
    click.option("--tool", metavar="PATTERN", help="Calls of matching tools, such as 'logto_*'."),
    click.option("--principal", metavar="NAME", help="Calls of this caller."),
    click.option("--outcome", metavar="CODE", help="ok, an error's code, asked, cancelled, or begun: without an end."),
)


def _with_choices(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose records; it receives what was given as `wanted`."""

    @wraps(command)
    def run(**given: Any) -> None:
        wanted = {name: given.pop(name) for name in ("since", "tool", "principal", "outcome")}
        command(wanted=wanted, **given)

    for option in reversed(_CHOICES):
        run = option(run)
    return run


@click.group()
def audit() -> None:
    """Show, check and export what was done, and on whose decision."""


@audit.command()
@_with_choices
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of the records.")
def show(wanted: Mapping[str, Any], as_json: bool) -> None:
    """Show the calls, oldest first: one line each, of a call that was begun and has no end too."""
    records = [record for record in _calls(list(_records())) if _matches(record, wanted)]
    if as_json:
        click.echo(json_text(records))
    elif records:
        click.echo(table([as_row(record) for record in records], header=HEADER))
    else:
        click.echo("No record matches.")


@audit.command()
@click.option(
    "--begins-with", type=click.IntRange(min=1), default=1, metavar="NUMBER", help="Oldest record to be there."
)
@click.option("--seen", metavar="HASH", help="A hash that an earlier check printed; it must still be there.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@click.pass_context
def verify(ctx: click.Context, begins_with: int, seen: str | None, as_json: bool) -> None:
    """Check that no record was removed, altered, moved or made up. Ends with 0 if so, and with 1 if not."""
    with read_audit(load_settings()) as log:
        verdict = verify_log(log, begins_with=begins_with, seen=seen)
    if as_json:
        members = {"intact": verdict.intact, "records": verdict.records, "first": verdict.first, "last": verdict.last}
        found = {"hash": verdict.last_hash, "problems": verdict.problems, "notes": verdict.notes}
        click.echo(json_text({**members, **found}))
    else:
        click.echo(printable(as_summary(verdict)))
    ctx.exit(0 if verdict.intact else 1)


@audit.command()
@_with_choices
def export(wanted: Mapping[str, Any]) -> None:
    """Print the records as OCSF events (API Activity, class 6003), a line each."""
    for record in _records():
        if _matches(record, wanted):
            click.echo(json.dumps(as_ocsf_event(record), separators=(",", ":")))


def _records() -> Iterator[JsonObject]:
    """The records of calls, oldest first; says on stderr what was left out because its seal does not fit."""
    foreign = 0
    with read_audit(load_settings()) as log:
        for line in log.lines():
            record = _record(line)
            if record is None:
                foreign += line.entry is None
            else:
                yield record
    if foreign:
        lines = "1 line is" if foreign == 1 else f"{foreign} lines are"
        click.echo(f"{lines} left out: see `connector-mcp audit verify`.", err=True)


def _record(line: Line) -> JsonObject | None:
    return line.entry.members if line.entry and "call_id" in line.entry.members else None


def _matches(record: JsonObject, wanted: Mapping[str, Any]) -> bool:
    if wanted["since"] is not None and datetime.fromisoformat(record["time"]) < wanted["since"]:
        return False
    if wanted["tool"] is not None and not fnmatchcase(record["tool"], wanted["tool"]):
        return False
    return all(wanted[name] in (None, record[name]) for name in ("principal", "outcome"))


def _calls(records: list[JsonObject]) -> list[JsonObject]:
    """One record a call: its end, or its beginning where there is no end."""
    ended = {record["call_id"] for record in records if record["phase"] == "ended"}
    return [record for record in records if record["phase"] == "ended" or record["call_id"] not in ended]
