"""The preview that a person sees before deciding: the effect in one sentence, the losses, and a field-by-field diff.

A preview is made from the live target and bound to it: its fingerprint is compared again when the call runs.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Set
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from string import Formatter
from typing import Any

from connector_mcp.engine.redaction.redactor import MARKER, names_a_secret, redact_record, strings
from connector_mcp.engine.redaction.scrubber import Scrubber
from connector_mcp.json_values import JsonObject, is_array, is_object, members
from connector_mcp.operations.operation import Effect, Loss, Operation, Path, Situation, at
from connector_mcp.operations.update import without_vacant
from connector_mcp.secrets.reference import referenced_name
from connector_mcp.text import clean

_SHOWN = 120
"""Longest value or name that is shown, in characters."""
_LINES = 40
"""Most losses and changes that are shown one by one."""
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
    """The target's name, which the person types to confirm a deletion."""
    snapshot: JsonObject
    """The target's members by dotted path, redacted; a later difference is named from it."""

    def text(self) -> str:
        """The preview in plain lines."""
        lines = [f"- {loss}" for loss in self.losses if loss not in self.sentence]
        lines += [f"- {shown(c.field)}: {shown(c.before)} → {shown(c.after)}" for c in self.changes]
        rest = [f"- and {len(lines) - _LINES} more"] if len(lines) > _LINES else []
        return "\n".join([self.sentence, *lines[:_LINES], *rest])


def shown(value: Any) -> str:
    """Show a value as one short line."""
    if value is None:
        return "(unset)"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = clean(text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def make_preview(operation: Operation, situation: Situation, losses: tuple[Loss, ...], scrubber: Scrubber) -> Preview:
    """Make the preview of a call against the target as it is now."""
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


def readable_plan(operation: Operation, situation: Situation) -> Mapping[Path, Any]:
    """The planned changes that a later read can show: all but secrets and references to them."""
    planned = operation.plan_changes(situation)
    after = _redacted(operation, _with_planned(situation.current, planned))
    readable = {path: value for path, value in planned.items() if at(after, path) == value}
    return {path: value for path, value in readable.items() if not any(map(referenced_name, strings(value)))}


def fingerprint(operation: Operation, current: Any, key: bytes) -> str:
    """A keyed digest of the target without its volatile members. A plain digest would give guessable secrets away."""
    return keyed_digest(_without(current, _volatile(operation)), key)


def keyed_digest(value: Any, key: bytes) -> str:
    """HMAC-SHA256 over the canonical JSON of a value, in hex."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return hmac.new(key, canonical, hashlib.sha256).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[JsonObject]:
    """The differences between two snapshots. A member with a hidden value counts only when it appears or disappears."""
    return [
        Change(field, before.get(field), now.get(field)).as_dict()
        for field in sorted({*before, *now})
        if before.get(field) != now.get(field)
    ]


def _volatile(operation: Operation) -> frozenset[str]:
    return operation.acts_on.volatile if operation.acts_on else frozenset()


def _shown_name(operation: Operation, current: Any, scrubber: Scrubber) -> str:
    """The name as it is shown and typed: one line of visible characters, or the id if the name has none."""
    name = scrubber.text(clean(_name(operation, current)))[:_SHOWN].rstrip()
    return name or scrubber.text(clean(_identifier(operation)))[:_SHOWN].rstrip()


def _name(operation: Operation, current: Any) -> str:
    target = operation.acts_on
    if target is None:
        return ""
    named = target.name(operation, current) if callable(target.name) else at(current, target.name)
    return str(named) if isinstance(named, str) and named else _identifier(operation)


def _identifier(operation: Operation) -> str:
    """The last id in the path, for targets without a name."""
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
    if not loss.path:
        return f"{loss.sentence} (now {shown(redact_record(loss.before, None, operation.on))})"
    before = at(_redacted(operation, current), loss.path)
    if before is None:
        # A path through named items is not a path of the record: any part of it may name a secret.
        secret = any(names_a_secret(step, operation.on) for step in loss.path)
        before = MARKER if secret else redact_record(loss.before, None, operation.on)
    return f"{loss.sentence} (now {shown(before)})"


def _redacted(operation: Operation, record: Any) -> Any:
    """Redact a record of the target's kind."""
    stored = operation.acts_on.read.stored_config if operation.acts_on else operation.stored_config
    return redact_record(record, stored, operation.on)


def _changes(operation: Operation, situation: Situation, current: Any, scrubber: Scrubber) -> Iterator[Change]:
    planned = operation.plan_changes(situation)
    after = scrubber.value(_redacted(operation, _with_planned(situation.current, planned)))
    for path, value in planned.items():
        if value != without_vacant(at(situation.current, path)):
            yield Change(".".join(path), at(current, path), None if value is None else at(after, path))


def _with_planned(record: Any, planned: Mapping[Path, Any]) -> JsonObject:
    """The record with the planned values in their places, where redaction knows which of them are secret."""
    after: JsonObject = deepcopy(members(record))
    for path, value in planned.items():
        holder = after
        for step in path[:-1]:
            if not is_object(holder.get(step)):
                holder[step] = {}
            holder = holder[step]
        holder[path[-1]] = value
    return after


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if is_object(value) and value:
        for key, member in value.items():
            yield from _flat(member, f"{path}.{clean(key)}" if path else clean(key))
    elif is_array(value) and value:
        for index, member in enumerate(value):
            yield from _flat(member, f"{path}[{index}]")
    else:
        yield path, value if not isinstance(value, str) else clean(value)[:_SHOWN]


def _without(value: Any, volatile: Set[str]) -> Any:
    if is_array(value):
        return [_without(member, volatile) for member in value]
    if is_object(value):
        return {key: member for key, member in value.items() if key not in volatile}
    return value
