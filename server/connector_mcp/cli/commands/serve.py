"""`connector-mcp serve`: the MCP server, over stdio or HTTP."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import aclosing
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import anyio
import click
from anyio.abc import TaskStatus

from connector_mcp.cli.options import load_settings, with_overrides
from connector_mcp.composition.engine import assembled
from connector_mcp.composition.readiness import left_out, require_platforms
from connector_mcp.composition.secret_pages import offer_secret_pages, pages_on_demand
from connector_mcp.composition.telemetry import observed
from connector_mcp.config.settings import PREFIX, Settings
from connector_mcp.errors import Misconfigured
from connector_mcp.importing import imported

if TYPE_CHECKING:
    from connector_mcp.engine.approval.approval_webhook import SigningKey


@click.command()
@click.option(
    "--http",
    is_flag=True,
    help="Listen on a port: /mcp, /sse, /healthz, /readyz, /metrics. Without it, stdin and stdout.",
)
@click.option("--host", metavar="ADDRESS", help="Address to listen on, with --http.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on, with --http; 0 takes a free one.  [default: 8765]")
@with_overrides
def serve(overrides: dict[str, Any], http: bool, host: str | None, port: int | None) -> None:
    """Serve the tools to an MCP client.

    Over stdio, stdout carries the protocol and everything else goes to stderr. A platform without credentials is not
    served; with none at all this ends at once and says what to set.
    """
    if not http and (host is not None or port is not None):
        raise click.UsageError("--host and --port are for --http; over stdio nothing listens.")
    settings = load_settings(**overrides, host=host, port=port)
    # Looked through a dozen times, for which the real one decodes every name and value again.
    environ = dict(os.environ)
    require_platforms(settings, environ)
    for sentence in left_out(settings, environ):
        click.echo(sentence, err=True)
    if not http:
        sys.exit(anyio.run(_serve_stdio, settings, environ))
    # Many connections are what uvloop is for; over stdio there is one, and importing it would delay the start.
    sys.exit(anyio.run(_serve_http, settings, environ, backend_options={"use_uvloop": find_spec("uvloop") is not None}))


async def _serve_stdio(settings: Settings, environ: Mapping[str, str]) -> int:
    # Each transport pulls in its own half of the SDK, this one not before it needs it.
    from connector_mcp.transport.stdio import serve_stdio

    async with (
        observed(settings, environ, "stdio") as observer,
        assembled(settings, environ, "stdio", observer=observer) as engine,
        pages_on_demand(engine),
    ):
        return await serve_stdio(engine, spans=observer.spans)


async def _serve_http(settings: Settings, environ: Mapping[str, str]) -> int:
    imported("connector_mcp.transport.http.app")
    from connector_mcp.composition.console import pages_for, secret_pages_for
    from connector_mcp.composition.http_access import access_of
    from connector_mcp.transport.http.app import serve_http
    from connector_mcp.transport.http.approval_callback import OPEN_PATH, callback_route
    from connector_mcp.transport.http.health import observability_pages
    from connector_mcp.transport.http.shutdown import Drain

    access = access_of(settings)
    callback_key = _callback_key(settings)
    status = 1
    async with (
        aclosing(access),
        observed(settings, environ, "http") as observer,
        assembled(settings, environ, "http", observer=observer) as engine,
    ):
        drain = Drain(engine.end_waiting)
        callback = (callback_route(engine, callback_key),) if callback_key else ()
        observability = observability_pages(engine, drain, observer.metrics)
        metrics_path = ("/metrics",) if settings.metrics == "open" else ()

        async def serve_until_the_end(*, task_status: TaskStatus[str]) -> None:
            nonlocal status
            status = await serve_http(
                engine,
                settings.host,
                settings.port,
                tokens=access.tokens,
                token_file=access.token_file,
                oauth=access.oauth,
                limits=access.limits,
                rate=access.rate,
                pages=(*observability, *pages_for(engine, environ), *secret_pages_for(engine, access), *callback),
                open_paths=("/readyz", "/console", "/secrets", *metrics_path, *((OPEN_PATH,) if callback else ())),
                drain=drain,
                spans=observer.spans,
                hosts=access.hosts,
                origins=access.origins,
                task_status=task_status,
            )

        async with anyio.create_task_group() as tasks:
            address: str = await tasks.start(serve_until_the_end)
            offer_secret_pages(engine, address)
            click.echo(f"Serving {address}/mcp and {address}/sse; end it with Ctrl-C.", err=True)
    return status


def _callback_key(settings: Settings) -> SigningKey | None:
    secret = settings.secret("webhook_callback_secret")
    if secret is None:
        return None
    from connector_mcp.engine.approval.approval_webhook import SigningKey

    key = SigningKey.parse(secret.get_secret_value(), f"{PREFIX}WEBHOOK_CALLBACK_SECRET")
    announces = settings.secret("webhook_secret")
    if announces is not None and SigningKey.parse(announces.get_secret_value(), f"{PREFIX}WEBHOOK_SECRET") == key:
        raise Misconfigured(
            f"{PREFIX}WEBHOOK_SECRET and {PREFIX}WEBHOOK_CALLBACK_SECRET are the same, so that whoever can check what "
            "is announced could decide it.",
            fix='Make a second one for the call-back: `echo "whsec_$(openssl rand -base64 32)"`.',
        )
    return key
