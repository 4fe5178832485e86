"""The tools for manifests. `provisioning` answers them."""

from __future__ import annotations

from typing import Annotated, ClassVar

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


PROVISIONING: tuple[type[Operation], ...] = (PlanConnectors, ExportConnectors)
