"""Who may call over HTTP and how much, from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from connector_mcp.composition.storage import open_connection
from connector_mcp.config.settings import PREFIX, Settings
from connector_mcp.errors import Misconfigured
from connector_mcp.transport.auth.resource_metadata import ProtectedResource, check_public_url, public_hosts
from connector_mcp.transport.auth.static_tokens import StaticToken, TokenFile
from connector_mcp.transport.http.host_guard import is_loopback
from connector_mcp.transport.http.limits import HttpLimits, RequestRate
from connector_mcp.upstream.rate import SharedRateLimit

if TYPE_CHECKING:
    from connector_mcp.state.redis import RedisConnection
    from connector_mcp.transport.auth.jwt import JwtVerifier


@dataclass(frozen=True)
class Access:
    """The arguments of `serve_http` of these names."""

    tokens: tuple[StaticToken, ...]
    token_file: TokenFile | None
    oauth: JwtVerifier | None
    limits: HttpLimits
    rate: RequestRate
    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    connection: RedisConnection | None = None
    """That on which replicas count requests together."""

    async def aclose(self) -> None:
        """Close the connection, where there is one."""
        if self.connection is not None:
            await self.connection.aclose()


def access_of(settings: Settings) -> Access:
    """What the settings say of callers.

    Raises:
        Misconfigured: A file or an address is not what it should be, or a setting is missing that another needs.
    """
    secret = settings.secret("http_token")
    hosts, origins = settings.allowed_hosts, settings.allowed_origins
    if settings.public_url is not None:
        hosts = (*hosts, *public_hosts(settings.public_url))
        origins = (*origins, check_public_url(settings.public_url))
    connection = open_connection(settings, settings.state) if settings.state else None
    return Access(
        tokens=(StaticToken.from_secret(secret.get_secret_value()),) if secret else (),
        token_file=TokenFile(settings.tokens_file) if settings.tokens_file else None,
        oauth=_oauth(settings),
        limits=HttpLimits(
            body_bytes=settings.http_max_body_bytes,
            connections=settings.http_max_connections,
            patience=settings.http_client_timeout,
            calls=settings.http_max_calls,
        ),
        rate=RequestRate(settings.http_requests_per_minute, _turns(connection)),
        hosts=hosts,
        origins=origins,
        connection=connection,
    )


def _turns(connection: RedisConnection | None) -> SharedRateLimit | None:
    if connection is None:
        return None
    from connector_mcp.state.redis import RedisRateLimit

    return SharedRateLimit(RedisRateLimit(connection), "HTTP requests")


def _oauth(settings: Settings) -> JwtVerifier | None:
    if settings.oauth_issuer is None:
        for name in ("oauth_audience", "oauth_jwks_url"):
            if getattr(settings, name):
                raise Misconfigured(
                    f"{PREFIX}{name.upper()} is set, but no issuer whose tokens it is about.",
                    fix=f"Set {PREFIX}OAUTH_ISSUER too, or unset it.",
                )
        return None
    # The library for tokens takes some hundredths of a second to import, and most servers do not need it.
    from connector_mcp.transport.auth.jwt import JwtVerifier, KeySet

    return JwtVerifier(
        ProtectedResource.from_urls(_public_url(settings), settings.oauth_issuer),
        KeySet(settings.oauth_issuer, settings.oauth_jwks_url),
        audiences=settings.oauth_audience,
        algorithms=settings.oauth_algorithms,
        leeway=settings.oauth_leeway,
    )


def _public_url(settings: Settings) -> str:
    if settings.public_url is not None:
        return settings.public_url
    if not is_loopback(settings.host) or settings.port == 0:
        raise Misconfigured(
            f"{PREFIX}OAUTH_ISSUER is set, but not the address at which callers know this server.",
            fix=f"Set {PREFIX}PUBLIC_URL, such as https://mcp.example.com.",
        )
    return (
        f"http://[{settings.host}]:{settings.port}"
        if ":" in settings.host
        else (f"http://{settings.host}:{settings.port}")
    )
