"""Versori's dynamic variables: what a project declares, and the values of an end user (facts: works, traps 7 to 9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, is_object, items, members, same_json
from connector_mcp.operations.connector_types import connector_type
from connector_mcp.operations.fields import in_body
from connector_mcp.operations.operation import Effect, Operation, Record, StoredConfig, Target, at
from connector_mcp.operations.platform import GET, PATCH, PUT
from connector_mcp.operations.situation import ConfigUse, Loss, Path, Situation
from connector_mcp.operations.update import Merge, UpdateOperation, without_vacant
from connector_mcp.operations.versori.activations import ACTIVATION, ACTIVATION_TARGET, ActivationId
from connector_mcp.operations.versori.platform import (
    ULID,
    VERSORI,
    EnvironmentId,
    PlatformOperation,
    ProjectId,
    TakesVariables,
)

SCHEMA = "/o/{organisation_id}/projects/{project_id}/variables"
SCHEMA_TYPE = "variables-schema"


class VariablesSchema(Record):
    """What a project declares; `variables` is a JSON Schema."""

    kind: str | None = None
    variables: JsonObject | None = None


class Variables(Record):
    """All dynamic variables after a change."""

    dynamic_variables: JsonObject | None = None


class WholeBody(Operation):
    """Base of the operations that send one argument as the whole body."""

    def make_body(self, situation: Situation) -> Any:
        ((_, body),) = self.given("body")
        return body


class SchemaOperation(PlatformOperation):
    """Base of the operations on a project's declarations of variables."""

    toolset = "versori.variables"
    output = VariablesSchema
    stored_config = StoredConfig(at="variables", type_at="kind")

    project_id: ProjectId

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """Give the schema its place beside its kind. Versori answers null where nothing is declared."""
        schema: Any = answers[0]
        if self.effect is Effect.READ and (schema is None or schema == {}):
            schema = {"type": "object", "properties": {}}
        if at(schema, "type") != "object" and not is_object(at(schema, "properties")):
            return None if schema is None else {}
        return {"kind": SCHEMA_TYPE, "variables": schema}


class GetProjectVariablesSchema(SchemaOperation):
    """Get the JSON Schema of the variables that a project's activations may hold, and must where it requires them."""

    http = GET(SCHEMA)
    by_default = True
    effect = Effect.READ
    example = {"project_id": ULID}


class SetProjectVariablesSchema(WholeBody, SchemaOperation, UpdateOperation):
    """Declare the variables that activations may hold. It replaces all declarations: get them, change them, and set the
    whole schema. Values that are stored stay."""

    http = PUT(SCHEMA)
    acts_on = Target("variables schema", GetProjectVariablesSchema, name=lambda operation, _: operation.project_id)
    strategy = Merge()
    consequence = (
        "Replaces the declarations of variables of project {project_id}. An activation without a variable that is "
        "required from now on is refused; present ones stay."
    )
    example = {
        "project_id": ULID,
        "variables": {"type": "object", "properties": {"channel_id": {"type": "string"}}, "required": ["channel_id"]},
    }

    variables: Annotated[JsonObject, Field(description="Whole JSON Schema; keys of connector type variables-schema.")]

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        kind = connector_type(VERSORI.name, SCHEMA_TYPE)
        return (ConfigUse("variables", SCHEMA_TYPE, kind, self.variables),)

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        """Find a required variable that is not declared: no activation could ever have it."""
        declared = members(self.variables.get("properties"))
        missing = [name for name in items(self.variables.get("required")) if name not in declared]
        wanted = f"declared names: {', '.join(declared) or 'there is none'}"
        return (Issue("variables.required", "a name without a declaration", wanted),) if missing else ()

    def describe_loss(self, path: Path, before: Any, *, overwritten: bool) -> Loss:
        match path:
            case ("variables", "properties"):
                return Loss("Removes the declarations of all variables", path, before)
            case ("variables", "properties", name):
                return Loss(f"Removes the declaration of variable {name}", path, before)
            case _:
                return super().describe_loss(path, before, overwritten=overwritten)


class VariablesOperation(TakesVariables, WholeBody, PlatformOperation):
    """Base of the operations on values of variables."""

    toolset = "versori.variables"
    output = Variables

    environment_id: EnvironmentId

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        """Find nulls: no variable can be removed, and what Versori stores for a null is not documented."""
        values, wanted = self.new_values(), "a value: a variable cannot be removed"
        if not values:
            return (Issue("variables", "nothing to set", "at least one variable"),)
        return tuple(Issue(f"variables.{name}", "null", wanted) for name, value in values.items() if value is None)

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """Take the variables out of the answer. It holds all of them, so those that were set must be among them."""
        stored = members(answers[0])
        return {"dynamicVariables": stored} if self.new_values().keys() <= stored.keys() else {}


class ValuesUpdate(VariablesOperation, UpdateOperation):
    """Base of the updates of an activation's dynamic variables: each name that is given is overwritten as a whole."""

    acts_on = ACTIVATION_TARGET
    strategy = Merge()
    consequence = "Changes variables of end user {name}; the integration uses the new values at once."

    def given_members(self) -> JsonObject:
        return {"dynamicVariables": self.new_values()}

    def after(self, current: JsonObject) -> JsonObject:
        """The record with the new values, but for their empty members, which count as unset in every read."""
        given = self.new_values()
        kept = {name: value for name, value in members(current.get("dynamicVariables")).items() if name not in given}
        new = {name: stored for name, value in given.items() if (stored := without_vacant(value)) is not None}
        return {**current, "dynamicVariables": kept | new}


class SetDynamicVariables(ValuesUpdate):
    """Set variables of an end user's activation; names that are not given keep their values. Only declared names are
    taken: versori_get_project_variables_schema."""

    http = PATCH(f"{ACTIVATION}/variables")
    example = {"environment_id": ULID, "activation_id": ULID, "variables": {"channel_id": "other"}}

    activation_id: ActivationId
    variables: Annotated[JsonObject, Field(description="Value by name."), in_body(stored_as="dynamicVariables")]


class SetDynamicVariable(ValuesUpdate):
    """Set one variable of an end user's activation. It must be declared: versori_get_project_variables_schema."""

    http = PUT(f"{ACTIVATION}/variables/{{variable_name}}")
    example = {
        "environment_id": ULID,
        "activation_id": ULID,
        "variable_name": "channel_id",
        "value": {"value": "other"},
    }

    values_in = "value"

    activation_id: ActivationId
    variable_name: Annotated[str, Field(description="Name of the variable.")]
    value: Annotated[
        JsonObject,
        Field(description='{"value": X}; X is any JSON value but null.'),
        in_body(stored_as="dynamicVariables"),
    ]

    def new_values(self) -> JsonObject:
        return {self.variable_name: self.value.get("value")}

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        if self.value.keys() != {"value"}:
            return (Issue("value", "an object with other keys", 'an object with the key "value" alone'),)
        return super().find_problems(situation)


class SetStaticUserVariables(VariablesOperation):
    """Set variables of an environment's static user, for its static connections. Names that are not given keep their
    values; no read shows them."""

    http = PATCH("/o/{organisation_id}/environments/{environment_id}/variables")
    effect = Effect.UPDATE
    overwrites = True
    consequence = "Changes variables of the environment's static user; the integration uses the new values at once."
    example = {"environment_id": ULID, "variables": {"channel_id": "other"}}

    variables: Annotated[JsonObject, Field(description="Value by name.")]

    def find_missing(self, shown: Any) -> list[str]:
        """The variables that have another value than was sent; what a reference stands for is not known here."""
        stored = members(at(shown, "dynamicVariables"))
        plain = {name: value for name, value in self.variables.items() if "secret://" not in str(value)}
        return [f"the new value of {name}" for name, value in plain.items() if not same_json(stored.get(name), value)]


OPERATIONS = (
    GetProjectVariablesSchema,
    SetProjectVariablesSchema,
    SetDynamicVariables,
    SetDynamicVariable,
    SetStaticUserVariables,
)
