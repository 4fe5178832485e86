"""The rules for the operations of all platforms: read them before adding one."""

from __future__ import annotations

import json
import re

from jsonschema import Draft202012Validator

from connector_mcp.operations.catalog import PLATFORMS, catalog, platform_folder
from connector_mcp.operations.fields import SECRET
from connector_mcp.operations.operation import Effect, ListOperation, Operation
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.tool import ProfileChoice, Tool, impossible_arguments, tool_of
from connector_mcp.operations.update import UpdateOperation
from tests.for_each import for_each
from tests.operations.hooks import issues, schemas
from tools.pages import size

OPERATIONS = catalog(PLATFORMS)
TENANTS = {folder.platform.tenant_argument or "" for folder in map(platform_folder, PLATFORMS)}
DOCUMENTED = {
    "vectorize_get_source_connectors", "vectorize_create_source_connector", "vectorize_get_source_connector",
    "vectorize_update_source_connector", "vectorize_delete_source_connector",
    "vectorize_add_user_to_source_connector", "vectorize_update_user_in_source_connector",
    "vectorize_delete_user_from_source_connector", "logto_list_connectors", "logto_create_connector",
    "logto_get_connector", "logto_update_connector", "logto_delete_connector", "logto_create_connector_test",
    "logto_create_connector_authorization_uri", "versori_update_connector", "conductorone_update_connector",
}  # fmt: skip
SUPPORTING = {
    "logto_list_connector_factories", "logto_get_connector_factory", "versori_list_connectors",
    "versori_get_connector", "conductorone_list_apps", "conductorone_list_connectors", "conductorone_get_connector",
    "describe_connector_type",
}  # fmt: skip

TAKEN_BY_ALL = {
    "type", "description", "properties", "required", "additionalProperties", "items", "enum", "default", "minimum",
    "maximum", "minLength", "maxLength", "minItems", "pattern",
}  # fmt: skip
"""The keywords that the strictest clients' schema classes have, such as those of Gemini."""
FILLERS = {"the", "of", "a", "an"}

every_operation = for_each("name", OPERATIONS)


def tool(name: str) -> Tool:
    """The tool as clients see it where the configuration fixes the tenant."""
    return tool_of(OPERATIONS[name], hidden=TENANTS)


def wire(made: Tool, *, with_output: bool = False) -> int:
    """The size of a tool in a list of tools."""
    return size(made.as_dict(), with_output=with_output)


def test_there_are_the_seventeen_documented_operations_and_the_supporting_reads() -> None:
    assert set(OPERATIONS) >= DOCUMENTED | SUPPORTING
    assert (len(DOCUMENTED), len(SUPPORTING)) == (17, 8)


@every_operation
def test_the_input_schema_is_one_that_every_client_takes(name: str) -> None:
    for made in (tool(name), tool_of(OPERATIONS[name], profiles=ProfileChoice(("a", "b"), "a"))):
        schema = made.listed_schema
        Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert not {"anyOf", "oneOf", "allOf", "not", "$ref", "$defs"} & schema.keys()
        assert len(made.name) <= 48
        assert not re.search(r"\$ref|\$defs", json.dumps(schema))
        for path, part in schemas(schema):
            assert set(part) <= TAKEN_BY_ALL, path
            assert isinstance(part["type"], str), path
            for key, member in part.get("properties", {}).items():
                assert len(key) <= 48
                words = re.findall("[a-z]+", member["description"].lower())
                assert len(member["description"]) >= 20 or set(words) - set(key.split("_")) - FILLERS, f"{path}.{key}"
                assert len(words) > 2, f"{path}.{key}"


@every_operation
def test_a_default_that_the_server_uses_is_in_the_schema(name: str) -> None:
    for argument, schema in tool_of(OPERATIONS[name]).listed_schema["properties"].items():
        info, shown = OPERATIONS[name].model_fields[argument], schema.get("default")
        assert shown == (None if info.is_required() else info.default)


@every_operation
def test_what_lists_do_not_show_stays_known_where_secrets_are_judged(name: str) -> None:
    made = tool(name)
    secret = [path for path, part in schemas(made.input_schema) if part.get("writeOnly")]
    assert {path.strip(".") for path in secret} == set(OPERATIONS[name].secret_arguments())
    assert "writeOnly" not in json.dumps(made.listed_schema)


@every_operation
def test_every_id_is_described_with_the_tool_that_lists_it(name: str) -> None:
    for argument, schema in tool(name).listed_schema["properties"].items():
        if re.fullmatch(r"(source_connector_|connector_|factory_|app_)?id", argument) and "left out" not in str(schema):
            listing = re.search(r"[a-z_]+_(?:list|get)_[a-z_]+|find_connectors", schema["description"])
            assert listing, f"{name}.{argument}"
            assert issubclass(OPERATIONS[listing[0]], ListOperation)


def test_what_cannot_be_given_is_known_by_tool_and_is_no_argument() -> None:
    for platform in PLATFORMS:
        for name, cannot in impossible_arguments(platform).items():
            names = [each for group in cannot for each in group.split()]
            assert len(set(names)) == len(names), name
            assert not set(names) & OPERATIONS[name].model_fields.keys(), name
            for each in names:
                camel = re.sub("_(.)", lambda part: part[1].upper(), each)
                assert tool(name).instead_of(each) == tool(name).instead_of(camel) is not None


@every_operation
def test_the_output_schema_is_valid_and_has_data_and_meta(name: str) -> None:
    schema = tool(name).output_schema
    Draft202012Validator.check_schema(schema)
    assert schema["properties"].keys() == {"data", "meta", "error"}
    assert "required" not in schema, "clients hold failures to it as well"
    assert "$ref" not in json.dumps(schema)


@every_operation
def test_a_tool_keeps_to_the_budget_with_and_without_the_tenant(name: str) -> None:
    assert wire(tool(name)) <= wire(tool_of(OPERATIONS[name])) <= 2_500


def test_all_tools_together_keep_to_the_budget() -> None:
    sizes = {name: wire(tool(name)) for name in OPERATIONS}
    assert sum(sizes.values()) / len(sizes) <= 1_000
    for platform in PLATFORMS:
        default = [name for name in sizes if name.startswith(platform) and OPERATIONS[name].by_default]
        assert len(default) <= 20
        assert sum(sizes[name] for name in default) <= 24_000
    default = [name for name in sizes if OPERATIONS[name].by_default or not OPERATIONS[name].toolset]
    assert sum(sizes[name] for name in default) <= 70_000


@every_operation
def test_the_description_says_what_it_does_and_fits(name: str) -> None:
    description = tool(name).description
    assert 20 <= len(description) <= 300
    assert description.endswith(".")
    assert tool(name).title.split(": ")[-1].replace(" ", "_").lower() in name
    assert not re.search(r"(?i)\buse this tool\b|\bsimply\b|\bpowerful\b", description)


@every_operation
def test_what_is_said_of_a_tool_that_is_served_alone_still_says_what_it_does(name: str) -> None:
    alone = tool(name).seen_with(frozenset({name}), ())
    assert len(alone.description) >= 20
    assert all(len(part["description"]) >= 9 for part in alone.listed_schema["properties"].values())


@every_operation
def test_the_annotations_are_true_of_the_worst_that_a_call_can_do(name: str) -> None:
    operation, hints = OPERATIONS[name], tool(name).annotations
    assert hints.read_only == (operation.effect is Effect.READ)
    assert hints.destructive == (
        operation.effect in (Effect.DESTROY, Effect.UPDATE) or operation.can_destroy or operation.overwrites
    )
    if hints.read_only:
        assert hints.idempotent
        assert not hints.destructive
    assert hints.open_world == (operation.on is not None)


@every_operation
def test_only_what_overrides_the_detector_claims_to_have_one(name: str) -> None:
    operation = OPERATIONS[name]
    if operation.on is None:
        # It destroys by other calls, each of which has its own detector.
        return
    has_detector = operation.find_losses is not Operation.find_losses
    if issubclass(operation, UpdateOperation):
        # Of an update that no member of the record shows, no loss can be found.
        has_detector = any(placement.stored_as for placement in operation.placements().values())
    assert operation.can_destroy == has_detector


@every_operation
def test_an_operation_of_a_platform_belongs_to_a_toolset_of_that_platform(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation.toolset.partition(".")[0] == (operation.on.name if operation.on else "")


@every_operation
def test_what_is_put_to_a_person_has_a_sentence(name: str) -> None:
    operation = OPERATIONS[name]
    if operation.effect is Effect.DESTROY or operation.can_destroy:
        assert operation.consequence.endswith(".")
        if operation.on is None:
            return
        assert operation.acts_on is not None
        assert issubclass(operation.acts_on.read, Operation)
        assert operation.acts_on.read.effect is Effect.READ


@every_operation
def test_every_placeholder_of_a_consequence_is_the_targets_name_or_an_argument(name: str) -> None:
    operation = OPERATIONS[name]
    assert "{" not in operation.consequence.format(**dict.fromkeys(("name", *operation.model_fields), "Google"))
    if name.startswith("logto_"):
        assert bool(operation.consequence) == (operation.effect is not Effect.READ)


@every_operation
def test_the_example_is_valid(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation.example
    Draft202012Validator(tool(name).input_schema).validate(operation.example)
    whole = {**operation.example, **{tenant: "tenant" for tenant in TENANTS if tenant in operation.model_fields}}
    Draft202012Validator(tool_of(operation).input_schema).validate(whole)
    call = operation.model_validate(whole)
    assert issues(call, Situation()) == [], "and nothing is found wrong with it before its target is read"


@every_operation
def test_every_placeholder_of_the_path_is_a_required_string_argument(name: str) -> None:
    operation = OPERATIONS[name]
    if operation.on is None:
        return
    for placeholder in operation.http.placeholders:
        info = operation.model_fields[placeholder]
        assert info.annotation is str
        assert info.is_required()


@every_operation
def test_an_argument_that_is_named_like_a_credential_is_marked_as_one(name: str) -> None:
    operation = OPERATIONS[name]
    for argument, info in operation.model_fields.items():
        if re.search(r"token$|secret|password(?!_methods)|api_key", argument):
            assert SECRET in info.metadata, f"{name}.{argument}"


@every_operation
def test_a_field_that_hides_a_declaration_of_the_form_would_be_seen(name: str) -> None:
    taken = {member for member in vars(Operation) if not member.startswith("_")} - set(Operation.model_fields)
    assert not taken & set(OPERATIONS[name].model_fields)
