"""`connector-mcp.toml`: settings, and the named accounts of each platform.

Imported only if there is a file, because importing it takes milliseconds.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator

from connector_mcp.config.validation import unknown_name, validate
from connector_mcp.errors import Misconfigured
from connector_mcp.input_text import decode, trim
from connector_mcp.operations.catalog import PLATFORMS, platform_folder
from connector_mcp.operations.platform import Platform, Variable, key_of
from connector_mcp.secrets.reference import SCHEME, is_name, mentions_reference, referenced_name
from connector_mcp.secrets.sources import VARIABLE as SECRET_VARIABLE
from connector_mcp.suggest import closest

PROFILES = "profiles"

_TABLE = re.compile(r"\s*\[([^\[\]=]+)\]\s*(#.*)?")
_KEY = re.compile(r"([^=#]+)=")
_PROFILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class FilePlace:
    """A file, or a table or key in it, as errors name it: `connector-mcp.toml, line 3: profiles.logto.a`."""

    path: Path
    lines: Mapping[str, int] = field(default_factory=dict[str, int], repr=False)
    name: str = ""

    def at(self, key: str) -> FilePlace:
        """Return the place of a key in this table."""
        return replace(self, name=f"{self.name}.{key}".lstrip("."))

    def __str__(self) -> str:
        line = self.lines.get(self.name)
        return f"{self.path}{f', line {line}' if line else ''}: {self.name}"


@dataclass(frozen=True)
class Given:
    """The value of a profile's variable: text, the name of a secret, or the name of an environment variable."""

    text: str = field(default="", repr=False)
    secret: str = ""
    env: str = ""


class ProfileOptions(BaseModel):
    """The keys of a profile's table in addition to its platform's variables."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    default: bool = False
    """Whether calls that name no profile and destroy nothing use this one."""
    policy: str = ""
    """Rules for calls under this profile; if the server's policy also has a rule, the stricter one applies."""
    read_only: bool = False
    """Serve reads only under this profile."""
    secrets: list[str] | None = None
    """Names of the secrets that calls under this profile may refer to; by default any, within the secret's limits."""
    requests_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Sustained rate of requests under this profile."""
    upstream_concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Requests in flight under this profile."""
    deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Upper bound of one call's work upstream under this profile, retries included."""

    @field_validator("secrets")
    @classmethod
    def _check_names(cls, names: list[str] | None) -> list[str] | None:
        if names is not None and not all(map(is_name, names)):
            raise ValueError(f"names of secrets, without {SCHEME}")
        return names


@dataclass(frozen=True)
class Profile:
    """One named account on a platform, as written in the file. `where` names its table in errors."""

    platform: Platform
    name: str
    where: FilePlace
    given: Mapping[str, Given]
    """The platform's variables by name."""
    options: ProfileOptions


@dataclass(frozen=True)
class ConfigFile:
    """The valid part of a file, and in `problems` everything that is wrong with its profiles."""

    where: FilePlace
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    profiles: tuple[Profile, ...] = ()
    problems: tuple[Misconfigured, ...] = ()
    private: bool = False
    """True if only its owner can read it, so that it may contain credentials."""

    @property
    def path(self) -> Path:
        return self.where.path


def read_config(path: Path) -> ConfigFile:
    """Read a file and find all problems of its profiles. `Settings` checks its settings."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = decode(file.read())
        held = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as failure:
        problem = Misconfigured(
            f"{path} cannot be read: {_reason(failure)}.",
            fix="Correct the file, or name another one with --config or CONNECTOR_MCP_CONFIG.",
        )
        return ConfigFile(FilePlace(path), problems=(problem,))
    problems: list[Misconfigured] = []
    checked = stat.S_ISREG(mode) and os.name == "posix"
    if checked and mode & stat.S_IWOTH:
        problems.append(
            Misconfigured(f"{path} can be written by every user of this machine.", fix=f"Run `chmod o-w {path}`.")
        )
    private = checked and not mode & 0o077
    where = FilePlace(path, _find_lines(text))
    profiles = tuple(_read_profiles(where.at(PROFILES), held.pop(PROFILES, {}), private, problems))
    return ConfigFile(where, held, profiles, tuple(problems), private)


def _find_lines(text: str) -> dict[str, int]:
    """Return the line of each table and key, by its dotted name. The parser does not tell lines."""
    lines: dict[str, int] = {}
    table = FilePlace(Path())
    # A text over several lines can hold what looks like a key.
    for number, line in enumerate(() if '"""' in text or "'''" in text else text.split("\n"), 1):
        header, key = _TABLE.fullmatch(line.rstrip()), _KEY.match(line)
        name = header[1] if header else key[1] if key else ""
        place = (FilePlace(Path()) if header else table).at(re.sub(r"[\s\"']", "", name))
        if header:
            table = place
        if name:
            lines.setdefault(place.name, number)
    return lines


def _reason(failure: Exception) -> str:
    if isinstance(failure, OSError):
        return failure.strerror or type(failure).__name__
    # The parser's message can repeat a part of the file, which can be a credential; only the position is used.
    position = re.search(r"\(at [a-z0-9 ,]+\)", str(failure))
    return f"it is not valid TOML {position.group()}" if position else "it is not valid TOML"


def _read_profiles(root: FilePlace, tables: Any, private: bool, problems: list[Misconfigured]) -> Iterator[Profile]:
    for platform_name, named in _members(root, tables, problems):
        where = root.at(platform_name)
        if platform_name not in PLATFORMS:
            problems.append(unknown_name(where, platform_name, PLATFORMS, "platform"))
            continue
        platform = platform_folder(platform_name).platform
        found = [
            _read_profile(platform, name, where.at(name), table, private, problems)
            for name, table in _members(where, named, problems)
        ]
        defaults = [profile.name for profile in found if profile.options.default]
        if len(defaults) > 1:
            problems.append(
                Misconfigured(
                    f"{where} has more than one default: {', '.join(defaults)}.",
                    fix="Keep default = true in one of them, or in none.",
                )
            )
        yield from found


def _members(where: FilePlace, table: Any, problems: list[Misconfigured]) -> Iterator[tuple[str, Any]]:
    if isinstance(table, dict):
        yield from cast("dict[str, Any]", table).items()
        return
    problems.append(
        Misconfigured(f"{where} is not a table.", fix="Write one for each account: [profiles.logto.production].")
    )


def _read_profile(
    platform: Platform, name: str, where: FilePlace, table: Any, private: bool, problems: list[Misconfigured]
) -> Profile:
    if not _PROFILE_NAME.fullmatch(name):
        problems.append(
            Misconfigured(
                f"{where}: {name!r} is not a valid profile name.",
                fix="Use up to 32 lowercase letters, digits, - and _, beginning with a letter or digit.",
            )
        )
    variables = {key_of(platform, variable): variable for variable in platform.variables}
    given: dict[str, Given] = {}
    rest: dict[str, Any] = {}
    for key, value in _members(where, table, problems):
        if key not in variables:
            rest[key] = value
            continue
        try:
            given[variables[key].name] = _read_variable(where.at(key), variables[key], value, private)
        except Misconfigured as problem:
            problems.append(problem)
            # It is not missing as well.
            given[variables[key].name] = Given()
    options, invalid = validate(
        ProfileOptions,
        rest,
        unknown=lambda key: unknown_name(where.at(key), key, [*variables, *ProfileOptions.model_fields], "key"),
        place=where.at,
        shown=lambda key: False,
    )
    problems += invalid
    for key in rest.keys() - ProfileOptions.model_fields.keys():
        meant = closest(key, variables)
        if meant:
            given.setdefault(variables[meant].name, Given())
    return Profile(platform, name, where, given, options)


def _read_variable(where: FilePlace, variable: Variable, value: Any, private: bool) -> Given:
    """Return how the value is given.

    Raises:
        Misconfigured: It is not given in a valid form. The value is not repeated.
    """
    if isinstance(value, dict):
        return _from_environment(where, cast("dict[str, Any]", value))
    if not isinstance(value, str) or not trim(value):
        raise Misconfigured(f"{where} is not text, or is empty.", fix="Write text, or leave it out.")
    if mentions_reference(value):
        name = referenced_name(value)
        if name is None or not variable.secret:
            reason = "a reference, but is not a secret" if name else "a malformed reference"
            raise Misconfigured(f"{where} holds {reason}.", fix=f'Write "{SCHEME}NAME" for a credential only.')
        return Given(secret=name)
    if variable.secret and not private:
        raise Misconfigured(
            f"{where} holds a credential in plain text, and other users can read the file.",
            fix=f'Store it with `connector-mcp secrets set NAME` and write "{SCHEME}NAME" here, or '
            '{ env = "VARIABLE" }, or make the file private (`chmod 600`).',
        )
    text = trim(value)
    if variable.choices and text not in variable.choices:
        raise Misconfigured(f"{where} is not one of its choices.", fix=f"Use one of: {', '.join(variable.choices)}.")
    return Given(text=text)


def _from_environment(where: FilePlace, table: dict[str, Any]) -> Given:
    name = table.get("env")
    if set(table) != {"env"} or not isinstance(name, str) or not _VARIABLE_NAME.fullmatch(name):
        raise Misconfigured(f"{where} is a table of another form.", fix='Write { env = "VARIABLE" }.')
    if name.startswith(SECRET_VARIABLE):
        # Calls could refer to a secret by that name; a profile's own credential must stay out of their reach.
        raise Misconfigured(
            f"{where} names a variable that holds a secret.",
            fix=f'Write "{SCHEME}{name.removeprefix(SECRET_VARIABLE)}" instead.',
        )
    return Given(env=name)
