"""Vectorize AI platform connectors: what makes vectors for pipelines (facts: section 8)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from connector_mcp.operations.platform import DELETE, GET, PATCH, POST
from connector_mcp.operations.vectorize import connectors

CONNECTORS = "/org/{organization_id}/connectors/aiplatforms"
CONNECTOR = f"{CONNECTORS}/{{ai_platform_connector_id}}"

AiPlatformConnectorId = Annotated[
    str, Field(description="Id of the AI platform connector. vectorize_get_ai_platform_connectors lists them.")
]


class NewAiPlatformConnector(connectors.NewConnector):
    """An AI platform connector to create."""

    type: Annotated[str, connectors.type_field("AI platform", "Whose models it uses.")]


class AiPlatformOperation(connectors.ConnectorOperation):
    """Base of the operations on AI platform connectors."""

    toolset = "vectorize.ai_platforms"

    noun = "AI platform connector"
    kind = "AI platform"
    used_in = "aiPlatformAuthIds"
    use = "embed with it"
    lost = "fail"


class OneAiPlatformOperation(AiPlatformOperation):
    """Base of the operations on one AI platform connector."""

    example = {"ai_platform_connector_id": "7d444840-9dc0-11d1-b245-5ffdce74fad2"}

    ai_platform_connector_id: AiPlatformConnectorId


class GetAiPlatformConnectors(AiPlatformOperation, connectors.ConnectorList):
    """List the organization's AI platform connectors, the built-in one of type VECTORIZE among them."""

    http = GET(CONNECTORS)
    by_default = True
    paging = connectors.pages_of("aiPlatformConnectors")


class GetAiPlatformConnector(OneAiPlatformOperation, connectors.ConnectorRead):
    """Get an AI platform connector with its config, whether its credentials work, and its last error."""

    http = GET(CONNECTOR)


class CreateAiPlatformConnector(AiPlatformOperation, connectors.ConnectorCreation[NewAiPlatformConnector]):
    """Create AI platform connectors. Call describe_connector_type first for the config keys. The built-in one, type
    VECTORIZE, needs no creation."""

    http = POST(CONNECTORS)
    by_default = True
    reads_back = GetAiPlatformConnector
    example = {"connectors": [{"name": "OpenAI", "type": "OPENAI", "config": {"key": "<key>"}}]}


AI_PLATFORM_CONNECTOR = connectors.target_of(GetAiPlatformConnector)


class UpdateAiPlatformConnector(OneAiPlatformOperation, connectors.ConnectorUpdate):
    """Replace the config of an AI platform connector, as to rotate credentials. Send it whole, secrets included: they
    cannot be read back. It reaches the pipelines that use it. Name and type cannot change."""

    http = PATCH(CONNECTOR)
    acts_on = AI_PLATFORM_CONNECTOR
    example = {**OneAiPlatformOperation.example, "config": {"key": "<key>"}}


class DeleteAiPlatformConnector(OneAiPlatformOperation, connectors.ConnectorDeletion):
    """Delete an AI platform connector for good. Pipelines that embed with it fail."""

    http = DELETE(CONNECTOR)
    acts_on = AI_PLATFORM_CONNECTOR


OPERATIONS = (
    GetAiPlatformConnectors,
    CreateAiPlatformConnector,
    GetAiPlatformConnector,
    UpdateAiPlatformConnector,
    DeleteAiPlatformConnector,
)
