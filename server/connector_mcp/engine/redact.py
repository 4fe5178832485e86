"""Keeps credentials inside the process: by schema, by the name of a key, and by value.

Everything that leaves (results, errors, previews, approvals, audit, logs) passes one of these. Where a config's type is
not known, every string in it counts as secret: what cannot be judged is not shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from connector_mcp.operations.connector_types import ConnectorType, connector_type
from connector_mcp.operations.operation import ConfigUse, Operation, StoredConfig, at
from connector_mcp.operations.platform import JsonObject, Platform
from connector_mcp.secrets.reference import referenced_name

MARKER = "[redacted]"

_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|secret|token|apikey|accesskey|privatekey|accountkey|authkey|signingkey|encryptionkey"
    r"|credentials?(json)?$|serviceaccountjson|authorization$|connectionstring|uploadurl|downloadurl|bearer"
    r"|^pass$|^pwd$|^auth$|^cookie"
)
# Last words of names that contain such a word and hold no secret: addresses, kinds, counts and switches around them.
_HARMLESS_LAST = re.compile(
    r"age|algorithm|at|count|enabled|endpoint|expires|expiry|format|ids?|in|label|method|names?|placeholder|policy|scheme"
    r"|storage|supported|ttl|type|ur[il]"
)
_PLACE_IN_A_LIST = re.compile(r"(next|page|continuation)token$")
_NEVER_HARMLESS = re.compile(r"(up|down)loadurl$")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# What is a credential whatever it is called: a private key, and a password in an address.
_SECRET_VALUE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY|://[^\s/:@]*:[^\s/@]+@")


def names_a_secret(key: str, platform: Platform | None = None) -> bool:
    """Whether a key's name says that its value is a credential."""
    if platform is not None and key.lower() in platform.secret_keys:
        return True
    # Keys come from platforms: long ones are judged and not kept.
    return _judged(key) if len(key) <= 64 else _judge(key)


def _judge(key: str) -> bool:
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    if not _SECRET_NAME.search(plain) or _PLACE_IN_A_LIST.search(plain):
        return False
    last = _WORD.findall(key)[-1].lower()
    return bool(_NEVER_HARMLESS.search(plain)) or not _HARMLESS_LAST.fullmatch(last)


# The same few keys come in every row of every list; judging them anew was a third of a list's time.
_judged = lru_cache(maxsize=4096)(_judge)


def hide(value: Any) -> Any:
    """The value with every string and number in it replaced; booleans, nulls, empty strings and references stay."""
    if isinstance(value, Mapping):
        return {key: hide(member) for key, member in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [hide(member) for member in cast("list[Any]", value)]
    if value is None or isinstance(value, bool) or value == "":
        return value
    return value if isinstance(value, str) and referenced_name(value) else MARKER


def by_name(value: Any, platform: Platform | None = None, path: str = "") -> Any:
    """The value with what its keys' names, or the platform's secret paths, give away replaced."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _text(value, lambda inner: by_name(inner, platform, path))
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        shown: JsonObject = {
            key: _by_name_member(key, member, platform, f"{path}.{key}" if path else key)
            for key, member in members.items()
        }
        # A pair is a member whose name stands beside its value: {"name": "apiKey", "value": "..."}.
        if "value" in members and any(_names_one(members.get(label), platform) for label in ("name", "key")):
            shown["value"] = hide(members["value"])
        return shown
    if isinstance(value, list):
        return [by_name(member, platform, path) for member in cast("list[Any]", value)]
    return value


def _names_one(label: Any, platform: Platform | None) -> bool:
    return isinstance(label, str) and names_a_secret(label, platform)


def _by_name_member(key: str, member: Any, platform: Platform | None, path: str) -> Any:
    ends = platform.secret_paths if platform is not None else ()
    if ends and any(path == end or path.endswith(f".{end}") for end in ends):
        return hide(member)
    if not names_a_secret(key, platform):
        return by_name(member, platform, path)
    # Objects called so describe credentials as often as they hold them: their members are judged one by one.
    walked = isinstance(member, Mapping | list) and re.search(r"(credentials?|auth)$", key.lower())
    return by_name(member, platform, path) if walked else hide(member)


def _text(value: Any, redact: Callable[[Any], Any]) -> Any:
    """A scalar. A string that is a credential is hidden, and one of JSON in which redaction changes anything."""
    if not isinstance(value, str):
        return value
    if _SECRET_VALUE.search(value):
        return MARKER
    if value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        inner = json.loads(value)
        return value if redact(inner) == inner else MARKER
    except RecursionError:
        return MARKER
    except ValueError:
        return value


def by_schema(value: Any, schema: Mapping[str, Any], platform: Platform | None = None, *, strict: bool = False) -> Any:
    """A config with what its schema marks `writeOnly` replaced; names decide on what it does not mark or know.

    With `strict`, members that the schema does not allow are hidden whatever their names: what a caller put in a wrong
    place may be anything.
    """
    branches = _branches(schema)
    is_object = isinstance(value, Mapping)
    if any(part.get("writeOnly") and (not is_object or part.get("type", "object") == "object") for part in branches):
        return hide(value)
    if any(part.get("writeOnly") for part in branches) and not any(part.get("properties") for part in branches):
        return hide(value)
    if is_object:
        members = cast("Mapping[str, Any]", value)
        return {key: _by_schema_member(key, member, branches, platform, strict) for key, member in members.items()}
    if isinstance(value, list):
        items = [part["items"] for part in branches if isinstance(part.get("items"), dict)]
        rows = cast("list[Any]", value)
        return [by_schema(member, {"anyOf": items}, platform, strict=strict) for member in rows]
    return _text(value, lambda inner: by_schema(inner, schema, platform, strict=strict))


def _by_schema_member(
    key: str, member: Any, branches: Sequence[Mapping[str, Any]], platform: Platform | None, strict: bool
) -> Any:
    known: list[Mapping[str, Any]] = [part["properties"][key] for part in branches if key in part.get("properties", {})]
    others = [part.get("additionalProperties") for part in branches]
    known = known or [cast("Mapping[str, Any]", schema) for schema in others if isinstance(schema, dict)]
    if not known:
        return hide(member) if strict and False in others else _by_name_member(key, member, platform, key)
    described = isinstance(member, Mapping) and any(
        part.get("properties") for schema in known for part in _branches(schema)
    )
    if names_a_secret(key, platform) and not described:
        return hide(member)
    return by_schema(member, {"anyOf": known}, platform, strict=strict)


def _branches(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    parts = [schema]
    for word in ("anyOf", "oneOf", "allOf"):
        for branch in schema.get(word, ()):
            parts.extend(_branches(branch))
    return parts


def redact_config(config: Any, kind: ConnectorType | None, platform: Platform | None, *, strict: bool = False) -> Any:
    """A config by its type's schema; all of it where the type is not known."""
    if kind is None:
        return hide(config)
    shown = by_schema(config, kind.config, platform, strict=strict)
    if isinstance(shown, dict):
        members = cast("JsonObject", shown)
        return members | {key: hide(members[key]) for key in kind.traits.get("mayContainSecrets", ()) if key in members}
    return shown


def redact_record(
    record: Any, stored: StoredConfig | None, platform: Platform | None, *, only: Collection[str] | None = None
) -> Any:
    """A platform's record as it may be shown: the config by its type's schema, the rest by name.

    Of a record `only` the named members are looked at and returned, where names are given.
    """
    if isinstance(record, list):
        return [redact_record(member, stored, platform, only=only) for member in cast("list[Any]", record)]
    if not isinstance(record, Mapping):
        return by_name(record, platform)
    members = cast("Mapping[str, Any]", record)
    named = members if only is None else {key: member for key, member in members.items() if key in only}
    whole = cast("JsonObject", by_name(named, platform))
    if stored is None or stored.at.partition(".")[0] not in whole:
        return whole
    type_id = at(record, stored.type_at)
    kind = connector_type(platform.name, type_id) if platform and isinstance(type_id, str) else None
    return _with_config(whole, cast("JsonObject", record), stored.at.split("."), kind, platform)


def _with_config(
    shown: JsonObject, record: JsonObject, steps: list[str], kind: ConnectorType | None, platform: Platform | None
) -> JsonObject:
    """The shown record with its config, which stands at the end of the steps, redacted by its type."""
    key, *rest = steps
    held = record.get(key)
    if held is None:
        return shown
    if not rest:
        # A config in another form than an object is one of a form that nothing is known of.
        return {**shown, key: redact_config(held, kind if isinstance(held, dict) else None, platform)}
    holder = cast("JsonObject", held) if isinstance(held, dict) else None
    if holder is None or rest[0] not in holder:
        return {**shown, key: _hide_untyped(held)}
    inner = cast("JsonObject", by_name(holder, platform, key))
    return {**shown, key: _with_config(inner, holder, rest, kind, platform)}


def _hide_untyped(value: Any) -> Any:
    """A config of another form than the documented one: hidden, but for the name of that form."""
    if not isinstance(value, dict):
        return hide(value)
    members = cast("JsonObject", value)
    return {key: member if key.startswith("@") else hide(member) for key, member in members.items()}


def redact_arguments(operation: Operation, uses: Iterable[ConfigUse]) -> JsonObject:
    """The arguments that were given, as they may be written down."""
    given = operation.model_dump(exclude_unset=True)
    secret = operation.secret_arguments()
    shown = {
        key: hide(value) if key in secret else _by_name_member(key, value, operation.on, key)
        for key, value in given.items()
    }
    for use in uses:
        put(shown, steps_of(use.path), redact_config(use.value, use.type, operation.on, strict=True))
    return shown


def secret_places(operation: Operation, uses: Iterable[ConfigUse]) -> JsonObject:
    """The arguments with the marker in every place that is a secret's, whatever stands there; the rest means nothing.

    Stricter than redaction, which hides what it cannot judge: where a config's type is not known, names decide.
    """
    secret = operation.secret_arguments()
    shown: JsonObject = {
        key: hide(value) if key in secret else _by_name_member(key, value, operation.on, key)
        for key, value in _neutral(operation.model_dump(exclude_unset=True)).items()
    }
    for use in uses:
        value, kind = _neutral(use.value), use.type
        judged = by_name(value, operation.on) if kind is None else by_schema(value, kind.config, operation.on)
        put(shown, steps_of(use.path), judged)
    return shown


def _neutral(value: Any, *, label: bool = False) -> Any:
    """The value with another text for each, so that only places are judged; the labels of pairs are part of a place."""
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        labels = ("name", "key") if "value" in members else ()
        return {key: _neutral(member, label=key in labels) for key, member in members.items()}
    if isinstance(value, list):
        return [_neutral(member) for member in cast("list[Any]", value)]
    return "text" if isinstance(value, str) and value and not (label and not referenced_name(value)) else value


def secret_values(operation: Operation, uses: Sequence[ConfigUse]) -> set[str]:
    """Every string among the arguments that counts as a credential."""
    given = operation.model_dump(exclude_unset=True)
    values = set(_hidden_strings(given, redact_arguments(operation, uses)))
    for use in uses:
        values.update(_hidden_strings(use.value, redact_config(use.value, use.type, operation.on, strict=True)))
    return values


def _hidden_strings(value: Any, shown: Any) -> Iterator[str]:
    if shown == MARKER and value != MARKER:
        yield from credentials_of(value) if isinstance(value, str) else strings(value)
    elif isinstance(value, Mapping) and isinstance(shown, Mapping):
        for key, member in cast("Mapping[str, Any]", value).items():
            yield from _hidden_strings(member, cast("Mapping[str, Any]", shown).get(key))
    elif isinstance(value, list) and isinstance(shown, list):
        for member, shown_member in zip(cast("list[Any]", value), cast("list[Any]", shown), strict=False):
            yield from _hidden_strings(member, shown_member)


def credentials_of(text: str) -> Iterator[str]:
    """A credential, and those inside it."""
    yield text
    yield from _inner_strings(text)


def _inner_strings(text: str) -> Iterator[str]:
    """The credentials inside a credential that is JSON, such as the private key of a service account."""
    if text.lstrip()[:1] not in ("{", "["):
        return
    try:
        inner = json.loads(text)
        yield from list(_hidden_strings(inner, by_name(inner)))
    except (ValueError, RecursionError):
        return


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys apart."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for member in cast("Mapping[str, Any]", value).values():
            yield from strings(member)
    elif isinstance(value, list):
        for member in cast("list[Any]", value):
            yield from strings(member)


def all_strings(value: Any) -> Iterator[str]:
    """`strings`, and those inside strings that are JSON themselves."""
    for text in strings(value):
        yield text
        try:
            inner = json.loads(text) if text.lstrip()[:1] in ("{", "[") else None
            yield from list(strings(inner))
        except (ValueError, RecursionError):
            continue


def places(value: Any, steps: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every string and object in a JSON value with the steps that lead to it."""
    if isinstance(value, Mapping):
        yield steps, value
        for key, member in cast("Mapping[str, Any]", value).items():
            yield from places(member, (*steps, key))
    elif isinstance(value, list):
        for index, member in enumerate(cast("list[Any]", value)):
            yield from places(member, (*steps, index))
    elif isinstance(value, str):
        yield steps, value


def steps_of(path: str) -> list[str | int]:
    """The steps of a path as `ConfigUse` writes it."""
    return [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", path)]


def put(holder: Any, steps: Sequence[str | int], value: Any) -> None:
    """Set what stands at the end of the steps."""
    for step in steps[:-1]:
        holder = holder[step]
    holder[steps[-1]] = value
