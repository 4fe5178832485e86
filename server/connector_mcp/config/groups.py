"""The groups of settings: each field is one setting, its docstring the description of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic import StringConstraints as Text

from connector_mcp.config.validation import either, is_token
from connector_mcp.operations.catalog import PLATFORMS
from connector_mcp.suggest import closest

DAY = 86_400.0


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


class SettingsGroup(BaseModel):
    # Only `Settings` is ever built; validators of the groups alone would be built for nothing.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)


class ServingSettings(SettingsGroup):
    """What is served."""

    config: Path | None = None
    """TOML file with settings and profiles; by default `connector-mcp.toml` in the user's configuration directory."""
    sandbox: bool = False
    """Serve every platform from the built-in emulation."""
    sandbox_data: Path | None = None
    """File that the sandbox keeps its records in; by default they are kept in memory."""
    platforms: Annotated[_Names, AfterValidator(_check_platforms)] = ()
    """Platforms to serve; by default all that have credentials."""
    toolsets: _Names = ("default",)
    """Toolsets to serve, such as `vectorize.pipelines`, all those of a platform as `vectorize`, or `all`."""
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


class ApprovalSettings(SettingsGroup):
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
    plan_max_destructive: Annotated[int, Field(ge=0)] = 5
    """How many actions of one plan may destroy something; a plan with more is refused."""
    operators_file: Path | None = None
    """TOML file with the tokens of the operators of the console over HTTP; without it there is none."""


class WebhookSettings(SettingsGroup):
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


class UpstreamSettings(SettingsGroup):
    """Limits of calls to the platforms and of their results."""

    deadline: _Seconds = 60.0
    """Upper bound of one call's work upstream, retries included."""
    max_answer_bytes: Annotated[int, Field(ge=1024)] = 10_000_000
    """Largest response that is read from a platform."""
    max_result_bytes: Annotated[int, Field(ge=1024)] = 60_000
    """Largest result that an agent is given."""
    result_content: Literal["both", "text", "structured"] = "both"
    """Whether a result goes out as structured content, as text, or as both. An error always goes out as both."""
    upstream_concurrency: Annotated[int, Field(ge=1, le=1000)] = 64
    """Requests in flight to one platform."""
    requests_per_second: _Seconds | None = None
    """Sustained rate of requests to one platform; by default the platform's own."""


class StateSettings(SettingsGroup):
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


class HttpSettings(SettingsGroup):
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
    oauth_profiles_claim: str | None = None
    """Claim with the profiles that a caller may act under; by default all. A token without the claim gets none."""
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


class TelemetrySettings(SettingsGroup):
    """Logs, metrics and spans."""

    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "WARNING"
    """Lowest level that is logged on stderr."""
    log_format: Literal["text", "json"] = "text"
    """Format of the log lines on stderr: `text` for people, `json` for log collectors."""
    metrics: Literal["off", "token", "open"] = "token"
    """`/metrics` over HTTP: `token` requires the same token as calls, `open` requires none, `off` removes it."""
    otel: bool = False
    """Export OpenTelemetry spans and metrics to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names."""
