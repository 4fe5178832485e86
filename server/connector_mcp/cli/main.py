"""The command line: `connector-mcp COMMAND`.

Commands are imported when they are used, so that `serve` does not pay for what only the others need (the client half of
the SDK alone is a quarter of a second).
"""

from __future__ import annotations

from typing import Any, cast

import click

from connector_mcp import __version__
from connector_mcp.cli.output.failures import Failure, as_failure, show_failure
from connector_mcp.errors import ConnectorError
from connector_mcp.importing import imported

COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("connector_mcp.cli.commands.serve:serve", "Serve the tools over stdio, or over HTTP with --http."),
    "tools": ("connector_mcp.cli.commands.tools:tools", "List the tools that this configuration serves."),
    "call": ("connector_mcp.cli.commands.call:call", "Call one tool and print its result as JSON."),
    "approvals": (
        "connector_mcp.cli.commands.approvals:approvals",
        "See and decide the calls that wait for an operator.",
    ),
    "console": (
        "connector_mcp.cli.commands.console:console",
        "Open the operator's console of this machine in a browser.",
    ),
    "audit": ("connector_mcp.cli.commands.audit:audit", "Show, check and export what was done, and on whose decision."),
    "secrets": (
        "connector_mcp.cli.commands.secrets:secrets",
        "Store the secrets that calls refer to, and see where they are.",
    ),
    "tokens": ("connector_mcp.cli.commands.tokens:tokens", "Make the tokens of HTTP callers, and see those there are."),
    "doctor": ("connector_mcp.cli.commands.doctor:doctor", "Check configuration, addresses and credentials."),
    "config": (
        "connector_mcp.cli.commands.config:config",
        "Check the settings and profiles, and show where each is from.",
    ),
    "sandbox": ("connector_mcp.cli.commands.sandbox:sandbox", "Serve the emulated platforms over HTTP."),
    "demo": ("connector_mcp.cli.commands.demo:demo", "Show a session against the sandbox, start to end."),
}
"""Name to where the command is and what its line in the help says."""


class Commands(click.Group):
    """The commands by name, each imported when it is first asked for; failures of ours end as `error:` and `fix:`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        return getattr(imported(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            # difflib is needed for a typo only.
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.list_commands(ctx), n=1, cutoff=0.5) if args else []
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx=error.ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (Failure, ConnectorError, BaseExceptionGroup) as error:
            failure = as_failure(cast("BaseException", error))
            if failure is None:
                raise
            show_failure(failure.message, failure.fix)
            raise click.exceptions.Exit(failure.exit_status) from error


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="No credentials at hand? Try: connector-mcp demo",
)
@click.version_option(__version__, prog_name="connector-mcp")
def cli() -> None:
    """Provision and look after connectors on Vectorize, Logto, Versori and ConductorOne, through MCP."""


def main() -> None:
    """Run the command line and end the process with its exit status."""
    cli(prog_name="connector-mcp")


if __name__ == "__main__":
    main()
