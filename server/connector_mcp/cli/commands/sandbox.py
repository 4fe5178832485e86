"""`connector-mcp sandbox`: the emulated platforms as an HTTP server, for other clients of the platforms."""

from __future__ import annotations

import shlex
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import click

from connector_mcp.cli.output import Failure, as_failure, serve_and_announce
from connector_mcp.errors import ConnectorError
from connector_mcp.operations.catalog import PLATFORMS
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.transport.http.addresses import is_loopback
from connector_mcp.transport.http.listener import serve_app

_GRACE = 1.0


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8700, show_default=True, help="0 takes a free one.")
@click.option("--data", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="File to keep data in.")
def sandbox(host: str, port: int, data: Path | None) -> None:
    """Serve the emulated platforms over HTTP and print the variables that point at them.

    \b
    connector-mcp sandbox > sandbox.env         # in one terminal
    . ./sandbox.env && connector-mcp doctor     # in another, once it says where it is
    """
    if not is_loopback(host):
        raise Failure(
            f"The sandbox does not listen on {host}: its credentials are public.",
            fix="Use a loopback address, such as --host 127.0.0.1.",
            exit_status=2,
        )
    try:
        sys.exit(anyio.run(_serve, host, port, data))
    except (ConnectorError, BaseExceptionGroup) as error:
        failure = as_failure(error)
        if failure is None:
            raise
        # No setting is wrong, so the status is not that of a misconfigured server.
        raise Failure(failure.message, fix=failure.fix) from None


async def _serve(host: str, port: int, data: Path | None) -> int:
    with closing(Sandbox(data)) as world:

        def announce(origin: str) -> None:
            variables = {name: value for each in PLATFORMS for name, value in world.variables(each, origin).items()}
            click.echo("\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()))
            click.echo(f"Sandbox at {origin}; end it with Ctrl-C.", err=True)

        serve = partial(serve_app, lambda reach, drain: world.app(), host, port, grace=_GRACE)
        return await serve_and_announce(serve, announce)
