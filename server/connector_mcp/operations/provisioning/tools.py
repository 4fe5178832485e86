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
        description="name, and sections of entries by key: sources, destinations, ai_platforms, "
        "source_users, pipelines, sign_in_connectors, sso_connectors, sign_in, systems, connection_templates, "
        "connections, activations, apps, app_connectors. export_connectors shows the form."
    ),
]


class PlanRecord(Record):
    """A plan: what would be done, and its id."""

    plan_id: Annotated[str | None, Field(alias="plan_id")] = None
    changes: int | None = None
    counts: JsonObject | None = None
    actions: list[JsonObject] | None = None


class PlanConnectors(Operation):
    """Plan what to create, change or delete for what a manifest says. It changes nothing: apply_plan does, after one
    decision. Secrets only as secret://NAME."""

    effect = Effect.READ
    most_values = 50_000
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
    prune: Annotated[bool, Field(description="Delete what it made and no longer has.")] = False
    rotate: Annotated[list[str] | None, Field(description="Entries with secrets to write again.")] = None


class ManifestRecord(Record):
    """A manifest of what exists, and the secrets that it refers to."""

    manifest: JsonObject | None = None
    secrets: list[str] | None = None


class ExportConnectors(Operation):
    """Write a manifest of what exists, for plan_connectors. Secrets become references."""

    effect = Effect.READ
    output = ManifestRecord
    example: ClassVar[JsonObject] = {"platform": "vectorize"}

    platform: Annotated[PlatformName | None, Field(description="Only this platform.")] = None
    profile: Profile = None
    sections: Annotated[list[str] | None, Field(description="Only these sections of it.")] = None


class AppliedRecord(Record):
    """How far a plan was applied."""

    status: Literal["done", "in_progress", "incomplete"] | None = None
    done: list[JsonObject] | None = None
    not_done: list[JsonObject] | None = None
    unknown: list[JsonObject] | None = None


class ApplyPlan(Operation):
    """Carry out a stored plan after one decision about all of it. Answers within 50 s: call again until status is
    done; it never creates twice."""

    effect = Effect.UPDATE
    can_destroy = True
    overwrites = True
    output = AppliedRecord
    consequence = "Applies a plan."
    example = {"plan_id": "pl-abcdefghjk"}

    plan_id: Annotated[str, Field(description="Id of a stored plan.")]
    on_failure: Annotated[
        Literal["go_on", "stop"],
        Field(description="What to do after a failure."),
    ] = "go_on"


APPLY_PLAN = ApplyPlan.tool_name()

PROVISIONING: tuple[type[Operation], ...] = (PlanConnectors, ApplyPlan, ExportConnectors)
