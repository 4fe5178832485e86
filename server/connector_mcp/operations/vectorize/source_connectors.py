"""Vectorize source connectors: what pipelines read from (facts: section 6)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from connector_mcp.operations.operation import Effect
from connector_mcp.operations.platform import DELETE, GET, PATCH, POST
from connector_mcp.operations.vectorize import connectors

CONNECTORS = "/org/{organization_id}/connectors/sources"
CONNECTOR = f"{CONNECTORS}/{{source_connector_id}}"

SourceConnectorId = Annotated[
    str, Field(description="Id of the source connector. vectorize_get_source_connectors lists them.")
]
_EXAMPLE_ID = "550e8400-e29b-41d4-a716-446655440000"


class NewSourceConnector(connectors.NewConnector):
    """A source connector to create."""

    type: Annotated[
        str,
        Field(
            description="What it reads from. It cannot be changed later.",
            json_schema_extra=connectors.offer_types("source"),
        ),
    ]


class SourceOperation(connectors.ConnectorOperation):
    """Base of the operations on source connectors."""

    toolset = "vectorize.sources"
    by_default = True

    noun = "source connector"
    kind = "source"
    id_argument = "source_connector_id"
    used_in = "sourceConnectorAuthIds"
    use = "read from it"
    lost = "stop ingesting"


class GetSourceConnectors(SourceOperation, connectors.ConnectorList):
    """List the organization's source connectors with the state of their credentials, a page at a time."""

    http = GET(CONNECTORS)
    paging = connectors.pages_of("sourceConnectors")


class GetSourceConnector(SourceOperation):
    """Get a source connector with its config, whether its credentials work (verificationStatus), and its last error."""

    http = GET(CONNECTOR)
    effect = Effect.READ
    output = connectors.Connector
    example = {"source_connector_id": _EXAMPLE_ID}

    source_connector_id: SourceConnectorId


class CreateSourceConnector(SourceOperation, connectors.ConnectorCreation[NewSourceConnector]):
    """Create source connectors, which a pipeline then reads from. Call describe_connector_type first for the config
    keys. verificationStatus says whether the credentials work."""

    http = POST(CONNECTORS)
    reader = GetSourceConnector
    consequence = "Creates source connectors."
    example = {
        "connectors": [{"name": "Docs site", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}]
    }


SOURCE_CONNECTOR = connectors.target_of(GetSourceConnector)


class UpdateSourceConnector(SourceOperation, connectors.ConnectorUpdate):
    """Replace the config of a source connector, as to rotate credentials. Send it whole, secrets included: they cannot
    be read back. It reaches the pipelines that use it. Name and type cannot change."""

    http = PATCH(CONNECTOR)
    acts_on = SOURCE_CONNECTOR
    consequence = "Changes the config of source connector {name}; pipelines that read from it get the new one."
    example = {"source_connector_id": _EXAMPLE_ID, "config": {"seed-urls": ["https://docs.example.com"]}}

    source_connector_id: SourceConnectorId


class DeleteSourceConnector(SourceOperation, connectors.ConnectorDeletion):
    """Delete a source connector for good. Pipelines that read from it stop ingesting."""

    http = DELETE(CONNECTOR)
    acts_on = SOURCE_CONNECTOR
    consequence = "Deletes source connector {name}; pipelines that read from it stop ingesting. It cannot be undone."
    example = {"source_connector_id": _EXAMPLE_ID}

    source_connector_id: SourceConnectorId


OPERATIONS = (
    GetSourceConnectors,
    CreateSourceConnector,
    GetSourceConnector,
    UpdateSourceConnector,
    DeleteSourceConnector,
)
