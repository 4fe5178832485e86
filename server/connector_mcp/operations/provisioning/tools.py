"""The tools of provisioning. The part of the server above the engine answers them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Effect, Operation, Record


class AppliedRecord(Record):
    """How far a plan was applied."""

    status: Literal["done", "in_progress", "incomplete"] | None = None
    counts: JsonObject | None = None
    done: list[JsonObject] | None = None
    not_done: list[JsonObject] | None = None
    unknown: list[JsonObject] | None = None
    not_working: list[JsonObject] | None = None
    next: str | None = None


class ApplyPlan(Operation):
    """Carry out a stored plan after one decision about all of it. It answers within 50 s: call it again with the same
    plan_id until status is done. It then goes on, never creates twice, and tells whether what it made works."""

    effect = Effect.UPDATE
    can_destroy = True
    overwrites = True
    output = AppliedRecord
    consequence = "Applies a plan."
    example = {"plan_id": "pl-abcdefghjk"}

    plan_id: Annotated[str, Field(min_length=1, max_length=64, description="Id of the plan.")]
    on_failure: Annotated[
        Literal["go_on", "stop"],
        Field(description="After a failure: go_on with all that does not depend on it, or stop."),
    ] = "go_on"


PROVISIONING: tuple[type[Operation], ...] = (ApplyPlan,)
