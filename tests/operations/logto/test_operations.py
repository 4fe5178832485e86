"""Rules that hold for all of Logto's operations."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from connector_mcp.operations.catalog import platform_folder
from connector_mcp.operations.logto import PLATFORM
from connector_mcp.operations.operation import Effect, Operation
from connector_mcp.operations.schema import portable_schema
from connector_mcp.operations.situation import Situation

OPERATIONS = platform_folder("logto").operations
EACH = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.tool_name())


NAMES = """
list_connectors create_connector get_connector update_connector delete_connector create_connector_test
create_connector_authorization_uri list_connector_factories get_connector_factory get_sign_in_exp update_sign_in_exp
get_sign_in_experience_config list_sso_connectors create_sso_connector get_sso_connector update_sso_connector
delete_sso_connector list_sso_connector_providers list_sso_connector_signing_keys create_sso_connector_signing_key
update_sso_connector_signing_key list_email_templates get_email_template replace_email_templates
update_email_template_details
"""


def test_the_tools_are_named_after_the_documented_operations():
    assert [operation.tool_name() for operation in OPERATIONS] == [f"logto_{name}" for name in NAMES.split()]
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
    assert request.path.startswith("/api/")


@EACH
def test_each_call_that_changes_something_has_a_consequence(operation: type[Operation]):
    assert bool(operation.consequence) == (operation.effect is not Effect.READ)
    arguments = {name: name for name in operation.model_fields}
    assert "{" not in operation.consequence.format(name="Google", **{k: v for k, v in arguments.items() if k != "name"})
