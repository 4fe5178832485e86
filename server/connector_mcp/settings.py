"""Configuration in one place: this server's own settings, and the platforms' variables.

Precedence: a command line flag, then the environment variable, then the default. An empty variable counts as unset.
Whatever is not understood ends the start with the nearest valid name: configuration fails closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError, field_validator

from connector_mcp.errors import Misconfigured
from connector_mcp.operations.catalogue import PLATFORMS
from connector_mcp.operations.platform import (
    ApiKey,
    ClientCredentials,
    Platform,
    SignedAssertion,
    Variable,
)

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

    @classmethod
    def load(cls, environ: Mapping[str, str], **overrides: Any) -> Self:
        """Settings from an environment and from flags; a flag that is None was not given.

        Raises:
            Misconfigured: A variable of ours has an unknown name, or a value is not what it should be.
        """
        _refuse_unknown_settings(environ)
        given = {name: value for name, value in overrides.items() if value is not None}
        named = {name: environ.get(f"{PREFIX}{name.upper()}", "").strip() for name in cls.model_fields}
        source = {name: value for name, value in named.items() if value}
        try:
            settings = cls.model_validate({**source, **given})
        except ValidationError as invalid:
            raise _misconfigured(invalid, given) from None
        if settings.http_token is not None and settings.http_token_file is not None:
            raise Misconfigured(
                f"{PREFIX}HTTP_TOKEN and {PREFIX}HTTP_TOKEN_FILE are both set, and only one can be the token.",
                fix="Unset one of them.",
            )
        _check_webhook(settings)
        return settings

    @field_validator(
        "platforms", "tools", "allowed_hosts", "allowed_origins", "oauth_audience", "oauth_algorithms", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        parts: Iterable[Any] = (value,) if isinstance(value, str) else value
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
                    f"there is no platform {name!r}{_nearest(name, PLATFORMS)}; wanted {_either(PLATFORMS)}"
                )
        return tuple(dict.fromkeys(names))

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator(
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
        if token is not None and not _is_token(token.get_secret_value()):
            raise ValueError("a bearer token consists of visible ASCII characters, without spaces")
        return token

    def bearer_token(self) -> SecretStr | None:
        """The token that HTTP callers must show, from its variable or its file; None where there is neither.

        Raises:
            Misconfigured: The file cannot be read, or holds no token.
        """
        if self.http_token_file is None:
            return self.http_token
        return _token_in(self.http_token_file, f"{PREFIX}HTTP_TOKEN_FILE", "openssl rand -hex 32")

    def state_password(self) -> SecretStr | None:
        """The password in the file that is named for it; None where none is.

        Raises:
            Misconfigured: The file cannot be read, or holds no password.
        """
        if self.state_password_file is None:
            return None
        return _token_in(self.state_password_file, f"{PREFIX}STATE_PASSWORD_FILE", "openssl rand -hex 32")

    def signing_secret(self, name: Literal["webhook_secret", "webhook_callback_secret"]) -> SecretStr | None:
        """The secret that signs, from its variable or its file; None where there is neither.

        Raises:
            Misconfigured: The file cannot be read, or holds no secret.
        """
        file: Path | None = getattr(self, f"{name}_file")
        if file is None:
            return getattr(self, name)
        return _token_in(file, f"{PREFIX}{name.upper()}_FILE", 'echo "whsec_$(openssl rand -base64 32)"')


def platform_values(platform: Platform, environ: Mapping[str, str]) -> dict[str, str]:
    """The platform's variables that are set, without surrounding white space.

    Raises:
        Misconfigured: A variable is a misspelling of one of the platform's, or a value is not one of its choices.
    """
    prefix = f"{platform.name.upper()}_"
    known = {variable.name: variable for variable in platform.variables}
    values: dict[str, str] = {}
    for name, raw in environ.items():
        value = raw.strip()
        if not value or not name.upper().startswith(prefix):
            continue
        variable = known.get(name)
        if variable is None:
            # Other programs have variables with this prefix too; only what looks like one of ours is a mistake.
            if name not in platform.foreign_variables and get_close_matches(name.upper(), known, n=1, cutoff=0.75):
                raise _unknown_variable(name, known)
            continue
        if variable.choices and value not in variable.choices:
            got = "set to something else" if variable.secret else repr(value)
            raise Misconfigured(
                f"{name} is {got}; wanted {_either(variable.choices)}.",
                fix=f"Set {name} to one of these, or unset it.",
            )
        values[name] = value
    return values


def is_configured(platform: Platform, values: Mapping[str, str]) -> bool:
    """Whether the platform can be called with these values."""
    return not missing(platform, values)


def missing(platform: Platform, values: Mapping[str, str]) -> list[Variable]:
    """The variables without which the platform cannot be called, in the order of its declaration."""
    credentials = platform.credentials
    match credentials:
        case ApiKey(key=key):
            needed = [key]
        case ClientCredentials(client_id=client_id, client_secret=client_secret):
            needed = [client_id, client_secret]
        case SignedAssertion(client_id=client_id, client_secret=client_secret, access_token=access_token):
            needed = [] if access_token.name in values else [client_id, client_secret]
    lacking = [variable for variable in needed if variable.name not in values]
    if platform.base_url.name in values or platform.base_url.default is not None:
        return lacking
    derive = platform.base_url_from
    if derive is None:
        return [*lacking, platform.base_url]
    # As long as the id that may name the address is missing, it is not known whether the address is.
    known_to_lack = not any(variable in lacking for variable in needed[:1]) and derive(values) is None
    return [*lacking, platform.base_url] if known_to_lack else lacking


def _token_in(file: Path, setting: str, make: str) -> SecretStr:
    where = f"{setting} names {file}"
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as failure:
        raise Misconfigured(
            f"{where}, which cannot be read: {type(failure).__name__}.",
            fix="Name a file that this process may read and that holds the secret alone.",
        ) from None
    if not _is_token(token):
        raise Misconfigured(
            f"{where}, which holds no secret: wanted visible ASCII characters on one line, without spaces.",
            fix=f"Write the secret into the file, for example with `{make}`.",
        )
    return SecretStr(token)


def _check_webhook(settings: Settings) -> None:
    """Refuse two sources of one secret, and a webhook that could not be signed. No file is read yet."""
    for name in ("WEBHOOK_SECRET", "WEBHOOK_CALLBACK_SECRET"):
        if getattr(settings, name.lower()) is not None and getattr(settings, f"{name.lower()}_file") is not None:
            raise Misconfigured(
                f"{PREFIX}{name} and {PREFIX}{name}_FILE are both set, and only one can be the secret.",
                fix="Unset one of them.",
            )
    signed = settings.webhook_secret is not None or settings.webhook_secret_file is not None
    if signed != (settings.webhook_url is not None):
        raise Misconfigured(
            f"Of {PREFIX}WEBHOOK_URL and {PREFIX}WEBHOOK_SECRET one is set, and neither works without the other.",
            fix='Set both or none; a secret is made with `echo "whsec_$(openssl rand -base64 32)"`.',
        )


def _refuse_unknown_settings(environ: Mapping[str, str]) -> None:
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    for name, value in environ.items():
        ours = name.upper()
        if value.strip() and ours.startswith(PREFIX) and not ours.startswith(SECRET_PREFIX) and name not in known:
            raise _unknown_variable(name, known)


def _unknown_variable(name: str, known: Iterable[str]) -> Misconfigured:
    names = list(known)
    nearest = get_close_matches(name.upper(), names, n=1, cutoff=0.0)
    return Misconfigured(
        f"{name} is set, but there is no such setting; the nearest is {nearest[0]}.",
        fix=f"Set {nearest[0]} instead, or unset {name}. There are: {', '.join(names)}.",
    )


def _misconfigured(invalid: ValidationError, given: Mapping[str, Any]) -> Misconfigured:
    """The first fault as a person who set a variable or a flag needs to read it."""
    fault = invalid.errors(include_url=False, include_context=False)[0]
    field = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        flags = [_flag(name) for name in Settings.model_fields]
        return Misconfigured(
            f"There is no setting {_flag(field)}{_nearest(_flag(field), flags)}.",
            fix="Correct its name or leave it out.",
        )
    name = _flag(field) if field in given else f"{PREFIX}{field.upper()}"
    secret = SecretStr in get_args(Settings.model_fields[field].annotation)
    got = "not acceptable (its value is not shown)" if secret else repr(str(fault["input"]))
    wanted = re.sub(r"^(Value error, |Input should be )", "", fault["msg"])
    return Misconfigured(f"{name} is {got}; wanted: {wanted}.", fix=f"Correct {name} or leave it out.")


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _is_token(token: str) -> bool:
    return re.fullmatch(r"[!-~]+", token) is not None


def _nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (nearest: {close[0]})" if close else ""


def _either(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
