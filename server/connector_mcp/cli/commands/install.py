"""`connector-mcp install`: write the entry that lets an MCP client start this server, or take it out."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import click

from connector_mcp.cli.commands.serve import serve
from connector_mcp.cli.options import load_settings, options_given, with_overrides
from connector_mcp.cli.output import Failure
from connector_mcp.composition.engine import served_operations, server_policy
from connector_mcp.composition.storage import open_secrets
from connector_mcp.config.settings import PREFIX, Settings
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import PLATFORMS, platform_folder
from connector_mcp.program import NAME, absolute_command, is_temporary

_ENTRY_NAME = re.compile(r"[A-Za-z0-9_-]{1,20}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BY_HAND = "Mend it and run this again, or add by hand what --print shows."


@dataclass(frozen=True)
class McpClient:
    """The file in which a client keeps its servers, and the form of an entry."""

    title: str
    path: Callable[[], Path]
    member: str = "mcpServers"
    reference: str = ""
    """The form in which a value in `env` refers to the variable `NAME`; empty if the client cannot."""
    forwards: bool = False
    """Whether the entry lists the variables to pass on in `env_vars`."""
    typed: bool = False
    """Whether an entry names its transport."""


def _in_config(folder: str, *rest: str) -> Path:
    from platformdirs import user_config_path

    return user_config_path(folder, appauthor=False, roaming=True).joinpath(*rest)


def _in_home(variable: str, folder: str, name: str) -> Path:
    """Return a file in the directory that the variable names, or else in this folder of the home directory."""
    return Path(os.environ.get(variable) or Path.home() / folder) / name


CLIENTS: Mapping[str, McpClient] = {
    "claude-code": McpClient(
        "Claude Code", lambda: _in_home("CLAUDE_CONFIG_DIR", "", ".claude.json"), reference="${NAME}", typed=True
    ),
    "claude-desktop": McpClient("Claude Desktop", lambda: _in_config("Claude", "claude_desktop_config.json")),
    "cursor": McpClient("Cursor", lambda: Path.home() / ".cursor" / "mcp.json", reference="${env:NAME}"),
    "vscode": McpClient(
        "VS Code", lambda: _in_config("Code", "User", "mcp.json"), "servers", reference="${env:NAME}", typed=True
    ),
    "codex": McpClient("Codex", lambda: _in_home("CODEX_HOME", ".codex", "config.toml"), "mcp_servers", forwards=True),
    "gemini": McpClient("Gemini CLI", lambda: Path.home() / ".gemini" / "settings.json", reference="${NAME}"),
}


@click.command()
@click.argument("client", type=click.Choice(list(CLIENTS)))
@click.option("--name", default="connectors", show_default=True, metavar="NAME", help="Name of the entry.")
@click.option(
    "--env",
    "referred",
    multiple=True,
    metavar="NAME",
    help="Pass on this variable. The entry names it; its value stays in the client's environment.",
)
@click.option(
    "--copy-env",
    "copied",
    multiple=True,
    metavar="NAME",
    help="Write this variable's present value into the file, in clear text.",
)
@click.option("--print", "print_only", is_flag=True, help="Show the entry and its file; change nothing.")
@click.option("--remove", is_flag=True, help="Take the entry out.")
@with_overrides
def install(
    client: str,
    name: str,
    referred: tuple[str, ...],
    copied: tuple[str, ...],
    print_only: bool,
    remove: bool,
    overrides: dict[str, Any],
) -> None:
    """Add this server to an MCP client's configuration.

    The entry starts this program by its absolute path, with the options that are given here. After `uvx` it starts uv,
    which runs the same version again. Everything else in the client's file stays, and a copy of the file as it was is
    kept beside it.
    """
    chosen = CLIENTS[client]
    given = options_given(overrides)
    _check_names(name, (*referred, *copied))
    if remove:
        if given or referred or copied or print_only:
            raise click.UsageError("--remove takes only --name.")
        _remove(chosen, name)
        return
    _check_options(overrides)
    entry = _make_entry(chosen, given, referred, copied, show_values=not print_only)
    if print_only:
        click.echo(f"In {chosen.path()}:", err=True)
        click.echo(_dump(chosen.path(), {chosen.member: {name: entry}}), nl=False)
        return
    _add(chosen, name, entry)
    for sentence in _hints(chosen, entry, referred, copied):
        click.echo(sentence, err=True)
    click.echo(f"Restart {chosen.title} to use it.")


def _check_options(overrides: Mapping[str, Any]) -> None:
    """Raise if the server would not start with these options."""
    settings = load_settings(**overrides)
    server_policy(settings, "stdio")
    served_operations(settings, settings.platforms or PLATFORMS, open_secrets(settings, os.environ))


def _hints(client: McpClient, entry: JsonObject, referred: tuple[str, ...], copied: tuple[str, ...]) -> Iterator[str]:
    """Yield hints about variables that are not set here, or that are set here and missing from the entry."""
    for name in referred:
        if not os.environ.get(name):
            yield f"{name} is not set here. Set it in the environment that starts {client.title}."
    names = [f"{PREFIX}{field.upper()}" for field in Settings.model_fields]
    if "--sandbox" not in entry["args"]:
        names += [variable.name for name in PLATFORMS for variable in platform_folder(name).platform.variables]
    left = [name for name in names if os.environ.get(name) and name not in (*referred, *copied)]
    if left:
        yield f"Set here, and not in the entry: {', '.join(left)}. To pass a variable on, name it with --env."


def _check_names(name: str, variables: Iterable[str]) -> None:
    if not _ENTRY_NAME.fullmatch(name):
        # A client calls a tool mcp__NAME__TOOL, for which model APIs take 64 characters.
        raise click.BadParameter("write up to 20 letters, digits, - and _.", param_hint="--name")
    for variable in variables:
        if not _VARIABLE_NAME.fullmatch(variable):
            # What was given may be a value, so it is not repeated.
            hint = "--env or --copy-env"
            raise click.BadParameter("write the name of a variable, without its value.", param_hint=hint)


def _make_entry(
    client: McpClient, given: Mapping[str, Any], referred: Iterable[str], copied: Iterable[str], *, show_values: bool
) -> JsonObject:
    command, *arguments = (*absolute_command(), "serve", *_serve_options(given))
    if command.startswith(sys.prefix) and is_temporary():
        wrong = f"{command} is in an environment that is removed after a while, so no entry can start it."
        fix = "Install the program with `pipx install` or `uv tool install`, and run this command of that installation."
        raise Failure(wrong, fix=fix, exit_status=2)
    entry: JsonObject = {"type": "stdio"} if client.typed else {}
    entry |= {"command": command, "args": arguments}
    env: dict[str, str] = {}
    for name in referred:
        if client.reference:
            env[name] = client.reference.replace("NAME", name)
        elif not client.forwards:
            raise Failure(
                f"An entry of {client.title} cannot refer to {name}: it takes values only.",
                fix=f"Write its value into the file with --copy-env {name}, or give the account in connector-mcp.toml "
                "and its credentials with `connector-mcp secrets set`.",
                exit_status=2,
            )
    for name in copied:
        value = os.environ.get(name)
        if not value:
            fix = f"Set {name} and run this again, or leave out --copy-env {name}."
            raise Failure(f"{name} has no value in this environment.", fix=fix, exit_status=2)
        env[name] = value if show_values else f"<value of {name}>"
    if env:
        entry["env"] = env
    if client.forwards and (names := list(referred)):
        entry["env_vars"] = names
    return entry


def _serve_options(given: Mapping[str, Any]) -> list[str]:
    """Return the options as arguments of `serve`. Paths are absolute: a client starts the server in any directory."""
    arguments: list[str] = []
    for parameter in serve.params:
        value = given.get(parameter.name or "")
        if value is None:
            continue
        flag = max(parameter.opts, key=len)
        if value is True:
            arguments.append(flag)
            continue
        values = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)
        for each in values:
            arguments += [flag, str(each.expanduser().absolute() if isinstance(each, Path) else each)]
    return arguments


def _add(client: McpClient, name: str, entry: JsonObject) -> None:
    path, before, content, servers = _open(client)
    known = name in servers
    if known:
        present = _own_entry(path, name, servers[name])
        words = [str(word) for word in present["args"]]
        options = words[words.index("serve") :] if "serve" in words else []
        # An entry changes between the sandbox and real platforms as it is asked to.
        dropped = [word for word in options if word.startswith("-") and word not in ("--sandbox", *entry["args"])]
        if dropped:
            raise Failure(
                f"The entry {name} in {path} has options that the new one would lack: {' '.join(dropped)}.",
                fix="Give them again, or take the entry out first with --remove.",
                exit_status=2,
            )
        # What was added to the entry by hand stays.
        for member, value in entry.items():
            if member == "env":
                value = {**present.get("env", {}), **value}
            elif member == "env_vars":
                value = list(dict.fromkeys((*present.get("env_vars", ()), *value)))
            present[member] = value
    else:
        servers[name] = entry
    if _write(client, path, before, content):
        click.echo(f"{'Updated' if known else 'Added'} {name} in {path}.")
    else:
        click.echo(f"{path} has this entry already. Nothing was changed.")


def _remove(client: McpClient, name: str) -> None:
    path, before, content, servers = _open(client)
    if name not in servers:
        click.echo(f"{path} has no entry {name}. Nothing was changed.")
        return
    _own_entry(path, name, servers[name])
    del servers[name]
    if not servers and client.member not in _parse(path, _dump(path, content).encode()):
        # tomlkit does not write a table that is empty and had only tables in it.
        del content[client.member]
    _write(client, path, before, content)
    click.echo(f"Removed {name} from {path}. Restart {client.title}.")


def _own_entry(path: Path, name: str, entry: Any) -> JsonObject:
    """Return an entry that starts this program. Raise for any other: that of another server is left alone."""
    if isinstance(entry, dict):
        members = cast("JsonObject", entry)
        words, env, names = members.get("args"), members.get("env", {}), members.get("env_vars", [])
        if isinstance(words, list) and isinstance(env, dict) and isinstance(names, list):
            started = [members.get("command"), *cast("list[Any]", words)]
            if any(isinstance(word, str) and Path(word).stem in (NAME, "connector_mcp") for word in started):
                return members
    raise Failure(
        f"The entry {name} in {path} does not start this program. Nothing was changed.",
        fix="Choose another name with --name, or mend the entry.",
        exit_status=2,
    )


def _open(client: McpClient) -> tuple[Path, bytes | None, dict[str, Any], dict[str, Any]]:
    """Return the file behind links, its bytes (None if there is no file), its content, and the servers in that."""
    path, before = Path(os.path.realpath(client.path())), None
    try:
        with suppress(FileNotFoundError):
            before = path.read_bytes()
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}.", fix=_BY_HAND) from error
    content = _parse(path, before)
    if not isinstance(content.setdefault(client.member, {}), dict):
        wrong = f"{client.member} in {path} is not a table of servers, and was left as it is."
        raise Failure(wrong, fix=_BY_HAND, exit_status=2)
    # tomlkit converts what is assigned, so the member is read again.
    return path, before, content, cast("dict[str, Any]", content[client.member])


def _parse(path: Path, data: bytes | None) -> dict[str, Any]:
    toml = path.suffix == ".toml"
    try:
        text = (data or b"").decode("utf-8-sig")
        if toml:
            # tomlkit keeps the comments and the order of what is not changed; tomllib says where a file is damaged.
            import tomlkit

            tomllib.loads(text)
            return tomlkit.parse(text)
        content: Any = json.loads(text, object_pairs_hook=_without_duplicates) if text.strip() else {}
        if isinstance(content, dict):
            return cast("dict[str, Any]", content)
        damage = "it holds no object"
    except json.JSONDecodeError as error:
        damage = f"line {error.lineno}, column {error.colno}"
    except UnicodeDecodeError as error:
        damage = f"byte {error.start + 1} is not UTF-8"
    except ValueError as error:
        # These name places and keys, and no values.
        damage = str(error)
    except RecursionError:
        damage = "it is nested too deeply"
    kind = "TOML" if toml else "JSON without comments"
    raise Failure(f"{path} is not {kind}, and was left as it is: {damage}.", fix=_BY_HAND, exit_status=2)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("an object has a member twice")
    return members


def _dump(path: Path, content: Mapping[str, Any], indent: str = "  ") -> str:
    if path.suffix == ".toml":
        import tomlkit

        return tomlkit.dumps(content)
    return json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def _write(client: McpClient, path: Path, before: bytes | None, content: dict[str, Any]) -> bool:
    """Replace the file in one step, after keeping a copy of it. Return False if nothing is to change."""
    if content == _parse(path, before):
        return False
    try:
        indent = re.search(rb'^([ \t]+)"', before or b"", re.MULTILINE)
        data = _dump(path, content, indent[1].decode() if indent else "  ").encode()
        if _parse(path, data) != content:
            raise ValueError("what is read again differs")
    except (ValueError, RecursionError) as error:
        wrong = f"{path} has parts that this command cannot write again, and was left as it is."
        raise Failure(wrong, fix=_BY_HAND, exit_status=2) from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The file may hold credentials: `mkstemp` lets only the user read it.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            if (path.read_bytes() if path.exists() else None) != before:
                raise Failure(f"{path} was changed meanwhile.", fix=f"Close {client.title}, and run this again.")
            if before is not None:
                shutil.copymode(path, name)
                copy = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.bak")
                shutil.copy2(path, copy)
                click.echo(f"Kept the file as it was in {copy}.")
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}. It is as it was.", fix=_BY_HAND) from error
    return True
