"""Rules that hold for all of Logto's operations."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from connector_mcp.operations.catalog import platform_folder
from connector_mcp.operations.logto import PLATFORM
from connector_mcp.operations.operation import Effect, Operation, Situation
from connector_mcp.operations.schema import portable_schema

OPERATIONS = platform_folder("logto").operations
EACH = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.tool_name())


def size(operation: type[Operation]) -> int:
    tool = {
        "name": operation.tool_name(),
        "description": operation.tool_description(),
        "inputSchema": portable_schema(operation),
    }
    return len(json.dumps(tool, separators=(",", ":")).encode())


def test_the_tools_are_named_after_the_documented_operations():
    assert [operation.tool_name() for operation in OPERATIONS] == [
        "logto_list_connectors",
        "logto_create_connector",
        "logto_get_connector",
        "logto_update_connector",
        "logto_delete_connector",
        "logto_create_connector_test",
        "logto_create_connector_authorization_uri",
        "logto_list_connector_factories",
        "logto_get_connector_factory",
    ]
    assert PLATFORM.name == "logto"


@EACH
def test_each_example_fits_its_schema_and_makes_a_request_without_problems(operation: type[Operation]):
    schema: dict[str, Any] = portable_schema(operation)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(operation.example)
    call = operation.model_validate(operation.example)
    assert call.find_problems(Situation()) == ()
    for use in call.find_configs(Situation()):
        assert use.type is not None
        Draft202012Validator(use.type.config).validate(use.value)
    (request,) = call.make_requests(Situation())
    assert request.path.startswith("/api/connector")


@EACH
def test_each_description_is_short_and_each_argument_described(operation: type[Operation]):
    assert 0 < len(operation.tool_description()) <= 300
    assert all(argument.get("description") for argument in portable_schema(operation)["properties"].values())


def test_the_schemas_stay_within_their_budget():
    sizes = [size(operation) for operation in OPERATIONS]
    assert max(sizes) <= 2_500
    assert sum(sizes) / len(sizes) <= 900


@EACH
def test_each_call_that_changes_something_has_a_consequence(operation: type[Operation]):
    assert bool(operation.consequence) == (operation.effect is not Effect.READ)
    arguments = {name: name for name in operation.model_fields}
    assert "{" not in operation.consequence.format(name="Google", **{k: v for k, v in arguments.items() if k != "name"})
