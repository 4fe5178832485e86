"""`connector-mcp audit`: who did what, who decided it, and whether the log is intact."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click

from connector_mcp.audit.archive import archive_before
from connector_mcp.audit.chain import CameBackOlder, Head
from connector_mcp.audit.check import CheckReport, verify_log
from connector_mcp.audit.reader import AuditReader, Line, Wanted
from connector_mcp.audit.record import BEGUN, MAX_LINE, PROBE, as_ocsf_event
from connector_mcp.cli.options import load_settings, option_group, parse_duration
from connector_mcp.cli.output import Failure, json_text, print_list, table
from connector_mcp.composition.storage import open_database
from connector_mcp.config.settings import Settings
from connector_mcp.errors import StoreUnavailable
from connector_mcp.json_values import JsonObject
from connector_mcp.program import runnable
from connector_mcp.text import clean

_FOLLOW_SECONDS = 1.0
"""Seconds between two looks of `export --follow` for new records."""

_TOGETHER = 5_000
"""Maximum number of records after which `export` keeps its cursor."""

_HEADER = ("time", "who", "tool", "effect", "decision", "outcome", "call")


class _Moment(click.ParamType[datetime]):
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
    click.option("--since", type=_Moment(), metavar="WHEN", help="Since then: 24h, 7d, 2026-01-31T09:30Z."),
    click.option("--tool", metavar="PATTERN", help="Calls of matching tools, such as 'logto_*'."),
    click.option("--principal", metavar="NAME", help="Calls of this caller."),
    click.option("--outcome", metavar="CODE", help="ok, an error code, asked, cancelled, or begun: it did not end."),
)
_of_sandbox = click.option("--sandbox", is_flag=True, default=None, help="The log of sandbox servers.")
_with_choices = option_group("wanted", ("since", "tool", "principal", "outcome"), _CHOICES)


@click.group()
def audit() -> None:
    """Show, check and export what was done and who decided it."""


@audit.command()
@click.argument("record", required=False, metavar="[NUMBER|CALL]")
@_with_choices
@_of_sandbox
@click.option("-n", "--limit", type=click.IntRange(min=1), default=100, metavar="COUNT", help="The last COUNT; 100.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of the records.")
def show(record: str | None, wanted: Mapping[str, Any], sandbox: bool | None, limit: int, as_json: bool) -> None:
    """Show the last calls, oldest first, one line each. A call that began and did not end is shown too.

    With the NUMBER of a record, or the id of a CALL, show all members of its records.
    """
    with _open_reader(load_settings(sandbox=sandbox)) as reader:
        head, last = reader.end()
        first = head.first if head else 1
        if record is not None:
            _show_one(reader, first, last, record, as_json)
            return
        chosen = reader.lines(first, last, Wanted(**wanted, once=True), newest_first=True)
        lines = list(islice(chosen, limit + 1))
    records = list(_authentic(reversed(lines[:limit])))
    print_list(records, map(_row, records), header=_HEADER, as_json=as_json, empty="No record matches.")
    if len(lines) > limit:
        click.echo(f"These are the last {limit}; --limit shows more, and `audit export` prints all.", err=True)


def _show_one(reader: AuditReader, first: int, last: int, wanted: str, as_json: bool) -> None:
    number = int(wanted) if wanted.isdecimal() else None
    lines = reader.lines(first, last, Wanted(call_id=wanted)) if number is None else reader.lines(number, number)
    records = list(_authentic(lines))
    if not records:
        raise Failure(
            f"The audit log has no record of the {'call' if number is None else 'number'} {clean(wanted)}.",
            fix="Look for it with `connector-mcp audit show`, which ends each line with the id of the call."
            + (f" Records before {first} are in the files of `audit archive`." if first > 1 else ""),
        )
    if as_json:
        click.echo(json_text(records))
    for record in [] if as_json else records:
        members = {name: value if isinstance(value, str) else json_text(value) for name, value in record.items()}
        click.echo(
            table([(name, clean(value, MAX_LINE)) for name, value in members.items()], header=("member", "value"))
        )


@audit.command()
@click.option(
    "--archive",
    "archives",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="Check this archived file too, as the part of the log before the rest.",
)
@_of_sandbox
@click.option("--seen", metavar="HASH", help="A hash that an earlier check printed; it must still exist.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@click.pass_context
def verify(
    ctx: click.Context, archives: tuple[Path, ...], sandbox: bool | None, seen: str | None, as_json: bool
) -> None:
    """Check that no record was removed, altered, moved or forged. The exit status is 0 if so and 1 if not."""
    with _open_reader(load_settings(sandbox=sandbox)) as reader:
        verdict = verify_log(reader, archives=archives, seen=seen)
    if as_json:
        members = {"intact": verdict.intact, "records": verdict.records, "first": verdict.first, "last": verdict.last}
        found = {"hash": verdict.last_hash, "problems": verdict.problems, "notes": verdict.notes}
        click.echo(json_text({**members, **found}))
    else:
        click.echo(_summary(verdict))
    ctx.exit(0 if verdict.intact else 1)


@audit.command()
@_with_choices
@_of_sandbox
@click.option("--after", type=click.IntRange(min=0), metavar="NUMBER", help="Only records after this one.")
@click.option("--cursor", metavar="NAME", help="Only records that no export with this NAME has printed.")
@click.option("--follow", is_flag=True, help="Then wait for new records, until the command is ended.")
def export(
    wanted: Mapping[str, Any], sandbox: bool | None, after: int | None, cursor: str | None, follow: bool
) -> None:
    """Print the records as OCSF events (API Activity, class 6003), one per line, oldest first.

    A cursor is kept in the database once its records are printed, so an export that is restarted goes on by itself.
    """
    if cursor is not None and after is not None:
        raise click.UsageError("--after and --cursor exclude one another: a cursor says where to begin.")
    chosen, settings = Wanted(**wanted), load_settings(sandbox=sandbox)
    end, waiting, done = Head(), False, after
    while True:
        try:
            with _open_reader(settings) as reader:
                if done is None:
                    done = 0 if cursor is None else reader.exported(cursor)
                while True:
                    head, top = reader.end(end, done)
                    first = max(done + 1, head.first if head else 1)
                    last = reader.end_of_part(first, top, _TOGETHER) or top
                    for record in _authentic(reader.lines(first, last, chosen)):
                        click.echo(json.dumps(as_ocsf_event(record), separators=(",", ":")))
                        done = record["seq"]
                    if cursor is not None and last >= first:
                        reader.remember(cursor, last)
                    end, done, waiting = head or end, max(done, last), False
                    if done < top:
                        continue
                    if not follow:
                        return
                    time.sleep(_FOLLOW_SECONDS)
        except StoreUnavailable as failure:
            # A server that is restarted, or that has not yet made a call, does not end a command that follows it.
            if not follow or isinstance(failure, CameBackOlder):
                raise
            if not waiting:
                click.echo(f"Waiting: {failure.message}", err=True)
            waiting = True
            time.sleep(_FOLLOW_SECONDS)


@audit.command()
@_of_sandbox
@click.option("--before", type=_Moment(), required=True, metavar="WHEN", help="Before then: 90d, 2026-01-31.")
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Directory for the file; by default the state directory.",
)
def archive(sandbox: bool | None, before: datetime, directory: Path | None) -> None:
    """Move old records out of the database to a file. The chain goes on; `audit verify --archive FILE` checks both."""
    settings = load_settings(sandbox=sandbox)
    with closing(open_database(settings)) as database:
        archived = archive_before(database, before, directory or settings.state_dir)
    if archived is None:
        click.echo("No record is that old.")
    else:
        click.echo(f"Records {archived.first} to {archived.last} are in {archived.path}.")


@contextmanager
def _open_reader(settings: Settings) -> Generator[AuditReader]:
    with closing(open_database(settings)) as database:
        yield AuditReader(database)


def _authentic(lines: Iterable[Line]) -> Iterator[JsonObject]:
    """Yield the records. Lines that are not authentic are skipped and counted on stderr."""
    foreign = 0
    for line in lines:
        if line.authentic is None:
            foreign += 1
        else:
            yield line.authentic
    if foreign:
        places = "1 line is" if foreign == 1 else f"{foreign} lines are"
        click.echo(runnable(f"{places} left out: run `connector-mcp audit verify`."), err=True)


def _row(record: JsonObject) -> tuple[str, ...]:
    decided_by = f" by {record['decided_by']}" if record["decided_by"] else ""
    outcome = "no end" if record["outcome"] == BEGUN else str(record["outcome"])
    return (
        datetime.fromisoformat(record["time"]).astimezone().isoformat(sep=" ", timespec="minutes"),
        clean(f"{record['principal']}{' (probe)' if record['transport'] == PROBE else ''}", 24),
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
