"""`connector-mcp plan`, `export` and `drift`: manifests in files. `apply` carries a plan out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import anyio
import click

from connector_mcp.cli.options import as_typed, load_settings, with_overrides
from connector_mcp.cli.output import Failure, exit_status_of, json_text, one_line, show_failure
from connector_mcp.cli.terminal import CliCaller
from connector_mcp.composition.accounts import require_platforms
from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.engine.engine import Engine
from connector_mcp.engine.preview import shown
from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.input_text import decode
from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.provisioning.journal import Journal, account_key
from connector_mcp.provisioning.manifest import all_kinds
from connector_mcp.provisioning.manifest_file import ManifestFile, read_manifest
from connector_mcp.provisioning.plan import ADOPTED
from connector_mcp.transport.process import logging_to_stderr

APPLIED = "what_was_last_applied"
CHANGES = 6
"""Exit status of a plan with changes, and of drift."""
_SIGNS = {"create": "+", "update": "~", "rotate": "~", "replace": "±", "delete": "-", "adopt": "=", "unchanged": " "}

with_file = click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True))
with_profile = click.option("--profile", help="The account on every platform that has this profile.")
with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@with_file
@click.option("--prune", is_flag=True, help="Also delete what this manifest made and no longer has.")
@click.option(
    "--rotate", multiple=True, metavar="ENTRY", help="Write the secrets of an entry such as sources.docs again."
)
@with_profile
@with_json
@with_overrides
def plan(
    overrides: dict[str, Any], file: str, prune: bool, rotate: tuple[str, ...], profile: str | None, as_json: bool
) -> None:
    """Show what has to change so that the platforms have what the manifest FILE says; - reads it from a pipe.

    Nothing is changed. The exit status is 0 if nothing has to change and 6 if something has to; errors have those of
    the other commands.

    \b
    connector-mcp plan connectors.yaml
    connector-mcp export --profile staging | connector-mcp plan - --profile production
    """
    settings, read = provisioning_settings(overrides), read_file(file)
    arguments: JsonObject = {"prune": prune, **({"rotate": list(rotate)} if rotate else {})}
    content = anyio.run(make_plan, settings, read, profile, arguments)
    show_plan(content, as_json, overrides)
    sys.exit(CHANGES if content["data"]["changes"] else 0)


@click.command()
@click.option("--platform", help="Only this platform.")
@click.option("--section", "sections", multiple=True, metavar="NAME", help="Only these sections, such as sources.")
@click.option("--name", default="exported", help="Name of the manifest.")
@with_profile
@with_json
@with_overrides
def export(
    overrides: dict[str, Any],
    platform: str | None,
    sections: tuple[str, ...],
    name: str,
    profile: str | None,
    as_json: bool,
) -> None:
    """Print a manifest of what exists, with references in place of secrets.

    \b
    connector-mcp export > connectors.yaml
    """
    given = {"platform": platform, "sections": list(sections) or None, "profile": profile}
    arguments = {key: value for key, value in given.items() if value is not None}
    content = anyio.run(_call, provisioning_settings(overrides), "export_connectors", arguments)
    manifest = checked(content)["data"]["manifest"] | {"name": name}
    click.echo(json_text(manifest) if as_json else as_yaml(manifest), nl=as_json)
    for warning in items(content["meta"].get("warnings")):
        click.echo(one_line(str(warning)), err=True)


@click.command()
@with_file
@with_profile
@with_json
@with_overrides
def drift(overrides: dict[str, Any], file: str, profile: str | None, as_json: bool) -> None:
    """Show where the platforms differ from the manifest FILE, and from what was last applied of it.

    The exit status is 6 if they differ.
    """
    settings, read = provisioning_settings(overrides), read_file(file)
    found = anyio.run(_find_drift, settings, read, profile)
    if as_json:
        click.echo(json_text({name: checked(content)["data"] for name, content in found.items()}))
    for title, content in () if as_json else found.items():
        changes = checked(content)["data"]["changes"]
        if title == APPLIED and not content["data"]["counts"]:
            click.echo("Nothing of this manifest was applied before, as far as the records show.")
            continue
        click.echo(f"Against {title.replace('_', ' ')}: {changes or 'no'} difference{'' if changes == 1 else 's'}.")
        for action in content["data"]["actions"]:
            if "tool" in action:
                click.echo("\n".join(action_lines(action)))
        _show_more(content["data"])
    sys.exit(CHANGES if any(content["data"]["changes"] for content in found.values()) else 0)


def provisioning_settings(overrides: Mapping[str, Any]) -> Settings:
    """The settings of a command on manifests. It can use all tools, unless the settings name toolsets."""
    settings = load_settings(**overrides)
    require_platforms(settings, os.environ)
    return settings.model_copy(update={"toolsets": ("all",)}) if settings.toolsets == ("default",) else settings


def read_file(file: str) -> ManifestFile:
    """Read a manifest from a file, or from standard input.

    Raises:
        click.BadParameter: It cannot be read.
        InvalidArguments: It is neither YAML nor JSON.
    """
    name = "standard input" if file == "-" else file
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = decode(data)
    except OSError as error:
        raise click.BadParameter(f"cannot read {name}: {error.strerror}.", param_hint="FILE") from None
    except UnicodeDecodeError:
        raise click.BadParameter(f"{name} is not UTF-8 text.", param_hint="FILE") from None
    try:
        return read_manifest(text, name)
    except InvalidArguments as error:
        raise _of_file(list(error.issues)) from None


async def make_plan(
    settings: Settings, read: ManifestFile, profile: str | None, arguments: Mapping[str, Any]
) -> JsonObject:
    """Plan a manifest and return the content of the result.

    Raises:
        Failure: The manifest is wrong. All issues have their file and line.
    """
    async with open_engine(settings, os.environ, "cli") as engine:
        with logging_to_stderr(engine.scrub, settings.log_level, settings.log_format):
            return await _plan(engine, read, for_profile(read.data, profile, engine), arguments)


async def _plan(engine: Engine, read: ManifestFile, manifest: JsonObject, arguments: Mapping[str, Any]) -> JsonObject:
    result = await engine.call("plan_connectors", {"manifest": manifest, **arguments}, CliCaller())
    error = members(result.content.get("error"))
    if error.get("code") == "invalid_arguments" or (read.issues and not result.is_error):
        issues = [
            Issue(each["path"], each["got"], each["wanted"], each.get("example"))
            for each in map(members, items(error.get("issues")))
        ]
        options = [each for each in issues if each.path.startswith("rotate[")]
        placed = read.placed([*read.issues, *(each for each in issues if each not in options)])
        raise _of_file([*(replace(each, path="--rotate") for each in options), *placed])
    return checked(result.content)


async def _call(settings: Settings, tool: str, arguments: Mapping[str, Any]) -> JsonObject:
    async with open_engine(settings, os.environ, "cli") as engine:
        with logging_to_stderr(engine.scrub, settings.log_level, settings.log_format):
            return (await engine.call(tool, arguments, CliCaller())).content


async def _find_drift(settings: Settings, read: ManifestFile, profile: str | None) -> dict[str, JsonObject]:
    """Compare the platforms with the manifest, and with what was last applied of it."""
    async with open_engine(settings, os.environ, "cli") as engine:
        with logging_to_stderr(engine.scrub, settings.log_level, settings.log_format):
            manifest = for_profile(read.data, profile, engine)
            found = {"the_manifest": await _plan(engine, read, manifest, {})}
            applied = await last_applied(engine, manifest)
            result = await engine.call("plan_connectors", {"manifest": applied}, CliCaller())
            return found | {APPLIED: result.content}


async def last_applied(engine: Engine, manifest: JsonObject) -> JsonObject:
    """Return what was last applied under the name of a manifest, in the profiles that it names for the platforms."""
    name, profiles = str(manifest.get("name")), members(manifest.get("profiles"))
    accounts = {
        account_key(account): account
        for account in engine.accounts
        if profiles.get(account.platform.name, account.profile) == account.profile
    }
    applied: JsonObject = {"name": name}
    for identity in (await Journal(engine.database).remembered(name, accounts.values())).values():
        section, _, key = identity.entry.partition(".")
        if section in all_kinds():
            entry = {member: value for member, value in identity.declared.items() if member != ADOPTED}
            applied.setdefault(section, {})[key] = entry | {"profile": accounts[identity.account].profile}
    return applied


def for_profile(manifest: JsonObject, profile: str | None, engine: Engine) -> JsonObject:
    """The manifest with this profile on every platform that has it.

    Raises:
        Failure: No platform has it.
    """
    if profile is None:
        return manifest
    named = {each.platform.name: profile for each in engine.accounts if each.profile == profile}
    if not named:
        known = ", ".join(dict.fromkeys(each.profile for each in engine.accounts))
        raise Failure(f"There is no profile {profile!r}.", fix=f"Use one of {known}.", exit_status=2)
    return manifest | {"profiles": members(manifest.get("profiles")) | named}


def _of_file(issues: list[Issue]) -> Failure:
    lines = [f"{each.path}: got {each.got}, wanted {each.wanted}" for each in issues]
    for line in lines:
        click.echo(one_line(line), err=True)
    count = "one error" if len(lines) == 1 else f"{len(lines)} errors"
    return Failure(f"The manifest has {count}. Nothing was planned.", fix="Correct them and plan again.", exit_status=2)


def checked(content: JsonObject) -> JsonObject:
    """The content of a success.

    Raises:
        SystemExit: It is a failure, which was shown.
    """
    if error := members(content.get("error")):
        show_failure(str(error["message"]), str(error["fix"]))
        sys.exit(exit_status_of(str(error["code"])))
    return content


def apply_command(plan_id: str, overrides: Mapping[str, Any]) -> str:
    """The command that applies a plan with the same options."""
    return f"connector-mcp apply {plan_id}{as_typed(overrides)}"


def show_plan(content: JsonObject, as_json: bool, overrides: Mapping[str, Any]) -> None:
    """Print a plan, and how it is applied."""
    data = content["data"]
    if as_json:
        click.echo(json_text(content))
        return
    for action in data["actions"]:
        click.echo("\n".join(action_lines(action)))
    _show_more(data)
    for warning in items(members(content.get("meta")).get("warnings")):
        click.echo(one_line(f"warning: {warning}"), err=True)
    counts = ", ".join(f"{count} to {verb}" for verb, count in data["counts"].items() if verb != "unchanged")
    click.echo(f"{counts or 'Nothing to do'}; {data['counts'].get('unchanged', 0)} unchanged.")
    if data["changes"]:
        click.echo(f"Apply it: {apply_command(data['plan_id'], overrides)}")


def _show_more(data: JsonObject) -> None:
    if data.get("more"):
        click.echo(f"… and {data['more']} more.")


def action_lines(action: Mapping[str, Any]) -> Iterator[str]:
    """An action of a plan in lines: what is done to which thing, why, what is lost, and what changes."""
    where = f"{action['platform']}" + (f"/{action['profile']}" if action["profile"] != "default" else "")
    head = f"{_SIGNS.get(action['verb'], ' ')} {action['verb']} {action['entry']} ({action['name']}) on {where}"
    because = f": {action['because']}" if action.get("because") else ""
    yield one_line(head + because)
    for loss in items(action.get("losses")):
        yield one_line(f"    loses: {loss}")
    for change in items(action.get("diff")) if action["verb"] != "create" else ():
        yield one_line(f"    {change['field']}: {shown(change['before'])} → {shown(change['after'])}")
    for path, state in members(action.get("secrets")).items():
        if state != "unchanged":
            yield one_line(f"    {path}: {'set outside' if state == 'unknown' else state}")


def as_yaml(manifest: JsonObject) -> str:
    """The manifest as YAML."""
    # Slow to import, and only this command writes YAML.
    from ruamel.yaml import YAML

    writer: Any = YAML()
    writer.width = 110
    text = StringIO()
    writer.dump(manifest, text)
    return text.getvalue()
