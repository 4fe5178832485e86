"""This server's own settings, in one place.

Precedence: a command line flag, then the environment variable, then the file, then the default. An empty variable
counts as unset.
Whatever is not understood ends the start with the nearest valid name: configuration fails closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
)

from connector_mcp.config.platform_variables import either, unknown_variable
from connector_mcp.config.secret_files import is_token, read_secret
from connector_mcp.errors import Misconfigured
from connector_mcp.operations.catalog import PLATFORMS

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from connector_mcp.config.file import ConfigFile, Profile

PREFIX = "CONNECTOR_MCP_"
SECRET_PREFIX = "CONNECTOR_MCP_SECRET_"  # noqa: S105 - the names that `secret://NAME` resolves to, not settings
DAY = 86_400.0

_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Names = tuple[str, ...]


def _default_state_dir() -> Path:
    # platformdirs takes some milliseconds to import, and no start that names a directory needs it.
    from platformdirs import user_state_dir

    return Path(user_state_dir("connector-mcp", appauthor=False))


class Settings(BaseModel):
    """This server's settings. The variable of `read_only` is `CONNECTOR_MCP_READ_ONLY`, its flag `--read-only`.

    Durations are in seconds, sizes in bytes. Build it with `load`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    config: Path | None = None
    """TOML file of settings and profiles; without it, `connector-mcp.toml` in the user's configuration directory, if
    there is one."""
    sandbox: bool = False
    """Serve every platform from the emulation in this process."""
    sandbox_data: Path | None = None
    """File that the sandbox keeps its records in; in memory where there is none."""
    platforms: _Names = ()
    """Platforms to serve; all that have credentials where none is named."""
    tools: _Names = ()
    """Glob patterns of the tools to serve; all where there are none."""
    read_only: bool = False
    """Serve reads only, whatever the policy says."""
    policy: str = ""
    """Rules that say what is allowed, asked, approved or blocked, such as `destroy=approve,logto_*=block`."""
    verify_writes: bool = True
    """Read a target back after a write."""
    approvals: bool = True
    """Whether an operator can be reached, so that calls may wait for a decision."""
    approval_ttl: _Seconds = DAY
    """How long a parked call waits, and how long it may be used once approved."""
    approval_wait: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)] = 0.0
    """How long a parked call is held for the operator's decision before it is answered; 0 holds none. Some clients give
    up on a call after 60 seconds, so stay well below, at 40."""
    webhook_url: SecretStr | None = None
    """Address that is told of each parked call; https, loopback excepted."""
    webhook_secret: SecretStr | None = None
    """Secret that signs what is told, `whsec_` and base64 as Standard Webhooks has it."""
    webhook_secret_file: Path | None = None
    """File with that secret, as container secrets are mounted."""
    webhook_timeout: _Seconds = 10.0
    """How long the webhook has to take one announcement."""
    webhook_callback_secret: SecretStr | None = None
    """Another such secret: whoever signs with it decides parked calls, over HTTP."""
    webhook_callback_secret_file: Path | None = None
    """File with that secret, as container secrets are mounted."""
    webhook_callback_url: str | None = None
    """Address of this server's `/approvals` as the webhook's receiver reaches it; told with each parked call."""
    ask_timeout: _Seconds = 300.0
    """How long a person at the client has to answer."""
    deadline: _Seconds = 60.0
    """Upper bound of one call's work upstream, retries included."""
    max_answer_bytes: Annotated[int, Field(ge=1024)] = 10_000_000
    """Largest answer that is read from a platform."""
    max_result_bytes: Annotated[int, Field(ge=1024)] = 60_000
    """Largest result that is handed to an agent."""
    upstream_concurrency: Annotated[int, Field(ge=1, le=1000)] = 64
    """Requests in flight to one platform."""
    requests_per_second: _Seconds | None = None
    """Sustained rate of requests to one platform; the platform's own where it is not set."""
    state_dir: Path = Field(default_factory=_default_state_dir)
    """Directory of approvals, keys and the audit log; without it, `connector-mcp` in the user's state directory."""
    state: SecretStr | None = None
    """Redis or Valkey that replicas share state and audit log in: `redis://`, `rediss://` (TLS) or `unix://`; without
    it both are files of the state directory."""
    state_password_file: Path | None = None
    """File with the password of that server, as container secrets are mounted; without it, the address's own."""
    audit_file_bytes: Annotated[int, Field(ge=65_536)] = 16_777_216
    """Size of an audit log file, at which the next one is begun; none is ever removed."""
    inline_secrets: Literal["warn", "refuse", "allow"] = "warn"
    """What becomes of a call that gives a secret itself where a reference could stand."""
    secrets_dir: Path | None = None
    """Directory with a file for each secret, as container secrets are mounted."""
    secrets_keyring: bool = False
    """Look secrets up in the operating system's keyring, and keep the key of the secret store there."""
    secrets_key_file: Path | None = None
    """File with the key of the secret store; without it, `secrets.key` in the state directory, or the keyring."""
    secrets_limits: Path | None = None
    """TOML file that limits secrets to platforms, profiles and fields."""
    host: Annotated[str, StringConstraints(min_length=1)] = "127.0.0.1"
    """Address to listen on, over HTTP; beyond loopback only where callers need a token."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8765
    """Port to listen on, over HTTP; 0 takes any free one."""
    allowed_hosts: _Names = ()
    """Host headers to take over HTTP beside the address itself, exactly as sent: `mcp.example.com`."""
    allowed_origins: _Names = ()
    """Origins to take over HTTP beside the address itself: `https://mcp.example.com`."""
    http_token: SecretStr | None = None
    """Bearer token that HTTP callers must show."""
    http_token_file: Path | None = None
    """File with that token, as container secrets are mounted."""
    tokens_file: Path | None = None
    """TOML file of named bearer tokens with scopes and expiry, as `connector-mcp tokens new` writes it."""
    public_url: str | None = None
    """Address at which HTTP callers know this server, such as `https://mcp.example.com`; its host is let in."""
    oauth_issuer: str | None = None
    """Issuer of the OAuth access tokens that HTTP callers may show, exactly as the tokens name it."""
    oauth_audience: _Names = ()
    """Audiences of which a token must name one; without any, the public address, alone or with `/mcp` or `/sse`."""
    oauth_jwks_url: str | None = None
    """Where the issuer's keys are; without it, where the issuer's metadata says."""
    oauth_algorithms: _Names = ("RS256", "ES256", "EdDSA")
    """Signature algorithms of tokens to take."""
    oauth_leeway: Annotated[float, Field(gt=0, le=300)] = 30.0
    """How far the issuer's clock may be off."""
    http_max_body_bytes: Annotated[int, Field(ge=1024)] = 4_194_304
    """Largest body of an HTTP request."""
    http_max_connections: Annotated[int, Field(ge=1)] = 10_000
    """HTTP connections at the same time, idle streams included."""
    http_max_calls: Annotated[int, Field(ge=1)] = 256
    """Calls of tools over HTTP at the same time."""
    http_requests_per_minute: Annotated[int, Field(ge=1)] = 6_000
    """HTTP requests a minute of one holder of a token."""
    http_client_timeout: _Seconds = 30.0
    """How long an HTTP client may take to send a head or a body, and to read what it is sent."""
    operators_file: Path | None = None
    """TOML file with the tokens of those who may sign in to the console; over HTTP there is none without it."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    """What is logged on stderr, from this level up."""
    log_format: Literal["text", "json"] = "text"
    """Form of the log lines on stderr: `text` for people, `json` for what collects them."""
    metrics: Literal["off", "token", "open"] = "token"
    """`/metrics` over HTTP: `token` asks for what callers must show, `open` for nothing, `off` is not there."""
    otel: bool = False
    """Export OpenTelemetry spans to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names."""

    _profiles: tuple[Profile, ...] = PrivateAttr(default=())
    """What the file holds beside settings."""
    _origins: Mapping[str, str] = PrivateAttr(default_factory=dict[str, str])
    """Where each value is from."""

    @classmethod
    def load(cls, environ: Mapping[str, str], file: ConfigFile | None = None, **overrides: Any) -> Self:
        """Settings from an environment, a file and flags; a flag that is None was not given.

        Raises:
            Misconfigured: A variable of ours or a key has an unknown name, or a value is not what it should be.
        """
        settings, problems = cls.examine(environ, file, **overrides)
        if problems:
            raise problems[0]
        return settings

    @classmethod
    def examine(
        cls, environ: Mapping[str, str], file: ConfigFile | None = None, **overrides: Any
    ) -> tuple[Self, list[Misconfigured]]:
        """What `load` gives, and all that is wrong; what is wrong is left at its default, so that the rest is seen."""
        given = {name: value for name, value in overrides.items() if value is not None}
        named = {name: environ.get(f"{PREFIX}{name.upper()}", "").strip() for name in cls.model_fields}
        source = {name: value for name, value in named.items() if value}
        origins = {name: f"{PREFIX}{name.upper()}" for name in source} | {name: _flag(name) for name in given}
        problems = [*_unknown_settings(environ), *(file.problems if file else ())]
        if file is not None:
            problems += _misplaced(file)
            origins = {name: f"{file.path}: {name}" for name in file.settings} | origins
            source = {name: _from_file(name, value, file) for name, value in file.settings.items()} | source
            source["config"] = file.path
        values = {**source, **given}
        try:
            settings = cls.model_validate(values)
        except ValidationError as invalid:
            faults = {str(fault["loc"][0]): fault for fault in invalid.errors(include_url=False, include_context=False)}
            problems += [_misconfigured(name, fault, origins[name]) for name, fault in faults.items()]
            settings = cls.model_validate({name: value for name, value in values.items() if name not in faults})
        problems += _contradictions(settings, origins)
        settings._profiles = file.profiles if file else ()
        settings._origins = origins
        return settings, problems

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The named accounts of the file."""
        return self._profiles

    @property
    def origins(self) -> Mapping[str, str]:
        """Flag, variable or file and key of each setting that is not at its default."""
        return self._origins

    @property
    def credential_secrets(self) -> frozenset[str]:
        """The secrets that profiles hold their own credentials in. No call may refer to one."""
        return frozenset(given.secret for profile in self._profiles for given in profile.given.values() if given.secret)

    @property
    def longest_deadline(self) -> float:
        """Upper bound of any call's work upstream, under whichever profile, in seconds."""
        return max(self.deadline, *(profile.options.deadline or 0.0 for profile in self._profiles), 0.0)

    @field_validator(
        "platforms", "tools", "allowed_hosts", "allowed_origins", "oauth_audience", "oauth_algorithms", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str | list | tuple):
            raise ValueError("names, in a text or a list")
        parts = (value,) if isinstance(value, str) else cast("Sequence[Any]", value)
        # A flag may be given several times, and each time with a list.
        names = tuple(name.strip() for part in parts for name in str(part).split(","))
        if not all(names):
            raise ValueError("names separated by single commas")
        return names

    @field_validator("platforms")
    @classmethod
    def _known_platforms(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in PLATFORMS:
                raise ValueError(
                    f"there is no platform {name!r}{_nearest(name, PLATFORMS)}; wanted {either(PLATFORMS)}"
                )
        return tuple(dict.fromkeys(names))

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator(
        "config",
        "sandbox_data",
        "state_dir",
        "state_password_file",
        "http_token_file",
        "tokens_file",
        "operators_file",
        "secrets_dir",
        "secrets_key_file",
        "secrets_limits",
        "webhook_secret_file",
        "webhook_callback_secret_file",
    )
    @classmethod
    def _home(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @field_validator("state")
    @classmethod
    def _a_redis_address(cls, address: SecretStr | None) -> SecretStr | None:
        if address is not None and not re.match(r"(rediss?|unix)://.", address.get_secret_value()):
            raise ValueError("an address that begins with redis://, rediss:// or unix://")
        return address

    @field_validator("http_token")
    @classmethod
    def _sendable(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not is_token(token.get_secret_value()):
            raise ValueError("a bearer token consists of visible ASCII characters, without spaces")
        return token

    def bearer_token(self) -> SecretStr | None:
        """The token that HTTP callers must show, from its variable or its file; None where there is neither.

        Raises:
            Misconfigured: The file cannot be read, or holds no token.
        """
        if self.http_token_file is None:
            return self.http_token
        return read_secret(self.http_token_file, f"{PREFIX}HTTP_TOKEN_FILE", "openssl rand -hex 32")

    def state_password(self) -> SecretStr | None:
        """The password in the file that is named for it; None where none is.

        Raises:
            Misconfigured: The file cannot be read, or holds no password.
        """
        if self.state_password_file is None:
            return None
        return read_secret(self.state_password_file, f"{PREFIX}STATE_PASSWORD_FILE", "openssl rand -hex 32")

    def signing_secret(self, name: Literal["webhook_secret", "webhook_callback_secret"]) -> SecretStr | None:
        """The secret that signs, from its variable or its file; None where there is neither.

        Raises:
            Misconfigured: The file cannot be read, or holds no secret.
        """
        file: Path | None = getattr(self, f"{name}_file")
        if file is None:
            return getattr(self, name)
        return read_secret(file, f"{PREFIX}{name.upper()}_FILE", 'echo "whsec_$(openssl rand -base64 32)"')


def _contradictions(settings: Settings, origins: Mapping[str, str]) -> list[Misconfigured]:
    """Two sources of one secret, and a webhook that could not be signed. No file is read yet."""
    problems: list[Misconfigured] = []
    for name, what in (("http_token", "token"), ("webhook_secret", "secret"), ("webhook_callback_secret", "secret")):
        if getattr(settings, name) is not None and getattr(settings, f"{name}_file") is not None:
            both = f"{origins[name]} and {origins[f'{name}_file']}"
            said = f"{both} are both set, and only one can be the {what}."
            problems.append(Misconfigured(said, fix="Unset one of them."))
    signed = settings.webhook_secret is not None or settings.webhook_secret_file is not None
    if signed != (settings.webhook_url is not None):
        problems.append(
            Misconfigured(
                f"Of {PREFIX}WEBHOOK_URL and {PREFIX}WEBHOOK_SECRET one is set, and neither works without the other.",
                fix='Set both or none; a secret is made with `echo "whsec_$(openssl rand -base64 32)"`.',
            )
        )
    return problems


def _unknown_settings(environ: Mapping[str, str]) -> list[Misconfigured]:
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    return [
        unknown_variable(name, known)
        for name, value in environ.items()
        if value.strip() and name.upper().startswith(PREFIX) and name not in known
        if not name.upper().startswith(SECRET_PREFIX)
    ]


def _misplaced(file: ConfigFile) -> list[Misconfigured]:
    """What the file holds that only another place, or a file that nobody else reads, may hold."""
    problems: list[Misconfigured] = []
    if "config" in file.settings:
        problems.append(Misconfigured(f"{file.path}: config names another file.", fix="Remove it; there is one file."))
    for name in file.settings:
        if not file.private and is_secret(name):
            problems.append(
                Misconfigured(
                    f"{file.path}: {name} is a secret in clear text, and others than the owner can read the file.",
                    fix=f"Give it as {PREFIX}{name.upper()}, or let the owner alone read the file (`chmod 600`).",
                )
            )
    return problems


def _from_file(name: str, value: Any, file: ConfigFile) -> Any:
    """The value; of a path, one that counts from where the file is."""
    info = Settings.model_fields.get(name)
    is_path = info is not None and Path in (info.annotation, *get_args(info.annotation))
    return file.path.parent / Path(value).expanduser() if is_path and isinstance(value, str) else value


def _misconfigured(field: str, fault: ErrorDetails, name: str) -> Misconfigured:
    """The fault as a person who set a variable, a flag or a key, by this name, needs to read it."""
    if fault["type"] == "extra_forbidden":
        is_flag = name == _flag(field)
        known = [_flag(each) if is_flag else each for each in Settings.model_fields]
        return Misconfigured(
            f"There is no setting {name}{_nearest(_flag(field) if is_flag else field, known)}.",
            fix="Correct its name or leave it out.",
        )
    value: object = fault["input"]
    shown = not is_secret(field) and isinstance(value, str | int | float | list | tuple | Path)
    got = repr(str(cast("object", value))) if shown else "not acceptable (its value is not shown)"
    wanted = re.sub(r"^(Value error, |Input should be )", "", fault["msg"])
    return Misconfigured(f"{name} is {got}; wanted: {wanted}.", fix=f"Correct {name} or leave it out.")


def is_secret(field: str) -> bool:
    """Whether the value of a setting is never shown."""
    info = Settings.model_fields.get(field)
    return info is not None and SecretStr in get_args(info.annotation)


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (nearest: {close[0]})" if close else ""
