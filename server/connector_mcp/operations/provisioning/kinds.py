"""Declarations of the kinds of things that a manifest can describe.

A platform's module `kinds` declares its `KINDS`, one class for each section of a manifest. A kind is pure: it says
which calls read, create, change and delete a thing, how an entry's members become their arguments, and how a record
looks in the words of an entry. `provisioning` compares the two and makes the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.connector_types import ConnectorType, connector_type
from connector_mcp.operations.operation import ListOperation, Operation, at
from connector_mcp.operations.overview import Read, read
from connector_mcp.operations.situation import Path

Config = Annotated[JsonObject, Field(description="Config of the type. Secrets only as secret://NAME.")]


class Entry(BaseModel):
    """Base of the entries: what every thing in a manifest has."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)

    id: Annotated[str | None, Field(description="Its id, if nothing else tells which one it is.")] = None
    profile: Annotated[str | None, Field(description="Account on the platform, if not that of the manifest.")] = None
    state: Annotated[Literal["present", "absent"], Field(description="absent: it is deleted.")] = "present"


class NamedEntry(Entry):
    """Base of the entries of things that have a name on their platform."""

    name: Annotated[str, Field(min_length=1, description="Name on the platform.")]


class ToolCall(NamedTuple):
    """A call that a plan may make: the operation and its arguments, but for the tenant and the profile."""

    operation: type[Operation]
    arguments: JsonObject


@dataclass(frozen=True)
class ListOrder:
    """How two lists are compared: in order, as sets, or item by item by a member that names each item."""

    kind: Literal["ordered", "set", "keyed"]
    key: str = ""


ORDERED, SET = ListOrder("ordered"), ListOrder("set")


def keyed(member: str) -> ListOrder:
    """A list of items, each of which is known by this member."""
    return ListOrder("keyed", member)


Entries = Mapping[str, Mapping[str, JsonObject]]
"""All entries of a manifest, by section and key."""
Changes = Mapping[Path, Any]
"""What differs of a thing, by path in its entry: None unsets."""


class Kind:
    """A kind of thing."""

    section: ClassVar[str]
    """Its section in a manifest. No two platforms share one."""
    platform: ClassVar[str]
    noun: ClassVar[str]
    entry: ClassVar[type[Entry]]
    lists_all: ClassVar[type[Operation]]
    """The read that shows all things of the kind."""
    creation: ClassVar[type[Operation] | None] = None
    """The call that creates a thing from the members of its entry; None where none does."""
    deletion: ClassVar[type[Operation] | None] = None
    """The call that deletes a thing by its id; None where none does."""
    known_by: ClassVar[str] = "name"
    """Dotted path in the record of what a thing is known by, beside its id."""
    key_member: ClassVar[str] = "name"
    """The member of the entry that holds the same value."""
    shown: ClassVar[Mapping[str, str]] = {}
    """Dotted path in the record of each member of the entry, where the two differ in nothing else."""
    parents: ClassVar[tuple[str, ...]] = ()
    """Members of the entry with the ids of what things of this kind are listed and read within, outermost first."""
    fixed: ClassVar[frozenset[str]] = frozenset()
    """Members that no call changes: the thing is replaced."""
    is_unique: ClassVar[bool] = False
    """Whether the old thing of a replacement must be gone before the new one is made."""
    is_single: ClassVar[bool] = False
    """Whether each account has exactly one, which is neither created nor deleted."""
    lists: ClassVar[Mapping[str, ListOrder]] = {}
    """How lists are compared, by dotted path; `*` matches any one key. Other lists are compared in order."""
    refers: ClassVar[Mapping[str, str]] = {}
    """Members that hold the id of a thing of another section, by dotted path without indexes."""
    argument_names: ClassVar[Mapping[str, str]] = {}
    """The path in the entry of an argument that is called otherwise there, and of what is inside it."""
    hidden: ClassVar[frozenset[str]] = frozenset()
    """Members that no read shows, and that are compared with what was last written."""
    check: ClassVar[str] = ""
    """What check_connector calls the kind; empty where it cannot check one."""
    config_member: ClassVar[str] = "config"
    computed: ClassVar[frozenset[str]] = frozenset()
    """Keys of a config that the platform sets by itself."""

    # Reading -------------------------------------------------------------------------------------------------------

    def listing(self, within: str) -> Read:
        """The read that shows all things of the kind. `within` has the ids of `parents`, joined by `/`."""
        limit = {"limit": 100} if issubclass(self.lists_all, ListOperation) else {}
        return read(self.lists_all, **self._place_arguments(self.lists_all, within), **limit)

    def rows(self, data: Any, within: str) -> list[JsonObject]:
        """The records in what the listing returned, without those that cannot be managed."""
        return list(map(members, items(data)))

    def reading(self, identifier: str, within: str) -> Read | None:
        """The read of one thing, where a row of the listing does not show all of it."""
        return None

    def place(self, entry: JsonObject) -> str:
        """What the entry's thing is within."""
        return "/".join(str(entry.get(member)) for member in self.parents)

    def identify(self, record: JsonObject) -> str:
        """The id of a thing."""
        return str(record.get("id"))

    def key_of(self, record: JsonObject) -> str:
        """What a thing is known by, beside its id."""
        return str(at(record, self.known_by))

    def key(self, entry: JsonObject) -> str:
        """What the entry's thing is known by. Equal to `key_of` of its record."""
        return str(entry.get(self.key_member))

    def observe(self, record: JsonObject, within: str) -> JsonObject:
        """The record as members of an entry. A member that no read shows is left out; one that is unset is null."""
        return {name: at(record, path) for name, path in self.shown.items()} | self._place_members(within)

    def normalize(self, entry: JsonObject) -> JsonObject:
        """The entry as the platform will show it."""
        return entry

    # Changing ------------------------------------------------------------------------------------------------------

    def complete(self, entry: JsonObject, entries: Entries) -> JsonObject:
        """The entry with what follows from the entries that it refers to."""
        return entry

    def also_needs(self, entry: JsonObject, entries: Entries) -> Iterator[str]:
        """Entries, as `section.key`, that must be there before, though no reference names them."""
        yield from ()

    def create(self, entry: JsonObject) -> ToolCall | None:
        """The call that creates the thing; None where it cannot be created here."""
        return None if self.creation is None else self.call(self.creation, entry)

    def call(self, operation: type[Operation], entry: JsonObject) -> ToolCall:
        """The call of an operation with the arguments that the entry gives."""
        names = {argument: self.argument_names.get(argument, argument) for argument in operation.model_fields}
        return ToolCall(operation, given(**{argument: entry.get(member) for argument, member in names.items()}))

    def finish(self, entry: JsonObject, identifier: str) -> ToolCall | None:
        """The call that sets, right after the creation, what the creation cannot."""
        return None

    def update(self, identifier: str, within: str, entry: JsonObject, changes: Changes) -> tuple[ToolCall, ...]:
        """The calls that make the thing what the entry says."""
        return ()

    def delete(self, identifier: str, within: str) -> ToolCall | None:
        """The call that deletes the thing."""
        if self.deletion is None:
            return None
        place = self._place_arguments(self.deletion, within)
        return ToolCall(self.deletion, place | {self.deletion.http.placeholders[-1]: identifier})

    # Configs and secrets -------------------------------------------------------------------------------------------

    def config_type(self, entry: JsonObject) -> ConnectorType | None:
        """The connector type of the entry's config."""
        return connector_type(self.platform, entry.get("type"))

    def secret_members(self, entry: JsonObject) -> Sequence[str]:
        """The dotted paths of secrets outside of the config, without indexes."""
        return ()

    def lacking(self, entry: JsonObject) -> list[tuple[str | int, ...]]:
        """The places of secrets that the thing must have and no read shows."""
        known, config = self.config_type(entry), members(entry.get(self.config_member))
        required = known.config.get("required", ()) if known else ()
        secret = known.secret_paths if known else ()
        return [(self.config_member, key) for key in required if key in secret and not config.get(key)]

    def _place_members(self, within: str) -> JsonObject:
        return dict(zip(self.parents, within.split("/"), strict=False))

    def _place_arguments(self, operation: type[Operation], within: str) -> JsonObject:
        """The arguments of an operation that say what a thing is within."""
        place, names = self._place_members(within), self.argument_names.items()
        return {name: place[member] for name, member in names if member in place and name in operation.model_fields}


def nested(changes: Changes, member: str) -> JsonObject:
    """The changes below a member as an object: what a call that merges has to send."""
    made: JsonObject = {}
    for path, value in changes.items():
        if path[0] == member and len(path) > 1:
            holder = made
            for step in path[1:-1]:
                holder = holder.setdefault(step, {})
            holder[path[-1]] = value
    return made


def given(**arguments: Any) -> JsonObject:
    """The arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


def kinds_of(module: ModuleType) -> tuple[Kind, ...]:
    """The kinds that a platform's module `kinds` declares."""
    return tuple(kind() for kind in module.KINDS)
