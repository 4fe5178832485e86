"""How an operation is declared.

An operation is one class: its fields are the tool's arguments, its class attributes say how the call is sent and what
it does. Schemas, annotations, policy, docs, command line and previews are derived from it. A declaration overrides a
method only where its platform differs from the default; every method is pure.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, cached_property
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.fields import SECRET, Cursor, Detail, PageSize, Placement, RowMembers
from connector_mcp.operations.hosts import hosts_in
from connector_mcp.operations.platform import NO_BODY, Http, OtherApi, Platform, Request, confirm_empty
from connector_mcp.operations.situation import ConfigUse, Destination, Loss, Path, Situation


class Effect(StrEnum):
    """What a call does, from harmless to irreversible."""

    READ = "read"
    CREATE = "create"
    UPDATE = "update"
    DISCLOSE = "disclose"
    """Beside another effect: the call sends a stored secret to a host that the arguments choose."""
    DESTROY = "destroy"


@dataclass(frozen=True)
class Paging:
    """How a list is paged. With `items` alone the platform does not page, and the server cuts the list itself."""

    items: str
    """Member of the answer that holds the rows; empty where the answer is the array itself."""
    limit: str | None = None
    cursor: str | None = None
    next: str | None = None
    smallest: int = 1
    largest: int = 100
    total: str | None = None
    """Member of the answer with the number of all rows, where there may be more than the platform gives."""
    empty: tuple[str, ...] = ()
    """Members of which one marks an empty page, where the platform may leave out the rows or give null for them."""


@dataclass(frozen=True)
class StoredConfig:
    """Where a record holds its connector config and the id of its connector type, as dotted paths."""

    at: str
    type_at: str

    @cached_property
    def steps(self) -> Path:
        """The keys that lead to the config."""
        return tuple(self.at.split("."))


@dataclass(frozen=True)
class Target:
    """The thing a call acts on, and how to read it."""

    kind: str
    read: type[Operation]
    arguments: Mapping[str, str] = field(default_factory=dict[str, str])
    """The read's argument name to this operation's, where the two differ."""
    name: str | Callable[[Any, Any], str] = "name"
    """Where the record has the name a person knows it by, as a dotted path, or a function of (operation, record)."""
    volatile: frozenset[str] = frozenset()
    """Members that change by themselves. The fingerprint leaves them out."""
    select: Callable[[Any, Situation], Any] | None = None
    """The part of the read's record that this operation concerns: a function of (operation, situation)."""
    type_at: str = ""
    """Member with its type, without which it is not recognized; by default that of the read's stored config."""
    listed: type[Operation] | None = None
    """The list to take the target from where its read by id is refused. It must come in one page, with the same ids."""
    dependents: type[ListOperation] | None = None
    """The list of what may depend on the target. Who decides is told what is affected; see `Situation.dependents`."""


class Record(BaseModel):
    """Base of the output models: the documented members of a platform's record, in the platform's own names."""

    model_config = ConfigDict(
        extra="allow", alias_generator=to_camel, populate_by_name=True, strict=True, defer_build=True
    )


class Deleted(Record):
    """The result of a deletion that the platform confirms without a record."""

    id: str | None = None
    deleted: bool | None = None


class Operation(BaseModel):
    """Base of all operations. A subclass's docstring is the tool's description."""

    # Building is deferred to the first use: the base classes are never used themselves.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, defer_build=True)

    on: ClassVar[Platform | None] = None
    """The platform; None where this server answers by itself."""
    api: ClassVar[OtherApi | None] = None
    """The API of the platform that it belongs to, where that is not the one of the base URL."""
    toolset: ClassVar[str] = ""
    """The toolset it belongs to, such as `vectorize.sources`; empty for local operations, which are always served."""
    by_default: ClassVar[bool] = False
    """Whether it is served unless the settings name toolsets."""
    part_of: ClassVar[str] = ""
    """The tool that this read belongs to, if it is not a tool itself."""
    http: ClassVar[Http]
    effect: ClassVar[Effect]
    output: ClassVar[type[Record]]
    """The record that comes back; of a list, one row."""
    record: ClassVar[str] = ""
    """Dotted path of the record in the platform's answer; empty where the answer is the record."""
    confirms: ClassVar[str] = ""
    """Member of the result, beside the id, that confirms a change which the platform answers without a record."""
    empty_body: ClassVar[Any] = NO_BODY
    """The body of a request that carries no argument in its body."""
    paging: ClassVar[Paging | None] = None
    returns_list: ClassVar[bool] = False
    """Whether the data of a success is an array."""
    acts_on: ClassVar[Target | None] = None
    consequence: ClassVar[str] = ""
    """What a person reads before deciding; `{name}` is the target's name, `{argument}` any argument."""
    most_values: ClassVar[int] = 10_000
    """Values that the arguments of one call may have, nested ones included."""
    can_destroy: ClassVar[bool] = False
    """Whether `find_losses` may raise the effect of a call to destroy."""
    reports: ClassVar[tuple[str, ...]] = ()
    """Members of the record read back after a creation that the result shows: the platform's own verdict on it."""
    reads_back: ClassVar[type[Operation] | None] = None
    """The read, by the id in the result, of what the call creates."""
    unproven: ClassVar[str] = ""
    """What the success never proves, in one sentence with the check that would."""
    next_step: ClassVar[str] = ""
    """What always has to be done before the outcome is useful, naming the tool."""
    overwrites: ClassVar[bool] = False
    """Whether a call that does not destroy may still replace values."""
    repeatable: ClassVar[bool] = True
    """Whether sending the request twice does no more than sending it once."""
    summary: ClassVar[tuple[str, ...]] = ()
    """Members of a row in a list unless the caller asks for others."""
    heavy: ClassVar[frozenset[str]] = frozenset()
    """Members left out unless asked for: logos, readmes."""
    stored_config: ClassVar[StoredConfig | None] = None
    host_arguments: ClassVar[tuple[str, ...]] = ()
    """Arguments, besides configs, that name the host to which credentials go."""
    conflict_codes: ClassVar[frozenset[str]] = frozenset()
    """The platform's error codes where only one such thing can exist; `is_rival` finds the existing one."""
    mints: ClassVar[tuple[str, ...]] = ()
    """Dotted paths in the platform's answer of credentials that it shows once. They go to the secret store."""
    example: ClassVar[JsonObject] = {}
    """Arguments that are valid as they stand, without the tenant; shown in errors and docs and called in tests."""

    @classmethod
    @cache
    def tool_name(cls) -> str:
        """`<platform>_<operation>` in snake_case."""
        if cls.part_of:
            return cls.part_of
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        return f"{cls.on.name}_{name}" if cls.on else name

    @classmethod
    @cache
    def tool_description(cls) -> str:
        """The docstring as one paragraph."""
        return " ".join((cls.__doc__ or "").split())

    @classmethod
    @cache
    def target_argument(cls) -> str:
        """The argument with the id of what a call acts on, or of what its path leads to; empty where there is none."""
        if cls.on is None:
            return ""
        path = cls.acts_on.read.http if cls.acts_on else cls.http
        last = next((name for name in reversed(path.placeholders) if name != cls.on.tenant_argument), "")
        return cls.acts_on.arguments.get(last, last) if cls.acts_on else last

    @classmethod
    @cache
    def secret_arguments(cls) -> frozenset[str]:
        """Names of the arguments that are credentials."""
        return frozenset(name for name, info in cls.model_fields.items() if SECRET in info.metadata)

    @classmethod
    @cache
    def placements(cls) -> Mapping[str, Placement]:
        """The placement of every argument that is not a path parameter, with its names filled in."""
        default = Placement("query" if cls.http.method == "GET" else "body")
        placements: dict[str, Placement] = {}
        for argument, info in cls.model_fields.items():
            if argument in cls.http.placeholders:
                continue
            mark = next((mark for mark in info.metadata if isinstance(mark, Placement)), default)
            name = mark.name or to_camel(argument)
            placements[argument] = Placement(mark.place, name, name if mark.stored_as == "" else mark.stored_as)
        return placements

    @classmethod
    @cache
    def sent_in(cls, place: Literal["query", "body"]) -> tuple[str, ...]:
        """The arguments that go to this place."""
        return tuple(argument for argument, placement in cls.placements().items() if placement.place == place)

    def given(self, place: Literal["query", "body"]) -> Iterator[tuple[str, Any]]:
        """Wire name and value of each argument for this place that the caller gave. Null means not given."""
        is_set = self.model_fields_set
        sent = [name for name in self.sent_in(place) if name in is_set and getattr(self, name) is not None]
        values = self.model_dump(by_alias=True, exclude_unset=True) if sent else {}
        for argument in sent:
            yield self.placements()[argument].name or argument, values[argument]

    # What a declaration may override -------------------------------------------------------------------------------

    def make_requests(self, situation: Situation) -> tuple[Request, ...]:
        """Make the requests to send, in order; more than one only where the tool takes a list."""
        return (self.make_request(situation),)

    def make_request(self, situation: Situation) -> Request:
        """Make the request that this call sends."""
        return Request(
            method=self.http.method,
            path=self.http.path,
            path_values={name: getattr(self, name) for name in self.http.placeholders},
            query=self.make_query(),
            body=self.make_body(situation),
            repeatable=self.repeatable,
            changes=self.effect is not Effect.READ,
            api=self.api,
        )

    def make_query(self) -> dict[str, str | list[str]]:
        """Make the query of the arguments that go there."""
        return {name: _as_text(value) for name, value in self.given("query")}

    def make_body(self, situation: Situation) -> Any:
        """Make the JSON body: the arguments that go there, or `empty_body` where no argument of the operation does."""
        return dict(self.given("body")) if self.sent_in("body") else self.empty_body

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        """The connector configs among the arguments, with their types as far as they are known."""
        return ()

    def find_destinations(self, situation: Situation) -> tuple[Destination, ...]:
        """The hosts that credentials go to, as far as the arguments or the stored config that stays name them."""
        named = (getattr(self, name) for name in self.host_arguments)
        found = [Destination(host, "") for value in named for host in hosts_in(value, "host")]
        stored = self.acts_on.read.stored_config if self.acts_on else None
        for use in self.find_configs(situation):
            keys = use.type.traits.get("hosts") if use.type else None
            given = use.value if keys is None else {key: use.value[key] for key in keys if key in use.value}
            found += [Destination(host, use.path) for host in hosts_in(given)]
            if stored and not use.complete:
                kept = members(at(situation.current, stored.at)).items()
                others = {key: value for key, value in kept if key not in use.value}
                found += [Destination(host, use.path, is_chosen=False) for host in hosts_in(others)]
        return tuple(dict.fromkeys(found))

    def find_problems(self, situation: Situation) -> Iterable[Issue]:
        """Errors in these arguments for this target that no schema can express."""
        return ()

    def describe_effect(self, situation: Situation) -> str:
        """The consequence as far as the target decides it, with the same placeholders as `consequence`."""
        return self.consequence

    def find_losses(self, situation: Situation) -> Iterable[Loss]:
        """What this call would destroy though its class does not say so; any loss makes its effect `destroy`."""
        return ()

    def plan_changes(self, situation: Situation) -> Mapping[Path, Any]:
        """The target's members after the call, as far as the call sets them; None where it unsets."""
        return {}

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """Take the data of the result out of the answers; by default the record of the one answer, or `confirms`."""
        if not self.confirms:
            return at(answers[0], self.record)
        identifier = getattr(self, self.http.placeholders[-1])
        return confirm_empty(
            answers[0], {"id": identifier, self.confirms: True}, empty=self.on and self.on.empty_answer
        )

    def find_missing(self, shown: Any) -> list[str]:
        """What this call sent in a list that `shown` lacks, in words: the data, or what a read gave."""
        return []

    def find_unproven(self, data: Any) -> str:
        """What the success of this call does not prove, in one sentence with the check that would; empty if nothing."""
        return self.unproven

    def find_next_step(self, data: Any, situation: Situation) -> str:
        """What has to be done before the outcome of this call is useful, naming the tool; empty if nothing."""
        return self.next_step

    def read_back(self, data: Any) -> Operation | None:
        """The read that shows the outcome of the write; by default `reads_back`, or else that of the target."""
        if self.reads_back is None:
            return self.target_read()
        identifier = at(data, "id")
        if not isinstance(identifier, str) or not identifier:
            return None
        shared = {name: getattr(self, name) for name in type(self).model_fields if name in self.reads_back.model_fields}
        return self.reads_back(**shared | {self.reads_back.http.placeholders[-1]: identifier})

    def type_read(self, current: Any = None) -> Operation | None:
        """The read of the platform's own description of the target's type, where the shipped one does not suffice."""
        return None

    def explain_refusal(self, details: Any) -> tuple[Sequence[Issue], str]:
        """The arguments that a platform refuses by names that the caller does not know, and where to look."""
        return (), ""

    def is_rival(self, row: JsonObject) -> bool:
        """Whether this row of the list at the same path is the existing thing that a creation conflicts with."""
        return False

    def target_read(self) -> Operation | None:
        """The read of this call's target."""
        if self.acts_on is None:
            return None
        read = self.acts_on.read
        values: dict[str, Any] = {}
        for argument in read.model_fields:
            own = self.acts_on.arguments.get(argument, argument)
            if own in type(self).model_fields and own in self.model_fields_set:
                values[argument] = getattr(self, own)
        return read(**values)


class ListOperation(Operation):
    """Base of the lists: they return summary rows, a page at a time."""

    effect = Effect.READ
    returns_list = True
    id_member: ClassVar[str] = "id"
    """The member of a row that paths name it by."""
    known_by: ClassVar[tuple[str, ...]] = ("name",)
    """Dotted paths in a row of what people know it by, beside its id: text, or an object with a text per language."""
    refers: ClassVar[Mapping[str, type[Operation]]] = {}
    """Members of a row with the id of a row of another list."""

    limit: PageSize = None
    cursor: Cursor = None
    fields: RowMembers = None
    detail: Detail = "summary"

    def make_query(self) -> dict[str, str | list[str]]:
        """Make the query of a page; the platform's own names for size and cursor come from `paging`."""
        query, paging = super().make_query(), self.paging
        if paging is None or paging.cursor is None:
            return query
        if self.limit is not None and paging.limit:
            query[paging.limit] = str(max(paging.smallest, min(self.limit, paging.largest)))
        if self.cursor:
            query[paging.cursor] = self.cursor
        return query

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """Take the rows of the page out of the answer."""
        rows = at(answers[0], self.paging.items if self.paging else self.record)
        if rows is None and self.paging and members(answers[0]).keys() & set(self.paging.empty):
            return []
        return rows


class LocalOperation(Operation, ABC):
    """An operation that this server answers by itself, without a platform."""

    effect = Effect.READ

    @abstractmethod
    def answer_locally(self, situation: Situation) -> Any:
        """The data of the result. `situation` holds what `type_read` returned.

        Raises:
            InvalidArguments: An argument names something that does not exist.
        """


def at(value: Any, path: str | Path) -> Any:
    """The member at a path (dotted if it is a string), or None if it is missing; the value itself for an empty path."""
    steps = path if isinstance(path, tuple) else path.split(".") if path else ()
    for key in steps:
        value = members(value).get(key)
    return value


def _as_text(value: Any) -> str | list[str]:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return [str(item) for item in items(value)]
    return str(value)
