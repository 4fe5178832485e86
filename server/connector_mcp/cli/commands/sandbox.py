"""`connector-mcp sandbox`: the emulated platforms as an HTTP server, for other clients of the platforms."""

from __future__ import annotations

import shlex
import socket
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import anyio
import click
import uvicorn

from connector_mcp.cli.output import Failure
from connector_mcp.operations.catalog import PLATFORMS
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.transport.http.host_guard import is_loopback
from connector_mcp.transport.signals import ending_signal


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
    with closing(_listen(host, port)) as listener:
        sys.exit(anyio.run(_serve, listener, host, data))


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which end the process before the sandbox is closed."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def _serve(listener: socket.socket, host: str, data: Path | None) -> int:
    world = Sandbox(data)
    config = uvicorn.Config(world.app(), log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=1)
    server = _Server(config)
    origin = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    status = 0
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(server.serve, sockets=[listener]))
            # The socket already listens, so readers of these lines can connect at once.
            click.echo(export_lines(world, origin))
            click.echo(f"Sandbox at {origin}; end it with Ctrl-C.", err=True)
            status = await ending_signal()
            server.should_exit = True
    finally:
        world.close()
    return status


def export_lines(world: Sandbox, origin: str) -> str:
    """Return shell lines that export every platform's variables for the sandbox at this origin."""
    variables = {name: value for each in PLATFORMS for name, value in world.variables(each, origin).items()}
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def _listen(host: str, port: int) -> socket.socket:
    # Bound here and not by uvicorn, because the printed variables must name the port that 0 was replaced by.
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise Failure(f"Cannot listen on {host}:{port}: {error.strerror}.", fix="Choose another --port.") from error
