"""Lines that all replicas append to one list, as one small interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Place = str
"""Where a line is in the list, later ones being later; opaque. "" is before the first and after the last."""


class Journal(Protocol):
    """A list of lines that only grows, under a head that whoever appends puts in the place of the one before.

    Every method is one atomic step and raises `StoreUnavailable` where the list cannot be read or written. Nothing is
    ever removed.
    """

    async def append(self, lines: Sequence[str], *, head: str, expected: str) -> str | None:
        """Append the lines and put the head where that is as expected, "" for none; None then.

        Otherwise nothing is changed, and the head that is there is returned.
        """
        ...

    async def end(self) -> tuple[str, Place]:
        """The head, and the place of the last line."""
        ...

    async def page(self, count: int, *, after: Place = "", until: Place = "") -> list[tuple[Place, str]]:
        """The lines that follow a place, oldest first, at most so many and up to a place."""
        ...

    async def latest(self, count: int, *, before: Place = "") -> list[tuple[Place, str]]:
        """The lines in front of a place, newest first, at most so many."""
        ...

    async def probe(self) -> None:
        """Write something that is no line: returns where a line could be appended now."""
        ...

    async def aclose(self) -> None:
        """Let go of connections. A later call makes new ones."""
        ...
