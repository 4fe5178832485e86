"""Vectorize source connectors: what pipelines read from (facts: section 6)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from connector_mcp.operations.platform import DELETE, GET, PATCH, POST
from connector_mcp.operations.vectorize import connectors

CONNECTORS = "/org/{organization_id}/connectors/sources"
CONNECTOR = f"{CONNECTORS}/{{source_connector_id}}"

SourceConnectorId = Annotated[
    str, Field(description="Id of the source connector. vectorize_get_source_connectors lists them.")
]


class NewSourceConnector(connectors.NewConnector):
    """A source connector to create."""

    type: Annotated[str, connectors.type_field("source", "What it reads from.")]


class SourceOperation(connectors.ConnectorOperation):
    """Base of the operations on source connectors."""

    toolset = "vectorize.sources"
    by_default = True

    noun = "source connector"
    kind = "source"
    used_in = "sourceConnectorAuthIds"
    use = "read from it"
    lost = "stop ingesting"


class OneSourceOperation(SourceOperation):
    """Base of the operations on one source connector."""

    example = {"source_connector_id": "550e8400-e29b-41d4-a716-446655440000"}

    source_connector_id: SourceConnectorId


class GetSourceConnectors(SourceOperation, connectors.ConnectorList):
    """List the organization's source connectors with the state of their credentials, a page at a time."""

    http = GET(CONNECTORS)
    paging = connectors.pages_of("sourceConnectors")


class GetSourceConnector(OneSourceOperation, connectors.ConnectorRead):
    """Get a source connector with its config, whether its credentials work (verificationStatus), and its last error."""

    http = GET(CONNECTOR)


class CreateSourceConnector(SourceOperation, connectors.ConnectorCreation[NewSourceConnector]):
    """Create source connectors, which a pipeline then reads from. Call describe_connector_type first for the config
    keys. verificationStatus says whether the credentials work."""

    http = POST(CONNECTORS)
    reads_back = GetSourceConnector
    example = {
        "connectors": [{"name": "Docs site", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}]
    }


SOURCE_CONNECTOR = connectors.target_of(GetSourceConnector)


class UpdateSourceConnector(OneSourceOperation, connectors.ConnectorUpdate):
    """Replace the config of a source connector, as to rotate credentials. Send it whole, secrets included: they cannot
    be read back. It reaches the pipelines that use it. Name and type cannot change."""

    http = PATCH(CONNECTOR)
    acts_on = SOURCE_CONNECTOR
    example = {**OneSourceOperation.example, "config": {"seed-urls": ["https://docs.example.com"]}}


class DeleteSourceConnector(OneSourceOperation, connectors.ConnectorDeletion):
    """Delete a source connector for good. Pipelines that read from it stop ingesting."""

    http = DELETE(CONNECTOR)
    acts_on = SOURCE_CONNECTOR


OPERATIONS = (
    GetSourceConnectors,
    CreateSourceConnector,
    GetSourceConnector,
    UpdateSourceConnector,
    DeleteSourceConnector,
)
