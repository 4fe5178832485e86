"""ConductorOne app connectors: what they look like, and the reads (facts: sections 3 and 4, traps 5, 9 and 17)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from connector_mcp.json_values import JsonObject, members
from connector_mcp.operations.conductorone.platform import CONDUCTORONE
from connector_mcp.operations.operation import (
    GET,
    Effect,
    ListOperation,
    Operation,
    Paging,
    Record,
    Situation,
    StoredConfig,
    Target,
    at,
)

AppId = Annotated[str, Field(description="App id.")]
ConnectorId = Annotated[str, Field(description="Connector id.")]

CONNECTORS = "/api/v1/apps/{app_id}/connectors"
CONNECTOR = f"{CONNECTORS}/{{id}}"
RECORD = "connectorView.connector"


class Connector(Record):
    """An app connector as ConductorOne shows it; secrets are not in `config`."""

    id: str | None = None
    app_id: str | None = None
    catalog_id: str | None = None
    display_name: str | None = None
    description: str | None = None
    user_ids: list[str] | None = None
    config: JsonObject | None = None
    status: JsonObject | None = None
    sync_disabled_at: str | None = None
    config_updated_at: str | None = None
    deleted_at: str | None = None


class ConductorOneOperation(Operation):
    """Base of ConductorOne's operations."""

    on = CONDUCTORONE
    stored_config = StoredConfig(at="config.configuration", type_at="catalogId")
    # Of file-based connectors the address from which their data can be fetched without further credentials.
    heavy = frozenset({"downloadUrl"})

    app_id: AppId


class ListConnectors(ConductorOneOperation, ListOperation):
    """List the connectors of an app with their sync status, a page at a time; deleted ones are left out."""

    http = GET(CONNECTORS)
    output = Connector
    paging = Paging(items="list", limit="page_size", cursor="page_token", next="nextPageToken", smallest=10)
    summary = ("id", "displayName", "catalogId", "status", "syncDisabledAt", "updatedAt")
    example = {"app_id": "2abCDEfghIJKlmnOPQrstUVwxyZ", "limit": 20}

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """The connectors themselves, out of the views they come in; a deletion only sets `deletedAt` (trap 9)."""
        views: list[Any] = super().shape_result(answers, situation) or []
        connectors = [members(at(view, "connector")) for view in views]
        return [connector for connector in connectors if connector and not connector.get("deletedAt")]


class GetConnector(ConductorOneOperation):
    """Get one connector with its config, without secrets, and the status of its last sync."""

    http = GET(CONNECTOR)
    effect = Effect.READ
    output = Connector
    record = RECORD
    example = {"app_id": "2abCDEfghIJKlmnOPQrstUVwxyZ", "id": "2xyConnector00000000000001"}

    id: ConnectorId


def _known_as(operation: Any, record: Any) -> str:
    return str(at(record, "displayName") or at(record, "id") or operation.id)


CONNECTOR_TARGET = Target(
    "connector",
    GetConnector,
    name=_known_as,
    # What a sync that runs by itself changes.
    volatile=frozenset(
        {
            "canResumeSync",
            "configUpdatedAt",
            "downloadUrl",
            "oauthAuthorizedAs",
            "status",
            "syncDisabledAt",
            "syncDisabledCategory",
            "syncDisabledReason",
            "updatedAt",
        }
    ),
)
