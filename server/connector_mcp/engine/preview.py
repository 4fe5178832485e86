"""The preview that a person sees before deciding: the effect in one sentence, the losses, and a field-by-field diff.

A preview is made from the live target and bound to it: its fingerprint is compared again when the call runs.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain, islice
from string import Formatter
from typing import Any

from connector_mcp.engine.redaction.redactor import MARKER, Place, names_a_secret, redact_record, strings
from connector_mcp.engine.redaction.scrubber import Scrubber
from connector_mcp.json_values import JsonObject, is_array, is_object, items, members, same_json
from connector_mcp.operations.operation import Effect, Operation, Record, at
from connector_mcp.operations.situation import Loss, Path, Situation
from connector_mcp.operations.update import without_vacant
from connector_mcp.secrets.reference import referenced_name
from connector_mcp.text import PICTURE, clean

_SHOWN = 120
"""Longest value or name that is shown, in characters."""
_SNAPSHOT_MEMBERS = 200
_PLAIN_STEP = re.compile(r"[^.\[\]\"]+")


@dataclass(frozen=True)
class Change:
    """One member of the target before and after, redacted; None where it is absent."""

    field: str
    before: Any
    after: Any

    def as_dict(self) -> JsonObject:
        return {"field": self.field, "before": self.before, "after": self.after}

    def __str__(self) -> str:
        return f"{shown(self.field)}: {shown(self.before)} → {shown(self.after)}"


@dataclass(frozen=True)
class Preview:
    """What a call would do to its target."""

    effect: Effect
    sentence: str
    losses: tuple[str, ...]
    changes: tuple[Change, ...]
    name: str
    """The name of the target, or of what the call creates. The person types it to confirm."""
    snapshot: JsonObject
    """The target's members by path, redacted; a later difference is named from it."""


def path_text(path: Sequence[str | int]) -> str:
    """Write a path so that no two paths are written alike: `a.b`, `a[0]`, and `["a.b"]` for a key with a dot."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_STEP.fullmatch(step) and clean(step, len(step)) == step:
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step)}]"
    return text


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield every member of a JSON value that holds no further members, with its path."""
    if is_object(value) and value:
        for key, member in value.items():
            yield from leaves(member, (*path, key))
    elif is_array(value) and value:
        for index, member in enumerate(value):
            yield from leaves(member, (*path, index))
    else:
        yield path, value


def shown(value: Any) -> str:
    """Show a value as one short line."""
    if value is None:
        return "(unset)"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = clean(text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def make_preview(operation: Operation, situation: Situation, losses: tuple[Loss, ...], scrubber: Scrubber) -> Preview:
    """Make the preview of a call against the target as it is now."""
    current = scrubber.value(_redacted(operation, situation.current), model=_model(operation))
    name = _shown_name(operation, situation.current, scrubber)
    told = list[str]()
    for loss in losses:
        told.append(scrubber.text(clean(_loss(operation, loss, situation.current))))
    return Preview(
        effect=Effect.DESTROY if losses else type(operation).effect,
        sentence=_sentence(operation, operation.describe_effect(situation), name, told, scrubber),
        losses=tuple(told),
        changes=tuple(_changes(operation, situation, current, scrubber)),
        name=name,
        snapshot={
            path_text(path): _in_snapshot(value)
            for path, value in islice(leaves(_stable(operation, current)), _SNAPSHOT_MEMBERS)
        },
    )


def readable_plan(operation: Operation, situation: Situation) -> Mapping[Path, Any]:
    """The planned changes that a later read can show: all but secrets and references to them."""
    planned = operation.plan_changes(situation)
    if not planned:
        return {}
    after = _redacted(operation, _with_planned(situation.current, planned))
    return {
        path: value
        for path, value in planned.items()
        if at(after, path) == value and not any(map(referenced_name, strings(value)))
    }


def fingerprint(operation: Operation, current: Any, key: bytes) -> str:
    """A keyed digest of the target without its volatile members. A plain digest would give guessable secrets away."""
    return keyed_digest(_stable(operation, current), key)


def keyed_digest(value: Any, key: bytes) -> str:
    """HMAC-SHA256 over the canonical JSON of a value, in hex."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return hmac.new(key, canonical, hashlib.sha256).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[JsonObject]:
    """The differences between two snapshots. A member with a hidden value counts only when it appears or disappears."""
    return [
        Change(field, before.get(field), now.get(field)).as_dict()
        for field in sorted({*before, *now})
        if field not in before or field not in now or not same_json(before[field], now[field])
    ]


def _shown_name(operation: Operation, current: Any, scrubber: Scrubber) -> str:
    """The name as it is shown and typed: one line of visible characters, or the last id in the path."""
    target, tenant = operation.acts_on, operation.on.tenant_argument if operation.on else None
    if target is None:
        given = operation.model_dump(exclude_unset=True).values()
        named: Any = ", ".join(
            str(each["name"]) for each in chain.from_iterable(map(items, given)) if "name" in members(each)
        )
    else:
        named = target.name(operation, current) if callable(target.name) else at(current, target.name)
    last = [name for name in operation.http.placeholders[-1:] if name != tenant]
    ids = [getattr(operation, name, None) for name in (operation.target_argument(), *last)]
    for text in (named, *ids):
        if isinstance(text, str) and (name := scrubber.text(clean(text), Place.NAME)[:_SHOWN].rstrip()):
            return name
    return ""


def _sentence(operation: Operation, effect: str, name: str, losses: list[str], scrubber: Scrubber) -> str:
    given = operation.model_dump()
    values = {"name": f"“{name}”"}
    for _, field, _, _ in Formatter().parse(effect):
        if field in given and field != "name":
            values[field] = MARKER if field in operation.secret_arguments() else shown(given[field])
    sentence = effect.format(**values) or f"{operation.tool_description().split('. ')[0].rstrip('.')}."
    if losses:
        sentence = f"{sentence} {'; '.join(losses)}.".strip()
    return scrubber.text(clean(sentence), Place.LABEL)


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


def _model(operation: Operation) -> type[Record]:
    return operation.acts_on.read.output if operation.acts_on else operation.output


def _changes(operation: Operation, situation: Situation, current: Any, scrubber: Scrubber) -> Iterator[Change]:
    planned = operation.plan_changes(situation)
    if not planned:
        return
    after = scrubber.value(_redacted(operation, _with_planned(situation.current, planned)), model=_model(operation))
    for path, value in planned.items():
        if not same_json(value, without_vacant(at(situation.current, path))):
            field = scrubber.text(path_text(path), Place.LABEL)
            yield Change(field, at(current, path), None if value is None else at(after, path))


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


def _in_snapshot(value: Any) -> Any:
    """A short form of a value that differs where the value does. Pictures stay whole, so that a page can show them."""
    if not isinstance(value, str) or (len(value) <= _SHOWN and clean(value) == value) or PICTURE.fullmatch(value):
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{clean(value)[:_SHOWN]}… ({len(value)} characters, {digest[:8]})"


def _stable(operation: Operation, current: Any) -> Any:
    """The target without the members that change by themselves."""
    if is_array(current):
        return [_stable(operation, member) for member in current]
    if is_object(current) and operation.acts_on is not None:
        return {key: member for key, member in current.items() if key not in operation.acts_on.volatile}
    return current
