"""`connector-mcp.toml`: settings, and the named accounts of each platform.

Takes milliseconds to import, so nobody does before there is a file.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from connector_mcp.errors import Misconfigured
from connector_mcp.operations.catalog import PLATFORMS, platform_folder
from connector_mcp.operations.platform import Platform, Variable, key_of
from connector_mcp.secrets.reference import SCHEME, is_name, mentions_reference, referenced_name
from connector_mcp.secrets.sources import VARIABLE as SECRET_VARIABLE

PROFILES = "profiles"

_PROFILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Given:
    """How a profile gives a variable: as it is, as the secret that holds it, or as a variable of the environment."""

    text: str = field(default="", repr=False)
    secret: str = ""
    env: str = ""

    @property
    def origin(self) -> str:
        """Where the value is from, in words that do not give it away."""
        return f"set from {SCHEME}{self.secret}" if self.secret else f"set from {self.env}" if self.env else "set"


class ProfileOptions(BaseModel):
    """What a profile may hold beside its platform's variables; the keys of its table."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    default: bool = False
    """Whether calls that destroy nothing are made under this profile when they name none."""
    policy: str = ""
    """Rules for calls under this profile; where the server's policy has a rule too, the stricter counts."""
    read_only: bool = False
    """Serve reads only under this profile."""
    secrets: list[str] | None = None
    """Names of the secrets that calls under this profile may refer to; any within its own limits without it."""
    requests_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Sustained rate of requests under this profile."""
    upstream_concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Requests in flight under this profile."""
    deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Upper bound of one call's work upstream under this profile, retries included."""

    @field_validator("secrets")
    @classmethod
    def _names(cls, names: list[str] | None) -> list[str] | None:
        if names is not None and not all(map(is_name, names)):
            raise ValueError(f"names of secrets, without {SCHEME}")
        return names


@dataclass(frozen=True)
class Profile:
    """One named account on a platform, as the file has it. `where` is how an error names its table."""

    platform: Platform
    name: str
    where: str
    given: Mapping[str, Given]
    """The platform's variables by name."""
    options: ProfileOptions


@dataclass(frozen=True)
class ConfigFile:
    """What a file holds, as far as it can be understood; `problems` is all that cannot."""

    path: Path
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    profiles: tuple[Profile, ...] = ()
    problems: tuple[Misconfigured, ...] = ()
    private: bool = False
    """Whether its owner alone can read it, so that it may hold credentials."""


def read_config(path: Path) -> ConfigFile:
    """Read a file and find all that is wrong with its profiles. Its settings are checked by `Settings`."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            held = tomllib.load(file)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as failure:
        problem = Misconfigured(
            f"{path} cannot be read: {_reason(failure)}.",
            fix="Correct the file, or name another with --config or CONNECTOR_MCP_CONFIG.",
        )
        return ConfigFile(path, problems=(problem,))
    problems: list[Misconfigured] = []
    if stat.S_ISREG(mode) and os.name == "posix" and mode & stat.S_IWOTH:
        problems.append(
            Misconfigured(f"{path} can be written by every user of this machine.", fix=f"Run `chmod o-w {path}`.")
        )
    private = stat.S_ISREG(mode) and os.name == "posix" and not mode & 0o077
    tables = held.pop(PROFILES, {})
    profiles = tuple(_profiles(path, tables, private, problems))
    return ConfigFile(path, held, profiles, tuple(problems), private)


def _reason(failure: Exception) -> str:
    if isinstance(failure, OSError):
        return failure.strerror or type(failure).__name__
    # The parser's own words may repeat a part of the file, which may be a credential: only the place is taken.
    place = re.search(r"\(at [a-z0-9 ,]+\)", str(failure))
    return f"it is no TOML {place.group()}" if place else "it is no TOML"


def _profiles(path: Path, tables: Any, private: bool, problems: list[Misconfigured]) -> Iterator[Profile]:
    for platform_name, named in _members(f"{path}: {PROFILES}", tables, problems):
        where = f"{path}: {PROFILES}.{platform_name}"
        if platform_name not in PLATFORMS:
            problems.append(_unknown(where, platform_name, list(PLATFORMS), "platform"))
            continue
        platform = platform_folder(platform_name).platform
        found = [
            _profile(platform, name, f"{where}.{name}", table, private, problems)
            for name, table in _members(where, named, problems)
        ]
        defaults = [profile.name for profile in found if profile.options.default]
        if len(defaults) > 1:
            problems.append(
                Misconfigured(
                    f"{where} has more than one default: {', '.join(defaults)}.",
                    fix="Leave default = true to one of them, or to none.",
                )
            )
        yield from found


def _members(where: str, table: Any, problems: list[Misconfigured]) -> Iterator[tuple[str, Any]]:
    if isinstance(table, dict):
        yield from cast("dict[str, Any]", table).items()
        return
    problems.append(
        Misconfigured(f"{where} is no table.", fix="Write one for each account: [profiles.logto.production].")
    )


def _profile(
    platform: Platform, name: str, where: str, table: Any, private: bool, problems: list[Misconfigured]
) -> Profile:
    if not _PROFILE_NAME.fullmatch(name):
        problems.append(
            Misconfigured(
                f"{where}: {name!r} is no name of a profile.",
                fix="Use up to 32 lower case letters, digits, - and _, beginning with a letter or digit.",
            )
        )
    variables = {key_of(platform, variable): variable for variable in platform.variables}
    given: dict[str, Given] = {}
    options: dict[str, Any] = {}
    for key, value in _members(where, table, problems):
        if key in variables:
            read = _given(f"{where}.{key}", variables[key], value, private)
            if isinstance(read, Given):
                given[variables[key].name] = read
            else:
                problems.append(read)
        elif key in ProfileOptions.model_fields:
            options[key] = value
        else:
            problems.append(_unknown(f"{where}.{key}", key, [*variables, *ProfileOptions.model_fields], "key"))
    return Profile(platform, name, where, given, _options(where, options, problems))


def _options(where: str, options: dict[str, Any], problems: list[Misconfigured]) -> ProfileOptions:
    try:
        return ProfileOptions.model_validate(options)
    except ValidationError as invalid:
        for fault in invalid.errors(include_url=False, include_context=False, include_input=False):
            key = str(fault["loc"][0])
            wanted = re.sub(r"^(Value error, |Input should be )", "", fault["msg"])
            problems.append(
                Misconfigured(f"{where}.{key} is not what it should be; wanted: {wanted}.", fix="Correct or remove it.")
            )
        return ProfileOptions()


def _given(where: str, variable: Variable, value: Any, private: bool) -> Given | Misconfigured:
    """How the value is given, or what is wrong with it. Nothing of a value is repeated."""
    if isinstance(value, dict):
        return _from_environment(where, cast("dict[str, Any]", value))
    if not isinstance(value, str) or not value.strip():
        return Misconfigured(f"{where} is no text.", fix="Write a text, or leave it out.")
    if mentions_reference(value):
        name = referenced_name(value)
        if name is None or not variable.secret:
            said = "a reference in a place that is no secret's" if name else "a malformed reference"
            return Misconfigured(f"{where} holds {said}.", fix=f'Write "{SCHEME}NAME" for a credential.')
        return Given(secret=name)
    if variable.secret and not private:
        return Misconfigured(
            f"{where} holds a credential in clear text, and others than the owner can read the file.",
            fix=f'Store it with `connector-mcp secrets set NAME` and write "{SCHEME}NAME" here, or '
            '{ env = "VARIABLE" }, or let the owner alone read the file (`chmod 600`).',
        )
    text = value.strip()
    if variable.choices and text not in variable.choices:
        return Misconfigured(f"{where} is none of its choices.", fix=f"Use one of: {', '.join(variable.choices)}.")
    return Given(text=text)


def _from_environment(where: str, table: dict[str, Any]) -> Given | Misconfigured:
    name = table.get("env")
    if set(table) != {"env"} or not isinstance(name, str) or not _VARIABLE_NAME.fullmatch(name):
        return Misconfigured(f"{where} is a table of another form.", fix='Write { env = "VARIABLE" }.')
    if name.startswith(SECRET_VARIABLE):
        # By that name calls could refer to it; as a secret of this profile they cannot.
        return Misconfigured(
            f"{where} names a variable that holds a secret.",
            fix=f'Write "{SCHEME}{name.removeprefix(SECRET_VARIABLE)}" instead.',
        )
    return Given(env=name)


def _unknown(where: str, name: str, known: list[str], noun: str) -> Misconfigured:
    nearest = get_close_matches(name.lower(), known, n=1, cutoff=0.0)[0]
    return Misconfigured(
        f"{where}: there is no such {noun}; the nearest is {nearest}.",
        fix=f"Correct or remove it. There are: {', '.join(known)}.",
    )
