"""Puts the parts together: settings to accounts, store, audit log, policy and engine; alone in knowing them all."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager, nullcontext
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from connector_mcp.composition.accounts import make_accounts
from connector_mcp.composition.storage import (
    as_record,
    has_secrets,
    open_secret_store,
    open_secrets,
    open_store,
    open_trail,
    shared_turns,
)
from connector_mcp.config.settings import PREFIX, Settings
from connector_mcp.engine.caller import TransportName
from connector_mcp.engine.engine import Engine
from connector_mcp.engine.instrumented_store import WatchedStore
from connector_mcp.engine.policy import Policy
from connector_mcp.engine.secret_refs.secret_requests import SecretRequests
from connector_mcp.errors import Misconfigured
from connector_mcp.operations.catalog import PLATFORMS, catalog
from connector_mcp.operations.local import LIST_SECRETS, list_secrets
from connector_mcp.operations.operation import Operation
from connector_mcp.secrets.collection import Secrets
from connector_mcp.state.store import Store
from connector_mcp.telemetry.observer import NULL_OBSERVER, Observer

if TYPE_CHECKING:
    from connector_mcp.engine.approval.approval_webhook import ApprovalWebhook
    from connector_mcp.sandbox.app import Sandbox


@asynccontextmanager
async def assembled(
    settings: Settings, environ: Mapping[str, str], transport: TransportName, *, observer: Observer = NULL_OBSERVER
) -> AsyncGenerator[Engine]:
    """An engine for as long as the context is open; `observer` is told of its calls.

    Raises:
        Misconfigured: A platform is named and lacks a variable, a rule of the policy names nothing, and the like.
    """
    sandbox = _open_sandbox(settings, environ) if settings.sandbox else None
    secrets = open_secrets(settings, environ)
    # A rule may name any tool there is; without rules, the platforms that are not served need not be imported.
    named = (*catalog(PLATFORMS), LIST_SECRETS) if settings.policy else None
    policy = Policy.parse(settings.policy, read_only=settings.read_only, transport=transport, tools=named)
    store = open_store(settings)
    announcements = _announcements(settings, store)
    accounts = make_accounts(settings, environ, sandbox, secrets, policy, observer, shared_turns(store))
    operations = served_operations(settings, [account.platform.name for account in accounts], secrets)
    engine = Engine(
        settings,
        operations,
        accounts,
        policy=policy,
        store=WatchedStore(store, observer) if observer.listens else store,
        audit=open_trail(settings, store),
        secrets=secrets,
        announce=announcements.announce if announcements else None,
        observer=observer,
        decide_at=console_address(settings) if transport == "http" else None,
        secret_requests=_secret_requests(settings, store),
    )
    try:
        async with announcements.running() if announcements else nullcontext():
            yield engine
    finally:
        await engine.aclose()
        if sandbox is not None:
            sandbox.close()


def console_address(settings: Settings) -> str | None:
    """Where operators find the console of `serve --http`; its path where the host is not known, None without one."""
    if settings.operators_file is None:
        return None
    if settings.public_url is not None:
        return f"{settings.public_url.rstrip('/')}/console"
    if settings.allowed_origins:
        return f"{settings.allowed_origins[0]}/console"
    known = settings.port and settings.host in ("127.0.0.1", "localhost")
    return f"http://{settings.host}:{settings.port}/console" if known else "/console"


def _secret_requests(settings: Settings, store: Store) -> SecretRequests | None:
    """None with replicas: what a person enters at one of them would be on that machine alone."""
    return SecretRequests(store, open_secret_store(settings)) if settings.state is None else None


def _open_sandbox(settings: Settings, environ: Mapping[str, str]) -> Sandbox:
    # The sandbox is imported only where it was asked for: nobody else pays for it, and nobody falls back to it.
    from connector_mcp.sandbox.app import Sandbox

    return Sandbox(settings.sandbox_data, create_body=environ.get("VECTORIZE_CREATE_BODY") or "object")


def _announcements(settings: Settings, store: Store) -> ApprovalWebhook | None:
    secret = settings.secret("webhook_secret")
    if settings.webhook_url is None or secret is None:
        return None
    # Imports the HTTP client, which no other start needs.
    from connector_mcp.engine.approval.approval_webhook import ApprovalWebhook, SigningKey

    return ApprovalWebhook(
        settings.webhook_url.get_secret_value(),
        SigningKey.parse(secret.get_secret_value(), f"{PREFIX}WEBHOOK_SECRET"),
        store,
        timeout=settings.webhook_timeout,
        callback_url=settings.webhook_callback_url,
    )


def served_operations(settings: Settings, platforms: Iterable[str], secrets: Secrets) -> dict[str, type[Operation]]:
    """The operations of the platforms that the settings let through, by tool name.

    Raises:
        Misconfigured: None is left.
    """
    served = dict(catalog(dict.fromkeys(platforms)))
    if served and has_secrets(secrets, settings):
        own = settings.credential_secrets
        served[LIST_SECRETS] = list_secrets(
            lambda: [as_record(listed) for listed in secrets.listing() if listed.name not in own]
        )
    if not settings.tools:
        return served
    chosen = {
        name: operation
        for name, operation in served.items()
        if any(fnmatchcase(name, pattern) for pattern in settings.tools)
    }
    if served and not chosen:
        raise Misconfigured(
            f"No tool matches {', '.join(settings.tools)}.",
            fix="Use a pattern such as 'vectorize_*' or '*_list_*'; `connector-mcp tools` shows the names.",
        )
    return chosen
