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
    """Address to listen on, over HTTP; beyond loopback only with a token."""
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
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    """What is logged on stderr, from this level up."""

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
        return settings

    @field_validator("platforms", "tools", "allowed_hosts", "allowed_origins", mode="before")
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
        "secrets_dir",
        "secrets_key_file",
        "secrets_limits",
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
        return self._read("HTTP_TOKEN_FILE", self.http_token_file) or self.http_token

    def state_password(self) -> SecretStr | None:
        """The password in the file that is named for it; None where none is.

        Raises:
            Misconfigured: The file cannot be read, or holds no password.
        """
        return self._read("STATE_PASSWORD_FILE", self.state_password_file)

    def _read(self, setting: str, path: Path | None) -> SecretStr | None:
        """The one word in the file that a setting names."""
        if path is None:
            return None
        where = f"{PREFIX}{setting} names {path}"
        try:
            word = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as failure:
            raise Misconfigured(
                f"{where}, which cannot be read: {type(failure).__name__}.",
                fix="Name a file that this process may read and that holds the secret alone.",
            ) from None
        if not _is_token(word):
            raise Misconfigured(
                f"{where}, which holds no secret: wanted visible ASCII characters on one line, without spaces.",
                fix="Write the secret into the file, for example with `openssl rand -hex 32`.",
            )
        return SecretStr(word)


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
