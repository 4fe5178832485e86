"""What a manifest can describe on Versori: systems, connection templates, connections, end users and activations.

Projects and their environments are only named: code is brought into them elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from connector_mcp.json_values import JsonObject, is_object, items, members
from connector_mcp.operations.connector_types import connector_type
from connector_mcp.operations.operation import at
from connector_mcp.operations.provisioning.kinds import Changes, Entry, Kind, NamedEntry, ToolCall, keyed
from connector_mcp.operations.versori import activations, connections, systems, templates
from connector_mcp.operations.versori.auth_schemes import V2
from connector_mcp.operations.versori.connections import CREDENTIAL
from connector_mcp.operations.versori.projects import ListProjects
from connector_mcp.operations.versori.variables import SetDynamicVariables

_STORED_BY_VERSORI = frozenset({"credentialId", "organisationId"})
"""Where Versori keeps the client credential of an auth scheme."""

Environment = Annotated[str, Field(description="Id of the environment, such as ${environments.production.id}.")]


def _secrets_of(kind: str) -> tuple[str, ...]:
    known = connector_type("versori", kind)
    return known.secret_paths if known else ()


class ProjectEntry(NamedEntry):
    """A project, which must be there."""


class Projects(Kind):
    """Projects, which are only named."""

    section, platform, noun = "projects", "versori", "project"
    entry = ProjectEntry
    lists_all = ListProjects
    shown: ClassVar = {"name": "name"}


class EnvironmentEntry(NamedEntry):
    """An environment of a project, which must be there."""

    project: Annotated[str, Field(description="Id of the project, such as ${projects.orders.id}.")]


class Environments(Kind):
    """Environments of projects, which are only named."""

    section, platform, noun, check = "environments", "versori", "environment", "environment"
    entry = EnvironmentEntry
    lists_all = ListProjects
    shown: ClassVar = {"name": "name"}
    parents = ("project",)
    refers: ClassVar = {"project": "projects"}

    def rows(self, data: Any, within: str) -> list[JsonObject]:
        projects = [members(each) for each in items(data) if at(each, "id") == within]
        return [members(each) for project in projects for each in items(project.get("environments"))]


class SystemEntry(NamedEntry):
    """A system: an API, and how it is signed in to."""

    domain: Annotated[str, Field(description="Website of the system.")]
    base_url: Annotated[str, Field(description="Where calls to it go.")]
    auth_schemes: Annotated[
        dict[str, JsonObject] | None, Field(description="Whole auth scheme configs, each by its id.")
    ] = None


class Systems(Kind):
    """Systems."""

    section, platform, noun, check = "systems", "versori", "system", "system"
    entry = SystemEntry
    lists_all = systems.ListSystems
    creation = systems.CreateSystem
    shown: ClassVar = {"name": "name", "domain": "domain", "base_url": "templateBaseUrl"}
    deletion = systems.DeleteSystem
    argument_names: ClassVar = {"template_base_url": "base_url", "auth_scheme_configs": "auth_schemes"}

    def observe(self, record: JsonObject, within: str) -> JsonObject:
        schemes = {V2.identify(each): _without_ids(each) for each in items(record.get("authSchemeConfigs"))}
        return super().observe(record, within) | {"auth_schemes": schemes}

    def create(self, entry: JsonObject) -> ToolCall | None:
        schemes = list(members(entry.get("auth_schemes")).values())
        return super().create(entry | {"auth_schemes": schemes or None})

    def update(self, identifier: str, within: str, entry: JsonObject, changes: Changes) -> tuple[ToolCall, ...]:
        own = {path[0]: entry[path[0]] for path in changes if path[0] in ("name", "domain", "base_url")}
        calls = [self.call(systems.UpdateSystem, own | {"system_id": identifier})] if own else []
        for scheme in dict.fromkeys(path[1] for path in changes if path[0] == "auth_schemes" and len(path) > 1):
            config = entry["auth_schemes"][scheme]
            arguments = {"system_id": identifier, "auth_scheme_config_id": scheme, "config": config}
            calls.append(ToolCall(systems.UpsertAuthSchemeConfig, arguments))
        return tuple(calls)

    def secret_members(self, entry: JsonObject) -> Sequence[str]:
        schemes = members(entry.get("auth_schemes"))
        return [
            f"auth_schemes.{name}.{path}"
            for name, scheme in schemes.items()
            for path in _secrets_of(f"{V2.prefix}{at(scheme, 'type')}")
        ]


def _without_ids(value: Any) -> Any:
    """An auth scheme config without what Versori stored for it, and without blanked members."""
    if not is_object(value):
        return value
    return {key: _without_ids(each) for key, each in value.items() if key not in _STORED_BY_VERSORI and each != ""}


class TemplateEntry(NamedEntry):
    """A connection template: a system that an environment of a project may call."""

    project: Annotated[str, Field(description="Id of the project, such as ${projects.orders.id}.")]
    environment: Environment
    system: Annotated[str, Field(description="Id of the system, such as ${systems.erp.id}.")]
    dynamic: Annotated[bool | None, Field(description="true: one connection per end user.")] = None


class ConnectionTemplates(Kind):
    """Connection templates."""

    section, platform, noun = "connection_templates", "versori", "connection template"
    entry = TemplateEntry
    lists_all = templates.ListProjectConnectionTemplates
    creation = templates.CreateConnectionTemplate
    shown: ClassVar = {"name": "name", "system": "id", "dynamic": "dynamic"}
    deletion = templates.DeleteConnectionTemplate
    parents = ("project", "environment")
    fixed = frozenset({"project", "environment", "system"})
    is_unique = True
    refers: ClassVar = {"project": "projects", "environment": "environments", "system": "systems"}
    argument_names: ClassVar = {"project_id": "project", "environment_id": "environment", "system_id": "system"}

    def identify(self, record: JsonObject) -> str:
        return str(record.get("connectionTemplateId"))

    def update(self, identifier: str, within: str, entry: JsonObject, changes: Changes) -> tuple[ToolCall, ...]:
        # A template that does not say otherwise is static.
        arguments = {path[0]: value or False for path, value in changes.items() if path[0] in ("name", "dynamic")}
        place = {"project_id": within.partition("/")[0], "template_id": identifier}
        return (ToolCall(templates.UpdateConnectionTemplate, place | arguments),) if arguments else ()


class CredentialEntry(BaseModel):
    """A credential of a connection."""

    model_config = ConfigDict(extra="forbid", strict=True)

    auth_scheme_config: Annotated[JsonObject, Field(description="An auth scheme config of the system, whole.")]
    type: Annotated[str, Field(description="Credential type: string for api-key, basic-auth, oauth2-client…")]
    data: Annotated[JsonObject, Field(description="Keys of connector type credential-TYPE; secrets as secret://NAME.")]


class ConnectionEntry(NamedEntry):
    """A connection: an account at a system, static or of an end user."""

    template: Annotated[str, Field(description="Id of the template, such as ${connection_templates.erp.id}.")]
    credentials: Annotated[list[CredentialEntry], Field(min_length=1, description="What it signs in with.")]
    base_url: Annotated[str | None, Field(description="Where its calls go, if not to the system's URL.")] = None
    user: Annotated[str | None, Field(description="externalId of an end user; left out, it is static.")] = None


class Connections(Kind):
    """Connections."""

    section, platform, noun, check = "connections", "versori", "connection", "connection"
    entry = ConnectionEntry
    lists_all = connections.ListConnections
    creation = connections.CreateConnection
    shown: ClassVar = {"name": "name", "template": "connectionTemplateId"}
    deletion = connections.DeleteConnection
    fixed = frozenset({"template"})
    is_unique = True
    hidden = frozenset({"credentials.data"})
    refers: ClassVar = {"template": "connection_templates"}
    argument_names: ClassVar = {"connection_template_id": "template", "external_id": "user"}

    def observe(self, record: JsonObject, within: str) -> JsonObject:
        credentials: list[JsonObject] = []
        for each in items(record.get("credentials")):
            scheme = _without_ids(at(each, "authSchemeConfig"))
            credentials.append({"auth_scheme_config": scheme, "type": at(each, "credential.type"), "data": {}})
        observed = super().observe(record, within)
        return observed | {"base_url": record.get("baseUrl") or None, "credentials": credentials}

    def update(self, identifier: str, within: str, entry: JsonObject, changes: Changes) -> tuple[ToolCall, ...]:
        arguments = {"connection_id": identifier, "credentials": entry["credentials"]}
        # An empty base URL stands for the system's.
        named = {path[0]: value or "" for path, value in changes.items() if path[0] in ("name", "base_url")}
        return (ToolCall(connections.UpdateConnection, arguments | named),)

    def secret_members(self, entry: JsonObject) -> Sequence[str]:
        kinds = {str(at(each, "type")) for each in items(entry.get("credentials"))}
        return [f"credentials.data.{path}" for kind in kinds for path in _secrets_of(f"{CREDENTIAL}{kind}")]

    def lacking(self, entry: JsonObject) -> list[tuple[str | int, ...]]:
        return [
            ("credentials", index, "data", path)
            for index, each in enumerate(items(entry.get("credentials")))
            for path in _secrets_of(f"{CREDENTIAL}{at(each, 'type')}")
        ]


class EndUserEntry(Entry):
    """An end user: a customer for whom integrations run."""

    user: Annotated[str, Field(min_length=1, description="externalId: your own unique id of the customer.")]
    display_name: Annotated[str | None, Field(description="Name for people.")] = None


class EndUsers(Kind):
    """End users. They can be created here, and neither changed nor deleted."""

    section, platform, noun = "end_users", "versori", "end user"
    entry = EndUserEntry
    lists_all = activations.ListEndUsers
    creation = activations.CreateEndUser
    shown: ClassVar = {"user": "externalId", "display_name": "displayName"}
    known_by = "externalId"
    key_member = "user"
    argument_names: ClassVar = {"external_id": "user"}


class BoundConnection(BaseModel):
    """The connection for one connection template."""

    model_config = ConfigDict(extra="forbid", strict=True)

    template: Annotated[str, Field(description="Id of the template, such as ${connection_templates.shop.id}.")]
    connection: Annotated[str, Field(description="Id of the connection, such as ${connections.shop.id}.")]


class ActivationEntry(Entry):
    """An environment that runs for an end user."""

    environment: Environment
    user: Annotated[str, Field(description="externalId of the end user, such as ${end_users.merchant.user}.")]
    connections: Annotated[list[BoundConnection], Field(description="One for every template of the environment.")]
    variables: Annotated[JsonObject | None, Field(description="Value by name, as declared.")] = None


class Activations(Kind):
    """Activations."""

    section, platform, noun, check = "activations", "versori", "activation", "activation"
    entry = ActivationEntry
    lists_all = activations.ListActivations
    creation = activations.ActivateUser
    shown: ClassVar = {"user": "user.externalId", "variables": "dynamicVariables"}
    deletion = activations.DeleteActivation
    known_by = "user.externalId"
    key_member = "user"
    parents = ("environment",)
    fixed = frozenset({"environment", "user", "connections"})
    is_unique = True
    lists: ClassVar = {"connections": keyed("template")}
    refers: ClassVar = {
        "environment": "environments",
        "connections.template": "connection_templates",
        "connections.connection": "connections",
    }
    argument_names: ClassVar = {"environment_id": "environment", "user_id": "user", "dynamic_variables": "variables"}

    def observe(self, record: JsonObject, within: str) -> JsonObject:
        bound = [
            {"template": at(each, "connectionTemplateId"), "connection": at(each, "id")}
            for each in items(record.get("connections"))
        ]
        return super().observe(record, within) | {"connections": bound}

    def create(self, entry: JsonObject) -> ToolCall | None:
        bound = [
            {"connection_template_id": each["template"], "existing_connection_id": each["connection"]}
            for each in entry["connections"]
        ]
        return super().create(entry | {"connections": bound})

    def update(self, identifier: str, within: str, entry: JsonObject, changes: Changes) -> tuple[ToolCall, ...]:
        changed = {path[1]: entry["variables"][path[1]] for path in changes if path[0] == "variables" and path[1:]}
        place = {"environment_id": within, "activation_id": identifier}
        return (ToolCall(SetDynamicVariables, place | {"variables": changed}),) if changed else ()


KINDS = (Projects, Environments, Systems, ConnectionTemplates, Connections, EndUsers, Activations)
