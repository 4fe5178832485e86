"""Suggest the known name that is closest to one that is not known."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST_NAME = 100
"""A longer text is no name, and comparing it takes long."""


def nearest(name: str, known: Iterable[str], *, count: int = 3, cutoff: float = 0.6) -> list[str]:
    """Return up to `count` known names that reach `cutoff` (0 to 1), the most similar first. Case does not matter."""
    if len(name) > _LONGEST_NAME:
        return []
    # difflib is needed only after a mistake.
    from difflib import get_close_matches

    by_folded = {each.casefold(): each for each in known}
    return [by_folded[near] for near in get_close_matches(name.casefold(), by_folded, n=count, cutoff=cutoff)]


def closest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the most similar known name, or None if no name reaches `cutoff`, which 0 always does."""
    return next(iter(nearest(name, known, count=1, cutoff=cutoff)), None)


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return ` Did you mean 'x'?` for the closest known name, or an empty string; it is appended to a sentence."""
    near = closest(name, known, cutoff=cutoff)
    return f" Did you mean {near!r}?" if near else ""
