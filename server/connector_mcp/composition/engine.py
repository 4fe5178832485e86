"""Put an engine together from settings, with its observer and the pages that a stdio server needs now and then.

Only this package knows all parts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import anyio

from connector_mcp import __version__
from connector_mcp.audit.trail import AuditTrail
from connector_mcp.composition.accounts import make_accounts
from connector_mcp.composition.storage import (
    open_database,
    open_secret_store,
    open_secrets,
    secret_record,
    shared_rate_limit,
)
from connector_mcp.config.settings import Settings
from connector_mcp.engine.caller import TransportName
from connector_mcp.engine.engine import Engine
from connector_mcp.engine.policy import Policy
from connector_mcp.engine.secret_refs.secret_requests import SecretRequests
from connector_mcp.errors import Misconfigured
from connector_mcp.operations.catalog import PLATFORMS, catalog, in_toolsets
from connector_mcp.operations.local import LIST_SECRETS, list_secrets
from connector_mcp.operations.operation import Operation
from connector_mcp.provisioning.calls import CALLS
from connector_mcp.secrets.collection import Secrets
from connector_mcp.state.database import Database
from connector_mcp.telemetry.observer import NULL_OBSERVER, Observer
from connector_mcp.transport.http.addresses import pages_address

if TYPE_CHECKING:
    from connector_mcp.engine.approval.approval_webhook import ApprovalWebhook
    from connector_mcp.sandbox.app import Sandbox


@asynccontextmanager
async def open_engine(
    settings: Settings, environ: Mapping[str, str], transport: TransportName, *, observer: Observer = NULL_OBSERVER
) -> AsyncGenerator[Engine]:
    """Open an engine for as long as the context lasts; `observer` sees its calls.

    Raises:
        Misconfigured: For example, a named platform lacks a variable, or a rule of the policy matches no tool.
    """
    sandboxes: dict[str, Sandbox] = {}

    def sandbox_of(profile: str) -> Sandbox:
        if profile not in sandboxes:
            sandboxes[profile] = _open_sandbox(settings, environ, profile)
        return sandboxes[profile]

    secrets = open_secrets(settings, environ)
    policy = server_policy(settings, transport)
    database = open_database(settings)
    announcements = make_announcements(settings, database)
    rate = shared_rate_limit(settings, database, "requests to platforms")
    accounts = make_accounts(
        settings, environ, sandbox_of if settings.sandbox else None, secrets, policy, observer, rate
    )
    operations = served_operations(settings, [account.platform.name for account in accounts], secrets)
    # With replicas there are no pages for secrets: what a person enters would reach only one of the machines.
    secret_requests = SecretRequests(database, open_secret_store(settings)) if settings.state is None else None
    engine = Engine(
        settings,
        operations,
        accounts,
        policy=policy,
        database=database,
        audit=AuditTrail(database),
        secrets=secrets,
        announce=announcements.announce if announcements else None,
        observer=observer,
        decide_at=console_address(settings) if transport == "http" or settings.public_url else None,
        secret_requests=secret_requests,
        calls=CALLS,
    )
    try:
        async with announcements.running() if announcements else nullcontext():
            yield engine
    finally:
        await engine.aclose()
        for sandbox in sandboxes.values():
            sandbox.close()


def server_policy(settings: Settings, transport: TransportName) -> Policy:
    """Return the policy of the settings.

    Raises:
        Misconfigured: A rule is malformed or matches no tool.
    """
    # A rule can name any tool. Without rules, platforms that are not served need not be imported.
    named = (*catalog(PLATFORMS), LIST_SECRETS) if settings.policy else None
    return Policy.parse(
        settings.policy,
        read_only=settings.read_only,
        transport=transport,
        tools=named,
        setting=settings.place("policy"),
    )


@asynccontextmanager
async def open_observer(
    settings: Settings, environ: Mapping[str, str], transport: TransportName
) -> AsyncGenerator[Observer]:
    """Open the observer of a server's calls. When the context ends, everything was exported or given up.

    Raises:
        Misconfigured: The export is enabled and impossible.
    """
    with_metrics = transport == "http" and settings.metrics != "off"
    if not with_metrics and not settings.otel:
        yield NULL_OBSERVER
        return
    metrics = spans = exported = None
    async with AsyncExitStack() as stack:
        # Imported only if they are used: the Prometheus client takes 50 ms to import, the OpenTelemetry SDK 100 ms.
        if with_metrics:
            from connector_mcp.telemetry.metrics import Metrics

            metrics = Metrics(__version__)
        if settings.otel:
            from connector_mcp.telemetry.export import exporting

            spans, exported = await stack.enter_async_context(exporting(environ, __version__))
        yield Observer(metrics, spans, exported)


def console_address(settings: Settings) -> str | None:
    """Return the address of the console of `serve --http`, only its path if the host is not known, or None."""
    if settings.operators_file is None:
        return None
    return f"{pages_address(settings) or ''}/console"


def served_operations(settings: Settings, platforms: Iterable[str], secrets: Secrets) -> dict[str, type[Operation]]:
    """Return the operations of the platforms that the settings select, by tool name.

    Raises:
        Misconfigured: None is left.
    """
    served = in_toolsets(catalog(dict.fromkeys(platforms)), settings.toolsets)
    # The store is always a source, so it counts only if it exists.
    if served and (len(secrets.sources) > 1 or open_secret_store(settings).path.exists()):
        own = settings.credential_secrets
        served[LIST_SECRETS] = list_secrets(
            lambda: [secret_record(listed) for listed in secrets.listing() if listed.name not in own]
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
            f"{settings.place('tools')} is {', '.join(settings.tools)}, which matches no tool.",
            fix="Use a pattern such as 'vectorize_*' or '*_list_*'; `connector-mcp tools` shows the names.",
        )
    return chosen


def _open_sandbox(settings: Settings, environ: Mapping[str, str], profile: str) -> Sandbox:
    # Imported only on request: no other start pays for it, and no server falls back to it.
    from connector_mcp.sandbox.app import Sandbox

    create_body = environ.get("VECTORIZE_CREATE_BODY") or "object"
    return Sandbox(settings.sandbox_data, create_body=create_body, account=profile)


def make_announcements(settings: Settings, database: Database) -> ApprovalWebhook | None:
    """Return the webhook that tells of parked calls, or None without one.

    Raises:
        Misconfigured: Its address or its secret is invalid.
    """
    secret = settings.secret("webhook_secret")
    if settings.webhook_url is None or secret is None:
        return None
    # Imports the HTTP client, which other starts do not need.
    from connector_mcp.engine.approval.approval_webhook import ApprovalWebhook, WebhookKey

    return ApprovalWebhook(
        settings.webhook_url.get_secret_value(),
        WebhookKey.parse(secret.get_secret_value(), settings.place("webhook_secret")),
        database,
        timeout=settings.webhook_timeout,
        callback_url=settings.webhook_callback_url,
    )


@asynccontextmanager
async def serve_secret_pages_on_demand(engine: Engine) -> AsyncGenerator[None]:
    """Serve the pages on loopback from the first call that needs one until the context ends."""
    if engine.secret_requests is None:
        yield
        return
    requests, lock, address = engine.secret_requests, anyio.Lock(), ""

    async def find() -> str:
        nonlocal address
        async with lock:
            if not address:
                # The web server and the templates take a tenth of a second to import, and few servers need them.
                from connector_mcp.console.secret_pages import secret_pages
                from connector_mcp.transport.http.listener import serve_pages_beside
                from connector_mcp.transport.mcp.elicitation import LOCAL

                address = await tasks.start(serve_pages_beside, secret_pages(requests, identify=None, anonymous=LOCAL))
            return address

    async with anyio.create_task_group() as tasks:
        requests.have_pages_at(find)
        yield
        tasks.cancel_scope.cancel()
