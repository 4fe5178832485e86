"""`connector-mcp doctor`: whether this configuration works, platform by platform. Never a value of a secret."""

from __future__ import annotations

import os
import sys
from typing import Any

import anyio
import click

from connector_mcp.cli.accounts import profiles_of
from connector_mcp.cli.assemble import assembled
from connector_mcp.cli.checkup import PlatformReport, check_state_directory, policy_in_force, report_on, transport_facts
from connector_mcp.cli.options import load_settings, with_overrides
from connector_mcp.cli.served import Readiness, readiness, require_platforms
from connector_mcp.cli.text import json_text
from connector_mcp.operations.catalogue import PLATFORMS, platform_folder
from connector_mcp.operations.platform import JsonObject
from connector_mcp.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@with_overrides
def doctor(overrides: dict[str, Any], as_json: bool) -> None:
    """Check configuration, addresses and credentials.

    Makes one read on each platform that is configured. The exit status is 0 when all of them answer and the state
    directory can be written, 1 when not, 2 when no platform is configured.
    """
    settings = load_settings(**overrides)
    report = anyio.run(_examine, settings)
    click.echo(json_text(report) if as_json else as_text(report))
    require_platforms(settings, os.environ)
    sys.exit(0 if report["ok"] else 1)


async def _examine(settings: Settings) -> JsonObject:
    states = _sandboxed(settings) if settings.sandbox else list(readiness(settings, os.environ))
    reports: list[PlatformReport] = []
    # A platform that is named and not configured would end the start; here it is a line of the report.
    lacking = {state.platform.name for state in states if not state.configured}
    configured = tuple(dict.fromkeys(state.platform.name for state in states if state.platform.name not in lacking))
    if configured:
        narrowed = settings.model_copy(update={"platforms": configured})
        async with assembled(narrowed, os.environ, "cli") as engine:
            for state in states:
                reports.append(await report_on(engine, state))
    else:
        reports = [PlatformReport(state) for state in states]
    directory = check_state_directory(settings.state_dir)
    return {
        "ok": all(each.fine for each in reports if each.readiness.wanted) and directory["writable"],
        "sandbox": settings.sandbox,
        "platforms": [each.as_dict() for each in reports],
        "state": directory,
        "policy": policy_in_force(settings),
        "transport": transport_facts(settings),
    }


def _sandboxed(settings: Settings) -> list[Readiness]:
    platforms = [platform_folder(name).platform for name in settings.platforms or PLATFORMS]
    return [
        Readiness(platform, (), (), name)
        for platform in platforms
        for name in [profile.name for profile in profiles_of(settings, platform)] or [""]
    ]


def as_text(report: JsonObject) -> str:
    """The report for a person."""
    lines = ["Sandbox: every platform is emulated."] if report["sandbox"] else []
    for each in report["platforms"]:
        colour = {"fine": "green", "not configured": None}.get(each["state"], "red")
        lines.append(click.style(f"{each['title']}: {each['state']}", fg=colour, bold=True))
        lines += [f"  set: {', '.join(each['set'])}"] if each["set"] else []
        lines += [f"  missing: {', '.join(each['missing'])}"] if each["missing"] else []
        lines += [f"  {each['detail']}"] if each["detail"] else []
        lines += [f"  fix: {each['fix']}"] if each["fix"] else []
    state, policy, transport = report["state"], report["policy"], report["transport"]
    lines += [
        f"State directory: {state['directory']} ({'writable' if state['writable'] else state['detail']})",
        f"Policy on stdio: {', '.join(f'{effect} {decision}' for effect, decision in policy['stdio'].items())}",
        f"Policy over HTTP: {', '.join(f'{effect} {decision}' for effect, decision in policy['http'].items())}",
        *([f"  rules: {policy['rules']}"] if policy["rules"] else []),
        *(["  read-only: everything but reads is blocked"] if policy["read_only"] else []),
        f"HTTP: {transport['address']}, {transport['authentication']}",
        f"Operator approvals: {'on' if transport['approvals'] else 'off'}",
    ]
    return "\n".join(lines)
