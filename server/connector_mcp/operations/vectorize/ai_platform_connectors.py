"""Vectorize AI platform connectors: what makes vectors for pipelines (facts: section 8)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from connector_mcp.operations.operation import Effect
from connector_mcp.operations.platform import DELETE, GET, PATCH, POST
from connector_mcp.operations.vectorize import connectors

CONNECTORS = "/org/{organization_id}/connectors/aiplatforms"
CONNECTOR = f"{CONNECTORS}/{{ai_platform_connector_id}}"

AiPlatformConnectorId = Annotated[
    str, Field(description="Id of the AI platform connector. vectorize_get_ai_platform_connectors lists them.")
]
_EXAMPLE_ID = "7d444840-9dc0-11d1-b245-5ffdce74fad2"


class NewAiPlatformConnector(connectors.NewConnector):
    """An AI platform connector to create."""

    type: Annotated[
        str,
        Field(
            description="Whose models it uses. It cannot be changed later.",
            json_schema_extra=connectors.offer_types("AI platform"),
        ),
    ]


class AiPlatformOperation(connectors.ConnectorOperation):
    """Base of the operations on AI platform connectors."""

    toolset = "vectorize.ai_platforms"

    noun = "AI platform connector"
    kind = "AI platform"
    id_argument = "ai_platform_connector_id"
    used_in = "aiPlatformAuthIds"
    use = "embed with it"
    lost = "fail"


class GetAiPlatformConnectors(AiPlatformOperation, connectors.ConnectorList):
    """List the organization's AI platform connectors, the built-in one of type VECTORIZE among them."""

    http = GET(CONNECTORS)
    by_default = True
    paging = connectors.pages_of("aiPlatformConnectors")


class GetAiPlatformConnector(AiPlatformOperation):
    """Get an AI platform connector with its config, whether its credentials work, and its last error."""

    http = GET(CONNECTOR)
    effect = Effect.READ
    output = connectors.Connector
    example = {"ai_platform_connector_id": _EXAMPLE_ID}

    ai_platform_connector_id: AiPlatformConnectorId


class CreateAiPlatformConnector(AiPlatformOperation, connectors.ConnectorCreation[NewAiPlatformConnector]):
    """Create AI platform connectors. Call describe_connector_type first for the config keys. The built-in one, type
    VECTORIZE, needs no creation."""

    http = POST(CONNECTORS)
    by_default = True
    reader = GetAiPlatformConnector
    consequence = "Creates AI platform connectors."
    example = {"connectors": [{"name": "OpenAI", "type": "OPENAI", "config": {"key": "<key>"}}]}


AI_PLATFORM_CONNECTOR = connectors.target_of(GetAiPlatformConnector)


class UpdateAiPlatformConnector(AiPlatformOperation, connectors.ConnectorUpdate):
    """Replace the config of an AI platform connector, as to rotate credentials. Send it whole, secrets included: they
    cannot be read back. It reaches the pipelines that use it. Name and type cannot change."""

    http = PATCH(CONNECTOR)
    acts_on = AI_PLATFORM_CONNECTOR
    consequence = "Changes the config of AI platform connector {name}; pipelines that embed with it get the new one."
    example = {"ai_platform_connector_id": _EXAMPLE_ID, "config": {"key": "<key>"}}

    ai_platform_connector_id: AiPlatformConnectorId


class DeleteAiPlatformConnector(AiPlatformOperation, connectors.ConnectorDeletion):
    """Delete an AI platform connector for good. Pipelines that embed with it fail."""

    http = DELETE(CONNECTOR)
    acts_on = AI_PLATFORM_CONNECTOR
    consequence = "Deletes AI platform connector {name}; pipelines that embed with it fail. It cannot be undone."
    example = {"ai_platform_connector_id": _EXAMPLE_ID}

    ai_platform_connector_id: AiPlatformConnectorId


OPERATIONS = (
    GetAiPlatformConnectors,
    CreateAiPlatformConnector,
    GetAiPlatformConnector,
    UpdateAiPlatformConnector,
    DeleteAiPlatformConnector,
)
