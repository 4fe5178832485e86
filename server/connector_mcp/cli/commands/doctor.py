"""`connector-mcp doctor`: whether this configuration works, platform by platform. Secrets are never shown."""

from __future__ import annotations

import os
import sys
from typing import Any

import anyio
import click

from connector_mcp.cli.options import load_settings, with_overrides
from connector_mcp.cli.output import json_text
from connector_mcp.composition.health import (
    check_database,
    check_state_directory,
    examine_platforms,
    policy_in_force,
    transport_facts,
)
from connector_mcp.config.settings import Settings
from connector_mcp.errors import Misconfigured
from connector_mcp.json_values import JsonObject


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@with_overrides
def doctor(overrides: dict[str, Any], as_json: bool) -> None:
    """Check configuration, addresses and credentials.

    Makes a read on each configured platform, and fetches the keys of the identity provider. The exit status is 0 if
    all of them respond, the state directory is writable and so is the database; 1 if not, and 2 if no platform is
    configured.
    """
    settings = load_settings(**overrides)
    report = anyio.run(_examine, settings)
    click.echo(json_text(report) if as_json else _as_text(report))
    if not any(each["configured"] or each["profile"] != "default" for each in report["platforms"]):
        raise Misconfigured(
            "No platform is configured.",
            fix="Set what is missing for at least one, or try it without credentials: --sandbox.",
        )
    sys.exit(0 if report["ok"] else 1)


async def _examine(settings: Settings) -> JsonObject:
    reports = await examine_platforms(settings, os.environ)
    directory = check_state_directory(settings.state_dir)
    # A check does not make the directory.
    database = await check_database(settings) if settings.state or directory["exists"] else None
    # Imported here because most configurations have no issuer.
    from connector_mcp.composition.http_access import check_identity_provider

    provider = await check_identity_provider(settings) if settings.oauth_issuer else None
    usable = directory["writable"] and all(part is None or part["usable"] for part in (database, provider))
    return {
        "ok": all(each.fine for each in reports if each.readiness.wanted) and usable,
        "sandbox": settings.sandbox,
        "platforms": [each.as_dict() for each in reports],
        "state": directory,
        **({"database": database} if database else {}),
        **({"identity_provider": provider} if provider else {}),
        "policy": policy_in_force(settings),
        "transport": transport_facts(settings),
    }


def _as_text(report: JsonObject) -> str:
    lines = ["Sandbox: every platform is emulated."] if report["sandbox"] else []
    for each in report["platforms"]:
        color = {"fine": "green", "not configured": None}.get(each["state"], "red")
        lines.append(click.style(f"{each['title']}: {each['state']}", fg=color, bold=True))
        lines += [f"  set: {', '.join(each['set'])}"] if each["set"] else []
        lines += [f"  missing: {', '.join(each['missing'])}"] if each["missing"] else []
        if each["reached"] is not None and not report["sandbox"]:
            lines.append(f"  address: {each['address']} ({'reached' if each['reached'] else 'not reached'})")
        lines += [f"  {each['detail']}"] if each["detail"] else []
        lines += [f"  fix: {each['fix']}"] if each["fix"] else []
        lines += [f"  role: {each['role']}"] if each["role"] else []
    if database := report.get("database"):
        lines.append(f"Database: {database['address']} ({'writable' if database['usable'] else database['detail']})")
        lines += [click.style(f"  warning: {warning}", fg="yellow") for warning in database["warnings"]]
    if provider := report.get("identity_provider"):
        state = click.style("usable" if provider["usable"] else "failed", fg="green" if provider["usable"] else "red")
        lines.append(f"Identity provider: {provider['issuer']}: {state} ({provider['detail']})")
    state, policy, transport = report["state"], report["policy"], report["transport"]
    lines += [
        f"State directory: {state['directory']} ({'writable' if state['writable'] else state['detail']})",
        *([f"  fix: {state['fix']}"] if state["fix"] else []),
        f"Policy on stdio: {', '.join(f'{effect} {decision}' for effect, decision in policy['stdio'].items())}",
        f"Policy over HTTP: {', '.join(f'{effect} {decision}' for effect, decision in policy['http'].items())}",
        *([f"  rules: {policy['rules']}"] if policy["rules"] else []),
        *(["  read-only: everything but reads is blocked"] if policy["read_only"] else []),
        f"HTTP: {transport['address']}, {transport['authentication']}",
        f"Operator approvals: {'on' if transport['approvals'] else 'off'}",
    ]
    return "\n".join(lines)
