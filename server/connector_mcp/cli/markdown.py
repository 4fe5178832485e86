"""The little Markdown that the generated pages are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar inside a cell does not end it."""
    lines = [_row(header), "|" + "---|" * len(header)]
    return "\n".join([*lines, *map(_row, rows)])


def code(text: object) -> str:
    """The text as inline code."""
    return f"`{text}`"


def page(*parts: str) -> str:
    """The parts with an empty line between them, and a line's end after the last one."""
    return "\n\n".join(parts) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell.replace('|', chr(92) + '|')} |" for cell in cells)
