"""Suggest the known name that is closest to one that is not known."""

from __future__ import annotations

from collections.abc import Iterable


def closest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name most similar to `name`, or None if no name reaches `cutoff` (0 to 1).

    Upper and lower case count as equal. With a cutoff of 0 the result is None only when nothing is known.
    """
    # difflib is needed only after a mistake.
    from difflib import get_close_matches

    by_folded = {each.casefold(): each for each in known}
    near = get_close_matches(name.casefold(), by_folded, n=1, cutoff=cutoff)
    return by_folded[near[0]] if near else None


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return ` Did you mean 'x'?` for the closest known name, or an empty string; it is appended to a sentence."""
    near = closest(name, known, cutoff=cutoff)
    return f" Did you mean {near!r}?" if near else ""
