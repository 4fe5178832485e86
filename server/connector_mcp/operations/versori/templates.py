"""Versori connection templates: which systems a project's environment may call (facts: works, traps 3, 14, 15)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.fields import LOCAL_ONLY, in_body, in_query
from connector_mcp.operations.operation import Effect, ListOperation, Paging, Record, Target, at
from connector_mcp.operations.platform import DELETE, GET, POST, PUT
from connector_mcp.operations.situation import Loss, Situation
from connector_mcp.operations.update import Merge, UpdateOperation
from connector_mcp.operations.versori.auth_schemes import V2
from connector_mcp.operations.versori.platform import (
    ULID,
    EmptyAnswer,
    EnvironmentId,
    FoundRecord,
    PlatformOperation,
    ProjectId,
    SystemId,
    TemplateId,
    pick,
)

TEMPLATES = "/o/{organisation_id}/projects/{project_id}/connection-templates"
TEMPLATE = f"{TEMPLATES}/{{template_id}}"


class ConnectionTemplate(Record):
    """A connection template. `id` is the system; `connectionTemplateId` is the template."""

    id: str | None = None
    connection_template_id: str | None = None
    name: str | None = None
    dynamic: bool | None = None
    template_base_url: str | None = None
    auth_scheme_configs: list[JsonObject] | None = None


class StoredTemplate(FoundRecord):
    """A connection template of a project."""

    connection_template_id: str | None = None


class TemplateOperation(PlatformOperation):
    """Base of the operations on connection templates."""

    toolset = "versori.connections"
    output = ConnectionTemplate

    project_id: ProjectId


class ListProjectConnectionTemplates(TemplateOperation, ListOperation):
    """List the connection templates of a project: the systems that its code calls. Each needs a connection, static or
    one per activated end user (dynamic)."""

    http = GET(TEMPLATES)
    by_default = True
    paging = Paging(items="items", total="totalCount", empty=("items", "totalCount"))
    summary = ("connectionTemplateId", "id", "name", "dynamic", "templateBaseUrl", "authSchemeConfigs")
    example = {"project_id": ULID, "environment_id": ULID}

    environment_id: Annotated[str | None, Field(description="Only this environment's."), in_query("env_id")] = None


class CreateConnectionTemplate(TemplateOperation):
    """Let a project's environment call a system: code names it by `name`. Then connect it: a static template needs
    versori_create_connection before the next deployment, a dynamic one activated end users."""

    http = POST(TEMPLATES)
    by_default = True
    effect = Effect.CREATE
    repeatable = False
    example = {"project_id": ULID, "system_id": ULID, "name": "acme", "environment_id": ULID, "dynamic": False}

    system_id: SystemId
    name: Annotated[str, Field(min_length=1, description="What code calls it.")]
    environment_id: EnvironmentId
    dynamic: Annotated[bool | None, Field(description="true: one connection per end user; false: one static.")] = None

    def find_next_step(self, data: Any, situation: Situation) -> str:
        if at(data, "dynamic"):
            return "It does nothing before versori_activate_user, with a connection for its connectionTemplateId."
        return "It has no connection yet: versori_create_connection with its connectionTemplateId."


class ReadTemplate(TemplateOperation):
    """Read one connection template out of the list of its project."""

    http = GET(TEMPLATES)
    effect = Effect.READ
    output = StoredTemplate
    part_of = ListProjectConnectionTemplates.tool_name()

    template_id: Annotated[str, LOCAL_ONLY]

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        return pick(at(answers[0], "items"), "connectionTemplateId", self.template_id)


class TemplateChange(TemplateOperation):
    """Base of the operations that change or delete one connection template."""

    acts_on = Target("connection template", ReadTemplate)

    template_id: TemplateId

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        if situation.current is None or at(situation.current, "found"):
            return ()
        got = "an id that no template of the project has"
        return (Issue("template_id", got, "a connectionTemplateId of versori_list_project_connection_templates"),)


class UpdateConnectionTemplate(TemplateChange, UpdateOperation):
    """Rename a connection template, choose its auth schemes, or switch between static and dynamic connections."""

    http = PUT(TEMPLATE)
    strategy = Merge()
    consequence = "Changes connection template {name}; deployed code that calls it by another name fails."
    example = {"project_id": ULID, "template_id": ULID, "dynamic": True}

    name: Annotated[str | None, Field(min_length=1, description="What code calls it.")] = None
    dynamic: Annotated[bool | None, Field(description="true: one connection per end user; false: one static.")] = None
    auth_scheme_config_ids: Annotated[
        list[str] | None, Field(description="All ids, in order."), in_body(stored_as=None)
    ] = None

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        issues = super().find_problems(situation)
        if dict(self.given("body")):
            return issues
        return (*issues, Issue("arguments", "nothing to change", "name, dynamic or auth_scheme_config_ids"))

    def describe_effect(self, situation: Situation) -> str:
        """The consequence of a new name, and that of another kind of connection."""
        effects = list[str]()
        if self.name not in (None, at(situation.current, "name")):
            effects.append("; deployed code that calls it by another name fails")
        if self.dynamic not in (None, at(situation.current, "dynamic")):
            kind = "one connection per activated end user" if self.dynamic else "one static connection"
            effects.append(f"; it takes {kind} from now on, and its present connections no longer count")
        return f"Changes connection template {{name}}{''.join(effects)}."

    def find_hidden_losses(self, situation: Situation) -> Iterator[Loss]:
        if self.auth_scheme_config_ids is None:
            return
        for config in map(members, items(at(situation.current, "authSchemeConfigs"))):
            if V2.identify(config) not in self.auth_scheme_config_ids:
                yield Loss(f"Drops auth scheme {V2.identify(config)} from the template")


class DeleteConnectionTemplate(EmptyAnswer, TemplateChange):
    """Remove a system from a project's environment. The system itself stays."""

    http = DELETE(TEMPLATE)
    effect = Effect.DESTROY
    consequence = (
        "Removes connection template {name} from the project: code that calls it fails, and its connections are no "
        "longer used. The system itself stays."
    )
    example = {"project_id": ULID, "template_id": ULID}


OPERATIONS = (
    ListProjectConnectionTemplates,
    CreateConnectionTemplate,
    UpdateConnectionTemplate,
    DeleteConnectionTemplate,
)
