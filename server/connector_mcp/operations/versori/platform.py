"""Versori: its two APIs, how they report errors, and what their operations share (facts: sections 1 and 2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.alias_generators import to_camel

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, is_array, items, joined, members, text
from connector_mcp.operations.fields import ShownBy
from connector_mcp.operations.operation import Operation, Paging, Record
from connector_mcp.operations.platform import ApiKey, OtherApi, Platform, UpstreamMessage, Variable


def read_error(body: Any) -> UpstreamMessage:
    """Read `{code, message, fields, details}`; the field messages say what is wrong where."""
    said = members(body)
    fields = {"fields": said["fields"]} if said.get("fields") else {}
    message = joined(said.get("message"), said.get("details"))
    return UpstreamMessage(code=text(said.get("code")), message=message, details=fields)


PLATFORM_V2 = OtherApi(
    name="Platform API v2",
    address=Variable(
        "VERSORI_PLATFORM_URL",
        "Address of the Platform API v2; needed only if VERSORI_BASE_URL does not end in /api/connect/v1.",
    ),
    base_ending="/api/connect/v1",
    path="/api/v2",
)
"""Systems, connections, end users and projects. `VERSORI_BASE_URL` stays the address of the Connect API v1."""

VERSORI = Platform(
    name="versori",
    title="Versori",
    base_url=Variable(
        "VERSORI_BASE_URL", "Address of the Connect API v1.", default="https://platform.versori.com/api/connect/v1"
    ),
    credentials=ApiKey(
        Variable("VERSORI_API_KEY", "API key, or a signing-key JWT with the prefix JWT.", secret=True),
        prefix=Variable("VERSORI_AUTH_PREFIX", "Scheme word before the key.", default="Bearer"),
    ),
    read_error=read_error,
    tenant=Variable("VERSORI_ORGANISATION_ID", "Organisation that owns the connectors."),
    tenant_argument="organisation_id",
    # The settings of an auth scheme of type api-key: where a key goes, not the key.
    holder_keys=frozenset({"apikey"}),
    secret_paths=("credential.data",),
    other_apis=(PLATFORM_V2,),
)

OrganisationId = Annotated[
    str, Field(description="Organisation that owns the connectors: its id, as the console's address shows it.")
]
SystemId = Annotated[str, Field(description="System id. See versori_list_systems."), ShownBy("versori_get_system")]
ProjectId = Annotated[
    str, Field(description="Project id. See versori_list_projects."), ShownBy("versori_list_projects")
]
EnvironmentId = Annotated[
    str,
    Field(description="Environment id, not its name. See versori_list_projects."),
    ShownBy("versori_list_projects", ids=("environments.id",)),
]
EnvironmentName = Annotated[str, Field(min_length=1, description="Environment name, not its id.")]
SHOWN_AS_TEMPLATE = ShownBy("versori_list_project_connection_templates", ids=("connectionTemplateId",))
TemplateId = Annotated[str, Field(description="connectionTemplateId, not id (the system's)."), SHOWN_AS_TEMPLATE]

_VARIABLE = re.compile(r"[A-Za-z_][\w-]{0,63}")
ULID = "01J2ABCDEF0123456789ABCDEF"
"""An id for examples."""
EXAMPLE_SCHEME: JsonObject = {
    "type": "api-key",
    "apiKey": {"id": "key", "description": "API key", "name": "X-Api-Key", "in": "header"},
}
PAGING = Paging(
    items="items", limit="first", cursor="after", next="next", total="totalCount", empty=("items", "totalCount")
)


class VersoriOperation(Operation):
    """Base of Versori's operations."""

    on = VERSORI
    toolset = "versori.connectors"
    by_default = True

    organisation_id: OrganisationId


class PlatformOperation(VersoriOperation):
    """Base of the operations of the Platform API v2."""

    api = PLATFORM_V2
    by_default = False


class Confirmed(Record):
    """Confirmation of a change that Versori answers without a body."""

    id: str | None = None
    done: bool | None = None


class TakesVariables(Operation):
    """Base of the operations with values of dynamic variables, which the platform checks by the project's schema."""

    values_in: ClassVar[str] = "variables"
    """The argument with the value of each variable, by name."""

    def new_values(self) -> JsonObject:
        """The variables to set, by name."""
        return getattr(self, self.values_in) or {}

    def explain_refusal(self, details: Any) -> tuple[Sequence[Issue], str]:
        """Name the variables that the project's schema refuses or lacks: Versori names them as if each were a field."""
        own, issues = set(map(to_camel, type(self).model_fields)), list[Issue]()
        for field in map(members, items(members(details).get("fields"))):
            name = (text(field.get("field")) or "").removeprefix(f"{to_camel(self.values_in)}.")
            if name in own or not _VARIABLE.fullmatch(name):
                continue
            path = self.values_in if name == getattr(self, "variable_name", "") else f"{self.values_in}.{name}"
            if name in self.new_values():
                issues.append(Issue(path, "a value that was refused", "a declared variable, with a value of its type"))
            else:
                issues.append(Issue(path, "nothing", "a value: the project requires this variable"))
        return issues, "versori_get_project_variables_schema shows what the project declares."


class EmptyAnswer(Operation):
    """Base of the operations that Versori answers without a body."""

    output = Confirmed
    confirms = "done"


class FoundRecord(Record):
    """One row of a list, read as the target of a change. `found` is false where the list does not have it."""

    found: bool | None = None


def pick(rows: Any, member: str, wanted: str) -> JsonObject | None:
    """The row with this value, as a `FoundRecord`. None where there is no list, so that nothing is concluded."""
    if not is_array(rows):
        return None
    row = next((row for row in map(members, rows) if row.get(member) == wanted), None)
    return {"found": row is not None, **(row or {})}
