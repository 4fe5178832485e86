"""What a person is shown before they decide: the effect in one sentence, what is lost, and a field-by-field diff.

A preview is made of the live target, and is bound to it: its fingerprint is compared again when the call runs.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import islice
from string import Formatter
from typing import Any, cast

from connector_mcp.engine.redaction.key_classifier import names_a_secret
from connector_mcp.engine.redaction.redactor import MARKER, redact_record, strings
from connector_mcp.engine.redaction.scrubber import Scrubber
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Effect, Loss, Operation, Situation, at
from connector_mcp.secrets.reference import referenced_name
from connector_mcp.text import clean

_SHOWN = 120
"""Characters of a value or name that a person is shown."""
_LINES = 40
"""Losses and changes that a person is shown one by one."""
_SNAPSHOT_MEMBERS = 200


@dataclass(frozen=True)
class Change:
    """One member of the target before and after, redacted; None where it is absent."""

    field: str
    before: Any
    after: Any

    def as_dict(self) -> JsonObject:
        return {"field": self.field, "before": self.before, "after": self.after}


@dataclass(frozen=True)
class Preview:
    """What a call would do to its target."""

    effect: Effect
    sentence: str
    losses: tuple[str, ...]
    changes: tuple[Change, ...]
    name: str
    """What the person knows the target by, and types to confirm a deletion."""
    snapshot: JsonObject
    """The target's members by dotted path, redacted, so that a later difference can be named."""

    def text(self) -> str:
        """The preview in plain lines."""
        lines = [f"- {loss}" for loss in self.losses if loss not in self.sentence]
        lines += [f"- {shown(c.field)}: {shown(c.before)} → {shown(c.after)}" for c in self.changes]
        rest = [f"- and {len(lines) - _LINES} more"] if len(lines) > _LINES else []
        return "\n".join([self.sentence, *lines[:_LINES], *rest])


def shown(value: Any) -> str:
    """A value as one short line."""
    if value is None:
        return "(unset)"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = clean(text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def make_preview(operation: Operation, situation: Situation, losses: tuple[Loss, ...], scrubber: Scrubber) -> Preview:
    """The preview of a call against the target as it is now."""
    target = operation.acts_on
    current = scrubber.value(_redacted(operation, situation.current))
    name = _shown_name(operation, situation.current, scrubber) if target else ""
    told = tuple(scrubber.text(clean(_loss(operation, loss, situation.current))) for loss in losses)
    return Preview(
        effect=Effect.DESTROY if losses else type(operation).effect,
        sentence=_sentence(operation, name, told, scrubber),
        losses=told,
        changes=tuple(_changes(operation, situation, current, scrubber)),
        name=name,
        snapshot=dict(islice(_flat(_without(current, _volatile(operation)), ""), _SNAPSHOT_MEMBERS)),
    )


def readable_plan(operation: Operation, situation: Situation) -> JsonObject:
    """The planned changes whose values a later read may show: all but the secret ones, references to them included."""
    planned = operation.plan_changes(situation)
    after = _redacted(operation, _planted(situation.current, planned))
    readable = {path: value for path, value in planned.items() if at(after, path) == value}
    return {path: value for path, value in readable.items() if not any(map(referenced_name, strings(value)))}


def fingerprint(operation: Operation, current: Any, key: bytes) -> str:
    """A keyed digest of the target less what changes by itself; keyed, because a target may hold guessable secrets."""
    return keyed_digest(_without(current, _volatile(operation)), key)


def keyed_digest(value: Any, key: bytes) -> str:
    """HMAC-SHA256 over the canonical JSON of a value, in hex."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return hmac.new(key, canonical, hashlib.sha256).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[JsonObject]:
    """What differs between two snapshots; members whose values are hidden are only named when they come or go."""
    return [
        Change(field, before.get(field), now.get(field)).as_dict()
        for field in sorted({*before, *now})
        if before.get(field) != now.get(field)
    ]


def _volatile(operation: Operation) -> frozenset[str]:
    return operation.acts_on.volatile if operation.acts_on else frozenset()


def _shown_name(operation: Operation, current: Any, scrubber: Scrubber) -> str:
    """The name as it is shown and typed: one line of visible characters, or the id where the name has none."""
    name = scrubber.text(clean(_name(operation, current)))[:_SHOWN].rstrip()
    return name or scrubber.text(clean(_identifier(operation)))[:_SHOWN].rstrip()


def _name(operation: Operation, current: Any) -> str:
    target = operation.acts_on
    if target is None:
        return ""
    named = target.name(operation, current) if callable(target.name) else at(current, target.name)
    return str(named) if isinstance(named, str) and named else _identifier(operation)


def _identifier(operation: Operation) -> str:
    """The last id in the path: what a nameless target is known by."""
    placeholders = type(operation).http.placeholders
    return str(getattr(operation, placeholders[-1])) if placeholders else ""


def _sentence(operation: Operation, name: str, losses: tuple[str, ...], scrubber: Scrubber) -> str:
    template = type(operation).consequence
    given = operation.model_dump()
    hidden = type(operation).secret_arguments()
    named = {field for _, field, _, _ in Formatter().parse(template) if field}
    values = {key: MARKER if key in hidden else shown(given[key]) for key in named if key in given}
    sentence = template.format(**{**values, "name": f"“{name}”"})
    if losses:
        sentence = f"{sentence} {'; '.join(losses)}.".strip()
    return scrubber.text(clean(sentence))


def _loss(operation: Operation, loss: Loss, current: Any) -> str:
    if loss.before is None:
        return loss.sentence
    if not loss.field:
        return f"{loss.sentence} (now {shown(redact_record(loss.before, None, operation.on))})"
    before = at(_redacted(operation, current), loss.field)
    if before is None:
        # The path is one for people, such as that of a variable by its name: any part of it may name a secret.
        secret = any(names_a_secret(step, operation.on) for step in loss.field.split("."))
        before = MARKER if secret else redact_record(loss.before, None, operation.on)
    return f"{loss.sentence} (now {shown(before)})"


def _redacted(operation: Operation, record: Any) -> Any:
    """A record of the target's kind, by that kind's own rules."""
    stored = operation.acts_on.read.stored_config if operation.acts_on else operation.stored_config
    return redact_record(record, stored, operation.on)


def _changes(operation: Operation, situation: Situation, current: Any, scrubber: Scrubber) -> Iterator[Change]:
    planned = operation.plan_changes(situation)
    after = scrubber.value(_redacted(operation, _planted(situation.current, planned)))
    for path, value in planned.items():
        before, real = at(current, path), at(situation.current, path)
        if value != real:
            yield Change(path, before, None if value is None else at(after, path))


def _planted(record: Any, planned: Mapping[str, Any]) -> Any:
    """The record with the planned members set, so that they are redacted by the rules of the place they go to."""
    planted: JsonObject = json.loads(json.dumps(record)) if isinstance(record, dict) else {}
    for path, value in planned.items():
        *steps, leaf = path.split(".")
        holder = planted
        for step in steps:
            inner = holder.get(step)
            if not isinstance(inner, dict):
                inner = holder[step] = {}
            holder = cast("JsonObject", inner)
        holder[leaf] = value
    return planted


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, member in cast("Mapping[str, Any]", value).items():
            yield from _flat(member, f"{path}.{clean(key)}" if path else clean(key))
    elif isinstance(value, list) and value:
        for index, member in enumerate(cast("list[Any]", value)):
            yield from _flat(member, f"{path}[{index}]")
    else:
        yield path, value if not isinstance(value, str) else clean(value)[:_SHOWN]


def _without(value: Any, volatile: Set[str]) -> Any:
    if isinstance(value, list):
        return [_without(member, volatile) for member in cast("list[Any]", value)]
    if isinstance(value, Mapping):
        return {key: member for key, member in cast("Mapping[str, Any]", value).items() if key not in volatile}
    return value
