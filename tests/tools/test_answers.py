"""What documents say of answers is restated without loss of what is checked."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from connector_mcp.operations.catalog import PLATFORMS
from tools.answers import Answers, restate, schema_of

PART = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}
ROW: dict[str, Any] = {
    "allOf": [
        {"$ref": "#/components/schemas/a.b.Part"},
        {
            "required": ["kind"],
            "properties": {
                "kind": {"type": "string", "enum": ["one", "two"]},
                "at": {"type": ["string", "null"], "format": "date-time"},
                "part": {"oneOf": [{"$ref": "#/components/schemas/a.b.Part"}, {"type": "null"}]},
                "notes": {"type": "object", "additionalProperties": {"type": "string"}},
                "any": {"type": "object", "additionalProperties": True},
                "size": {"type": "integer", "nullable": True},
                "choice": {"oneOf": [{"type": "string", "const": "x"}, {"type": "array", "items": {"type": "number"}}]},
            },
        },
    ]
}
ERROR = {"type": "object", "required": ["message"], "properties": {"message": {"type": "string"}}}
DOCUMENT: dict[str, Any] = {
    "servers": [{"url": "https://vectorize.example/v1"}],
    "components": {"schemas": {"a.b.Part": PART, "a.b.Row": ROW}},
    "paths": {
        "/org/{organizationId}/pipelines": {
            "get": {
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/a.b.Row"}}}},
                    "204": {"description": "Nothing."},
                    "400": {"content": {"application/json": {"schema": ERROR}}},
                    "404": {"content": {"application/json": {"schema": ERROR}}},
                }
            }
        },
        "/org/{organizationId}/unserved": {"get": {"responses": {"200": {"description": "Nothing."}}}},
    },
}


def test_a_document_is_restated_for_what_is_served() -> None:
    assert restate("vectorize", [DOCUMENT, DOCUMENT | {}]) == {
        "answers": {"GET /v1/org/{}/pipelines": {"200": "=Row", "204": "none", "400 404": "=Error"}},
        "models": {
            "Error": {"message!": "string"},
            "Part": {"id!": "string"},
            "Row": {
                "any": {"...": "any"},
                "at": "time?",
                "choice": {"any of": [{"enum": ["x"]}, ["number"]]},
                "id!": "string",
                "kind!": {"enum": ["one", "two"]},
                "notes": {"...": "string"},
                "part": "=Part?",
                "size": "integer?",
            },
        },
    }


def test_where_a_platform_sends_every_key_all_but_those_of_a_choice_are_required() -> None:
    message = {"type": "object", "description": "A oneof of which one may be set at a time:\n  - red\n  - blue\n"}
    message["properties"] = {name: {"type": "string"} for name in ("red", "blue", "name")}
    response = {"200": {"content": {"application/json": {"schema": message}}}}
    paths = {"/api/v1/apps/{id}": {"get": {"responses": response}}}
    stated = restate("conductorone", [{"servers": [{"url": "https://acme.example"}], "paths": paths}])
    assert stated["answers"] == {"GET /api/v1/apps/{}": {"200": {"blue": "string", "name!": "string", "red": "string"}}}


FULL: dict[str, Any] = {
    "id": "1",
    "kind": "one",
    "at": "2026-09-01T12:00:00.5Z",
    "part": {"id": "2"},
    "notes": {"a": "b"},
}
FULL |= {"any": {"a": 1}, "size": 3, "choice": [1.5]}


@pytest.mark.parametrize(
    ("change", "is_fine"),
    [
        ({}, True),
        ({"at": None, "part": None, "size": None, "choice": "x"}, True),
        ({"id": 1}, False),
        ({"id": None}, False),
        ({"kind": "three"}, False),
        ({"at": "yesterday"}, False),
        ({"part": {}}, False),
        ({"notes": {"a": 1}}, False),
        ({"size": 1.5}, False),
        ({"size": True}, False),
        ({"choice": ["1"]}, False),
        ({"more": 1}, False),
    ],
)
def test_the_schema_takes_what_the_document_states_and_nothing_else(change: dict[str, Any], is_fine: bool) -> None:
    stated = restate("vectorize", [DOCUMENT])
    models = {name: schema_of(model) for name, model in stated["models"].items()}
    validator: Any = Draft202012Validator({"$defs": models, **schema_of("=Row")})
    assert validator.is_valid(FULL | change) is is_fine
    for missing in ("id", "kind"):
        assert not validator.is_valid({key: each for key, each in FULL.items() if key != missing})


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_stated_answers_are_valid_schemas(platform: str) -> None:
    answers, models = Answers(platform), dict[str, Any]()
    for operation, stated in answers.operations.items():
        for statuses in stated:
            schema = answers.schema(operation, 400 if statuses == "default" else int(statuses.split()[0]))
            if schema is None:
                assert stated[statuses] == "none"
                continue
            # The models are the same in all of them.
            models = schema.pop("$defs")
            Draft202012Validator.check_schema(schema)
            assert models.keys() >= {*_references(schema)}
    Draft202012Validator.check_schema({"$defs": models})
    assert models.keys() >= {*_references(models)}


def _references(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        own = [schema["$ref"].rpartition("/")[2]] if isinstance(schema.get("$ref"), str) else []
        return own + [name for each in schema.values() for name in _references(each)]
    return [name for each in schema for name in _references(each)] if isinstance(schema, list) else []


def test_the_operation_with_the_most_literal_path_is_the_one_that_is_called() -> None:
    at = "/api/v1/apps/a/connectors"
    assert Answers("conductorone").operation("POST", f"{at}/create") == "POST /api/v1/apps/{}/connectors/create"
    assert Answers("conductorone").operation("POST", f"{at}/c%2Fd") == "POST /api/v1/apps/{}/connectors/{}"
    assert Answers("conductorone").operation("POST", f"{at}/c/d/e/f") is None
