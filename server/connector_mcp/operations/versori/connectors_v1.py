"""Further operations on Versori connectors of the Connect API v1 (facts: sections 3 and 4, traps 7 to 9)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.fields import in_query
from connector_mcp.operations.operation import Effect, ListOperation, Target
from connector_mcp.operations.platform import DELETE, GET, POST, PUT
from connector_mcp.operations.situation import ConfigUse, Situation
from connector_mcp.operations.versori.auth_schemes import V1, ReadScheme, SetScheme
from connector_mcp.operations.versori.connectors import (
    CONNECTOR,
    ConnectionVariable,
    Connector,
    ConnectorId,
    GetConnector,
    ListConnectors,
)
from connector_mcp.operations.versori.platform import ULID, VERSORI, EmptyAnswer, VersoriOperation

_SCHEME: JsonObject = {
    "schemeType": "api-key", "id": "key", "description": "API key", "name": "X-Api-Key", "in": "header",
}  # fmt: skip


class V1Operation(VersoriOperation):
    """Base of the further operations of Connect v1."""

    by_default = False


class V1ListPublicConnectors(ListOperation):
    """List the connectors of the public library, from every organization, a page at a time."""

    on = VERSORI
    toolset = "versori.connectors"
    http = GET("/connectors")
    output = Connector
    paging = ListConnectors.paging
    summary = ListConnectors.summary
    heavy = ListConnectors.heavy
    example = {"name": "shopify"}

    name: Annotated[str | None, Field(description="Part of the name.")] = None
    protocol: Annotated[str | None, Field(description="Part of the protocol.")] = None
    tags: Annotated[str | None, Field(description="Tags as `key:value,key`.")] = None
    categories: Annotated[list[str] | None, Field(description="Categories such as ERP, CRM.")] = None


class V1CreateHttpConnector(V1Operation):
    """Create a draft connector of Connect v1 for an HTTP API. New integrations use systems: versori_create_system."""

    http = POST("/o/{organisation_id}/protocols/http/connectors")
    effect = Effect.CREATE
    output = Connector
    repeatable = False
    heavy = GetConnector.heavy
    host_arguments = ("base_url",)
    reads_back = GetConnector
    next_step = "It is a draft without connections: connect an account and publish a version in Versori's console."
    example = {"name": "Acme CRM", "base_url": "https://api.acme.example/v2", "auth_scheme_configs": [_SCHEME]}

    name: Annotated[str, Field(min_length=1, description="Name that people see.")]
    base_url: Annotated[str, Field(min_length=1, description="Where calls go; may hold {{variable}}.")]
    auth_scheme_configs: Annotated[
        list[JsonObject], Field(description="Whole configs; keys of connector type v1-auth-scheme-TYPE.")
    ]
    connection_variables: Annotated[list[ConnectionVariable] | None, Field(description="Placeholders of base_url.")] = (
        None
    )
    tags: Annotated[dict[str, list[str]] | None, Field(description="Lists of values by tag.")] = None

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        return V1.uses(self.auth_scheme_configs)

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        return V1.find_all_problems(self.auth_scheme_configs)

    def make_body(self, situation: Situation) -> Any:
        """Make the body with the empty list of connections that Versori requires and does not describe (trap 8)."""
        return {**super().make_body(situation), "connections": []}

    def find_missing(self, shown: Any) -> list[str]:
        return V1.find_missing(self.auth_scheme_configs, shown)


class V1DeleteConnector(EmptyAnswer, V1Operation):
    """Delete a connector of Connect v1 for good, with its connections and versions."""

    http = DELETE(CONNECTOR)
    effect = Effect.DESTROY
    acts_on = Target("connector", GetConnector, type_at="protocol", volatile=frozenset({"updatedAt"}))
    consequence = (
        "Deletes connector {name} for good, with its connections, their credentials and its versions. "
        "Versori refuses while an integration uses it."
    )
    example = {"connector_id": ULID}

    connector_id: ConnectorId
    force: Annotated[bool | None, Field(description="true deletes it even if integrations use it."), in_query()] = None

    def describe_effect(self, situation: Situation) -> str:
        if not self.force:
            return self.consequence
        what = self.consequence.partition(". ")[0]
        return f"{what}, even while integrations use it: they stop working."


class ConnectorAuthScheme(ReadScheme, V1Operation):
    """Read one auth scheme of a connector."""

    http = GET(CONNECTOR)
    part_of = GetConnector.tool_name()
    form = V1

    connector_id: ConnectorId


class V1UpsertAuthSchemeConfig(SetScheme, V1Operation):
    """Add an auth scheme to a connector of Connect v1, or replace the one with this id as a whole. A stored client
    secret is kept unless another is given."""

    http = PUT(f"{CONNECTOR}/auth-scheme-configs/{{auth_scheme_config_id}}")
    output = Connector
    acts_on = Target("auth scheme", ConnectorAuthScheme, name=lambda operation, _: operation.auth_scheme_config_id)
    heavy = GetConnector.heavy
    example = {"connector_id": ULID, "auth_scheme_config_id": "key", "config": _SCHEME}

    form = V1

    connector_id: ConnectorId


OPERATIONS = (V1ListPublicConnectors, V1CreateHttpConnector, V1DeleteConnector, V1UpsertAuthSchemeConfig)
