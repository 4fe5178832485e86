"""`connector-mcp schemas`: the published contract, one file a tool."""

from __future__ import annotations

from pathlib import Path

import click

from connector_mcp.cli.contract import published_files
from connector_mcp.cli.generated import write_or_check


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail and name the files that are not up to date.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("tool_schemas"),
    show_default=True,
    help="Folder of the contract; JSON files in its subfolders that are of no tool are removed.",
)
def schemas(check: bool, out: Path) -> None:
    """Write tool_schemas/<platform>/<tool>.json from the declarations, or check it for drift."""
    write_or_check(out, published_files(), pattern="*/*.json", check=check, verb="schemas")
