"""`connector-mcp sandbox`: the emulated platforms as an HTTP server, for other clients of the platforms."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import anyio
import click
from anyio.abc import TaskStatus

from connector_mcp.cli.output import Failure
from connector_mcp.operations.catalog import PLATFORMS
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.transport.http.host_guard import is_loopback
from connector_mcp.transport.http.listener import serve_app

_GRACE = 1.0


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8700, show_default=True, help="0 takes a free one.")
@click.option("--data", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="File to keep data in.")
def sandbox(host: str, port: int, data: Path | None) -> None:
    """Serve the emulated platforms over HTTP and print the variables that point at them.

    \b
    connector-mcp sandbox > sandbox.env &
    . ./sandbox.env && connector-mcp doctor
    """
    if not is_loopback(host):
        raise Failure(
            f"The sandbox does not listen on {host}: its credentials are public.",
            fix="Use a loopback address, such as --host 127.0.0.1.",
            exit_status=2,
        )
    sys.exit(anyio.run(_serve, host, port, data))


async def _serve(host: str, port: int, data: Path | None) -> int:
    world, status = Sandbox(data), 1

    async def serve_until_the_end(*, task_status: TaskStatus[str]) -> None:
        nonlocal status
        status = await serve_app(lambda reach, drain: world.app(), host, port, grace=_GRACE, task_status=task_status)

    try:
        async with anyio.create_task_group() as tasks:
            origin: str = await tasks.start(serve_until_the_end)
            click.echo(export_lines(world, origin))
            click.echo(f"Sandbox at {origin}; end it with Ctrl-C.", err=True)
    finally:
        world.close()
    return status


def export_lines(world: Sandbox, origin: str) -> str:
    """Return shell lines that export every platform's variables for the sandbox at this origin."""
    variables = {name: value for each in PLATFORMS for name, value in world.variables(each, origin).items()}
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
