"""Versori end users, and their activations: what runs for one customer (facts: works, section 4, traps 4 to 11)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.fields import ShownBy, in_query
from connector_mcp.operations.operation import Effect, ListOperation, Paging, Record, Target, at
from connector_mcp.operations.platform import DELETE, GET, POST
from connector_mcp.operations.situation import ConfigUse, Destination, Situation
from connector_mcp.operations.versori.connections import (
    ConnectionInput,
    connection_body,
    credential_destinations,
    credential_problems,
    credential_uses,
)
from connector_mcp.operations.versori.platform import (
    SHOWN_AS_TEMPLATE,
    ULID,
    EmptyAnswer,
    EnvironmentId,
    PlatformOperation,
    TakesVariables,
    TemplateId,
)

USERS = "/o/{organisation_id}/users"
ACTIVATIONS = "/o/{organisation_id}/environments/{environment_id}/activations"
ACTIVATION = f"{ACTIVATIONS}/{{activation_id}}"

ActivationId = Annotated[str, Field(description="Activation id. See versori_list_activations.")]


class EndUser(Record):
    """An end user: a customer for whom integrations run."""

    id: str | None = None
    external_id: str | None = None
    display_name: str | None = None


class Activation(Record):
    """An end user in an environment, with a connection for each connection template."""

    id: str | None = None
    user: JsonObject | None = None
    environment: JsonObject | None = None
    connections: list[JsonObject] | None = None
    dynamic_variables: JsonObject | None = None


class ListEndUsers(PlatformOperation, ListOperation):
    """List the end users: the customers for whom integrations run."""

    http = GET(USERS)
    toolset = "versori.users"
    output = EndUser
    paging = Paging(items="users", total="totalCount", empty=("users", "totalCount"))
    summary = ("id", "externalId", "displayName", "updatedAt")
    example = {"search": "merchant-42"}

    search: Annotated[str | None, Field(description="Id, externalId or display name.")] = None
    activated: Annotated[bool | None, Field(description="Only those (not) active in environment_id.")] = None
    environment_id: Annotated[
        str | None, Field(description="Environment id, together with activated."), in_query("environment_id")
    ] = None

    def make_query(self) -> dict[str, str | list[str]]:
        """Make the query.

        Raises:
            InvalidArguments: One of `activated` and `environment_id` is given without the other (trap 5).
        """
        if (self.activated is None) != (self.environment_id is None):
            lacking = "activated" if self.activated is None else "environment_id"
            issue = Issue(lacking, "nothing", "activated and environment_id together, or neither")
            raise InvalidArguments(self.tool_name(), [issue])
        return super().make_query()


class CreateEndUser(PlatformOperation):
    """Create an end user: a customer for whom integrations run. Search with versori_list_end_users first."""

    http = POST(USERS)
    toolset = "versori.users"
    by_default = True
    effect = Effect.CREATE
    output = EndUser
    repeatable = False
    next_step = "Nothing runs for this end user before versori_activate_user."
    example = {"external_id": "merchant-42", "display_name": "Merchant 42"}

    external_id: Annotated[
        str, Field(min_length=1, description="Your own unique id; it can never change, so no e-mail address.")
    ]
    display_name: Annotated[str | None, Field(description="Name for people.")] = None


class ActivationOperation(PlatformOperation):
    """Base of the operations on activations."""

    toolset = "versori.activations"
    output = Activation

    environment_id: EnvironmentId


class ListActivations(ActivationOperation, ListOperation):
    """List the activations of an environment: which end users it runs for, with their connections and variables."""

    http = GET(ACTIVATIONS)
    paging = Paging(items="")
    summary = ("id", "user", "dynamicVariables")
    known_by = ("user.externalId", "user.displayName")
    heavy = frozenset({"environment"})
    example = {"environment_id": ULID}


class ListUserActivations(ActivationOperation, ListOperation):
    """List the activations of one end user in an environment, with connections and variables."""

    # The document has `environment` in the singular here (trap 4).
    http = GET("/o/{organisation_id}/environment/{environment_id}/users/{external_user_id}/activations")
    paging = Paging(items="")
    summary = ("id", "user", "connections", "dynamicVariables")
    heavy = frozenset({"environment"})
    example = {"environment_id": ULID, "external_user_id": "merchant-42"}

    external_user_id: Annotated[str, Field(description="externalId of the end user.")]


class GetActivation(ActivationOperation):
    """Get one activation with its connections and dynamic variables; credentials are withheld."""

    http = GET(ACTIVATION)
    effect = Effect.READ
    heavy = frozenset({"environment"})
    example = {"environment_id": ULID, "activation_id": ULID}

    activation_id: ActivationId


def _end_user(_: Any, record: Any) -> str:
    return str(at(record, "user.externalId") or at(record, "id"))


ACTIVATION_TARGET = Target("activation", GetActivation, name=_end_user)


class ActivationConnection(BaseModel):
    """The connection for one connection template."""

    model_config = ConfigDict(extra="forbid", strict=True)

    connection_template_id: TemplateId
    existing_connection_id: Annotated[str | None, Field(description="A connection made before.")] = None
    connection: Annotated[ConnectionInput | None, Field(description="Or a new connection.")] = None


def _present_activations(operation: Any, situation: Situation) -> list[JsonObject]:
    """The activations that the end user has in the environment."""
    stored = map(members, items(situation.current))
    return [each for each in stored if operation.user_id in (at(each, "user.id"), at(each, "user.externalId"))]


class ActivateUser(TakesVariables, ActivationOperation):
    """Run an environment for an end user: one connection for every template of the environment, and every required
    variable. See versori_list_project_connection_templates."""

    http = POST("/o/{organisation_id}/activations")
    by_default = True
    effect = Effect.CREATE
    repeatable = False
    values_in = "dynamic_variables"
    acts_on = Target(
        "activation", ListActivations, name=lambda operation, _: operation.user_id, select=_present_activations
    )
    consequence = "Runs the environment for end user {user_id}, with their accounts at the connected systems."
    heavy = frozenset({"environment"})
    reads_back = GetActivation
    example = {
        "user_id": "merchant-42",
        "environment_id": ULID,
        "connections": [{"connection_template_id": ULID, "existing_connection_id": ULID}],
        "dynamic_variables": {"channel_id": "aboutyou"},
    }

    user_id: Annotated[
        str,
        Field(min_length=1, description="externalId (or id) of the end user."),
        ShownBy("versori_list_end_users", ids=("id", "externalId"), search="search"),
    ]
    connections: Annotated[
        list[ActivationConnection],
        Field(description="One for every template."),
        replace(SHOWN_AS_TEMPLATE, member="connection_template_id"),
        ShownBy("versori_get_connection", member="existing_connection_id"),
    ]
    dynamic_variables: Annotated[JsonObject | None, Field(description="Value by name, as declared.")] = None

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        return tuple(
            use for path, made, _ in self._new_connections() for use in credential_uses(made.credentials, path)
        )

    def find_destinations(self, situation: Situation) -> tuple[Destination, ...]:
        """The hosts that the credentials of each new connection go to."""
        found = [*super().find_destinations(situation)]
        for path, made, template in self._new_connections():
            found += credential_destinations(made.credentials, path, made.base_url, f"connection template {template}")
        return tuple(found)

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        """Find an end user who is active already, and templates without exactly one connection."""
        issues = [*self._find_connection_problems()]
        for path, made, _ in self._new_connections():
            issues += credential_problems(made.credentials, path)
        if items(situation.current):
            wanted = "another end user, or versori_set_dynamic_variables to change the present activation"
            issues.append(Issue("user_id", "an end user who is active in the environment already", wanted))
        return tuple(issues)

    def make_body(self, situation: Situation) -> Any:
        parts: list[JsonObject] = []
        for each in self.connections:
            part: JsonObject = {"existingConnectionId": each.existing_connection_id}
            if each.connection is not None:
                part = {"connection": connection_body(each.connection, self.organisation_id)}
            parts.append({"connectionTemplateId": each.connection_template_id} | part)
        return dict(self.given("body")) | {"connections": parts}

    def find_missing(self, shown: Any) -> list[str]:
        count = len(self.connections) - len(items(at(shown, "connections")))
        stored = members(at(shown, "dynamicVariables"))
        missing = [f"variable {name}" for name in self.dynamic_variables or () if name not in stored]
        return [*([f"{count} of {len(self.connections)} connections"] if count > 0 else []), *missing]

    def _new_connections(self) -> Iterator[tuple[str, ConnectionInput, str]]:
        """The new connections: the path of its credentials before each, the id of its template after it."""
        for index, each in enumerate(self.connections):
            if each.connection is not None:
                yield f"connections[{index}].connection.credentials", each.connection, each.connection_template_id

    def _find_connection_problems(self) -> Iterator[Issue]:
        seen = set[str]()
        for index, each in enumerate(self.connections):
            path = f"connections[{index}]"
            if (each.connection is None) == (each.existing_connection_id is None):
                got = "neither" if each.connection is None else "both"
                yield Issue(path, f"{got} of the two", "existing_connection_id or connection")
            if each.connection_template_id in seen:
                yield Issue(f"{path}.connection_template_id", "a template twice", "each template once")
            seen.add(each.connection_template_id)


class DeleteActivation(EmptyAnswer, ActivationOperation):
    """Stop an environment for an end user. The end user and the connections stay; the variables are lost."""

    http = DELETE(ACTIVATION)
    effect = Effect.DESTROY
    acts_on = ACTIVATION_TARGET
    consequence = (
        "Stops the environment for end user {name} and drops their dynamic variables. "
        "The end user and their connections stay."
    )
    example = {"environment_id": ULID, "activation_id": ULID}

    activation_id: ActivationId


OPERATIONS = (
    ListEndUsers,
    CreateEndUser,
    ListActivations,
    ListUserActivations,
    GetActivation,
    ActivateUser,
    DeleteActivation,
)
