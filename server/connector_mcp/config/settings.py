"""The server's own settings, in groups. A setting has one name: as attribute, variable, flag and key of the file.

Precedence: a command line flag, then the environment variable, then the file, then the default. An empty variable
counts as unset. Configuration fails closed: an unknown name or an invalid value stops the server from starting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, SecretStr
from pydantic import StringConstraints as Text

from connector_mcp.config.validation import drop_unexpanded, either, is_token, read_secret_file, unknown_name, validate
from connector_mcp.errors import Misconfigured
from connector_mcp.input_text import trim
from connector_mcp.operations.catalog import PLATFORMS
from connector_mcp.suggest import closest

if TYPE_CHECKING:
    from connector_mcp.config.file import ConfigFile, FilePlace, Profile

PREFIX = "CONNECTOR_MCP_"
SECRET_PREFIX = "CONNECTOR_MCP_SECRET_"  # noqa: S105 - a prefix of names that hold secrets for `secret://NAME`
DAY = 86_400.0

SecretName = Literal["http_token", "state_password", "webhook_secret", "webhook_callback_secret"]
"""Secrets that can be given as a file: the setting `<name>_file`."""

_ALL_SETTINGS = "`connector-mcp config show` lists all settings."
_NEW_TOKEN = "openssl rand -hex 32"  # noqa: S105 - a command
_NEW_SIGNING_SECRET = 'echo "whsec_$(openssl rand -base64 32)"'  # noqa: S105 - a command


def _default_state_dir() -> Path:
    # platformdirs takes some milliseconds to import, and a start that names a directory does not need it.
    from platformdirs import user_state_dir

    return Path(user_state_dir("connector-mcp", appauthor=False))


def _split(value: Any) -> Any:
    if not isinstance(value, str | list | tuple):
        raise ValueError("names, as text or a list")
    parts = (value,) if isinstance(value, str) else cast("Sequence[Any]", value)
    # A flag can be repeated, and each time it can hold a list.
    names = tuple(name.strip() for part in parts for name in str(part).split(","))
    if not all(names):
        raise ValueError("names separated by single commas")
    return names


def _check_platforms(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in PLATFORMS:
            near = closest(name, PLATFORMS)
            raise ValueError(either(PLATFORMS) + (f" (closest: {near})" if near else ""))
    return tuple(dict.fromkeys(names))


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _check_state(address: SecretStr | None) -> SecretStr | None:
    if address is not None and not re.match(r"postgres(ql)?://.", address.get_secret_value()):
        is_redis = re.match(r"(rediss?|unix)://", address.get_secret_value())
        instead = ": records are kept in PostgreSQL instead of Redis" if is_redis else ""
        raise ValueError(f"an address that begins with postgresql://{instead}")
    return address


def _check_token(token: SecretStr | None) -> SecretStr | None:
    if token is not None and not is_token(token.get_secret_value()):
        raise ValueError("a bearer token: visible ASCII characters without spaces")
    return token


_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class _Group(BaseModel):
    # Only `Settings` is ever built; validators of the groups alone would be built for nothing.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)


class ServingSettings(_Group):
    """What is served."""

    config: Path | None = None
    """TOML file with settings and profiles; by default `connector-mcp.toml` in the user's configuration directory."""
    sandbox: bool = False
    """Serve every platform from the built-in emulation."""
    sandbox_data: Path | None = None
    """File that the sandbox keeps its records in; by default they are kept in memory."""
    platforms: Annotated[_Names, AfterValidator(_check_platforms)] = ()
    """Platforms to serve; by default all that have credentials."""
    tools: _Names = ()
    """Glob patterns of the tools to serve; by default all."""
    read_only: bool = False
    """Serve reads only, whatever the policy says."""
    policy: str = ""
    """Rules that say what is allowed, asked, approved or blocked, such as `destroy=approve,logto_*=block`."""
    verify_writes: bool = True
    """Read a target back after a write."""
    unknown_config: Literal["refuse", "warn"] = "refuse"
    """Whether config keys and connector types that this server does not know are refused, or sent with a warning."""


class ApprovalSettings(_Group):
    """Questions to a person, and calls that wait for an operator."""

    approvals: bool = True
    """Whether an operator can be reached, so that calls may wait for a decision."""
    approval_ttl: _Seconds = DAY
    """How long a parked call waits, and how long it can be used once approved."""
    approval_wait: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)] = 0.0
    """How long a parked call is held for a decision; 0 holds none. Some clients give up after 60 seconds: try 40."""
    ask_timeout: _Seconds = 300.0
    """How long a person at the client has to answer."""
    ask_reading_time: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 0.5
    """A sooner answer to a question is the client's own, not a person's, and parks the call; 0 takes every answer."""
    operators_file: Path | None = None
    """TOML file with the tokens of the operators of the console over HTTP; without it there is none."""


class WebhookSettings(_Group):
    """Telling another system of parked calls, and taking its decisions."""

    webhook_url: SecretStr | None = None
    """Address that is told of each parked call; https, except on loopback."""
    webhook_secret: SecretStr | None = None
    """Secret that signs each announcement: `whsec_` and base64, as Standard Webhooks defines it."""
    webhook_secret_file: Path | None = None
    """File with that secret, as container platforms mount secrets."""
    webhook_timeout: _Seconds = 10.0
    """How long the webhook has to accept one announcement."""
    webhook_callback_secret: SecretStr | None = None
    """Another such secret: requests signed with it decide parked calls, over HTTP."""
    webhook_callback_secret_file: Path | None = None
    """File with that secret, as container platforms mount secrets."""
    webhook_callback_url: str | None = None
    """Address of this server's `/approvals` as the webhook's receiver reaches it; sent with each parked call."""


class UpstreamSettings(_Group):
    """Limits of calls to the platforms and of their results."""

    deadline: _Seconds = 60.0
    """Upper bound of one call's work upstream, retries included."""
    max_answer_bytes: Annotated[int, Field(ge=1024)] = 10_000_000
    """Largest response that is read from a platform."""
    max_result_bytes: Annotated[int, Field(ge=1024)] = 60_000
    """Largest result that an agent is given."""
    upstream_concurrency: Annotated[int, Field(ge=1, le=1000)] = 64
    """Requests in flight to one platform."""
    requests_per_second: _Seconds | None = None
    """Sustained rate of requests to one platform; by default the platform's own."""


class StateSettings(_Group):
    """Where approvals, keys, the audit log and stored secrets are kept."""

    state_dir: Path = Field(default_factory=_default_state_dir)
    """Directory of `records.db` and stored secrets; by default `connector-mcp` in the user's state directory."""
    state: Annotated[SecretStr | None, AfterValidator(_check_state)] = None
    """PostgreSQL database, `postgresql://`, in which replicas share their records; without it the state directory."""
    state_password_file: Path | None = None
    """File with the password of that database, as container platforms mount secrets."""
    inline_secrets: Literal["warn", "refuse", "allow"] = "warn"
    """What happens to a call that contains a literal secret where a reference could be used."""
    secrets_dir: Path | None = None
    """Directory with one file for each secret, as container platforms mount secrets."""
    secrets_keyring: bool = False
    """Look up secrets in the operating system's keyring, and keep the key of the secret store there."""
    secrets_key_file: Path | None = None
    """File with the key of the secret store; by default `secrets.key` in the state directory, or the keyring."""
    secrets_limits: Path | None = None
    """TOML file that limits secrets to platforms, profiles and fields."""


class HttpSettings(_Group):
    """The HTTP server: where it listens, who may call, and how much."""

    host: Annotated[str, Text(min_length=1)] = "127.0.0.1"
    """Address to listen on, over HTTP; beyond loopback only if callers need a token."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8765
    """Port to listen on, over HTTP; 0 takes a free one."""
    allowed_hosts: _Names = ()
    """Host headers to accept over HTTP in addition to the address itself, exactly as sent: `mcp.example.com`."""
    allowed_origins: _Names = ()
    """Origins to accept over HTTP in addition to the address itself: `https://mcp.example.com`."""
    public_url: str | None = None
    """Address at which HTTP callers know this server: `https://mcp.example.com`, or with a proxy's path prefix."""
    http_token: Annotated[SecretStr | None, AfterValidator(_check_token)] = None
    """Bearer token that HTTP callers must send."""
    http_token_file: Path | None = None
    """File with that token, as container platforms mount secrets."""
    tokens_file: Path | None = None
    """TOML file of named bearer tokens with scopes and expiry, as `connector-mcp tokens new` writes it."""
    oauth_issuer: str | None = None
    """Issuer of the OAuth access tokens that HTTP callers may send, exactly as the tokens name it."""
    oauth_audience: _Names = ()
    """Audiences; a token must name one of them. By default the public address, alone or with `/mcp` or `/sse`."""
    oauth_jwks_url: str | None = None
    """Address of the issuer's keys; by default the one in the issuer's metadata."""
    oauth_algorithms: _Names = ("RS256", "ES256", "EdDSA")
    """Signature algorithms of tokens to accept."""
    oauth_leeway: Annotated[float, Field(gt=0, le=300)] = 30.0
    """Tolerated difference between the issuer's clock and this one."""
    http_max_body_bytes: Annotated[int, Field(ge=1024)] = 4_194_304
    """Largest body of an HTTP request."""
    http_max_connections: Annotated[int, Field(ge=1)] = 10_000
    """Concurrent HTTP connections, idle streams included."""
    http_max_calls: Annotated[int, Field(ge=1)] = 256
    """Concurrent tool calls over HTTP."""
    http_max_sessions: Annotated[int, Field(ge=1)] = 256
    """Open HTTP sessions, and streams on `/sse`, of each caller."""
    http_requests_per_minute: Annotated[int, Field(ge=1)] = 6_000
    """HTTP requests per minute for each token."""
    http_client_timeout: _Seconds = 30.0
    """How long an HTTP client may take to send a request, and to read what it is sent."""


class TelemetrySettings(_Group):
    """Logs, metrics and spans."""

    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "WARNING"
    """Lowest level that is logged on stderr."""
    log_format: Literal["text", "json"] = "text"
    """Format of the log lines on stderr: `text` for people, `json` for log collectors."""
    metrics: Literal["off", "token", "open"] = "token"
    """`/metrics` over HTTP: `token` requires the same token as calls, `open` requires none, `off` removes it."""
    otel: bool = False
    """Export OpenTelemetry spans to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names."""


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
    """What each place gives, the strongest last."""
    by_variable = {variable_name(field): field for field in Settings.model_fields}
    variables = {
        # An unknown variable keeps its name, so that it is reported as it is spelled.
        by_variable.get(name, name): _expand(by_variable.get(name, name), value, Path())
        for name, raw in environ.items()
        if (value := trim(raw)) and name.upper().startswith(PREFIX) and not name.upper().startswith(SECRET_PREFIX)
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
