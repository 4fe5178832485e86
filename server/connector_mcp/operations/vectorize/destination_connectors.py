"""Vectorize destination connectors: where pipelines write vectors (facts: section 7)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from connector_mcp.operations.platform import DELETE, GET, PATCH, POST
from connector_mcp.operations.vectorize import connectors

CONNECTORS = "/org/{organization_id}/connectors/destinations"
CONNECTOR = f"{CONNECTORS}/{{destination_connector_id}}"

DestinationConnectorId = Annotated[
    str, Field(description="Id of the destination connector. vectorize_get_destination_connectors lists them.")
]


class NewDestinationConnector(connectors.NewConnector):
    """A destination connector to create."""

    type: Annotated[str, connectors.type_field("destination", "What it writes to.")]


class DestinationOperation(connectors.ConnectorOperation):
    """Base of the operations on destination connectors."""

    toolset = "vectorize.destinations"

    noun = "destination connector"
    kind = "destination"
    used_in = "destinationConnectorAuthIds"
    use = "write to it"
    lost = "fail"


class OneDestinationOperation(DestinationOperation):
    """Base of the operations on one destination connector."""

    example = {"destination_connector_id": "d290f1ee-6c54-4b01-90e6-d701748f0851"}

    destination_connector_id: DestinationConnectorId


class GetDestinationConnectors(DestinationOperation, connectors.ConnectorList):
    """List the organization's destination connectors, the built-in one of type VECTORIZE among them."""

    http = GET(CONNECTORS)
    by_default = True
    paging = connectors.pages_of("destinationConnectors")


class GetDestinationConnector(OneDestinationOperation, connectors.ConnectorRead):
    """Get a destination connector with its config, whether its credentials work, and its last error."""

    http = GET(CONNECTOR)
    by_default = True


class CreateDestinationConnector(DestinationOperation, connectors.ConnectorCreation[NewDestinationConnector]):
    """Create destination connectors. Call describe_connector_type first for the config keys. The built-in one, type
    VECTORIZE, needs no creation."""

    http = POST(CONNECTORS)
    by_default = True
    reads_back = GetDestinationConnector
    example = {"connectors": [{"name": "Vectors", "type": "PINECONE", "config": {"api-key": "<api-key>"}}]}


DESTINATION_CONNECTOR = connectors.target_of(GetDestinationConnector)


class UpdateDestinationConnector(OneDestinationOperation, connectors.ConnectorUpdate):
    """Replace the config of a destination connector, as to rotate credentials. Send it whole, secrets included: they
    cannot be read back. It reaches the pipelines that use it. Name and type cannot change."""

    http = PATCH(CONNECTOR)
    acts_on = DESTINATION_CONNECTOR
    example = {**OneDestinationOperation.example, "config": {"api-key": "<api-key>"}}


class DeleteDestinationConnector(OneDestinationOperation, connectors.ConnectorDeletion):
    """Delete a destination connector for good. Pipelines that write to it fail."""

    http = DELETE(CONNECTOR)
    acts_on = DESTINATION_CONNECTOR


OPERATIONS = (
    GetDestinationConnectors,
    CreateDestinationConnector,
    GetDestinationConnector,
    UpdateDestinationConnector,
    DeleteDestinationConnector,
)
