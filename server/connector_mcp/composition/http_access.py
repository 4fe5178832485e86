"""Access to a server over HTTP: callers with their limits, operators, and the pages for people."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute

from connector_mcp.composition.health import check_all_platforms
from connector_mcp.composition.storage import open_database, shared_rate_limit
from connector_mcp.config.settings import Settings, variable_name
from connector_mcp.console.pages import Console, Operators, console_pages
from connector_mcp.console.secret_pages import secret_pages
from connector_mcp.engine.engine import Engine
from connector_mcp.errors import Misconfigured
from connector_mcp.json_values import JsonObject
from connector_mcp.state.database import Database
from connector_mcp.transport.auth.authorization import Callers, ProtectedResource
from connector_mcp.transport.auth.static_tokens import StaticToken, TokenFile, find_token
from connector_mcp.transport.http.addresses import PublicAddress, pages_address, public_address
from connector_mcp.transport.http.limits import HttpLimits, RequestRate
from connector_mcp.transport.mcp.elicitation import ANYBODY

if TYPE_CHECKING:
    from connector_mcp.engine.approval.approval_webhook import WebhookKey
    from connector_mcp.transport.auth.jwt import JwtVerifier


@dataclass(frozen=True)
class HttpAccess:
    """The arguments of `serve_http` with these names."""

    callers: Callers
    limits: HttpLimits
    rate: RequestRate
    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    prefix: str
    database: Database | None = None
    """The database in which replicas count requests together."""

    async def aclose(self) -> None:
        """Close the database, if there is one."""
        if self.database is not None:
            await self.database.aclose()


def make_access(settings: Settings) -> HttpAccess:
    """Return what the settings say about callers.

    Raises:
        Misconfigured: A file or an address is invalid, or a setting lacks another one that it needs.
    """
    secret = settings.secret("http_token")
    public = PublicAddress.read(settings.public_url) if settings.public_url is not None else None
    database = None if settings.state is None else open_database(settings)
    shared_rate = database and shared_rate_limit(settings, database, "HTTP requests")
    return HttpAccess(
        Callers(
            (StaticToken.from_secret(secret.get_secret_value()),) if secret else (),
            TokenFile(settings.tokens_file) if settings.tokens_file else None,
            _oauth(settings),
        ),
        limits=HttpLimits(
            body_bytes=settings.http_max_body_bytes,
            connections=settings.http_max_connections,
            patience=settings.http_client_timeout,
            calls=settings.http_max_calls,
            sessions=settings.http_max_sessions,
        ),
        rate=RequestRate(settings.http_requests_per_minute, shared_rate),
        hosts=(*settings.allowed_hosts, *(public.hosts if public else ())),
        origins=(*settings.allowed_origins, *((public.origin,) if public else ())),
        prefix=public.prefix if public else "",
        database=database,
    )


def _oauth(settings: Settings) -> JwtVerifier | None:
    if settings.oauth_issuer is None:
        for name in ("oauth_audience", "oauth_jwks_url"):
            if getattr(settings, name):
                raise Misconfigured(
                    f"{settings.place(name)} is set without an issuer.",
                    fix=f"Set {variable_name('oauth_issuer')} too, or unset it.",
                )
        return None
    # The library for tokens takes some hundredths of a second to import, and most servers do not need it.
    from connector_mcp.transport.auth.jwt import JwtVerifier, KeySet

    address = public_address(settings)
    if address is None:
        raise Misconfigured(
            f"{variable_name('oauth_issuer')} is set, but not the address at which callers reach this server.",
            fix=f"Set {variable_name('public_url')}, such as https://mcp.example.com.",
        )
    return JwtVerifier(
        ProtectedResource(address, settings.oauth_issuer),
        KeySet(settings.oauth_issuer, settings.oauth_jwks_url),
        audiences=settings.oauth_audience,
        algorithms=settings.oauth_algorithms,
        leeway=settings.oauth_leeway,
        profiles_claim=settings.oauth_profiles_claim,
    )


async def check_identity_provider(settings: Settings) -> JsonObject | None:
    """Fetch the metadata and the keys of the issuer of callers' tokens, if there is one."""
    if settings.oauth_issuer is None:
        return None
    from connector_mcp.transport.auth.jwt import KeySet, KeysUnavailable

    try:
        count = await KeySet(settings.oauth_issuer, settings.oauth_jwks_url).check()
    except (KeysUnavailable, Misconfigured) as failure:
        return {"issuer": settings.oauth_issuer, "usable": False, "detail": f"no keys: {failure}"}
    return {"issuer": settings.oauth_issuer, "usable": True, "detail": f"{count} key{'s' if count > 1 else ''}"}


def read_operators(settings: Settings) -> Operators | None:
    """Return who may sign in to the console, or None without an operators' file.

    Raises:
        Misconfigured: The file is invalid.
    """
    if settings.operators_file is None:
        return None
    file = TokenFile(settings.operators_file, scoped=False)

    def find(token: str) -> str | None:
        operator = file.find(token)
        return operator.name if operator else None

    return Operators(find, lambda digest: find_token(file.tokens(), digest) is not None)


def make_console_pages(engine: Engine, environ: Mapping[str, str], access: HttpAccess) -> list[BaseRoute]:
    """Return the pages of the operators' console.

    Raises:
        Misconfigured: The operators' file is invalid.
    """
    settings = engine.settings
    return console_pages(
        Console(
            approvals=engine.approvals,
            database=engine.database,
            operators=read_operators(settings),
            engine=lambda: nullcontext(engine),
            check_platforms=partial(check_all_platforms, engine, environ),
            sandbox=settings.sandbox,
            prefix=access.prefix,
        )
    )


def make_secret_pages(engine: Engine, access: HttpAccess) -> list[BaseRoute]:
    """Return the pages of a server over HTTP; none if secrets cannot be stored."""
    if engine.secret_requests is None:
        return []
    callers = access.callers

    async def identify(token: str) -> str | None:
        holder = await callers.identify(token)
        return holder.name if holder else None

    return secret_pages(
        engine.secret_requests,
        identify=None if callers.allow_anonymous else identify,
        anonymous=ANYBODY,
        prefix=access.prefix,
    )


def announce_pages(engine: Engine, listening: str) -> None:
    """Tell calls over HTTP where the console and the pages for secrets are, unless the address is not known.

    `listening` is what the server listens on.
    """
    address = pages_address(engine.settings, listening)

    async def find() -> str | None:
        return str(address)

    if address is not None and engine.settings.operators_file is not None:
        engine.have_console_at(f"{address}/console")
    if engine.secret_requests is not None and address is not None:
        engine.secret_requests.have_pages_at(find)


def read_callback_key(settings: Settings) -> WebhookKey | None:
    """Return the key that decisions of the webhook's receiver are signed with, or None if they are not accepted.

    Raises:
        Misconfigured: The secret is invalid, or is the one that signs announcements.
    """
    own, announcing = settings.place("webhook_callback_secret"), settings.place("webhook_secret")
    secret, other = settings.secret("webhook_callback_secret"), settings.secret("webhook_secret")
    if secret is None:
        return None
    from connector_mcp.engine.approval.approval_webhook import WebhookKey

    key = WebhookKey.parse(secret.get_secret_value(), own)
    if other is not None and WebhookKey.parse(other.get_secret_value(), announcing) == key:
        raise Misconfigured(
            f"{announcing} and {own} are the same, so anyone who can verify an announcement could decide it.",
            fix='Generate a second one for the callback: `echo "whsec_$(openssl rand -base64 32)"`.',
        )
    return key
