"""Suggest the known names that an unknown one may mean, by the meaning of its words or by its letters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from math import isclose

CLOSE = 0.7
"""How similar a name has to be for a suggestion: one letter in three may be wrong."""
_LONGEST_NAME = 100
"""A longer text is no name, and comparing it takes long."""

_NO_LETTERS = re.compile(r"[\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[\W_]+")
_SYNONYMS = {
    "list": "all browse enumerate query search",
    "get": "fetch find load lookup read retrieve show view",
    "create": "add insert make new post register",
    "update": "change configure edit modify patch put rename save set",
    "delete": "del destroy drop erase remove",
    "describe": "explain schema",
    "config": "configuration credential option param setting",
    "organization": "org organisation",
    "id": "identifier uuid",
    "url": "address endpoint uri",
    "limit": "count max maxresults pagesize perpage size",
    "cursor": "next nexttoken offset page pagetoken",
    "name": "label title",
    "description": "desc",
}
_MEANING = {word: meaning for meaning, others in _SYNONYMS.items() for word in others.split()}
_VERBS = frozenset({"list", "get", "create", "update", "delete", "describe"})
_NO_WORDS = frozenset(
    ("a", "an", "by", "detail", "details", "display", "for", "from", "in", "mcp", "my", "new", "of", "on", "the", "to")
)
_PLATFORM_WEIGHT = 3
_CONTRARY = re.compile(r"(?<![a-z])(a(?=sc)|de|dis|down|en|ex|im|in|max|min|n(?=ok)|non|not|out|un|up)[-_ ]?")
"""Beginnings of words that have opposite meanings if the rest of both is the same."""


def nearest(name: str, known: Iterable[str], *, count: int = 3, cutoff: float = CLOSE) -> list[str]:
    """Return up to `count` known names that reach `cutoff` (0 to 1), the most similar first. Case does not matter.

    Opposites, such as `active` and `inactive`, are not similar.
    """
    if len(name) > _LONGEST_NAME:
        return []
    # difflib is needed only after a mistake.
    from difflib import get_close_matches

    folded, by_folded = name.casefold(), {each.casefold(): each for each in known}
    options = [each for each in by_folded if not _are_opposites(folded, each)]
    return [by_folded[near] for near in get_close_matches(folded, options, n=count, cutoff=cutoff)]


def _are_opposites(one: str, other: str) -> bool:
    begins_alike = _CONTRARY.findall(one) == _CONTRARY.findall(other)
    return not begins_alike and _CONTRARY.sub("", one) == _CONTRARY.sub("", other)


def closest(name: str, known: Iterable[str], *, cutoff: float = CLOSE) -> str | None:
    """Return the most similar known name, or None if no name reaches `cutoff`."""
    return next(iter(nearest(name, known, count=1, cutoff=cutoff)), None)


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = CLOSE) -> str:
    """Return ` Did you mean 'x'?` for the closest known name, or an empty string; it is appended to a sentence."""
    near = closest(name, known, cutoff=cutoff)
    return f" Did you mean {near!r}?" if near else ""


def meant(name: str, known: Iterable[str], *, of: str | None = None, share: float = 0.5, count: int = 5) -> list[str]:
    """Return the known names that a name may mean: one if it is clear, several if it is ambiguous, none if unknown.

    Words count, not their order, number or spelling in camelCase. A word that few known names have counts most, and so
    does one that groups of them begin with. At least the `share` of the words must be known. The names are those of
    tools, where a read in the plural is a list; or with `of` those of the arguments of this tool.
    """
    are_tools = of is None
    # Clients put the server's name in front: mcp__connectors__logto_list_connectors.
    name = name.rpartition("__")[2] if are_tools else name
    if len(name) > _LONGEST_NAME:
        return []
    names = {each: _words(each, are_tools) for each in known}
    letters = _NO_LETTERS.sub("", name.casefold())
    if spelled := next((each for each in names if _NO_LETTERS.sub("", each.casefold()) == letters), None):
        return [spelled]
    shared = Counter(word for words in names.values() for word in words)
    first = Counter(_HUMP.split(each)[0] for each in names)
    weights = {word: number**-0.5 for word, number in shared.items()}
    weights |= {word: _PLATFORM_WEIGHT for word, number in first.items() if number > 1 and word in weights}
    given = {closest(word, shared, cutoff=0.8) or word for word in _words(name, are_tools)}
    # The name may repeat what the tool is about: connectorId may be its id.
    given -= _words(of or "", False) - shared.keys()
    scores = {each: sum(weights[word] for word in words & given) for each, words in names.items()}
    best, whole = max(scores.values(), default=0), sum(weights.get(word, 0.5) for word in given)
    if not best or best < whole * share:
        return nearest(name, names, cutoff=0.8)
    tied = [each for each, score in scores.items() if isclose(score, best)]
    # A name that only adds words to another one is not what was meant.
    fitting = [each for each in tied if not any(names[other] < names[each] for other in tied)]
    return sorted(fitting, key=lambda each: len(names[each]))[:count]


@lru_cache(maxsize=1024)
def _words(name: str, is_tool: bool) -> frozenset[str]:
    """Return the words of a name by their meanings."""
    parts = [part.lower() for part in _HUMP.split(name) if part]
    if (whole := "".join(parts)) in _MEANING:
        return frozenset({_MEANING[whole]})
    words = frozenset(_MEANING.get(_singular(part), _singular(part)) for part in parts) - _NO_WORDS
    if (
        is_tool
        and words & _VERBS <= {"get"}
        and any(_singular(part) != part for part in parts if part not in _NO_WORDS)
    ):
        words = words - {"get"} | {"list"}
    return words


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] not in "sui" else word
