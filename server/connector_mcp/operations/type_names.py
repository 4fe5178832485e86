"""Find connector types by what people call them: an id, a name, or words such as `google drive` and `gmail`.

The words of a request are compared with those of the types. Letters decide only where no word fits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from importlib import resources
from itertools import pairwise

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.connector_types import ConnectorType, connector_type, connector_types
from connector_mcp.suggest import nearest

_MOST_NAMED = 6
_LONGEST_NAME = 200
_MOST_WORDS = 12
_SEPARATORS = re.compile(r"[^a-z0-9.]+")
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORDS: JsonObject = json.loads((resources.files("connector_mcp.operations") / "type_words.json").read_text("utf-8"))
_FILLERS = frozenset(_WORDS["fillers"].split())
_MEANINGS: dict[str, str] = _WORDS["meanings"]
"""Words that people use, with the words that types may have in their place."""
_WHOLE, _BEGINNING = 8, 6
"""How much a word counts that a type has, or that one of its words begins with. A word of like meaning, or with a
further ending, counts 1 or 2."""


def find_type(platform: str, name: str) -> ConnectorType | None:
    """The type with this id, or the only one that has all words of the name; None if there may be several."""
    found = only_type(platform, name)
    if found is None or found.type == name:
        return found
    return found if all(_likeness(word, _labels(platform)[found.type]) > 2 for word in _asked_words(name)) else None


def only_type(platform: str, name: str) -> ConnectorType | None:
    """The type with this id, or the only one that is like the name. For calls that show the type and do nothing."""
    if named := connector_type(platform, name.strip()):
        return named
    found = similar_types(platform, name)
    return found[0] if len(found) == 1 else None


def similar_types(platform: str, name: str) -> list[ConnectorType]:
    """The types that a name may mean, the likeliest first; none where nothing is like it."""
    known, labels, words = connector_types(platform), _labels(platform), _asked_words(name)
    scores = {key: sum(_likeness(word, own) for word in words) for key, own in labels.items()}
    best = max(scores.values(), default=0)
    if best:
        found = _before_enterprise([known[key] for key, score in scores.items() if score == best])
        return sorted(found, key=lambda each: (not each.creatable, len(labels[each.type])))
    for text, cutoff in ((name.strip(), 0.7), *((word, 0.82) for word in words)):
        if near := nearest(text, {word for own in labels.values() for word in own if len(word) > 3}, cutoff=cutoff):
            return _before_enterprise([known[key] for key, own in labels.items() if near[0] in own])
    return []


def _before_enterprise(found: list[ConnectorType]) -> list[ConnectorType]:
    """Without the SSO providers, unless only they have the name: people mean the sign-in button."""
    return [each for each in found if not each.traits.get("isEnterprise")] or found


def unknown_type(
    path: str, platform: str, name: str, otherwise: str, *, fits: Callable[[ConnectorType], bool] = lambda _: True
) -> Issue:
    """The issue of a name that is no type: it lists the types that it may mean, or says `otherwise` what to do."""
    similar = similar_types(platform, name)
    near = [each for each in similar if fits(each)]
    # Letters alone do not show that a type is meant.
    words = [_likeness(word, _labels(platform)[each.type]) for each in similar[:1] for word in _asked_words(name)]
    if any(words) and not near:
        only = similar[0]
        why = " ".join(only.notes) or otherwise
        return Issue(path, "a type that cannot be chosen here", f"another than {only.type} ({only.name}): {why}")
    named = ", ".join(f"{each.type} ({each.name})" for each in near[:_MOST_NAMED])
    more = f" and {len(near) - _MOST_NAMED} more; {otherwise}" if len(near) > _MOST_NAMED else ""
    wanted = f"{'perhaps' if len(near) == 1 else 'one of'} {named}{more}" if near else otherwise
    likely = [each.type for each in near[:_MOST_NAMED]]
    return Issue(path, "an unknown type", wanted, likely[0] if len(likely) == 1 else None, candidates=likely)


@cache
def _labels(platform: str) -> dict[str, frozenset[str]]:
    """The words of each type: of its id, its name, its kind and its provider."""
    return {
        key: frozenset(_words(" ".join((key.lower(), each.name, each.kind, each.words, each.traits.get("target", "")))))
        for key, each in connector_types(platform).items()
    }


def _words(label: str) -> set[str]:
    """The words of a label in all forms in which people may write them: `one`, `drive` and `onedrive`."""
    whole = [word for word in _SEPARATORS.split(label.lower()) if word]
    parts = [word for word in _SEPARATORS.split(_HUMPS.sub(" ", label).lower()) if word]
    return {*whole, *parts, *(one + other for one, other in pairwise(parts))}


def _asked_words(name: str) -> list[str]:
    if len(name) > _LONGEST_NAME:
        return []
    words = [word for word in _SEPARATORS.split(name.lower()) if word]
    return ([word for word in words if word not in _FILLERS] or words)[:_MOST_WORDS]


def _likeness(word: str, own: frozenset[str]) -> int:
    forms = (word, word.removesuffix("s"), word.removesuffix("es"))
    if word in own:
        return _WHOLE
    if len(word) > 2 and any(each.startswith(word) or each in forms for each in own):
        return _BEGINNING
    alike = next((_MEANINGS[form] for form in forms if form in _MEANINGS), "").split()
    return min(2, sum(each in own for each in alike)) or any(len(each) > 3 and word.startswith(each) for each in own)
