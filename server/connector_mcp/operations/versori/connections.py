"""Versori connections: an account at a system, static or of one end user (facts: section 5, traps 14 to 19).

A credential is what a connection brings for an auth scheme of its system. It is a config of the type that
describe_connector_type lists as `credential-…`, and is checked as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, is_array, items, members
from connector_mcp.operations.connector_types import connector_type, connector_types
from connector_mcp.operations.fields import ShownBy, in_body, in_query
from connector_mcp.operations.hosts import hosts_in
from connector_mcp.operations.operation import Effect, ListOperation, Record, Target, at
from connector_mcp.operations.platform import DELETE, GET, POST, PUT
from connector_mcp.operations.situation import ConfigUse, Destination, Loss, Situation
from connector_mcp.operations.update import Replace, UpdateOperation
from connector_mcp.operations.versori.auth_schemes import V2
from connector_mcp.operations.versori.platform import (
    EXAMPLE_SCHEME,
    PAGING,
    ULID,
    VERSORI,
    EmptyAnswer,
    PlatformOperation,
    ProjectId,
    TemplateId,
)

CONNECTIONS = "/o/{organisation_id}/connections"
CONNECTION = f"{CONNECTIONS}/{{connection_id}}"
CREDENTIAL = "credential-"
NO_ID = "0" * 26
"""Stands for the id of a credential that does not exist yet: Versori requires one."""

_FITTING: dict[str, tuple[str, ...]] = {
    "none": ("none",),
    "api-key": ("string",),
    "basic-auth": ("basic-auth",),
    "certificate": ("certificate",),
    "oauth1": ("oauth1", "oauth1-token"),
    "clientCredentials": ("oauth2-client",),
    "password": ("oauth2-password",),
    "authorizationCode": ("oauth2-code", "oauth2-token"),
}
"""The credential types that fit a type of auth scheme or, of OAuth 2.0, a grant."""
EXAMPLE_CREDENTIAL: JsonObject = {"auth_scheme_config": EXAMPLE_SCHEME, "type": "string", "data": {"value": "<value>"}}

ConnectionId = Annotated[str, Field(description="Connection id. See versori_list_connections.")]
BaseUrl = Annotated[str | None, Field(description="Where its calls go, if not to the system's URL.")]


class Connection(Record):
    """A connection; the data of its credentials is withheld."""

    id: str | None = None
    name: str | None = None
    base_url: str | None = None
    system_id: str | None = None
    connection_template_id: str | None = None
    credentials: list[JsonObject] | None = None
    updated_at: str | None = None


class CredentialInput(BaseModel):
    """A credential, and the auth scheme config that says how it is used."""

    model_config = ConfigDict(extra="forbid", strict=True)

    auth_scheme_config: Annotated[JsonObject, Field(description="One of the template's, whole.")]
    type: Annotated[str, Field(description="Credential type: string for api-key, basic-auth, oauth2-client…")]
    data: Annotated[JsonObject, Field(description="Keys of connector type credential-TYPE.")]


Credentials = Annotated[list[CredentialInput], Field(min_length=1, description="What it signs in with, usually one.")]


class ConnectionInput(BaseModel):
    """A connection to make."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, description="Name that no other connection has.")]
    credentials: Credentials
    base_url: BaseUrl = None


def credential_uses(credentials: Sequence[CredentialInput], path: str) -> Iterator[ConfigUse]:
    """The configs of credentials, with their places."""
    for index, each in enumerate(credentials):
        yield V2.use(each.auth_scheme_config, f"{path}[{index}].auth_scheme_config")
        kind = f"{CREDENTIAL}{each.type}"
        yield ConfigUse(f"{path}[{index}].data", kind, connector_type(VERSORI.name, kind), each.data)


def credential_destinations(
    credentials: Sequence[CredentialInput], path: str, base_url: str | None, target: str, *, is_stored: bool = False
) -> Iterator[Destination]:
    """Where the credentials go: to the hosts of their auth schemes, and to that of the connection's base URL.

    Without a base URL that is the host of its system, which `target` leads to and no argument shows. It counts as
    chosen by the caller, as does a base URL, unless it `is_stored`.
    """
    for index, each in enumerate(credentials):
        for host in hosts_in(each.auth_scheme_config):
            yield Destination(host, f"{path}[{index}]")
    named = [*hosts_in(base_url, "host")]
    for host in named or [f"the host of {target}"]:
        yield Destination(host, path, is_chosen=not is_stored)


def credential_problems(credentials: Sequence[CredentialInput], path: str) -> Iterator[Issue]:
    """Find unknown auth schemes, and credentials that do not fit theirs."""
    for index, each in enumerate(credentials):
        yield from V2.find_unknown_type(each.auth_scheme_config, f"{path}[{index}].auth_scheme_config")
        kind = each.auth_scheme_config.get("type")
        grant = V2.grant(each.auth_scheme_config)
        fitting = _FITTING.get(str(at(grant, "type") if kind == "oauth2" else kind))
        known = [name.removeprefix(CREDENTIAL) for name in connector_types(VERSORI.name) if name.startswith(CREDENTIAL)]
        if each.type not in (fitting or known):
            got = "one that does not fit the auth scheme" if each.type in known else "an unknown credential type"
            yield Issue(f"{path}[{index}].type", got, f"one of {', '.join(fitting or known)}", (fitting or known)[0])


def credential_bodies(
    credentials: Sequence[CredentialInput], organisation_id: str, stored: Any = None
) -> list[JsonObject]:
    """The credentials as Versori takes them, each with the ids of the stored one for the same auth scheme."""
    known = {V2.identify(each.get("authSchemeConfig")): each for each in map(members, items(stored))}
    bodies: list[JsonObject] = []
    for each in credentials:
        held = known.get(V2.identify(each.auth_scheme_config), {})
        kind = connector_type(VERSORI.name, f"{CREDENTIAL}{each.type}")
        credential = {"id": at(held, "credential.id") or NO_ID, "organisationId": organisation_id, "type": each.type}
        if kind is not None and each.type != "none":
            credential["data"] = {kind.traits["field"]: each.data}
        ids = {"id": held.get("id") or NO_ID, "authSchemeConfig": each.auth_scheme_config}
        bodies.append(ids | {"credential": credential})
    return bodies


def connection_body(connection: ConnectionInput, organisation_id: str) -> JsonObject:
    """A new connection as Versori takes it."""
    bodies = credential_bodies(connection.credentials, organisation_id)
    body: JsonObject = {"name": connection.name, "credentials": bodies}
    return body if connection.base_url is None else body | {"baseUrl": connection.base_url}


def credential_errors(connection: Any) -> list[str] | None:
    """What Versori found wrong with a connection's credentials: empty if it found all valid, None if it did not look.

    The texts come from Versori and from the systems that it calls.
    """
    verdicts = [at(each, "credential.errors") for each in items(at(connection, "credentials"))]
    found = [str(error) for errors in verdicts for error in items(errors)]
    return found if found or (verdicts and all(map(is_array, verdicts))) else None


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


CONNECTION_TARGET = Target("connection", GetConnection, volatile=frozenset({"updatedAt"}))


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
    acts_on = CONNECTION_TARGET
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
        given = {V2.identify(each.auth_scheme_config) for each in self.credentials}
        for each in map(members, items(members(situation.current).get("credentials"))):
            name = V2.identify(each.get("authSchemeConfig"))
            if name not in given:
                yield Loss(f"Drops the credential for auth scheme {name or 'without an id'}")

    def find_unproven(self, data: Any) -> str:
        return unproven(data)


class DeleteConnection(EmptyAnswer, ConnectionOperation):
    """Delete a connection and its credentials for good. A static one goes even while an environment uses it."""

    http = DELETE(CONNECTION)
    by_default = False
    effect = Effect.DESTROY
    acts_on = CONNECTION_TARGET
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
    acts_on = CONNECTION_TARGET
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
