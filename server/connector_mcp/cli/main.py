"""The command line: `connector-mcp COMMAND`.

Commands are imported when they are used, so that `serve` does not load what only others need. The client half of the
SDK alone takes a quarter of a second.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, cast

import click

from connector_mcp import __version__
from connector_mcp.cli.output import INTERRUPTED, Failure, as_failure, check_streams, end_process, show_failure
from connector_mcp.errors import ConnectorError
from connector_mcp.suggest import did_you_mean

COMMANDS = {
    "serve": "Serve the tools over stdio, or over HTTP with --http.",
    "install": "Add this server to an MCP client's configuration.",
    "tools": "List the tools that this configuration serves.",
    "call": "Call one tool and print its result as JSON.",
    "plan": "Show what a manifest would change on the platforms.",
    "apply": "Carry out a plan, or what a manifest says.",
    "export": "Print a manifest of what exists.",
    "drift": "Show where the platforms differ from a manifest.",
    "approvals": "See and decide the calls that wait for an operator.",
    "console": "Open the operator's console of this machine in a browser.",
    "audit": "Show, check and export what was done and who decided it.",
    "secrets": "Store the secrets that calls refer to, and list them.",
    "tokens": "Generate the bearer tokens of HTTP callers, and list them.",
    "doctor": "Check configuration, addresses and credentials.",
    "config": "Check the settings and profiles, and show where each value is from.",
    "sandbox": "Serve the emulated platforms over HTTP.",
    "demo": "Show a session against the sandbox, start to end.",
}
"""Name and line of the help. The command is in the module of that name, if not in `_MODULES`."""

_READING = ("tools", "plan", "export", "drift", "doctor", "config", "demo")
"""Commands that change nothing on real platforms."""

_MODULES = {"call": "tools", "plan": "manifests", "export": "manifests", "drift": "manifests"}


class Commands(click.Group):
    """Imports a command when it is used, and prints a `ConnectorError` as `error:` and `fix:`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"connector_mcp.cli.commands.{_MODULES.get(cmd_name, cmd_name)}")
        return getattr(module, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            suggestion = did_you_mean(args[0], self.list_commands(ctx)) if args else ""
            raise click.UsageError(f"{error.message}{suggestion}", ctx=error.ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (Failure, ConnectorError, BaseExceptionGroup, click.Abort, KeyboardInterrupt) as error:
            failure = as_failure(cast("BaseException", error)) or _as_interruption(error, ctx.invoked_subcommand)
            if failure is None:
                raise
            if failure.exit_status == INTERRUPTED and sys.stderr.isatty():
                click.echo(err=True)  # Ends the line that shows ^C.
            show_failure(failure.message, failure.fix)
            raise click.exceptions.Exit(failure.exit_status) from error


def _as_interruption(error: BaseException, command: str | None) -> Failure | None:
    # Prompts turn an interrupt into an `Abort`, as they do with the end of the input.
    cause = error.__context__ if isinstance(error, click.Abort) else error
    if not isinstance(cause, KeyboardInterrupt):
        return None
    told = "Nothing was changed." if command in _READING else "Run the command again to go on."
    return Failure(f"Interrupted. {told}", fix="", exit_status=INTERRUPTED)


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
    check_streams()
    try:
        cli(prog_name="connector-mcp")
    except Failure as failure:  # --help and --version are printed outside of all commands.
        show_failure(failure.message, failure.fix)
        end_process(failure.exit_status)
    except SystemExit as ended:
        end_process(int(ended.code or 0))


if __name__ == "__main__":
    main()
