"""Vectorize destination connectors: where pipelines write vectors (facts: section 7)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from connector_mcp.operations.operation import Effect
from connector_mcp.operations.platform import DELETE, GET, PATCH, POST
from connector_mcp.operations.vectorize import connectors

CONNECTORS = "/org/{organization_id}/connectors/destinations"
CONNECTOR = f"{CONNECTORS}/{{destination_connector_id}}"

DestinationConnectorId = Annotated[
    str, Field(description="Id of the destination connector. vectorize_get_destination_connectors lists them.")
]
_EXAMPLE_ID = "d290f1ee-6c54-4b01-90e6-d701748f0851"


class NewDestinationConnector(connectors.NewConnector):
    """A destination connector to create."""

    type: Annotated[
        str,
        Field(
            description="What it writes to. It cannot be changed later.",
            json_schema_extra=connectors.offer_types("destination"),
        ),
    ]


class DestinationOperation(connectors.ConnectorOperation):
    """Base of the operations on destination connectors."""

    toolset = "vectorize.destinations"

    noun = "destination connector"
    kind = "destination"
    id_argument = "destination_connector_id"
    used_in = "destinationConnectorAuthIds"
    use = "write to it"
    lost = "fail"


class GetDestinationConnectors(DestinationOperation, connectors.ConnectorList):
    """List the organization's destination connectors, the built-in one of type VECTORIZE among them."""

    http = GET(CONNECTORS)
    by_default = True
    paging = connectors.pages_of("destinationConnectors")


class GetDestinationConnector(DestinationOperation):
    """Get a destination connector with its config, whether its credentials work, and its last error."""

    http = GET(CONNECTOR)
    by_default = True
    effect = Effect.READ
    output = connectors.Connector
    example = {"destination_connector_id": _EXAMPLE_ID}

    destination_connector_id: DestinationConnectorId


class CreateDestinationConnector(DestinationOperation, connectors.ConnectorCreation[NewDestinationConnector]):
    """Create destination connectors. Call describe_connector_type first for the config keys. The built-in one, type
    VECTORIZE, needs no creation."""

    http = POST(CONNECTORS)
    by_default = True
    reader = GetDestinationConnector
    consequence = "Creates destination connectors."
    example = {"connectors": [{"name": "Vectors", "type": "PINECONE", "config": {"api-key": "<api-key>"}}]}


DESTINATION_CONNECTOR = connectors.target_of(GetDestinationConnector)


class UpdateDestinationConnector(DestinationOperation, connectors.ConnectorUpdate):
    """Replace the config of a destination connector, as to rotate credentials. Send it whole, secrets included: they
    cannot be read back. It reaches the pipelines that use it. Name and type cannot change."""

    http = PATCH(CONNECTOR)
    acts_on = DESTINATION_CONNECTOR
    consequence = "Changes the config of destination connector {name}; pipelines that write to it get the new one."
    example = {"destination_connector_id": _EXAMPLE_ID, "config": {"api-key": "<api-key>"}}

    destination_connector_id: DestinationConnectorId


class DeleteDestinationConnector(DestinationOperation, connectors.ConnectorDeletion):
    """Delete a destination connector for good. Pipelines that write to it fail."""

    http = DELETE(CONNECTOR)
    acts_on = DESTINATION_CONNECTOR
    consequence = "Deletes destination connector {name}; pipelines that write to it fail. It cannot be undone."
    example = {"destination_connector_id": _EXAMPLE_ID}

    destination_connector_id: DestinationConnectorId


OPERATIONS = (
    GetDestinationConnectors,
    CreateDestinationConnector,
    GetDestinationConnector,
    UpdateDestinationConnector,
    DeleteDestinationConnector,
)
