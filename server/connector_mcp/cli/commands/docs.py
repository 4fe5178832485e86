"""`connector-mcp docs`: the reference pages, from the declarations."""

from __future__ import annotations

from pathlib import Path

import click

from connector_mcp.cli.generated import write_or_check
from connector_mcp.cli.page_of_errors import page_of_errors
from connector_mcp.cli.page_of_settings import page_of_settings
from connector_mcp.cli.page_of_tools import page_of_tools


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail and name the pages that are not up to date.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("docs"),
    show_default=True,
    help="Folder of the pages.",
)
def docs(check: bool, out: Path) -> None:
    """Write docs/tools.md, configuration.md and errors.md from the declarations, or check them for drift."""
    pages = {"tools.md": page_of_tools(), "configuration.md": page_of_settings(), "errors.md": page_of_errors()}
    write_or_check(out, pages, check=check, verb="docs")
