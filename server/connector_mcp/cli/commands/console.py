"""`connector-mcp console`: the operator's console for the servers of this machine, on loopback."""

from __future__ import annotations

import hmac
import os
import sys
import webbrowser
from contextlib import aclosing
from functools import partial
from hashlib import sha256
from typing import Any

import anyio
import anyio.to_thread
import click

from connector_mcp.cli.options import load_settings, with_overrides
from connector_mcp.cli.output import serve_and_announce
from connector_mcp.cli.terminal import person_present, require_terminal, user_name
from connector_mcp.composition.health import examine_platforms, open_configured
from connector_mcp.composition.storage import open_database
from connector_mcp.config.settings import Settings
from connector_mcp.json_values import JsonObject
from connector_mcp.text import random_letters


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port to listen on; by default a free one.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@with_overrides
def console(overrides: dict[str, Any], port: int, no_browser: bool) -> None:
    """Decide the calls that wait, in a browser on this machine.

    For the servers that share this state directory. Prints a code that signs in once. Works only in a terminal.
    """
    require_terminal(person_present(), "no console was opened", "console")
    sys.exit(anyio.run(_serve, load_settings(**overrides), port, not no_browser))


async def _serve(settings: Settings, port: int, browse: bool) -> int:
    # Imported here because no other command but `serve --http` needs the pages.
    from connector_mcp.console.pages import Console, Operators, console_pages
    from connector_mcp.engine.approval.queue import Approvals
    from connector_mcp.transport.http.listener import serve_pages

    async def check_platforms() -> list[JsonObject]:
        return [report.as_dict() for report in await examine_platforms(settings, os.environ)]

    async def announce(address: str) -> None:
        click.echo(f"The console is at {address}/console; end it with Ctrl-C.", err=True)
        click.echo(f"Sign in with the code {code.text}, which works once.", err=True)
        if browse:
            # The address does not contain the code: other users can see the command line of the browser.
            await anyio.to_thread.run_sync(webbrowser.open, f"{address}/console", abandon_on_cancel=True)

    code = OnceCode()
    async with aclosing(open_database(settings)) as database:
        pages = console_pages(
            Console(
                approvals=Approvals(database, ttl=settings.approval_ttl),
                database=database,
                operators=Operators(code.find, code.holds, "Code", "It is in the terminal where you opened this."),
                engine=partial(open_configured, settings, os.environ),
                check_platforms=check_platforms,
                sandbox=settings.sandbox,
            )
        )
        return await serve_and_announce(partial(serve_pages, pages, port, log_level=settings.log_level), announce)


class OnceCode:
    """A code that signs in the user of this process, once. Its sessions end with the process."""

    def __init__(self) -> None:
        self.text = "-".join(random_letters(4) for _ in range(3))
        self._digest = sha256(self.text.encode()).digest()
        self._used = False

    def find(self, token: str) -> str | None:
        """Return the user's name for the code, but only once."""
        if self._used or not hmac.compare_digest(sha256(token.encode("utf-8", "replace")).digest(), self._digest):
            return None
        self._used = True
        return user_name() or "of this machine"

    def holds(self, digest: bytes) -> bool:
        """Check that a session began with this process's code."""
        return hmac.compare_digest(digest, self._digest)
