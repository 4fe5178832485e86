"""Finds known secret values in whatever is about to leave the process, however they are spelt there.

Redaction by schema and by name knows where a credential belongs; this knows the credential itself, so that an echo of
it in an error message or a name is found as well.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, quote_plus

from connector_mcp.engine.redact import MARKER
from connector_mcp.upstream.text import strip_hidden

_SHORTEST = 6
"""Shorter values are not searched for in texts: they occur in everything. Names and schemas still hide them."""


class Scrubber:
    """Finds known secret values in anything that is about to leave the process.

    Credentials of the configuration are known for good, those seen in arguments for as long as they are recent.
    """

    def __init__(self, permanent: Callable[[], Iterable[str]], *, recent: int = 512) -> None:
        self._permanent = permanent
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._recent = recent
        self._prepared: _Prepared | None = None

    def remember(self, values: Iterable[str]) -> None:
        """Know these values from now on."""
        for value in values:
            if len(value) >= _SHORTEST:
                if value not in self._seen:
                    self._prepared = None
                self._seen[value] = None
                self._seen.move_to_end(value)
        while len(self._seen) > self._recent:
            self._seen.popitem(last=False)

    def values(self) -> Iterator[str]:
        """Every value that is known."""
        yield from self._permanent()
        yield from self._seen

    def text(self, text: str) -> str:
        """The text with every known value, also as JSON or an address spells it, replaced."""
        return _replace(text, self._prepare().plain)

    def value(self, value: Any) -> Any:
        """The JSON value with every known value in its strings and keys replaced."""
        return _replace_all(value, self._prepare().plain)

    def finds(self, encoded: str) -> bool:
        """Whether a known value stands in a JSON text; cheap, so that clean results need no walk."""
        return any(spelling in encoded for spelling in self._prepare().encoded)

    def _prepare(self) -> _Prepared:
        permanent = tuple(self._permanent())
        if self._prepared is None or self._prepared.permanent != permanent:
            # What is part of the marker itself would be found in every redacted text.
            values = {value for value in self.values() if len(value) >= _SHORTEST and value not in MARKER}
            plain = {spelling for value in values for spelling in _spelt(value)}
            encoded = {spelling for text in plain for spelling in (text, *_as_json(text))}
            self._prepared = _Prepared(permanent, tuple(plain), tuple(encoded))
        return self._prepared


@dataclass(frozen=True)
class _Prepared:
    """How the known values are spelt in texts, and in the JSON of such texts."""

    permanent: tuple[str, ...]
    plain: tuple[str, ...]
    encoded: tuple[str, ...]


def _replace_all(value: Any, spellings: Sequence[str]) -> Any:
    if isinstance(value, str):
        return _replace(value, spellings)
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        return {_replace(key, spellings): _replace_all(member, spellings) for key, member in members.items()}
    if isinstance(value, list):
        return [_replace_all(member, spellings) for member in cast("list[Any]", value)]
    return value


def _replace(text: str, spellings: Sequence[str]) -> str:
    spans = sorted(span for spelling in spellings if spelling in text for span in _spans(spelling, text))
    if not spans:
        return text
    # Values may overlap: what any of them covers goes, and what touches becomes one marker.
    parts: list[str] = []
    kept = 0
    for start, end in spans:
        if start > kept or not parts:
            parts.append(text[kept:start])
        kept = max(kept, end)
    return MARKER.join([*parts, text[kept:]])


def _spelt(value: str) -> Iterator[str]:
    yield value
    if len(seen := strip_hidden(value)) >= _SHORTEST:
        yield seen
    yield from _as_json(value)
    yield quote(value, safe="", errors="replace")
    yield quote_plus(value, errors="replace")


def _as_json(value: str) -> Iterator[str]:
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]


def _spans(spelling: str, text: str) -> Iterator[tuple[int, int]]:
    start = text.find(spelling)
    while start >= 0:
        yield start, start + len(spelling)
        start = text.find(spelling, start + 1)
