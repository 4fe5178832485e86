"""Keeps credentials inside the process: by schema, by the name of a key, and by value.

Everything that leaves (results, errors, previews, approvals, audit, logs) passes one of these. Where a config's type is
not known, every string in it counts as secret: what cannot be judged is not shown.

What is given is never changed. Where nothing in it is hidden it is what comes back, and not a copy: a read of a
connector is mostly such values, and this, with a verdict a key and a plan a config type, made it five times faster.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from operator import is_
from typing import Any, Final, cast

from connector_mcp.engine.redaction.json_paths import replaced, steps_of, strings
from connector_mcp.engine.redaction.key_classifier import HOLDER, PLAIN, verdicts
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.connector_types import ConfigPlan, ConnectorType, config_plan, connector_type
from connector_mcp.operations.operation import ConfigUse, Operation, StoredConfig, at
from connector_mcp.operations.platform import Platform
from connector_mcp.secrets.reference import referenced_name

MARKER = "[redacted]"

# What is a credential whatever it is called: a private key, and a password in an address.
_SECRET_VALUE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY|://[^\s/:@]*:[^\s/@]+@")
_OPENING: Final = ("{", "[")
_MAY_OPEN: Final = frozenset("{[ \t\n\r")
"""What a text of JSON with members begins with: white space of other kinds is none of JSON's."""


def hide(value: Any) -> Any:
    """The value with every string and number in it replaced; booleans, nulls, empty strings and references stay."""
    if isinstance(value, Mapping):
        return {key: hide(member) for key, member in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [hide(member) for member in cast("list[Any]", value)]
    if value is None or isinstance(value, bool) or value == "":
        return value
    return value if isinstance(value, str) and referenced_name(value) else MARKER


class Redactor:
    """Redacts JSON by the rules of one platform. What is no JSON is hidden."""

    def __init__(self, secret_keys: frozenset[str], secret_paths: tuple[str, ...]) -> None:
        """As `Platform` has them."""
        self._verdicts = verdicts(secret_keys)
        self._secret_paths = frozenset(secret_paths)
        self._ends = tuple(f".{path}" for path in secret_paths)
        self._last_steps = tuple(path.rpartition(".")[2] for path in secret_paths)

    def by_name(self, value: Any, path: str = "") -> Any:
        """The value with what the names of keys, or the platform's secret paths, give away replaced."""
        if isinstance(value, dict):
            return self._members_by_name(cast("JsonObject", value), path)
        if isinstance(value, list):
            return _each(cast("list[Any]", value), lambda member: self.by_name(member, path))
        return value if _is_plain(value) else _judged(value, lambda inner: self.by_name(inner, path))

    def member_by_name(self, key: str, member: Any, path: str) -> Any:
        """A member of an object at the path, as `by_name` shows it."""
        if self._ends:
            # Nothing else depends on the path, and most platforms have no secret ones.
            path = f"{path}.{key}" if path else key
            if path in self._secret_paths or path.endswith(self._ends):
                return hide(member)
        verdict = self._verdicts[key]
        if verdict is PLAIN or (verdict is HOLDER and isinstance(member, dict | list)):
            return self.by_name(member, path)
        return hide(member)

    def _members_by_name(self, members: JsonObject, path: str) -> JsonObject:
        hidden: JsonObject = {}
        judged, last = self._verdicts, self._last_steps
        for key, member in members.items():
            # Nearly every member is one of these, and nothing more is asked about it.
            if judged[key] is PLAIN and _is_plain(member) and not (last and key.endswith(last)):
                continue
            shown = self.member_by_name(key, member, path)
            if shown is not member:
                hidden[key] = shown
        # A pair is a member whose name stands beside its value: {"name": "apiKey", "value": "..."}.
        if "value" in members and any(self._names_a_secret(members.get(label)) for label in ("name", "key")):
            hidden["value"] = hide(members["value"])
        return {**members, **hidden} if hidden else members

    def _names_a_secret(self, label: Any) -> bool:
        return isinstance(label, str) and self._verdicts[label] is not PLAIN

    def by_plan(self, value: Any, plan: ConfigPlan, *, strict: bool = False) -> Any:
        """A config with what its plan says is secret replaced; names decide on what the plan does not know.

        With `strict`, members that the schema does not allow are hidden whatever their names: what a caller put in a
        wrong place may be anything.
        """
        if isinstance(value, dict):
            members = cast("JsonObject", value)
            return hide(members) if plan.hides_objects else self._members_by_plan(members, plan, strict)
        if plan.hides_others:
            return hide(value)
        if isinstance(value, list):
            items = plan.items or _UNDESCRIBED
            redact = partial(self.by_plan, plan=items, strict=strict)
            return _each(cast("list[Any]", value), redact, hides=items.hides_others)
        return value if _is_plain(value) else _judged(value, lambda inner: self.by_plan(inner, plan, strict=strict))

    def _members_by_plan(self, members: JsonObject, plan: ConfigPlan, strict: bool) -> JsonObject:
        hidden: JsonObject = {}
        judged, last = self._verdicts, self._last_steps
        for key, member in members.items():
            known = plan.members.get(key) or plan.others
            hides = known.hides_others if known is not None else strict and plan.is_closed
            if not hides and judged[key] is PLAIN and _is_plain(member) and not (last and key.endswith(last)):
                continue
            if known is None:
                shown = hide(member) if hides else self.member_by_name(key, member, "")
            elif judged[key] is not PLAIN and not (known.describes_members and isinstance(member, dict)):
                shown = hide(member)
            else:
                shown = self.by_plan(member, known, strict=strict)
            if shown is not member:
                hidden[key] = shown
        return {**members, **hidden} if hidden else members


_UNDESCRIBED: Final = config_plan()
"""What goes for the items of a list of which a schema says nothing."""


@cache
def _redactor(secret_keys: frozenset[str], secret_paths: tuple[str, ...]) -> Redactor:
    return Redactor(secret_keys, secret_paths)


_ANY_PLATFORM: Final = _redactor(frozenset[str](), ())


def redactor_of(platform: Platform | None) -> Redactor:
    """The one redactor by the rules of a platform, or by those that hold on any."""
    return _ANY_PLATFORM if platform is None else _redactor(platform.secret_keys, platform.secret_paths)


def _is_plain(value: Any) -> bool:
    """Whether a value cannot be a credential by itself, nor JSON with members; of nearly every scalar this tells."""
    if isinstance(value, str):
        return "://" not in value and "-----BEGIN" not in value and value[:1] not in _MAY_OPEN
    return value is None or isinstance(value, int | float)


def _judged(value: Any, redact: Callable[[Any], Any]) -> Any:
    """A text, hidden where it is a credential, or JSON in which redaction changes anything; what is no JSON is."""
    if not isinstance(value, str) or _SECRET_VALUE.search(value):
        return MARKER
    if value.lstrip()[:1] not in _OPENING:
        return value
    try:
        inner = json.loads(value)
        return value if redact(inner) == inner else MARKER
    except RecursionError:
        return MARKER
    except ValueError:
        return value


def _each(rows: list[Any], redact: Callable[[Any], Any], *, hides: bool = False) -> list[Any]:
    """A list with each of its rows redacted, and itself where none is shown otherwise."""
    if not hides and all(map(_is_plain, rows)):
        return rows
    shown = [redact(row) for row in rows]
    return rows if all(map(is_, shown, rows)) else shown


def by_name(value: Any, platform: Platform | None = None) -> Any:
    """The value with what its keys' names, or the platform's secret paths, give away replaced."""
    return redactor_of(platform).by_name(value)


def redact_config(config: Any, kind: ConnectorType | None, platform: Platform | None, *, strict: bool = False) -> Any:
    """A config by its type's schema; all of it where the type is not known."""
    if kind is None:
        return hide(config)
    shown = redactor_of(platform).by_plan(config, kind.plan, strict=strict)
    suspect = kind.traits.get("mayContainSecrets")
    if not suspect or not isinstance(shown, dict):
        return shown
    members = cast("JsonObject", shown)
    return {**members, **{key: hide(members[key]) for key in suspect if key in members}}


def redact_record(
    record: Any, stored: StoredConfig | None, platform: Platform | None, *, chosen: JsonObject | None = None
) -> Any:
    """A platform's record as it may be shown: the config by its type's schema, the rest by name.

    Of a record only the `chosen` members are looked at and returned, where there are such.
    """
    if isinstance(record, list):
        return [redact_record(member, stored, platform) for member in cast("list[Any]", record)]
    redactor = redactor_of(platform)
    if stored is None or not isinstance(record, dict):
        return redactor.by_name(record if chosen is None else chosen)
    whole = cast("JsonObject", record)
    members = whole if chosen is None else chosen
    key, *rest = stored.steps
    held = members.get(key)
    if held is None:
        return redactor.by_name(members)
    type_id = at(whole, stored.type_at)
    kind = connector_type(platform.name, type_id) if platform and isinstance(type_id, str) else None
    # Left out of what is redacted by name, so that the config is walked once and by its own rules.
    return {**redactor.by_name({**members, key: None}), key: _shown_config(held, key, rest, kind, platform)}


def _shown_config(held: Any, key: str, steps: list[str], kind: ConnectorType | None, platform: Platform | None) -> Any:
    """What a record's member shows in which its config stands, at the end of the steps."""
    if not steps:
        # A config in another form than an object is one of a form that nothing is known of.
        return redact_config(held, kind if isinstance(held, dict) else None, platform)
    step, *rest = steps
    holder = cast("JsonObject", held) if isinstance(held, dict) else None
    if holder is None or step not in holder:
        return _hide_untyped(held)
    shown = redactor_of(platform).by_name({**holder, step: None}, key)
    inner = holder[step]
    return shown if inner is None else {**shown, step: _shown_config(inner, step, rest, kind, platform)}


def _hide_untyped(value: Any) -> Any:
    """A config of another form than the documented one: hidden, but for the name of that form."""
    if not isinstance(value, dict):
        return hide(value)
    members = cast("JsonObject", value)
    return {key: member if key.startswith("@") else hide(member) for key, member in members.items()}


def hides_nothing(operation: Operation, given: JsonObject) -> bool:
    """Whether arguments without a config are shown as they were given, because nothing among them is a secret."""
    return operation.secret_arguments().isdisjoint(given) and by_name(given, operation.on) is given


def redact_arguments(operation: Operation, uses: Iterable[ConfigUse]) -> JsonObject:
    """The arguments that were given, as they may be written down."""
    shown = _by_place(operation, operation.model_dump(exclude_unset=True))
    for use in uses:
        shown = replaced(shown, steps_of(use.path), redact_config(use.value, use.type, operation.on, strict=True))
    return shown


def secret_places(operation: Operation, uses: Iterable[ConfigUse]) -> JsonObject:
    """The arguments with the marker in every place that is a secret's, whatever stands there; the rest means nothing.

    Stricter than redaction, which hides what it cannot judge: where a config's type is not known, names decide.
    """
    shown = _by_place(operation, _neutral(operation.model_dump(exclude_unset=True)))
    redactor = redactor_of(operation.on)
    for use in uses:
        value, kind = _neutral(use.value), use.type
        judged = redactor.by_name(value) if kind is None else redactor.by_plan(value, kind.plan)
        shown = replaced(shown, steps_of(use.path), judged)
    return shown


def _by_place(operation: Operation, given: JsonObject) -> JsonObject:
    redactor, secret = redactor_of(operation.on), operation.secret_arguments()
    return {
        key: hide(value) if key in secret else redactor.member_by_name(key, value, "") for key, value in given.items()
    }


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
    if shown is value:
        return
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
    if text.lstrip()[:1] not in _OPENING:
        return
    try:
        inner = json.loads(text)
        yield from list(_hidden_strings(inner, by_name(inner)))
    except (ValueError, RecursionError):
        return
