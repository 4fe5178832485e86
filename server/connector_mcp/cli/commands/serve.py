"""`connector-mcp serve`: the MCP server, over stdio or HTTP."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import aclosing
from functools import partial
from importlib.util import find_spec
from typing import Any

import anyio
import click

from connector_mcp.cli.options import load_settings, with_overrides
from connector_mcp.cli.output import serve_and_announce
from connector_mcp.cli.terminal import is_terminal
from connector_mcp.composition.accounts import left_out, readiness, require_platforms
from connector_mcp.composition.engine import open_engine, open_observer, serve_secret_pages_on_demand
from connector_mcp.composition.health import transport_facts
from connector_mcp.config.settings import Settings, variable_name
from connector_mcp.program import program
from connector_mcp.transport.http.addresses import pages_address


@click.command()
@click.option(
    "--http",
    is_flag=True,
    help="Listen on a port: /mcp, /sse, /healthz, /readyz, /metrics. By default the server uses stdin and stdout.",
)
@click.option("--host", metavar="ADDRESS", help="Address to listen on, with --http.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on, with --http; 0 takes a free one.  [default: 8765]")
@with_overrides
def serve(overrides: dict[str, Any], http: bool, host: str | None, port: int | None) -> None:
    """Serve the tools to an MCP client.

    Over stdio, stdout carries the protocol and everything else goes to stderr. A platform without credentials is not
    served; if none has any, the command ends at once and says what to set.
    """
    if not http and (host is not None or port is not None):
        raise click.UsageError("--host and --port need --http; over stdio the server does not listen.")
    settings = load_settings(**overrides, host=host, port=port)
    # Read many times; os.environ decodes every name and value each time.
    environ = dict(os.environ)
    require_platforms(settings, environ)
    if not http:
        for sentence in left_out(settings, environ, begun=True):
            click.echo(sentence, err=True)
        if is_terminal(sys.stdin):
            click.echo(_how_to_attach(settings), err=True)
        sys.exit(anyio.run(_serve_stdio, settings, environ))
    # uvloop helps with many connections. Over stdio there is one, and importing uvloop would delay the start.
    sys.exit(anyio.run(_serve_http, settings, environ, backend_options={"use_uvloop": find_spec("uvloop") is not None}))


def _how_to_attach(settings: Settings) -> str:
    sandbox = " --sandbox" if settings.sandbox else ""
    return (
        "Waiting for an MCP client on standard input; end it with Ctrl-C. Clients start the server by themselves:\n"
        f"  {program()} install claude-code{sandbox}   (adds it to this client; install --help names the others)\n"
        f"  {program()} demo   (shows a session, without a client)\n"
        "With --http it listens on a port instead."
    )


def _announcement(address: str, settings: Settings, environ: Mapping[str, str]) -> str:
    """Return where the server is reached, by whom, and what it serves."""
    served = [state.title for state in readiness(settings, environ) if state.wanted]
    console = f"{pages_address(settings, address) or ''}/console"
    if settings.operators_file is None:
        console = f"closed until {variable_name('operators_file')} names a file"
    lines = [
        f"Serving {address}/mcp and {address}/sse; end it with Ctrl-C.",
        *([f"  public address: {settings.public_url}"] if settings.public_url else []),
        f"  health: {address}/healthz",
        f"  console: {console}",
        f"  callers: {transport_facts(settings)['authentication']}",
        f"  platforms: {', '.join(served)}{', all emulated' if settings.sandbox else ''}",
        *(f"  {sentence}" for sentence in left_out(settings, environ)),
    ]
    return "\n".join(lines)


async def _serve_stdio(settings: Settings, environ: Mapping[str, str]) -> int:
    # Imported here because each transport imports its own half of the SDK.
    from connector_mcp.transport.stdio import serve_stdio

    async with (
        open_observer(settings, environ, "stdio") as observer,
        open_engine(settings, environ, "stdio", observer=observer) as engine,
        serve_secret_pages_on_demand(engine),
    ):
        return await serve_stdio(engine)


async def _serve_http(settings: Settings, environ: Mapping[str, str]) -> int:
    from connector_mcp.composition.http_access import (
        announce_pages,
        make_access,
        make_console_pages,
        make_secret_pages,
        read_callback_key,
    )
    from connector_mcp.transport.http.app import serve_http
    from connector_mcp.transport.http.approval_callback import OPEN_PATH, callback_route
    from connector_mcp.transport.http.health import observability_pages
    from connector_mcp.transport.http.shutdown import Drain
    from connector_mcp.transport.process import exempt_from_garbage_collection
    from connector_mcp.upstream.client import warm_up

    access = make_access(settings)
    callback_key = read_callback_key(settings)
    async with (
        aclosing(access),
        open_observer(settings, environ, "http") as observer,
        open_engine(settings, environ, "http", observer=observer) as engine,
    ):
        drain = Drain(engine.end_waiting)
        callback = (callback_route(engine, callback_key),) if callback_key else ()
        pages = (
            *observability_pages(engine, drain, observer.metrics),
            *make_console_pages(engine, environ, access),
            *make_secret_pages(engine, access),
            *callback,
        )
        metrics_path = ("/metrics",) if settings.metrics == "open" else ()
        serve = partial(
            serve_http,
            engine,
            settings.host,
            settings.port,
            callers=access.callers,
            limits=access.limits,
            rate=access.rate,
            pages=pages,
            open_paths=("/readyz", "/console", "/secrets", *metrics_path, *((OPEN_PATH,) if callback else ())),
            drain=drain,
            hosts=access.hosts,
            origins=access.origins,
            prefix=access.prefix,
        )

        if not settings.sandbox:
            warm_up()
        exempt_from_garbage_collection()

        def announce(address: str) -> None:
            announce_pages(engine, address)
            click.echo(_announcement(address, settings, environ), err=True)

        return await serve_and_announce(serve, announce)
