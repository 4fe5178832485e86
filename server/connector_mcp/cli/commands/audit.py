"""`connector-mcp audit`: who did what, who decided it, and whether the log is intact."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import click

from connector_mcp.audit.check import CheckReport, verify_log
from connector_mcp.audit.record import BEGUN, as_ocsf_event
from connector_mcp.cli.options import load_settings, option_group, parse_duration
from connector_mcp.cli.output import json_text, print_list
from connector_mcp.composition.storage import read_audit
from connector_mcp.json_values import JsonObject
from connector_mcp.text import clean

_HEADER = ("time", "who", "tool", "effect", "decision", "outcome", "call")


class _Since(click.ParamType[datetime]):
    """A time, or how long ago it was."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        if ago := parse_duration(value):
            return datetime.now(UTC) - ago
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except ValueError:
            self.fail(
                f"{value!r} is not a time; expected 24h, 7d, 2026-01-31, 2026-01-31T09:30Z or the like.", param, ctx
            )


_CHOICES = (
    click.option("--since", type=_Since(), metavar="WHEN", help="Since then: 24h, 7d, 2026-01-31T09:30Z."),
    click.option("--tool", metavar="PATTERN", help="Calls of matching tools, such as 'logto_*'."),
    click.option("--principal", metavar="NAME", help="Calls of this caller."),
    click.option("--outcome", metavar="CODE", help="ok, an error code, asked, cancelled, or begun: it did not end."),
)
_with_choices = option_group("wanted", ("since", "tool", "principal", "outcome"), _CHOICES)


@click.group()
def audit() -> None:
    """Show, check and export what was done and who decided it."""


@audit.command()
@_with_choices
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of the records.")
def show(wanted: Mapping[str, Any], as_json: bool) -> None:
    """Show the calls, oldest first, one line each. A call that began and did not end is shown too."""
    records = [record for record in _calls(list(_records())) if _matches(record, wanted)]
    print_list(records, map(_row, records), header=_HEADER, as_json=as_json, empty="No record matches.")


@audit.command()
@click.option(
    "--begins-with", type=click.IntRange(min=1), default=1, metavar="NUMBER", help="The oldest record that must exist."
)
@click.option("--seen", metavar="HASH", help="A hash that an earlier check printed; it must still exist.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@click.pass_context
def verify(ctx: click.Context, begins_with: int, seen: str | None, as_json: bool) -> None:
    """Check that no record was removed, altered, moved or forged. The exit status is 0 if so and 1 if not."""
    with read_audit(load_settings()) as log:
        verdict = verify_log(log, begins_with=begins_with, seen=seen)
    if as_json:
        members = {"intact": verdict.intact, "records": verdict.records, "first": verdict.first, "last": verdict.last}
        found = {"hash": verdict.last_hash, "problems": verdict.problems, "notes": verdict.notes}
        click.echo(json_text({**members, **found}))
    else:
        click.echo(_summary(verdict))
    ctx.exit(0 if verdict.intact else 1)


@audit.command()
@_with_choices
def export(wanted: Mapping[str, Any]) -> None:
    """Print the records as OCSF events (API Activity, class 6003), one per line."""
    for record in _records():
        if _matches(record, wanted):
            click.echo(json.dumps(as_ocsf_event(record), separators=(",", ":")))


def _records() -> Iterator[JsonObject]:
    """Yield the records of calls, oldest first. Lines that are not authentic are skipped and counted on stderr."""
    foreign = 0
    with read_audit(load_settings()) as log:
        for line in log.lines():
            if line.entry is None:
                foreign += 1
            elif "call_id" in line.entry.members:
                yield line.entry.members
    if foreign:
        lines = "1 line is" if foreign == 1 else f"{foreign} lines are"
        click.echo(f"{lines} left out: run `connector-mcp audit verify`.", err=True)


def _matches(record: JsonObject, wanted: Mapping[str, Any]) -> bool:
    if wanted["since"] is not None and datetime.fromisoformat(record["time"]) < wanted["since"]:
        return False
    if wanted["tool"] is not None and not fnmatchcase(record["tool"], wanted["tool"]):
        return False
    return all(wanted[name] in (None, record[name]) for name in ("principal", "outcome"))


def _calls(records: list[JsonObject]) -> list[JsonObject]:
    """Return one record for each call: its end, or its beginning if it did not end."""
    ended = {record["call_id"] for record in records if record["phase"] == "ended"}
    return [record for record in records if record["phase"] == "ended" or record["call_id"] not in ended]


def _row(record: JsonObject) -> tuple[str, ...]:
    decided_by = f" by {record['decided_by']}" if record["decided_by"] else ""
    outcome = "no end" if record["outcome"] == BEGUN else str(record["outcome"])
    return (
        datetime.fromisoformat(record["time"]).astimezone().isoformat(sep=" ", timespec="minutes"),
        clean(str(record["principal"]), 24),
        clean(f"{record['tool']}{' (sandbox)' if record['sandbox'] else ''}", 58),
        clean(str(record["effect"])),
        clean(f"{record['decision']}{decided_by}", 40),
        clean(outcome),
        clean(str(record["call_id"])),
    )


def _summary(verdict: CheckReport) -> str:
    """Return the verdict in lines: problems, then notes, then the range of records."""
    lines = [f"problem: {clean(problem)}" for problem in verdict.problems]
    lines += [f"note: {clean(note)}" for note in verdict.notes]
    if verdict.first is None:
        return "\n".join([*lines, "There are no records."])
    state = "intact" if verdict.intact else "NOT intact"
    plural = "" if verdict.records == 1 else "s"
    lines.append(f"{state}: {verdict.records} record{plural}, numbers {verdict.first} to {verdict.last}")
    return "\n".join([*lines, f"last hash: {verdict.last_hash}"])
