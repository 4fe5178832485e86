"""How an update is declared, and what follows from it: the body, the losses, the planned changes.

An update names its strategy, `Merge`, `Replace` or `Mask`: how the platform treats members that are not sent. The
strategy gives `after(current)`, the target as it will be. An update overrides `after` only where its platform does more
than the strategy says. Losses and planned changes are the difference between `current` and `after`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from connector_mcp.errors import Internal
from connector_mcp.json_values import JsonObject, is_array, is_object, members
from connector_mcp.operations.connector_types import connector_type
from connector_mcp.operations.operation import Effect, Operation, at
from connector_mcp.operations.situation import Loss, Path, Situation


class Strategy(ABC):
    """How a platform treats the members of its record that a call sends and those that it does not."""

    @abstractmethod
    def changes(self, update: UpdateOperation, values: JsonObject) -> dict[Path, Any]:
        """The members that the call sets, with their values; an empty value unsets."""

    def complete(self, update: UpdateOperation, values: JsonObject, current: JsonObject) -> JsonObject:
        """Add to the given values what must be sent beside them to keep what is stored."""
        return values

    def was_read(self, update: UpdateOperation, values: JsonObject, current: JsonObject) -> bool:
        """Whether the target shows what `complete` has to add."""
        return True


@dataclass(frozen=True)
class Merge(Strategy):
    """The platform keeps members that are not sent."""

    completed: tuple[str, ...] = ()
    """Objects that the platform replaces as a whole: the server sends them merged with the stored ones."""

    def changes(self, update: UpdateOperation, values: JsonObject) -> dict[Path, Any]:
        return {(member,): value for member, value in values.items()}

    def complete(self, update: UpdateOperation, values: JsonObject, current: JsonObject) -> JsonObject:
        return {
            member: merge(members(current.get(member)), value, *update.schemas_of(member, current))
            if member in self.completed
            else value
            for member, value in values.items()
        }

    def was_read(self, update: UpdateOperation, values: JsonObject, current: JsonObject) -> bool:
        return all(member not in values or is_object(current.get(member)) for member in self.completed)


@dataclass(frozen=True)
class Replace(Strategy):
    """The platform unsets members that are not sent, and replaces objects as a whole.

    An update with an argument `replace` is made harmless while that is false: the server sends the stored values again.
    """

    required: tuple[str, ...] = ()
    """Members without which the platform refuses the call."""
    unset: tuple[str, ...] = ()
    """Members that the platform unsets when they are not sent."""

    def changes(self, update: UpdateOperation, values: JsonObject) -> dict[Path, Any]:
        dropped = () if self._keeps(update) else self.unset
        return {(member,): None for member in dropped} | {(member,): value for member, value in values.items()}

    def complete(self, update: UpdateOperation, values: JsonObject, current: JsonObject) -> JsonObject:
        return self._kept(current) | values if self._keeps(update) else values

    def was_read(self, update: UpdateOperation, values: JsonObject, current: JsonObject) -> bool:
        return not self._keeps(update) or bool(self._kept(current))

    def _kept(self, current: JsonObject) -> JsonObject:
        return {member: current[member] for member in (*self.required, *self.unset) if current.get(member) is not None}

    @staticmethod
    def _keeps(update: UpdateOperation) -> bool:
        return not getattr(update, "replace", True)


@dataclass(frozen=True)
class Mask(Strategy):
    """The platform sets the members that a mask names, and unsets those of them that are not sent."""

    argument: str = ""
    """The argument that holds the mask, comma-separated. Without one the mask names the given members."""

    def changes(self, update: UpdateOperation, values: JsonObject) -> dict[Path, Any]:
        return {path: at(values, path) for path in (tuple(path.split(".")) for path in self.paths(update))}

    def paths(self, update: UpdateOperation) -> tuple[str, ...]:
        """The dotted paths that the mask names."""
        mask: str | None = getattr(update, self.argument, None)
        if mask is None:
            return tuple(update.given_members())
        return tuple(path.strip() for path in mask.split(",") if path.strip())


def keeps_what_is_left_out(operation: type[Operation]) -> bool:
    """Whether members that a call does not give stay as they are stored, those inside its objects too."""
    strategy = operation.strategy if issubclass(operation, UpdateOperation) else None
    return isinstance(strategy, Mask) or (isinstance(strategy, Merge) and bool(strategy.completed))


@dataclass(frozen=True)
class NamedItems:
    """A list in a record that works as a map: each item has a name, and can be lost like a member."""

    names: tuple[str, ...]
    """Members that may hold an item's name, in order of preference."""
    value: str | None = None
    """Member that holds an item's value, where the item consists of a name and a value."""

    def as_map(self, stored: Iterable[Any]) -> JsonObject:
        """The items by name. An item without a name goes by its position; a repeated name gets a number."""
        named: JsonObject = {}
        for index, item in enumerate(stored):
            fields = members(item)
            name = next((str(fields[key]) for key in self.names if fields.get(key)), f"[{index}]")
            key, count = name, 1
            while key in named:
                count += 1
                key = f"{name} ({count})"
            named[key] = fields.get(self.value) if fields and self.value else item
        return named


class UpdateOperation(Operation):
    """Base of the updates."""

    effect = Effect.UPDATE
    overwrites = True
    can_destroy = True

    strategy: ClassVar[Strategy]
    named_items: ClassVar[Mapping[str, NamedItems]] = {}
    """The record's lists of named items, by dotted path without the names."""

    # What a declaration may override -------------------------------------------------------------------------------

    def given_members(self) -> JsonObject:
        """The values that the caller set, by the names that the members have in the record."""
        stored_as = {placement.name: placement.stored_as for placement in self.placements().values()}
        named = ((stored_as[name], value) for name, value in self.given("body"))
        return {name: value for name, value in named if name is not None}

    def complete_members(self, current: JsonObject) -> JsonObject:
        """The given members, completed with what must be sent again to be kept."""
        return self.strategy.complete(self, self.given_members(), current)

    def after(self, current: JsonObject) -> JsonObject:
        """The target as it will be. Members that the call empties are missing from it."""
        after = dict(current)
        for path, value in self.strategy.changes(self, self.complete_members(current)).items():
            after = _with_member(after, path, _as_stored(value, at(current, path)))
        return after

    def find_hidden_losses(self, situation: Situation) -> Iterator[Loss]:
        """Losses that the record does not show, such as those of secrets that no read returns."""
        yield from ()

    def describe_loss(self, path: Path, before: Any, *, overwritten: bool) -> Loss:
        """Describe the loss of a member, or of its value where the call overwrites a member that it does not give."""
        return Loss(f"{'Overwrites' if overwritten else 'Unsets'} {'.'.join(path)}", path, before)

    def was_read(self, current: JsonObject) -> bool:
        """Whether enough of the target is known to keep what is stored."""
        return self.strategy.was_read(self, self.given_members(), current)

    # What follows from the strategy --------------------------------------------------------------------------------

    def schemas_of(self, member: str, current: JsonObject) -> tuple[JsonObject, ...]:
        """The schema of a member that holds the connector's config; none for other members and unknown types."""
        stored = self.stored_config
        if self.on is None or stored is None or stored.steps != (member,):
            return ()
        known = connector_type(self.on.name, at(current, stored.type_at))
        return () if known is None else (known.config,)

    def members_to_send(self, situation: Situation) -> JsonObject:
        """The members of the record that the body carries, by their names in the record.

        Raises:
            Internal: The target was not read. Sending could unset what it stores.
        """
        current = members(situation.current)
        if self.was_read(current) or self.acts_on is None:
            return self.complete_members(current)
        raise Internal(
            f"{self.tool_name()}: the {self.acts_on.kind} was not read, so the stored values cannot be kept. "
            "Nothing was sent.",
            fix=f"Check with {self.acts_on.read.tool_name()} that it can be read, then call again.",
        )

    def make_body(self, situation: Situation) -> Any:
        stored, placements = self.members_to_send(situation), self.placements().values()
        names = {placement.stored_as: placement.name for placement in placements if placement.stored_as}
        others = {placement.name for placement in placements if placement.stored_as is None}
        beside = {name: value for name, value in self.given("body") if name in others}
        return {str(names.get(member, member)): value for member, value in stored.items()} | beside

    def find_losses(self, situation: Situation) -> tuple[Loss, ...]:
        """Stored members that will be gone, and values that the call overwrites in members that it does not give."""
        before, hidden = members(situation.current), tuple(self.find_hidden_losses(situation))
        given = {path[0] for path in self.strategy.changes(self, self.given_members())}
        losses = [
            self.describe_loss(path, value, overwritten=overwritten)
            for path, value, overwritten in differences(before, self.after(before), self.named_items)
            if not overwritten or path[0] not in given
        ]
        covers = [loss.path for loss in hidden if loss.path]
        return (*(loss for loss in losses if not any(loss.path[: len(path)] == path for path in covers)), *hidden)

    def plan_changes(self, situation: Situation) -> Mapping[Path, Any]:
        """The given members and those that are unset, with the values that a read will show."""
        before = members(situation.current)
        after, changes = self.after(before), self.strategy.changes(self, self.given_members())
        if not isinstance(self.strategy, Replace):
            changes = dict(leaf for path, value in changes.items() for leaf in _leaves(value, path))
        planned: dict[Path, Any] = {}
        for path, given in changes.items():
            will_be = at(after, path)
            # A value that is given and does not appear under this path cannot be compared with anything.
            if is_vacant(given) or not is_vacant(will_be):
                planned[path] = will_be
        gone = [path for path, _, overwritten in differences(before, after, {}) if not overwritten]
        return planned | {path: None for path in gone if not any(_overlap(path, known) for known in planned)}


def is_unset(value: Any) -> bool:
    """Whether nothing is stored: null, an empty value, or an object of nothing but nulls."""
    if is_object(value):
        return all(member is None for member in value.values())
    return value in (None, "", [])


def is_vacant(value: Any) -> bool:
    """Whether a value is null, empty, or a container of nothing but such values. False and 0 are values."""
    if is_object(value):
        return all(map(is_vacant, value.values()))
    return all(map(is_vacant, value)) if is_array(value) else value in (None, "")


def without_vacant(value: Any) -> Any:
    """The value without its vacant members, or None if it is vacant. Items of lists keep their positions."""
    if is_vacant(value):
        return None
    if is_object(value):
        return {key: without_vacant(member) for key, member in value.items() if not is_vacant(member)}
    return [without_vacant(item) for item in value] if is_array(value) else value


def merge(stored: Mapping[str, Any], given: Mapping[str, Any], *schemas: JsonObject) -> JsonObject:
    """Put the given members over the stored ones: objects are merged, lists and other values replaced.

    A null removes the member, and an empty object replaces the stored one. Where `schemas` describe the object by
    alternatives, members of two alternatives are never mixed: the given object then replaces the stored one.
    """
    branches = [branch for schema in schemas for branch in _alternatives(schema)]
    merged = dict(stored)
    for key, value in given.items():
        if value is None:
            merged.pop(key, None)
        elif is_object(value) and value:
            merged[key] = merge(members(merged.get(key)), value, *_schemas_of_member(branches, key))
        else:
            merged[key] = value
    if stored and len(branches) > 1 and not any(_takes(branch, merged, branches) for branch in branches):
        return merge({}, given, *schemas)
    return merged


def _alternatives(schema: JsonObject) -> Iterator[JsonObject]:
    inner = [branch for word in ("anyOf", "oneOf") for branch in schema.get(word, ())]
    if not inner:
        yield schema
    for branch in inner:
        yield from _alternatives(branch)


def _schemas_of_member(branches: Iterable[JsonObject], key: str) -> list[JsonObject]:
    found = [members(branch.get("properties")).get(key, branch.get("additionalProperties")) for branch in branches]
    return [schema for schema in found if is_object(schema)]


def _takes(branch: JsonObject, value: JsonObject, branches: Iterable[JsonObject]) -> bool:
    """Whether an alternative has room for every member of an object. Members that no alternative names fit anywhere."""
    own = members(branch.get("properties"))
    named = {key for each in branches for key in members(each.get("properties"))}
    return all(
        key not in named or (key in own and member in own[key].get("enum", [own[key].get("const", member)]))
        for key, member in value.items()
    )


def differences(
    before: JsonObject, after: JsonObject, named: Mapping[str, NamedItems], path: Path = (), place: str = ""
) -> Iterator[tuple[Path, Any, bool]]:
    """The topmost members that are there before and not after, and the values that are replaced.

    Yields the path, the value before, and whether another value takes its place. An object or list that gives way to
    a value of another kind is gone: none of its members is there after.
    """
    for key, value in before.items():
        yield from _difference(value, after.get(key), named, (*path, key), f"{place}.{key}" if place else key)


def _difference(
    value: Any, now: Any, named: Mapping[str, NamedItems], path: Path, place: str
) -> Iterator[tuple[Path, Any, bool]]:
    if is_unset(value) or value == now:
        return
    if place in named and is_array(value) and is_array(now):
        after = named[place].as_map(now)
        for name, item in named[place].as_map(value).items():
            if name in after:
                yield from _difference(item, after[name], named, (*path, name), place)
            else:
                yield (*path, name), item, False
    elif is_object(value) and is_object(now):
        yield from differences(value, now, named, path, place)
    else:
        gone = is_vacant(now) or is_object(value) or (is_array(value) and not is_array(now))
        yield path, value, not gone


def _with_member(record: JsonObject, path: Path, value: Any) -> JsonObject:
    """A copy of the record with this value at the path, or without the member if the value is None."""
    key, rest = path[0], path[1:]
    held = record.get(key)
    if rest:
        value = _with_member(members(held), rest, value)
    if value is not None:
        return record | {key: value}
    # Platforms return an unset flag or number as false or 0: to unset it changes nothing.
    is_unset = isinstance(held, int | float) and not held
    return record if is_unset else {member: kept for member, kept in record.items() if member != key}


def _as_stored(value: Any, held: Any) -> Any:
    """A given value without what it empties of the value held. An object of which only the members are emptied stays,
    so that the loss of each of them is found."""
    if value == held:
        return held
    if is_object(value) and value:
        stored = {key: _as_stored(member, members(held).get(key)) for key, member in value.items()}
        return {key: member for key, member in stored.items() if member is not None}
    return without_vacant(value)


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if is_object(value) and value:
        for key, member in value.items():
            yield from _leaves(member, (*path, key))
    else:
        yield path, value


def _overlap(one: Path, other: Path) -> bool:
    return all(a == b for a, b in zip(one, other, strict=False))
