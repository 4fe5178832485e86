"""How an argument is declared: where it goes, what it is called there, whether it is secret.

These marks are part of the `Annotated` type of an operation's field. An argument without a mark goes to the query of a
GET and to the JSON body of any other method, under the camelCase of its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from connector_mcp.json_values import JsonObject


@dataclass(frozen=True)
class Placement:
    """Where an argument goes, and its names there and in the platform's record."""

    place: Literal["query", "body", "nowhere"]
    name: str | None = None
    """Name in the query or body; the camelCase of the argument's name by default."""
    stored_as: str | None = ""
    """Member of the record that an update sets: named as in the body by default, none where this is None."""


def in_query(name: str | None = None) -> Placement:
    """Mark an argument that is sent in the query."""
    return Placement("query", name)


def in_body(name: str | None = None, *, stored_as: str | None = "") -> Placement:
    """Mark an argument that is sent in the JSON body."""
    return Placement("body", name, stored_as)


LOCAL_ONLY = Placement("nowhere")
"""Marks an argument for this server, which is never sent."""


class ArgumentObject(BaseModel):
    """Base of the objects that arguments consist of. Their members have the platform's own names, in camelCase."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel, populate_by_name=True)


@dataclass(frozen=True)
class ShownBy:
    """Marks an argument with the id of something besides the target that must exist for the call to work."""

    tool: str
    """The tool that shows whether it exists: a read by id, or a list."""
    ids: tuple[str, ...] = ("id",)
    """Of a list: where its rows have the id, as dotted paths; through a list, in each of its items."""
    search: str = ""
    """Of a list: the argument that takes the id, where the platform searches for it."""
    member: str = ""
    """Where the argument holds objects: their member with the id."""


@dataclass(frozen=True)
class SecretMark:
    """Marks an argument that takes a credential."""

    @staticmethod
    def __get_pydantic_json_schema__(core_schema: Any, handler: Callable[[Any], JsonObject]) -> JsonObject:
        return {**handler(core_schema), "writeOnly": True}


SECRET = SecretMark()

# The arguments of every list.
PageSize = Annotated[int | None, Field(ge=1, le=100, description="Most rows to return in one page."), LOCAL_ONLY]
Cursor = Annotated[str | None, Field(description="For the next page: meta.cursor of the last one."), LOCAL_ONLY]
RowMembers = Annotated[
    list[str] | None, Field(description="Members to return of each row, in place of the summary."), LOCAL_ONLY
]
Detail = Annotated[
    Literal["summary", "full"], Field(description="summary: the main members of each row. full: all."), LOCAL_ONLY
]
