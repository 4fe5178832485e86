"""The tools for manifests. `provisioning` answers them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from connector_mcp.json_values import JsonObject
from connector_mcp.operations.across import PlatformName, Profile
from connector_mcp.operations.operation import Effect, Operation, Record

ManifestArgument = Annotated[
    JsonObject,
    Field(
        description="name, and sections with an entry for each thing by a key of your choice: sources, destinations, "
        "ai_platforms, source_users, pipelines; sign_in_connectors, sso_connectors, sign_in; systems, "
        "connection_templates, connections, activations; apps, app_connectors. ${sources.docs.id} refers to an entry. "
        "export_connectors shows the form."
    ),
]


class PlanRecord(Record):
    """A plan: what would be done, and its id."""

    plan_id: Annotated[str | None, Field(alias="plan_id")] = None
    changes: int | None = None
    counts: JsonObject | None = None
    actions: list[JsonObject] | None = None


class PlanConnectors(Operation):
    """Plan what has to be created, changed or deleted so that the platforms have what a manifest says. Nothing is
    changed: apply_plan does it, after one decision. Secrets only as secret://NAME."""

    effect = Effect.READ
    output = PlanRecord
    example: ClassVar[JsonObject] = {
        "manifest": {
            "name": "ingestion",
            "sources": {
                "docs": {"name": "Docs", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://docs.example.com"]}}
            },
        }
    }

    manifest: ManifestArgument
    prune: Annotated[bool, Field(description="true: delete what this manifest made and no longer has.")] = False
    rotate: Annotated[
        list[str] | None, Field(description="Entries, such as sources.docs, to write the secrets of again.")
    ] = None


class ManifestRecord(Record):
    """A manifest of what exists, and the secrets that it refers to."""

    manifest: JsonObject | None = None
    secrets: list[str] | None = None


class ExportConnectors(Operation):
    """Write a manifest of what exists, for plan_connectors. Secrets become references: no secret is in it."""

    effect = Effect.READ
    output = ManifestRecord
    example: ClassVar[JsonObject] = {"platform": "vectorize"}

    platform: Annotated[PlatformName | None, Field(description="Only this platform.")] = None
    profile: Profile = None
    name: Annotated[str, Field(description="Name of the manifest.")] = "exported"
    sections: Annotated[list[str] | None, Field(description="Only these sections, such as sources.")] = None


class AppliedRecord(Record):
    """How far a plan was applied."""

    status: Literal["done", "in_progress", "incomplete"] | None = None
    counts: JsonObject | None = None
    done: list[JsonObject] | None = None
    not_done: list[JsonObject] | None = None
    unknown: list[JsonObject] | None = None
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


APPLY_PLAN = ApplyPlan.tool_name()

PROVISIONING: tuple[type[Operation], ...] = (PlanConnectors, ApplyPlan, ExportConnectors)
