"""The operations that look at several platforms, or at this server's own log. The engine answers them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Effect, ListOperation, Operation, Paging, Record

PlatformName = Literal["vectorize", "logto", "versori", "conductorone"]
Profile = Annotated[str | None, Field(description="Only this account; by default all of the platform.")]


class AcrossOperation(Operation):
    """Base of these operations."""

    effect = Effect.READ


class ConnectorRow(Record):
    """A connector in the form that is the same for all platforms."""

    platform: str | None = None
    profile: str | None = None
    kind: str | None = None
    id: str | None = None
    name: str | None = None
    type: str | None = None
    status: str | None = None
    error: str | None = None
    within: str | None = None


class FindConnectors(AcrossOperation, ListOperation):
    """Find connectors on all platforms at once, by name, type or status. Give platform, kind, id and within of a row to
    check_connector."""

    output = ConnectorRow
    paging = Paging(items="")
    example = {"status": "failing"}

    name: Annotated[str | None, Field(description="Part of the name, in any case.")] = None
    type: Annotated[str | None, Field(description="Part of the type, such as s3 or google.")] = None
    status: Annotated[
        Literal["ok", "failing", "paused", "pending", "unknown"] | None,
        Field(description="What the platform's own list shows; unknown where it shows nothing."),
    ] = None
    platform: Annotated[PlatformName | None, Field(description="Only this platform.")] = None
    profile: Profile = None


class VerdictRecord(Record):
    """Whether a connector works."""

    works: Literal["yes", "no", "unknown"] | None = None
    reason: str | None = None
    unproven: str | None = None
    next: str | None = None
    seen: JsonObject | None = None


class CheckConnector(AcrossOperation):
    """Tell whether a connector works: yes, no with the reason, or unknown with what would show it. Reads what its
    platform shows, such as pipeline state, visibility or the last sync."""

    output = VerdictRecord
    example = {"platform": "vectorize", "id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}

    platform: Annotated[PlatformName, Field(description="Platform of the connector.")]
    id: Annotated[str, Field(min_length=1, description="Id of the thing. find_connectors has it.")]
    kind: Annotated[str | None, Field(description="Kind of thing. find_connectors names it.")] = None
    within: Annotated[str, Field(description="What it is within. find_connectors has it.")] = ""
    profile: Profile = None


class ChangeRecord(Record):
    """A change that this server made or began."""

    time: str | None = None
    tool: str | None = None
    platform: str | None = None
    profile: str | None = None
    effect: str | None = None
    target: JsonObject | None = None
    outcome: str | None = None
    caller: str | None = None
    decided_by: str | None = None
    call_id: str | None = None


class RecentChanges(AcrossOperation, ListOperation):
    """List the changes made through this server, newest first: what, when, with which outcome, by which caller and on
    whose decision. Changes made elsewhere are not in it."""

    output = ChangeRecord
    paging = Paging(items="")
    example = {"platform": "logto", "limit": 10}

    platform: Annotated[PlatformName | None, Field(description="Only changes on this platform.")] = None
    target: Annotated[str | None, Field(description="Only changes of the thing with this id.")] = None


ACROSS: tuple[type[Operation], ...] = (FindConnectors, CheckConnector, RecentChanges)
