"""Versori connections: an account at a system, static or of one end user (facts: section 5, traps 14 to 19)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.fields import ShownBy, in_body, in_query
from connector_mcp.operations.operation import Effect, ListOperation, Record, Target
from connector_mcp.operations.platform import DELETE, GET, POST, PUT
from connector_mcp.operations.situation import ConfigUse, Destination, Loss, Situation
from connector_mcp.operations.update import Replace, UpdateOperation
from connector_mcp.operations.versori.common import (
    EXAMPLE_CREDENTIAL,
    ULID,
    BaseUrl,
    ConnectionId,
    ConnectionInput,
    Credentials,
    EmptyAnswer,
    PlatformOperation,
    ProjectId,
    TemplateId,
    connection_body,
    credential_bodies,
    credential_destinations,
    credential_errors,
    credential_problems,
    credential_uses,
    scheme_id,
)
from connector_mcp.operations.versori.systems import PAGING

CONNECTIONS = "/o/{organisation_id}/connections"
CONNECTION = f"{CONNECTIONS}/{{connection_id}}"


class Connection(Record):
    """A connection; the data of its credentials is withheld."""

    id: str | None = None
    name: str | None = None
    base_url: str | None = None
    system_id: str | None = None
    connection_template_id: str | None = None
    credentials: list[JsonObject] | None = None
    updated_at: str | None = None


class ConnectionOperation(PlatformOperation):
    """Base of the operations on connections."""

    toolset = "versori.connections"
    by_default = True
    output = Connection


class ListConnections(ConnectionOperation, ListOperation):
    """List the organisation's connections, static ones and those of end users, a page at a time."""

    http = GET(CONNECTIONS)
    paging = PAGING
    summary = ("id", "name", "systemId", "connectionTemplateId", "baseUrl", "updatedAt")
    example = {"limit": 20}

    system_id: Annotated[str | None, Field(description="Only those of this system."), in_query("system_id")] = None
    end_user_id: Annotated[
        str | None, Field(description="Only those of this end user: its id, not externalId."), in_query("end_user_id")
    ] = None


class ListEnvironmentConnections(ConnectionOperation, ListOperation):
    """List the static connections of a project's environments. Those of end users: versori_list_connections."""

    http = GET("/o/{organisation_id}/projects/{project_id}/connections")
    by_default = False
    paging = PAGING
    summary = ListConnections.summary
    example = {"project_id": ULID, "environment_id": ULID}

    project_id: ProjectId
    environment_id: Annotated[str | None, Field(description="Only this environment's."), in_query("env_id")] = None

    def make_query(self) -> dict[str, str | list[str]]:
        """Make the query of the environment alone: the operation documents no page."""
        return {name: value for name, value in super().make_query().items() if name == "env_id"}


class GetConnection(ConnectionOperation):
    """Get one connection. Its credentials' `errors` are Versori's verdict: [] valid, absent not checked."""

    http = GET(CONNECTION)
    effect = Effect.READ
    example = {"connection_id": ULID}

    connection_id: ConnectionId


class CreateConnection(ConnectionOperation):
    """Connect an account to a connection template: static, or of an end user with external_id. Take the auth scheme
    config from versori_list_project_connection_templates."""

    http = POST(CONNECTIONS)
    effect = Effect.CREATE
    repeatable = False
    reports = ("credentials",)
    host_arguments = ("base_url",)
    reads_back = GetConnection
    example = {"connection_template_id": ULID, "name": "acme-production", "credentials": [EXAMPLE_CREDENTIAL]}

    connection_template_id: TemplateId
    name: Annotated[str, Field(min_length=1, description="Name that no other connection has.")]
    credentials: Credentials
    base_url: BaseUrl = None
    external_id: Annotated[
        str | None,
        Field(min_length=1, description="externalId of an end user; left out, the connection is static."),
        ShownBy("versori_list_end_users", ids=("externalId",), search="search"),
    ] = None

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        return tuple(credential_uses(self.credentials, "credentials"))

    def find_destinations(self, situation: Situation) -> tuple[Destination, ...]:
        target = f"connection template {self.connection_template_id}"
        found = credential_destinations(self.credentials, "credentials", self.base_url, target)
        return (*super().find_destinations(situation), *found)

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        return tuple(credential_problems(self.credentials, "credentials"))

    def make_body(self, situation: Situation) -> Any:
        made = ConnectionInput(name=self.name, credentials=self.credentials, base_url=self.base_url)
        body: JsonObject = {
            "connectionTemplateId": self.connection_template_id,
            "connection": connection_body(made, self.organisation_id),
        }
        return body if self.external_id is None else body | {"externalId": self.external_id}

    def find_unproven(self, data: Any) -> str:
        return unproven(data)

    def find_next_step(self, data: Any, situation: Situation) -> str:
        if self.external_id is None:
            return ""
        return "It does nothing before versori_activate_user, with its id as existing_connection_id."


def unproven(connection: Any) -> str:
    """What is known of a connection's credentials after a call that set them."""
    errors = credential_errors(connection)
    if errors:
        return (
            "Versori found the credentials invalid; see data.credentials and correct them: versori_update_connection."
        )
    if errors is None:
        return "Versori has not validated the credentials; versori_get_connection shows when it has."
    return ""


class UpdateConnection(ConnectionOperation, UpdateOperation):
    """Replace a connection's credentials, and change its name or base URL. Versori replaces all credentials and shows
    none: give each again, the unchanged ones too."""

    http = PUT(CONNECTION)
    acts_on = Target("connection", GetConnection, volatile=frozenset({"updatedAt"}))
    strategy = Replace(required=("name", "baseUrl"))
    # What is required and not given is sent again.
    replace: ClassVar[bool] = False
    host_arguments = ("base_url",)
    consequence = (
        "Replaces the credentials of connection {name}; the integrations that use it sign in with the new ones."
    )
    example = {"connection_id": ULID, "credentials": [EXAMPLE_CREDENTIAL]}

    connection_id: ConnectionId
    credentials: Annotated[Credentials, in_body(stored_as=None)]
    name: Annotated[str | None, Field(min_length=1, description="New name, unique.")] = None
    base_url: Annotated[str | None, Field(description='Where its calls go; "" takes the system\'s URL.')] = None

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        return tuple(credential_uses(self.credentials, "credentials"))

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        return tuple(credential_problems(self.credentials, "credentials"))

    def find_destinations(self, situation: Situation) -> tuple[Destination, ...]:
        url = members(situation.current).get("baseUrl") if self.base_url is None else self.base_url
        target, is_stored = f"connection {self.connection_id}", not self.base_url
        found = credential_destinations(self.credentials, "credentials", url, target, is_stored=is_stored)
        return (*super().find_destinations(situation), *found)

    def make_body(self, situation: Situation) -> Any:
        """Make the body, with the ids of the credentials that are replaced. Without a base URL it has an empty one."""
        stored = members(situation.current).get("credentials")
        bodies = credential_bodies(self.credentials, self.organisation_id, stored)
        return {"baseUrl": "", **super().make_body(situation), "credentials": bodies}

    def find_hidden_losses(self, situation: Situation) -> Iterator[Loss]:
        given = {scheme_id(each.auth_scheme_config) for each in self.credentials}
        for each in map(members, items(members(situation.current).get("credentials"))):
            name = scheme_id(each.get("authSchemeConfig"))
            if name not in given:
                yield Loss(f"Drops the credential for auth scheme {name or 'without an id'}")

    def find_unproven(self, data: Any) -> str:
        return unproven(data)


class DeleteConnection(EmptyAnswer, ConnectionOperation):
    """Delete a connection and its credentials for good. A static one goes even while an environment uses it."""

    http = DELETE(CONNECTION)
    by_default = False
    effect = Effect.DESTROY
    acts_on = Target("connection", GetConnection, volatile=frozenset({"updatedAt"}))
    consequence = (
        "Deletes connection {name} with its credentials for good; calls of the environments that use it fail at once."
    )
    example = {"connection_id": ULID}

    connection_id: ConnectionId


class LinkConnectionToEnvironment(EmptyAnswer, ConnectionOperation):
    """Use an existing connection for another connection template too. A new connection needs no link."""

    http = POST(f"{CONNECTION}/link")
    by_default = False
    effect = Effect.UPDATE
    overwrites = True
    repeatable = False
    acts_on = Target("connection", GetConnection, volatile=frozenset({"updatedAt"}))
    consequence = "Has template {connection_template_id} call its system with the credentials of connection {name}."
    example = {"connection_id": ULID, "connection_template_id": ULID}

    connection_id: ConnectionId
    connection_template_id: TemplateId


OPERATIONS = (
    ListConnections,
    ListEnvironmentConnections,
    GetConnection,
    CreateConnection,
    UpdateConnection,
    DeleteConnection,
    LinkConnectionToEnvironment,
)
