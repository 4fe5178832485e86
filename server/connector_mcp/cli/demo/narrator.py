"""How the demo is told: steps, calls, values and checks, readable with and without a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import click

from connector_mcp.cli.output.failures import Failure
from connector_mcp.cli.output.text import json_text, one_line, printable

_WIDTH = 118


class Narrator:
    """Writes the session to stdout. click takes the colours out where stdout is no terminal."""

    def __init__(self) -> None:
        self._steps = 0

    def title(self, text: str) -> None:
        click.secho(text, bold=True)

    def step(self, text: str) -> None:
        self._steps += 1
        click.echo()
        click.secho(f"{self._steps}. {text}", bold=True)

    def called(self, tool: str, arguments: Mapping[str, Any]) -> None:
        shown = one_line(json_text(dict(arguments), indent=None), width=_WIDTH)
        click.echo("   " + click.style("→ ", fg="cyan") + click.style(tool, fg="cyan") + f" {shown}")

    def answered(self, label: str, value: Any) -> None:
        text = value if isinstance(value, str) else json_text(value, indent=None)
        click.echo("   " + click.style("← ", fg="green") + f"{label}: {one_line(text, width=_WIDTH)}")

    def listed(self, label: str, names: Sequence[str]) -> None:
        """Names, all of them, on as many lines as it takes."""
        text = f"{label}: {', '.join(map(one_line, names))}"
        for line in wrap(text, _WIDTH, initial_indent="   ", subsequent_indent="      ", break_on_hyphens=False):
            click.echo(line)

    def refused(self, code: str, message: str) -> None:
        click.echo("   " + click.style("← ", fg="yellow") + f"{code}: {one_line(message, width=_WIDTH)}")

    def changed(self, field: str, before: Any, after: Any) -> None:
        click.echo(f"     {printable(field)}: " + _value(before, "red") + " → " + _value(after, "green"))

    def kept(self, field: str, value: Any) -> None:
        click.echo(f"     {printable(field)}: " + _value(value, None) + " (kept)")

    def asked(self, message: str) -> None:
        lines = [line for line in printable(message).splitlines() if line.strip()]
        click.echo("   " + click.style("? ", fg="magenta") + "the server asks the person:")
        for line in lines:
            click.echo(f"     {line}")

    def replied(self, reply: str) -> None:
        click.echo("   " + click.style("! ", fg="magenta") + f"the person {reply}")

    def note(self, text: str) -> None:
        click.echo(f"   {text}")


def _value(value: Any, colour: str | None) -> str:
    text = "(unset)" if value is None else one_line(json_text(value, indent=None), width=60)
    return click.style(text, fg=colour) if colour else text


def expect(condition: bool, claim: str) -> None:
    """Hold the demo to what it claims.

    Raises:
        Failure: The claim does not hold.
    """
    if not condition:
        raise Failure(f"The demo expected that {claim}, and it is not so.", fix="Run `make test`, and report this.")
