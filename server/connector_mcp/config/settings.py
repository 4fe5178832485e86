"""The server's own settings, in groups. A setting has one name: as attribute, variable, flag and key of the file.

Precedence: a command line flag, then the environment variable, then the file, then the default. An empty variable
counts as unset. Configuration fails closed: an unknown name or an invalid value stops the server from starting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from pydantic import ConfigDict, PrivateAttr, SecretStr

from connector_mcp.config.groups import (
    ApprovalSettings,
    HttpSettings,
    ServingSettings,
    StateSettings,
    TelemetrySettings,
    UpstreamSettings,
    WebhookSettings,
)
from connector_mcp.config.validation import drop_unexpanded, read_secret_file, unknown_name, validate
from connector_mcp.errors import Misconfigured
from connector_mcp.input_text import trim
from connector_mcp.secrets.sources import VARIABLE as SECRET_VARIABLE

if TYPE_CHECKING:
    from connector_mcp.config.file import ConfigFile, FilePlace, Profile

PREFIX = "CONNECTOR_MCP_"

SecretName = Literal["http_token", "state_password", "webhook_secret", "webhook_callback_secret"]
"""Secrets that can be given as a file: the setting `<name>_file`."""

_ALL_SETTINGS = "`connector-mcp config show` lists all settings."
_NEW_TOKEN = "openssl rand -hex 32"  # noqa: S105 - a command
_NEW_SIGNING_SECRET = 'echo "whsec_$(openssl rand -base64 32)"'  # noqa: S105 - a command


# pydantic takes the fields of the last base first; written so, they are in the order of this file.
class Settings(
    TelemetrySettings, HttpSettings, StateSettings, UpstreamSettings, WebhookSettings, ApprovalSettings, ServingSettings
):
    """All settings. The variable of `read_only` is `CONNECTOR_MCP_READ_ONLY`, its flag `--read-only`.

    Durations are in seconds, sizes in bytes. Build it with `load`.
    """

    model_config = ConfigDict(defer_build=False)

    _profiles: tuple[Profile, ...] = PrivateAttr(default=())
    _origins: Mapping[str, str] = PrivateAttr(default_factory=dict[str, str])

    @classmethod
    def load(cls, environ: Mapping[str, str], file: ConfigFile | None = None, **flags: Any) -> Self:
        """Return the settings of an environment, a file and flags; a flag that is None was not given.

        Raises:
            Misconfigured: A variable with our prefix, a key or a flag is unknown, or a value is invalid.
        """
        settings, problems = cls.examine(environ, file, **flags)
        if problems:
            raise problems[0]
        return settings

    @classmethod
    def examine(
        cls, environ: Mapping[str, str], file: ConfigFile | None = None, **flags: Any
    ) -> tuple[Self, list[Misconfigured]]:
        """Return what `load` returns, and all problems; an invalid setting is left at its default."""
        sources: dict[str, _Source] = {}
        values: dict[str, Any] = {}
        for source in _sources(environ, file, flags):
            sources |= dict.fromkeys(source.values, source)
            values |= source.values
        problems = [*file.problems, *_misplaced(file)] if file else []
        problems += drop_unexpanded(values, lambda key: sources[key].place(key))
        if file is not None:
            values["config"] = file.path
        settings, invalid = validate(
            cls,
            values,
            unknown=lambda key: sources[key].unknown(key),
            place=lambda key: sources[key].place(key),
            shown=lambda key: not is_secret(key),
        )
        settings._profiles = file.profiles if file else ()
        settings._origins = {key: source.place(key) for key, source in sources.items()}
        problems += [*invalid, *_contradictions(settings)]
        return settings, problems

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The named accounts of the file."""
        return self._profiles

    @property
    def origins(self) -> Mapping[str, str]:
        """The flag, variable, or file and key of each setting that was given."""
        return self._origins

    def place(self, name: str) -> str:
        """Return where the setting was given, for errors; or its variable if it was not given."""
        return self._origins.get(name, variable_name(name))

    @property
    def credential_secrets(self) -> frozenset[str]:
        """The secrets that profiles keep their own credentials in. Calls must not refer to them."""
        return frozenset(given.secret for profile in self._profiles for given in profile.given.values() if given.secret)

    @property
    def longest_deadline(self) -> float:
        """The upper bound of any call's work upstream, under any profile, in seconds."""
        return max(self.deadline, *(profile.options.deadline or 0.0 for profile in self._profiles), 0.0)

    def secret(self, name: SecretName) -> SecretStr | None:
        """Return the secret from its setting or from the file that `<name>_file` names, or None.

        Raises:
            Misconfigured: The file cannot be read, or does not contain a secret.
        """
        file: Path | None = getattr(self, f"{name}_file")
        if file is None:
            return getattr(self, name, None)
        command = _NEW_SIGNING_SECRET if name.startswith("webhook") else _NEW_TOKEN
        return read_secret_file(file, self.place(f"{name}_file"), command)


def is_secret(field: str) -> bool:
    """Check whether the value of a setting must never be shown."""
    info = Settings.model_fields.get(field)
    return info is not None and SecretStr in get_args(info.annotation)


def variable_name(field: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{field.upper()}"


@dataclass(frozen=True)
class _Source:
    """Values from one place, which is a file if `where` names it. `spell` gives a setting's name as written there."""

    values: dict[str, Any]
    spell: Callable[[str], str]
    where: FilePlace | None = None

    def place(self, key: str) -> str:
        return str(self.where.at(key)) if self.where else self.spell(key)

    def unknown(self, key: str) -> Misconfigured:
        # Without the prefix, which makes all variables look alike.
        word = key.upper().removeprefix(PREFIX).lower()
        return unknown_name(
            self.place(key), word, Settings.model_fields, "setting", spell=self.spell, fix=_ALL_SETTINGS
        )


def _sources(environ: Mapping[str, str], file: ConfigFile | None, flags: Mapping[str, Any]) -> list[_Source]:
    """Return the sources of settings, the strongest last."""
    by_variable = {variable_name(field): field for field in Settings.model_fields}
    variables = {
        # An unknown variable keeps its name, so that it is reported as it is spelled.
        by_variable.get(name, name): _expand(by_variable.get(name, name), value, Path())
        for name, raw in environ.items()
        if (value := trim(raw)) and name.upper().startswith(PREFIX) and not name.upper().startswith(SECRET_VARIABLE)
    }
    given = {name: _expand(name, value, Path()) for name, value in flags.items() if value is not None}
    sources = [
        _Source(variables, lambda key: key if key.upper().startswith(PREFIX) else variable_name(key)),
        _Source(given, lambda key: f"--{key.replace('_', '-')}"),
    ]
    if file is not None:
        written = {name: _expand(name, value, file.path.parent) for name, value in file.settings.items()}
        sources.insert(0, _Source(written, str, file.where))
    return sources


def _expand(field: str, value: Any, base: Path) -> Any:
    """Expand `~` in a path and resolve a relative one against `base`. Leave other values as they are."""
    info = Settings.model_fields.get(field)
    is_path = info is not None and Path in (info.annotation, *get_args(info.annotation))
    return base / Path(value).expanduser() if is_path and isinstance(value, str | Path) else value


def _misplaced(file: ConfigFile) -> Iterator[Misconfigured]:
    """Find settings that this file must not contain."""
    if "config" in file.settings:
        yield Misconfigured(f"{file.where.at('config')} names another file.", fix="Remove it; only one is read.")
    for name in file.settings:
        if not file.private and is_secret(name):
            yield Misconfigured(
                f"{file.where.at(name)} is a secret in plain text, and other users can read the file.",
                fix=f"Set {variable_name(name)} instead, or make the file private (`chmod 600`).",
            )


def _contradictions(settings: Settings) -> list[Misconfigured]:
    """Find secrets that are given twice and a webhook without a secret. No secret file is read yet."""
    problems = [
        Misconfigured(
            f"{settings.place(name)} and {settings.place(f'{name}_file')} are both set.", fix="Unset one of them."
        )
        for name in ("http_token", "webhook_secret", "webhook_callback_secret")
        if getattr(settings, name) is not None and getattr(settings, f"{name}_file") is not None
    ]
    signed = settings.webhook_secret is not None or settings.webhook_secret_file is not None
    if signed != (settings.webhook_url is not None):
        problems.append(
            Misconfigured(
                f"Only one of {PREFIX}WEBHOOK_URL and {PREFIX}WEBHOOK_SECRET is set, and each needs the other.",
                fix=f"Set both or neither; generate a secret with `{_NEW_SIGNING_SECRET}`.",
            )
        )
    return problems
