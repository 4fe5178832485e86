"""ConductorOne's own description of a connector type: the live truth of its config keys (facts: section 4, trap 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from connector_mcp.json_values import JsonObject, items, members, text
from connector_mcp.operations.conductorone.env_config import SELECTED_GROUP
from connector_mcp.operations.conductorone.platform import CONDUCTORONE
from connector_mcp.operations.connector_types import ConnectorType, connector_type
from connector_mcp.operations.local import TypeSource
from connector_mcp.operations.operation import Effect, Operation, Record, at
from connector_mcp.operations.platform import POST
from connector_mcp.operations.situation import Situation

_TEXT: JsonObject = {"type": "string"}
_LIST: JsonObject = {"type": "array", "items": {"type": "string"}}
_MAP: JsonObject = {"type": "object", "additionalProperties": {"type": "string"}}
_SWITCH: JsonObject = {"type": "boolean"}
_FORMS: dict[str, JsonObject] = {
    **dict.fromkeys(
        ("str", "text", "select", "import", "secret", "random", "options", "stringField", "fileField"), _TEXT
    ),
    **dict.fromkeys(("checkbox", "boolField"), _SWITCH),
    **dict.fromkeys(("strList", "stringSliceField"), _LIST),
    **dict.fromkeys(("stringMap", "keyValue", "stringMapField"), _MAP),
    "int64Field": {"type": "integer"},
}
"""The schema of a field for the member that says of which kind it is. Fields of other kinds are not set by a config."""
_ID_LENGTH = 27


def is_catalog_id(text: str) -> bool:
    """Whether a text has the form of a catalog id."""
    return len(text) == _ID_LENGTH and text.isascii() and text.isalnum()


class ConfigurationSchema(Record):
    """The fields of a connector type's config by name, each as a JSON Schema, and its alternative groups of them."""

    name: str | None = None
    fields: JsonObject | None = None
    required: list[str] | None = None
    groups: JsonObject | None = None


class GetConfigurationSchema(Operation):
    """Read the description of a connector type. No tool of its own: describe_connector_type shows it."""

    on = CONDUCTORONE
    http = POST("/api/v1/connectorcatalog")
    effect = Effect.READ
    output = ConfigurationSchema
    part_of = "describe_connector_type"

    catalog_id: str
    app_id: str | None = None
    connector_id: str | None = None

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """Put together both forms of the description, of which either may be null."""
        answer = members(answers[0])
        if not answer.keys() & {"schema", "formSchema"}:
            return None
        forms = [members(answer.get(name)) for name in ("schema", "formSchema")]
        fields = [field for form in forms for field in map(members, items(form.get("fields")))]
        groups = [group for form in forms for group in map(members, items(form.get("fieldGroups")))]
        shown = {str(field["name"]): shape for field in fields if field.get("name") and (shape := _schema_of(field))}
        return {
            "name": next((name for form in forms if (name := text(form.get("displayName")))), None),
            "fields": shown,
            "required": [str(field.get("name")) for field in fields if field.get("required") is True],
            "groups": {
                str(group.get("name")): items(group.get("fieldNames")) or items(group.get("fields")) for group in groups
            },
        }


def _schema_of(field: JsonObject) -> JsonObject | None:
    """The schema of a field; None where a config does not set it."""
    kind = next((kind for kind in _FORMS if field.get(kind) is not None), None)
    if kind is None or field.get("readOnly") is True:
        return None
    form, label = members(field[kind]), text(field.get("displayName")) or text(field.get("description"))
    options = items(form.get("items")) or items(at(form, "selectField.options"))
    values = [value for option in options if (value := members(option).get("value"))]
    is_secret = kind == "secret" or form.get("secret") is True or form.get("passwordField") is not None
    return (
        _FORMS[kind]
        | ({"enum": values} if values else {})
        | {"description": f"{(label or str(field.get('name'))).rstrip('.')}."}
        | ({"writeOnly": True} if is_secret else {})
    )


def described_type(catalog_id: str, shown: JsonObject) -> ConnectorType | None:
    """The connector type as the platform describes it. What it marks as secret, or this server does, is secret."""
    shipped, fields = connector_type("conductorone", catalog_id), members(shown.get("fields"))
    if not fields:
        return shipped
    known = members(shipped.config["properties"]) if shipped else {}
    groups = members(shown.get("groups"))
    properties = {key: _merged(members(known.get(key)), field) for key, field in fields.items()}
    if groups:
        chosen = {"type": "string", "description": "Which group of fields is filled in.", "enum": list(groups)}
        properties = {SELECTED_GROUP: members(known.get(SELECTED_GROUP)) | chosen} | properties
    config: JsonObject = {"type": "object", "properties": properties, "additionalProperties": False}
    if required := [key for key in items(shown.get("required")) if key in fields]:
        config["required"] = required
    traits = {"fieldGroups": groups} if groups else {}
    if shipped:
        same = properties.keys() == known.keys()
        return replace(shipped, config=(shipped.config if same else {}) | config, traits=traits)
    name = text(shown.get("name")) or catalog_id
    return ConnectorType("conductorone", catalog_id, name, "catalog", creatable=True, config=config, traits=traits)


def _merged(shipped: JsonObject, field: JsonObject) -> JsonObject:
    """The shipped schema of a member with what the platform says otherwise."""
    if shipped.get("type") != field["type"]:
        return field | {key: True for key in ("writeOnly",) if key in shipped}
    return shipped | {key: value for key, value in field.items() if key != "description"}


TYPE_SOURCE = TypeSource(
    read=lambda catalog_id: GetConfigurationSchema(catalog_id=catalog_id) if is_catalog_id(catalog_id) else None,
    describe=described_type,
)
OPERATIONS = ()
