"""Redaction: keep credentials inside the process, by schema and by the names of keys.

Everything that leaves (results, errors, previews, approvals, audit, logs) is redacted here or scrubbed by value. If the
type of a config is unknown, every string in it counts as secret: what cannot be judged is not shown. Values given to
these functions are never changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum, IntEnum
from functools import cache, lru_cache
from typing import Any, Final, cast

from connector_mcp.json_values import JsonObject, is_array, is_object, items
from connector_mcp.operations.connector_types import ConfigPlan, ConnectorType, config_plan, connector_types
from connector_mcp.operations.operation import Operation, StoredConfig, at
from connector_mcp.operations.platform import Platform
from connector_mcp.operations.situation import ConfigUse
from connector_mcp.secrets.reference import referenced_name

MARKER = "[redacted]"
MOST_GIVEN: Final = 2_000
"""Most secrets that one call may give: to search for more would hold up other calls."""

Steps = tuple[str | int, ...]
"""The keys and indexes that lead to a place in a JSON value."""

# Credentials whatever the key is called: a private key, and a password in an address.
_SECRET_VALUE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY|://[^\s/:@]*:[^\s/@]+@")
_OPENING: Final = ("{", "[")


# Names of keys -------------------------------------------------------------------------------------------------------

_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|secret|token|apikey|accesskey|privatekey|accountkey|authkey|signingkey|encryptionkey"
    r"|credentials?(json)?$|serviceaccountjson|authorization$|connectionstring|uploadurl|downloadurl|bearer"
    r"|^pass$|^pwd$|^auth$|^cookie"
)
# Last words of names that contain such a word but hold no secret: addresses, kinds, counts and switches.
_HARMLESS_LAST = re.compile(
    r"age|algorithm|at|count|enabled|endpoint|expiration|expires|expiry|format|ids?|in|label|methods?|names?|placeholder|policy|scheme"
    r"|storage|supported|ttl|type|ur[il]"
)
_PAGE_CURSOR = re.compile(r"(next|page|continuation)token$")
_NEVER_HARMLESS = re.compile(r"(up|down)loadurl$")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LABELS: Final = ("name", "key", "variable_name")
"""Keys with the name of a pair, beside the key `value`."""
# Objects with these names describe credentials as often as they contain them.
_HOLDER = re.compile(r"(credentials?|auth)$")


class Place(IntEnum):
    """The kind of text in a place, from text that must never be altered to free text.

    The place of a secret value is the first one that it is removed from. It is removed from all later ones, too.
    """

    ID = 0
    """Ids, types, states, times. Only credentials of a known format are removed: nothing else looks like them."""
    NAME = 1
    """Names. The server's own secrets are removed, unless they consist of words."""
    LABEL = 2
    """Text of this server, keys, and ids and names in a config. Secrets given in the call are removed, too."""
    FREE = 3
    """All other text. Every secret is removed; one of words only where it stands alone."""


_ID_LAST = re.compile(
    r"at|date|detail|fields|ids?|kind|mask|mode|platform|protocol|status|target|time|types?|uu?id|version"
)
_NAME_LAST = re.compile(r"label|names?|title")

_LONGEST_CACHED: Final = 64
_NO_KEYS: Final = frozenset[str]()


class KeyClass(Enum):
    """What the name of a key says about its value."""

    PLAIN = "plain"
    HIDDEN = "hidden"
    HOLDER = "holder"
    """Hidden, except an object or a list: then each member is judged by its own name."""


def classify_key(key: str, platform: Platform | None = None) -> KeyClass:
    """Classify a key by its name and the platform's own list of secret keys."""
    own = (platform.secret_keys, platform.holder_keys) if platform is not None else (_NO_KEYS, _NO_KEYS)
    # Platforms choose the keys: long ones must not fill the memory.
    return _classify_cached(key, *own) if len(key) <= _LONGEST_CACHED else _classify(key, *own)


def names_a_secret(key: str, platform: Platform | None = None) -> bool:
    """Check whether the name of a key says that its value is a credential."""
    return classify_key(key, platform) is not KeyClass.PLAIN


def _classify(key: str, secret_keys: frozenset[str], holder_keys: frozenset[str]) -> KeyClass:
    lower = key.lower()
    plain = re.sub(r"[^a-z0-9]", "", lower)
    is_secret = bool(_SECRET_NAME.search(plain)) and not _PAGE_CURSOR.search(plain)
    if is_secret and not _NEVER_HARMLESS.search(plain):
        is_secret = not _HARMLESS_LAST.fullmatch(last_word(key))
    if not is_secret and lower not in secret_keys:
        return KeyClass.PLAIN
    return KeyClass.HOLDER if _HOLDER.search(lower) or lower in holder_keys else KeyClass.HIDDEN


def last_word(key: str) -> str:
    """Return the last word of a key in lower case, such as `id` for `connectorId`, or an empty string."""
    return next(reversed(_WORD.findall(key)), "").lower()


def place_of(key: str) -> Place:
    """Return the kind of text under a key, by the last word of the key."""
    word = last_word(key)
    if _ID_LAST.fullmatch(word):
        return Place.ID
    return Place.NAME if _NAME_LAST.fullmatch(word) else Place.FREE


_classify_cached = lru_cache(maxsize=4096)(_classify)


# Places in a JSON value ----------------------------------------------------------------------------------------------


def places(value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """Yield every string and object in a JSON value with the steps that lead to it."""
    if is_object(value):
        yield steps, value
        for key, member in value.items():
            yield from places(member, (*steps, key))
    elif is_array(value):
        for index, member in enumerate(value):
            yield from places(member, (*steps, index))
    elif isinstance(value, str):
        yield steps, value


def strings(value: Any) -> Iterator[str]:
    """Yield every string in a JSON value, without the keys."""
    return (place for _, place in places(value) if isinstance(place, str))


def all_strings(value: Any) -> Iterator[str]:
    """Yield every string in a JSON value, and those inside strings that are JSON themselves."""
    for text in strings(value):
        yield text
        if text.lstrip()[:1] in _OPENING:
            try:
                yield from list(strings(json.loads(text)))
            except (ValueError, RecursionError):
                continue


def parse_steps(path: str) -> Steps:
    """Parse a path such as `connectors[0].config`."""
    return tuple(int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", path))


def replaced(value: Any, steps: Sequence[str | int], other: Any) -> Any:
    """Copy the value with another one at the end of the steps."""
    if not steps:
        return other
    step, *rest = steps
    copied: Any = value.copy() if is_array(value) else dict(cast("JsonObject", value))
    copied[step] = replaced(copied[step], rest, other) if rest else other
    return copied


# The rules -----------------------------------------------------------------------------------------------------------


def hide(value: Any) -> Any:
    """Replace every string and number in the value; booleans, nulls, empty strings and references stay."""
    if isinstance(value, Mapping):
        return {key: hide(member) for key, member in cast("Mapping[str, Any]", value).items()}
    if is_array(value):
        return [hide(member) for member in value]
    if value is None or isinstance(value, bool) or value == "":
        return value
    return value if isinstance(value, str) and referenced_name(value) else MARKER


def by_name(value: Any, platform: Platform | None = None, path: str = "") -> Any:
    """Hide what the names of keys, or the platform's secret paths, mark as secret. Anything but JSON is hidden."""
    if not isinstance(value, dict | list):
        return _scalar(value, by_name, platform, path)
    if is_object(value):
        shown = {key: _member_by_name(key, member, platform, path) for key, member in value.items()}
        return shown | _paired(value, platform)
    return [by_name(member, platform, path) for member in items(value)]


def _paired(value: JsonObject, platform: Platform | None) -> JsonObject:
    """The hidden value of a pair that has its name beside it: {"name": "apiKey", "value": "..."}."""
    if "value" not in value:
        return {}
    labels = [value.get(label) for label in _LABELS]
    is_secret = any(isinstance(label, str) and names_a_secret(label, platform) for label in labels)
    return {"value": hide(value["value"])} if is_secret else {}


def _member_by_name(key: str, member: Any, platform: Platform | None, path: str) -> Any:
    if platform is not None and platform.secret_paths:
        path = f"{path}.{key}" if path else key
        if any(f".{path}".endswith(f".{secret}") for secret in platform.secret_paths):
            return hide(member)
    kind = classify_key(key, platform)
    if kind is KeyClass.PLAIN or (kind is KeyClass.HOLDER and isinstance(member, dict | list)):
        return by_name(member, platform, path)
    return hide(member)


def _scalar(value: Any, redact: Callable[..., Any], *context: Any) -> Any:
    """Hide a string that is a credential, or JSON that contains one; hide what is not JSON."""
    if value is None or isinstance(value, int | float):
        return value
    if not isinstance(value, str):
        return MARKER
    if ("://" in value or "-----BEGIN" in value) and _SECRET_VALUE.search(value):
        return MARKER
    if value.lstrip()[:1] not in _OPENING:
        return value
    try:
        inner = json.loads(value)
        return value if redact(inner, *context) == inner else MARKER
    except RecursionError:
        return MARKER
    except ValueError:
        return value


def by_plan(value: Any, plan: ConfigPlan, platform: Platform | None = None, strict: bool = False) -> Any:
    """Hide what the plan of a config's schema marks as secret.

    Names, and the platform's other connector types, decide about members that the plan does not know.

    With `strict`, members that the schema does not allow are hidden whatever their names: a caller may have misplaced
    anything.
    """
    if is_object(value):
        if plan.hides_objects:
            return hide(value)
        return {key: _member_by_plan(key, member, plan, platform, strict) for key, member in value.items()}
    if plan.hides_others:
        return hide(value)
    if is_array(value):
        return [by_plan(member, plan.items or _UNDESCRIBED, platform, strict) for member in value]
    return _scalar(value, by_plan, plan, platform, strict)


def _member_by_plan(key: str, member: Any, plan: ConfigPlan, platform: Platform | None, strict: bool) -> Any:
    known = plan.members.get(key) or plan.others
    if known is None:
        is_hidden = (strict and plan.is_closed) or (platform is not None and key in _secret_keys(platform.name))
        return hide(member) if is_hidden else _member_by_name(key, member, platform, "")
    if names_a_secret(key, platform) and not (known.describes_members and isinstance(member, dict)):
        return hide(member)
    return by_plan(member, known, platform, strict)


@cache
def _secret_keys(platform: str) -> frozenset[str]:
    """Return the keys that any connector type of the platform has as secret."""
    return frozenset(path.split(".")[-1] for kind in connector_types(platform).values() for path in kind.secret_paths)


_UNDESCRIBED: Final = config_plan()
"""The plan of a list's items if the schema does not describe them."""


# What they are applied to --------------------------------------------------------------------------------------------


def redact_config(config: Any, kind: ConnectorType | None, platform: Platform | None, *, strict: bool = False) -> Any:
    """Redact a config by the schema of its type; hide all of it if the type is unknown."""
    if kind is None:
        return hide(config)
    shown = by_plan(config, kind.plan, platform, strict)
    if is_object(shown):
        for key in kind.traits.get("mayContainSecrets", ()):
            if key in shown:
                shown[key] = hide(shown[key])
    return shown


def redact_record(
    record: Any, stored: StoredConfig | None, platform: Platform | None, *, chosen: JsonObject | None = None
) -> Any:
    """Redact a platform's record: the config by the schema of its type, everything else by name.

    With `chosen`, only those members of the record are redacted and returned.
    """
    if is_array(record):
        return [redact_record(member, stored, platform) for member in record]
    if stored is None or not is_object(record):
        return by_name(record if chosen is None else chosen, platform)
    members = record if chosen is None else chosen
    type_id = at(record, stored.type_at)
    kind = connector_types(platform.name).get(type_id) if platform and isinstance(type_id, str) else None
    return _with_config(members, list(stored.steps), kind, platform, "")


def _with_config(
    members: JsonObject, steps: Sequence[str], kind: ConnectorType | None, platform: Platform | None, path: str
) -> JsonObject:
    """Redact an object: by name, except the config at the end of the steps."""
    key, *rest = steps
    held = members.get(key)
    if held is None:
        return by_name(members, platform, path)
    if not rest:
        # A config that is not an object has a form that nothing is known about.
        shown = redact_config(held, kind if is_object(held) else None, platform)
    elif is_object(held) and rest[0] in held:
        shown = _with_config(held, rest, kind, platform, key)
    elif is_object(held):
        # A config of an undocumented form is hidden, except the name of that form.
        shown = {step: inner if step.startswith("@") else hide(inner) for step, inner in held.items()}
    else:
        shown = hide(held)
    return {**by_name({**members, key: None}, platform, path), key: shown}


def redact_arguments(operation: Operation, uses: Iterable[ConfigUse], given: JsonObject) -> JsonObject:
    """Redact the arguments that were given."""
    shown = _arguments_by_place(operation, given)
    for use in uses:
        shown = replaced(shown, parse_steps(use.path), redact_config(use.value, use.type, operation.on, strict=True))
    return shown


def mark_secret_places(operation: Operation, uses: Iterable[ConfigUse], given: JsonObject) -> JsonObject:
    """Copy the arguments with the marker in every place for a secret, whatever it contains. Other values are dummies.

    Redaction also hides what it cannot judge; here, in a config of an unknown type, names decide.
    """
    shown = _arguments_by_place(operation, _neutral(given))
    for use in uses:
        value, kind = _neutral(use.value), use.type
        marked = by_name(value, operation.on) if kind is None else by_plan(value, kind.plan, operation.on)
        shown = replaced(shown, parse_steps(use.path), marked)
    return shown


def _arguments_by_place(operation: Operation, given: JsonObject) -> JsonObject:
    secret, platform = operation.secret_arguments(), operation.on
    shown = {
        key: hide(value) if key in secret else _member_by_name(key, value, platform, "") for key, value in given.items()
    }
    return shown | _paired(given, platform)


def _neutral(value: Any, *, label: bool = False) -> Any:
    """Replace each text by a dummy, so that only places are judged. The labels of pairs belong to the place."""
    if is_object(value):
        labels = _LABELS if "value" in value else ()
        return {key: _neutral(member, label=key in labels) for key, member in value.items()}
    if is_array(value):
        return [_neutral(member) for member in value]
    return "text" if isinstance(value, str) and value and not (label and not referenced_name(value)) else value


def secret_values(operation: Operation, uses: Sequence[ConfigUse]) -> set[str]:
    """Collect every string among the arguments that counts as a credential."""
    given = operation.model_dump(exclude_unset=True)
    values = set(_hidden_strings(given, redact_arguments(operation, uses, given)))
    for use in uses:
        values.update(_hidden_strings(use.value, redact_config(use.value, use.type, operation.on, strict=True)))
    return values


def _hidden_strings(value: Any, shown: Any) -> Iterator[str]:
    if shown == MARKER and value != MARKER:
        yield from credentials_of(value) if isinstance(value, str) else strings(value)
    elif is_object(value) and is_object(shown):
        for key, member in value.items():
            yield from _hidden_strings(member, shown.get(key))
    elif is_array(value) and is_array(shown):
        for member, shown_member in zip(value, shown, strict=False):
            yield from _hidden_strings(member, shown_member)


def credentials_of(text: str) -> Iterator[str]:
    """Yield a credential, and those inside it if it is JSON, such as the private key of a service account."""
    yield text
    if text.lstrip()[:1] in _OPENING:
        try:
            inner = json.loads(text)
            yield from list(_hidden_strings(inner, by_name(inner)))
        except (ValueError, RecursionError):
            return
