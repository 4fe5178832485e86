"""Scrubbing: find known secret values in everything that leaves the process, in any encoding.

Redaction by schema and by name knows where a credential belongs. Scrubbing knows the credential itself, so it also
finds one that a platform repeats in an error message or under another key. It must not destroy what an agent works
with: `redactor.Place` says which values are removed from where.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import cache, cached_property
from itertools import islice
from os.path import commonprefix
from typing import Any, cast, get_args
from urllib.parse import quote, quote_plus, unquote

from ahocorasick_rs import AhoCorasick, BytesAhoCorasick, MatchKind
from pydantic import BaseModel, SecretStr
from pydantic.alias_generators import to_camel

from connector_mcp.config.settings import SecretName, Settings
from connector_mcp.engine.redaction.redactor import MARKER, Place, credentials_of, place_of
from connector_mcp.engine.results import encode_bytes
from connector_mcp.errors import Misconfigured
from connector_mcp.secrets.reference import key_format
from connector_mcp.text import CUT, strip_hidden

_SHORTEST = 6
"""Shorter values are not searched for: they occur in everything. Redaction still hides them."""
_SURE = 16
"""Values of this length are searched for inside of words, too, even if they consist of words themselves."""
_HEAD = 96
"""Characters of an encoding that are searched for. The rest is compared where they are found."""
_MOST_CUTS = 100
"""Ellipses in a text that are taken for the end of a cut value. This server makes far fewer."""
_URL_SAFE = str.maketrans("+/", "-_")
_NESTED = 3
"""Levels of JSON inside a JSON string that are searched."""

# What people choose as a name, an id or a password: words and short numbers with something between them.
_WORDS = re.compile(r"(?:[^\W\d_]+\d{0,4}|\d{1,6})(?:[\W_]{1,2}(?:[^\W\d_]+\d{0,4}|\d{1,6}))*")
_GOES_ON_BEFORE = re.compile(r"[\w/-]$|\w\.$")
_GOES_ON_AFTER = re.compile(r"[\w/-]|\.\w")
_LONGEST_NAME = 64
_PASSWORD_IN_ADDRESS = re.compile(r"://[^/:@]*:([^/@]+)@|[?&](?:ssl)?password=([^&#]+)")


CALL_SCRUBBER: ContextVar[Scrubber | None] = ContextVar("call_scrubber", default=None)
"""The scrubber of the running call, for log lines."""


class Scrubber:
    """Replaces known secret values: those of this process, and of one call those that were given in it.

    No call can make another one forget or learn a value.
    """

    def __init__(self, own: Callable[[], Iterable[str]], public: Collection[str] = ()) -> None:
        """`own` returns the secrets of this process as they are now. `public` words are never secret."""
        self._own = own
        self._public = frozenset(map(str.lower, public))
        self._configured = (), _KnownValues((), Place.NAME)
        self._given: tuple[_KnownValues, ...] = ()

    def extended(self, values: Iterable[str]) -> Scrubber:
        """Make a scrubber for one call, which also knows the values given in it."""
        made = Scrubber(self._own, self._public)
        made._given = (*self._known()[1:], _KnownValues(self._searched(values), Place.LABEL))
        made._configured = self._configured
        return made

    def text(self, text: str, place: Place = Place.FREE) -> str:
        """Replace every known value, also in its JSON, URL, HTML and base64 encodings."""
        return _replace(text, self._known(), place)

    def value(self, value: Any, place: Place = Place.FREE, *, model: type[BaseModel] | None = None) -> Any:
        """Replace known values in the strings and keys of a JSON value. All of it is `place`.

        With `model` it is a record, or a list of records: the ids, names and types in its documented members stay as
        they are. From those in other members, which may be anything, the server's own secrets are removed.
        """
        encoded = encode_bytes(value)
        # An ellipsis, which is not ASCII, may mark where a known value was cut off.
        if encoded.isascii() and not self.finds(encoded):
            return value
        if model is None:
            return _replace_in(value, self._known(), place, place)
        return _replace_in(value, self._known(), place, Place.ID, _documented(model))

    def finds(self, encoded: bytes) -> bool:
        """Check whether JSON may contain a known value."""
        return any(known.in_json(encoded) for known in self._known())

    def _known(self) -> list[_KnownValues]:
        own = tuple(self._own())
        if own != self._configured[0]:
            parts = (part for value in own for part in credentials_of(value))
            self._configured = own, _KnownValues(self._searched(parts), Place.NAME)
        return [self._configured[1], *self._given]

    def _searched(self, values: Iterable[str]) -> tuple[str, ...]:
        # A part of the marker itself would be found in every redacted text.
        known = {value for value in values if len(value) >= _SHORTEST and value not in MARKER}
        return tuple(value for value in known if value.lower() not in self._public)


def secrets_of_settings(settings: Settings) -> Iterator[str]:
    """Yield the values of settings that must never be shown, as far as they can be read."""
    held: list[SecretStr | None] = [value for value in vars(settings).values() if isinstance(value, SecretStr)]
    for name in get_args(SecretName):
        with suppress(Misconfigured):
            held.append(settings.secret(name))
    for text in (secret.get_secret_value() for secret in held if secret is not None):
        yield text
        for found in _PASSWORD_IN_ADDRESS.finditer(text):
            yield unquote(found[1] or found[2])


class _KnownValues:
    """A few values with all their encodings, in text and in JSON. `place` is the first that they are removed from."""

    def __init__(self, values: tuple[str, ...], place: Place) -> None:
        self._values = values
        self._place = place

    def spans(self, text: str, place: Place) -> Iterator[tuple[int, int]]:
        """Yield where values occur in a text, overlaps included."""
        for index, start, end in self._in_texts.find_matches_as_indexes(text, overlapping=True) if self._values else ():
            head = self._heads[index]
            first, alone, whole = self._encodings[head]
            if first > place or (alone and _is_part_of_a_word(text, start, end)):
                continue
            for encoding in whole:
                end = max(end, start + len(commonprefix((text[start : start + len(encoding)], encoding))))  # noqa: RUF071
            yield start, end

    def in_json(self, encoded: bytes) -> bool:
        return bool(self._values) and bool(self._in_json.find_matches_as_indexes(encoded))

    def cut_off(self, text: str, place: Place) -> int | None:
        """Return where a value begins that is cut off at the end of the text."""
        for start in range(max(len(text) - _HEAD, 0), len(text) - _SHORTEST + 1):
            for head in self._beginnings.get(text[start : start + _SHORTEST], ()):
                if self._encodings[head][0] <= place and head.startswith(text[start:]):
                    return start
        return None

    @cached_property
    def _encodings(self) -> dict[str, tuple[Place, bool, tuple[str, ...]]]:
        """By the head of each encoding: where it is removed from, whether only as a word, and what it may go on as."""
        found: dict[str, tuple[Place, bool, tuple[str, ...]]] = {}
        for value in self._values:
            has_words = len(value) <= _LONGEST_NAME and _WORDS.fullmatch(value) is not None
            is_name = has_words and (len(value) < _SURE or self._place is not Place.NAME)
            place = Place.ID if key_format(value) else Place.FREE if is_name else self._place
            for encoding in map(_searchable, _encodings(value)):
                alone = has_words and encoding == value and len(value) < _SURE
                first, other, whole = found.get(encoding[:_HEAD], (place, alone, ()))
                found[encoding[:_HEAD]] = (
                    min(first, place),
                    other and alone,
                    (*whole, encoding) if len(encoding) > _HEAD else whole,
                )
        return found

    @cached_property
    def _heads(self) -> tuple[str, ...]:
        return tuple(self._encodings)

    @cached_property
    def _beginnings(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for head in self._heads:
            found.setdefault(head[:_SHORTEST], []).append(head)
        return found

    @cached_property
    def _in_texts(self) -> AhoCorasick:
        return AhoCorasick(self._heads, matchkind=MatchKind.Standard)

    @cached_property
    def _in_json(self) -> BytesAhoCorasick:
        # Only whether there is a match matters. Searching bytes for the leftmost match is the library's fastest way.
        encodings = {part.encode()[:_HEAD] for head in self._heads for part in (head, *_as_json(head))}
        return BytesAhoCorasick(encodings, matchkind=MatchKind.LeftmostFirst)


def _is_part_of_a_word(text: str, start: int, end: int) -> bool:
    before, after = text[max(start - 2, 0) : start], text[end : end + 2]
    return bool(_GOES_ON_BEFORE.search(before) or _GOES_ON_AFTER.match(after))


@cache
def _documented(model: type[BaseModel]) -> frozenset[str]:
    """Return the names of a model's members, as arguments and on the wire."""
    fields = model.model_fields.items()
    return frozenset(each for name, info in fields for each in (name, info.alias or to_camel(name)))


def _replace_in(
    value: Any, known: list[_KnownValues], rest: Place, floor: Place, declared: Collection[str] | None = None
) -> Any:
    """Replace values in a JSON value. Text that its key tells nothing about is `rest`; all is at least `floor`."""
    if isinstance(value, str):
        return _replace(value, known, max(rest, floor))
    if isinstance(value, list):
        return [_replace_in(each, known, rest, floor, declared) for each in cast("list[Any]", value)]
    if not isinstance(value, Mapping):
        return value
    made: dict[str, Any] = {}
    # A name may have one form for each language; an object with another label has members of its own.
    rest = Place.FREE if rest is Place.ID else rest
    for key, member in cast("Mapping[str, Any]", value).items():
        is_known = declared is None or key in declared
        lowest = max(floor, Place.LABEL) if key.startswith("config") else floor
        lowest = lowest if is_known else max(lowest, Place.NAME)
        shown = key if declared and is_known else _replace(key, known, max(lowest, Place.LABEL))
        made[shown] = _replace_in(member, known, min(rest, place_of(key)), lowest)
    return made


def _replace(text: str, known: list[_KnownValues], place: Place) -> str:
    if len(text) < _SHORTEST:
        return text
    searched = _searchable(text)
    spans = [span for some in known for span in some.spans(searched, place)]
    if CUT in searched:
        for end in (found.start() for found in islice(re.finditer(CUT, searched), _MOST_CUTS)):
            starts = (some.cut_off(searched[max(end - _HEAD, 0) : end], place) for some in known)
            spans.extend((max(end - _HEAD, 0) + start, end) for start in starts if start is not None)
    if not spans:
        return text
    # Values may overlap or touch: each covered stretch becomes one marker.
    parts: list[str] = []
    kept = 0
    for start, end in sorted(spans):
        if start > kept or not parts:
            parts.append(text[kept:start])
        kept = max(kept, end)
    return MARKER.join([*parts, text[kept:]])


# Encodings -----------------------------------------------------------------------------------------------------------


def _searchable(text: str) -> str:
    """Replace halves of surrogate pairs, which cannot be searched. The length stays the same."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _encodings(value: str) -> Iterator[str]:
    yield value
    if len(seen := strip_hidden(value.replace("\r\n", "\n"))) >= _SHORTEST:
        yield seen
    if value.startswith("-----BEGIN"):
        # Line breaks are changed in many ways.
        yield from (line for line in value.splitlines() if len(line) >= _SURE and not line.startswith("-----"))
    yield from _as_json(value, _NESTED)
    yield from (quote(value, safe=safe, errors="replace") for safe in ("", "/", "!'()*"))
    yield quote_plus(value, errors="replace")
    yield html.escape(value)
    yield from _in_base64(value.encode("utf-8", "replace"))


def _as_json(value: str, depth: int = 1) -> Iterator[str]:
    for ensure_ascii in (True, False):
        encoded = value
        for _ in range(depth):
            encoded = json.dumps(encoded, ensure_ascii=ensure_ascii)[1:-1]
            yield encoded


def _in_base64(value: bytes) -> Iterator[str]:
    """Encode the value in base64, alone and inside a longer text, in both alphabets."""
    for before in range(3):
        text = b64encode(bytes(before) + value).decode()
        # A character encodes six bits. Characters that also encode bits of the surrounding text are left out.
        own = text[(8 * before + 5) // 6 : 8 * (before + len(value)) // 6]
        yield own
        yield own.translate(_URL_SAFE)
