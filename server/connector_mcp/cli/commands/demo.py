"""`connector-mcp demo`: a session through the real stdio server, against the sandbox."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import anyio
import click
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from connector_mcp import __version__
from connector_mcp.cli.demo.narrator import Narrator
from connector_mcp.cli.demo.script import Person, Session
from connector_mcp.cli.output.failures import Failure
from connector_mcp.errors import ConnectorError

_SECONDS = 60.0


@click.command()
def demo() -> None:
    """Show a session against the sandbox, start to end.

    Starts `connector-mcp serve --sandbox` as an assistant would, and speaks MCP with it. Needs no credentials, no
    terminal and no network; leaves nothing behind.
    """
    with tempfile.TemporaryDirectory(prefix="connector-mcp-demo-") as folder:
        anyio.run(_demo, Path(folder))


async def _demo(folder: Path) -> None:
    tell = Narrator()
    tell.title(f"connector-mcp {__version__}: an assistant, a person, and four emulated platforms")
    state = folder / "state"
    # Only what is named here reaches the server: the SDK hands on no other variable of this process's environment.
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "connector_mcp.cli.main", "serve", "--sandbox"],
        env={"CONNECTOR_MCP_STATE_DIR": str(state)},
    )
    tell.note("$ connector-mcp serve --sandbox")
    person = Person(tell)
    log = folder / "server.log"
    # The log is a file because the server's stderr needs a descriptor; it is small and local.
    with log.open("w", encoding="utf-8") as errlog:
        transport = stdio_client(server, errlog=errlog)
        try:
            with anyio.fail_after(_SECONDS):
                async with Client(transport, elicitation_callback=person.answer) as client:
                    await Session(client, person, tell, state / "audit.jsonl").run()
        except (Failure, ConnectorError):
            _show(log)
            raise
        except TimeoutError:
            _show(log)
            raise Failure(f"The server did not answer within {_SECONDS:.0f} s.", fix="Run it again.") from None
    click.echo()
    tell.title("Done. Attach it to a client with claude_config_example.json, or list the tools: connector-mcp tools")


def _show(log: Path) -> None:
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    if text:
        click.echo(f"\nWhat the server wrote to stderr:\n{text}", err=True)
