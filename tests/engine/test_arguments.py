"""Arguments as models really send them, and the errors that they get when they are wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from connector_mcp.engine.checks.arguments import MAX_DEPTH, parse_arguments
from connector_mcp.engine.checks.configs import check_configs
from connector_mcp.engine.checks.issues import describe
from connector_mcp.engine.redaction.redactor import MARKER
from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.operations.catalog import PLATFORMS, catalog
from connector_mcp.operations.connector_types import ConnectorType, connector_type, connector_types, example
from connector_mcp.operations.operation import Operation
from connector_mcp.operations.situation import ConfigUse, Situation
from connector_mcp.operations.tool import Tool, tool_of
from tests.for_each import for_each

OPERATIONS = catalog()
SECRET = "hunter2-Zq9xT7mK4wP2"
TENANTS = {"organization_id": "org_1", "organisation_id": "org_1"}


@cache
def tool(name: str, *, fixed: bool = True) -> Tool:
    return tool_of(OPERATIONS[name], hidden=TENANTS if fixed else ())


def parse(name: str, arguments: Mapping[str, Any], *, fixed: bool = True) -> Operation:
    return parse_arguments(tool(name, fixed=fixed), arguments, TENANTS if fixed else {})


def issues_of(name: str, arguments: Mapping[str, Any], *, fixed: bool = True) -> tuple[Issue, ...]:
    with pytest.raises(InvalidArguments) as caught:
        parse(name, arguments, fixed=fixed)
    assert "Nothing was sent" in caught.value.message
    return caught.value.issues


def refusal(config: Any, kind: ConnectorType | None, *, complete: bool = True) -> InvalidArguments | None:
    use = ConfigUse("config", kind and kind.type, kind, config, complete)
    try:
        check_configs(tool("logto_get_connector"), [use])
    except InvalidArguments as error:
        return error
    return None


def merged_issues(schema: dict[str, Any], given_config: Any, merged: Any) -> list[str]:
    use = ConfigUse("config", "t", ConnectorType("p", "t", "T", "k", True, schema), given_config, False, merged)
    try:
        check_configs(tool("logto_get_connector"), [use])
    except InvalidArguments as error:
        return [issue.path for issue in error.issues]
    return []


def config_issues(platform: str, type_id: str, config: Any, *, complete: bool = True) -> list[Issue]:
    error = refusal(config, connector_type(platform, type_id), complete=complete)
    assert error is None or type_id in error.fix
    return list(error.issues) if error else []


def issues_under(schema: dict[str, Any], config: Any) -> tuple[Issue, ...]:
    error = refusal(config, ConnectorType("p", "t", "T", "k", True, schema))
    assert error is not None
    return error.issues


def texts(issue: Issue) -> str:
    return json.dumps(issue.as_dict(), ensure_ascii=False)


@for_each("name", OPERATIONS)
def test_the_example_of_every_operation_parses_and_is_what_is_sent(name: str) -> None:
    given_back = parse(name, OPERATIONS[name].example).model_dump(by_alias=True, exclude_unset=True)
    assert {key: value for key, value in given_back.items() if key not in TENANTS} == OPERATIONS[name].example


@for_each("name", OPERATIONS)
def test_every_argument_as_the_text_of_its_json_means_the_same(name: str) -> None:
    arguments = OPERATIONS[name].example
    spelt = {key: value if isinstance(value, str) else json.dumps(value) for key, value in arguments.items()}
    assert parse(name, spelt) == parse(name, arguments)


@settings(max_examples=30, deadline=None)
@given(
    limit=st.integers(1, 100),
    names=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda t: MARKER not in t)),
    as_text=st.booleans(),
)
def test_numbers_and_lists_survive_either_spelling(limit: int, names: list[str], as_text: bool) -> None:
    arguments: dict[str, Any] = {"limit": limit, "fields": names}
    sent = {key: json.dumps(value) for key, value in arguments.items()} if as_text else arguments
    assert parse("vectorize_get_source_connectors", sent).model_dump(include={"limit", "fields"}) == arguments


@settings(max_examples=30, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc-_", max_size=5), inner, max_size=3),
        max_leaves=10,
    )
)
def test_a_config_reaches_the_operation_unchanged(value: Any) -> None:
    config = {"key": value}
    assert parse("logto_update_connector", {"id": "x", "config": config}).model_dump()["config"] == config
    assert parse("logto_update_connector", {"id": "x", "config": json.dumps(config)}).model_dump()["config"] == config


def test_booleans_are_taken_as_words_and_nothing_else() -> None:
    update = "versori_update_connector"
    assert parse(update, {"connector_id": "c", "public": " True "}).model_dump()["public"] is True
    assert parse(update, {"connector_id": "c", "public": "false"}).model_dump()["public"] is False
    for wrong in ("yes", "1", 1, 0, "", "truee"):
        (issue,) = issues_of(update, {"connector_id": "c", "public": wrong})
        assert (issue.path, issue.wanted.partition(" (")[0]) == ("public", "true or false")


def test_json_text_inside_objects_and_maps_is_decoded_too() -> None:
    connector = {"name": "a", "type": "AWS_S3", "config": json.dumps({"bucket-name": "b"})}
    created = parse("vectorize_create_source_connector", {"connectors": [json.dumps(connector)]})
    assert created.model_dump()["connectors"][0]["config"] == {"bucket-name": "b"}
    tagged = parse("versori_update_connector", {"connector_id": "c", "tags": {"team": '["sales"]'}})
    assert tagged.model_dump()["tags"] == {"team": ["sales"]}


@pytest.mark.parametrize(
    "text",
    ["{broken", "[1]", "plain", '"text"', "{" * 100_000, '{"a":' * 50_000, "7" * 5_000],
    ids=["broken", "array", "plain", "string", "braces", "deep", "digits"],
)
def test_text_that_is_no_object_is_refused_without_a_word_of_it(text: str) -> None:
    (issue,) = issues_of("logto_update_connector", {"id": "x", "config": text})
    assert issue.path == "config"
    assert issue.got == f"a string of {len(text)} characters"


def nested(levels: int) -> Any:
    value: Any = "end"
    for _ in range(levels):
        value = {"a": [value]}
    return value


def test_arguments_that_nest_too_deeply_are_refused_however_they_are_spelt() -> None:
    for config in (nested(400), json.dumps(nested(400))):
        (issue,) = issues_of("logto_update_connector", {"id": "x", "config": config})
        assert issue.got == "values nested too deeply"
    assert parse("logto_update_connector", {"id": "x", "config": nested(MAX_DEPTH // 2 - 1)})


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (float("nan"), "a number that JSON cannot express"),
        (float("-inf"), "a number that JSON cannot express"),
        (10**5000, "a number of more than 64 bits"),
        ("\ud800", "text with half of a surrogate pair"),
        (f"a {MARKER}", "a redaction marker"),
        (b"bytes", "a value of another kind"),
    ],
    ids=["nan", "infinity", "huge", "surrogate", "marker", "bytes"],
)
def test_values_that_cannot_be_sent_or_kept_are_refused_at_their_place(value: Any, got: str) -> None:
    (issue,) = issues_of("logto_update_connector", {"id": "x", "config": {"list": [1, value]}})
    assert (issue.path, issue.got) == ("config.list[1]", got)


def test_a_marker_is_found_in_keys_and_however_the_text_of_the_json_escapes_it() -> None:
    (escaped,) = issues_of("logto_update_connector", {"id": "x", "config": '{"a": "\\u005bredacted]"}'})
    assert (escaped.path, escaped.got) == ("config.a", "a redaction marker")
    assert "leave the argument out" in escaped.wanted
    (key,) = issues_of("logto_update_connector", {"id": "x", "config": {MARKER: "v"}})
    assert key.path == "config"


@pytest.mark.parametrize(
    ("tool", "arguments", "is_kept"),
    [
        ("logto_update_connector", {"id": "x", "config": {"clientSecret": MARKER}}, True),
        ("conductorone_update_connector", {"app_id": "a", "id": "x", "config": {"token": MARKER}}, True),
        ("vectorize_update_source_connector", {"source_connector_id": "x", "config": {"secret-key": MARKER}}, False),
        ("versori_update_connection", {"connection_id": "x", "name": MARKER}, False),
        ("logto_create_connector", {"connector_id": "google-universal", "config": {"clientSecret": MARKER}}, False),
        ("logto_list_connectors", {"target": MARKER}, False),
    ],
)
def test_only_where_a_call_keeps_what_it_is_not_given_a_marker_is_to_be_left_out(
    tool: str, arguments: dict[str, Any], is_kept: bool
) -> None:
    (issue,) = (each for each in issues_of(tool, arguments) if each.got == "a redaction marker")
    assert ("to keep what is stored" in issue.wanted) is is_kept


def test_huge_numbers_are_refused_in_every_integer_argument() -> None:
    for limit in (10**30, 10**5000, "9" * 18, 1e300):
        (issue,) = issues_of("vectorize_get_source_connectors", {"limit": limit})
        assert issue.path == "limit"
        assert len(issue.got) < 60
    (issue,) = issues_of("vectorize_get_source_connectors", {"limit": 500})
    assert (issue.got, issue.wanted) == (
        "the number 500",
        "an integer at least 1 and at most 100 (Most rows to return in one page)",
    )
    assert parse("vectorize_get_source_connectors", {"limit": 20.0}) == parse(
        "vectorize_get_source_connectors", {"limit": "20"}
    )


def test_an_unknown_argument_gets_the_nearest_name() -> None:
    issues = issues_of("vectorize_get_source_connector", {"source_connectorid": "x"})
    assert issues[0].path == "source_connectorid"
    assert issues[0].wanted.startswith("source_connector_id (closest match); vectorize_get_source_connector takes ")
    assert [issue.path for issue in issues[1:]] == ["source_connector_id"]


def test_config_keys_given_as_arguments_are_sent_into_config() -> None:
    (issue,) = issues_of("logto_update_connector", {"id": "x", "clientSecret": SECRET})
    assert "go inside config" in issue.wanted
    assert SECRET not in texts(issue)


def test_an_unknown_member_of_an_item_is_named_with_its_index() -> None:
    connectors = [{"name": "a", "type": "AWS_S3"}, {"nme": "b"}]
    issues = {issue.path: issue for issue in issues_of("vectorize_create_source_connector", {"connectors": connectors})}
    assert issues.keys() == {"connectors[1].name", "connectors[1].type", "connectors[1].nme"}
    unknown = issues["connectors[1].nme"]
    assert unknown.wanted.startswith("name (closest match); connectors[1] takes name, type, config")


def test_an_enum_names_the_nearest_of_its_values_whatever_the_case() -> None:
    (issue,) = issues_of("versori_update_connector", {"connector_id": "c", "protocol": "BigQ"})
    assert (issue.path, issue.got) == ("protocol", "a string of 4 characters")
    assert issue.wanted.startswith("bigquery (closest match); one of http, bigquery")
    created = parse("vectorize_create_source_connector", {"connectors": [{"name": "a", "type": "aws-s3"}]})
    (issue,) = created.find_problems(Situation())
    assert (issue.path, issue.got, issue.unknown) == ("connectors[0].type", "an unknown type", True)
    assert (issue.wanted, issue.candidates) == ("perhaps AWS_S3 (Amazon S3)", ["AWS_S3"])


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "given"])
def test_the_tenant_is_an_argument_only_where_nothing_fixes_it(fixed: bool) -> None:
    name = "vectorize_get_source_connector"
    if fixed:
        assert parse(name, {"source_connector_id": "x"}).model_dump()["organization_id"] == "org_1"
        assert parse(name, {"source_connector_id": "x", "organization_id": "org_1"})
        (issue,) = issues_of(name, {"source_connector_id": "x", "organization_id": "org_2"})
        assert (issue.path, "org_2" in texts(issue), "org_1" in texts(issue)) == ("organization_id", False, False)
    else:
        (issue,) = issues_of(name, {"source_connector_id": "x"}, fixed=False)
        assert (issue.path, issue.got) == ("organization_id", "nothing")


@for_each("name", OPERATIONS)
def test_a_null_that_the_schema_does_not_allow_counts_as_not_given(name: str) -> None:
    properties, required = tool(name).input_schema["properties"], tool(name).input_schema.get("required", ())
    nulls = {argument: None for argument in properties if argument not in required}
    example_of_it = OPERATIONS[name].example
    bare = {argument: value for argument, value in example_of_it.items() if argument in required}
    assert parse(name, nulls | example_of_it) == parse(name, example_of_it)
    assert parse(name, bare | nulls).model_fields_set == parse(name, bare).model_fields_set
    for argument in required:
        (issue,) = issues_of(name, {**example_of_it, argument: None})
        assert (issue.path, issue.got) == (argument, "null")


def test_a_null_inside_an_object_counts_as_not_given_too_and_the_object_with_it() -> None:
    connector = {"app_id": "a", "id": "c", "display_name": "n"}
    update = parse("conductorone_update_connector", {**connector, "sync_config": {"sync_resource_type_ids": None}})
    assert update == parse("conductorone_update_connector", connector)
    metadata = {"logo": None, "target": "acme"}
    assert parse("logto_update_connector", {"id": "x", "metadata": metadata}).model_dump(exclude_unset=True) == {
        "id": "x",
        "metadata": {"target": "acme"},
    }
    created = parse("vectorize_create_source_connector", {"connectors": [{"name": "n", "type": "GCS", "config": None}]})
    assert created.model_dump(exclude_unset=True)["connectors"] == [{"name": "n", "type": "GCS"}]
    kept = {"a": None, "b": {"c": None}}
    assert parse("logto_update_connector", {"id": "x", "config": kept}).model_dump()["config"] == kept
    (issue,) = issues_of("versori_update_connector", {"connector_id": "c", "tags": {"team": None}})
    assert (issue.path, issue.got) == ("tags.team", "null")


HOSTILE_KEYS = [SECRET, "AKIAIOSFODNN7EXAMPLE", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "a\nb", "x" * 200, "‮evil"]


@pytest.mark.parametrize("key", HOSTILE_KEYS, ids=range(len(HOSTILE_KEYS)))
def test_a_key_that_may_be_a_credential_is_never_repeated(key: str) -> None:
    for issues in (
        issues_of("logto_update_connector", {"id": "x", key: "v"}),
        issues_of("vectorize_create_source_connector", {"connectors": [{"name": "a", "type": "AWS_S3", key: 1}]}),
        issues_of("versori_update_connector", {"connector_id": "c", "tags": {key: 5}}),
        issues_of("logto_update_connector", {"id": "x", "config": {key: MARKER}}),
        config_issues("vectorize", "AWS_S3", {key: "v"}),
    ):
        assert issues
        assert all(json.dumps(key, ensure_ascii=False)[1:-1] not in texts(issue) for issue in issues)


@for_each("name", OPERATIONS)
def test_no_string_and_no_long_number_is_repeated_by_any_error(name: str) -> None:
    properties = tool(name).input_schema["properties"]
    told = ""
    for wrong in (SECRET, {"deep": SECRET}, [SECRET], 4111111111111111, {SECRET: SECRET}):
        for argument in properties:
            try:
                parse(name, {**OPERATIONS[name].example, argument: wrong})
            except InvalidArguments as error:
                told += json.dumps(error.as_dict())
    assert not properties or told
    assert SECRET not in told
    assert "4111111111111111" not in told


def every_schema() -> list[dict[str, Any]]:
    tools = [tool_of(operation).input_schema for operation in OPERATIONS.values()]
    return tools + [kind.config for platform in PLATFORMS for kind in connector_types(platform).values()]


def members_of(schema: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = list(schema.get("properties", {}).items())
    inner = [schema[word] for word in ("items", "additionalProperties") if isinstance(schema.get(word), dict)]
    inner += [branch for word in ("anyOf", "allOf", "oneOf") for branch in schema.get(word, ())]
    return found + [deeper for part in [*inner, *(m for _, m in found)] for deeper in members_of(part)]


def test_every_key_of_every_schema_can_be_named_in_a_path() -> None:
    for key in {key for schema in every_schema() for key, _ in members_of(schema)}:
        (missing,) = issues_under({"type": "object", "required": [key]}, {})
        (wrong,) = issues_under({"type": "object", "properties": {key: {"type": "string"}}}, {key: 1})
        assert missing.path == wrong.path == f"config.{key}"


def test_every_pattern_of_every_schema_is_put_into_words() -> None:
    members = [member for schema in every_schema() for _, member in members_of(schema)]
    patterns = {member["pattern"] for member in members if "pattern" in member}
    assert len(patterns) >= 3
    for pattern in patterns:
        properties = {"a": {"type": "string", "pattern": pattern}}
        (issue,) = issues_under({"type": "object", "properties": properties}, {"a": " "})
        assert pattern not in issue.wanted
        assert "documented form" not in issue.wanted


def test_white_space_around_a_secret_is_named_in_words() -> None:
    config = {"access-key": f" {SECRET}", "secret-key": f"{SECRET}\n", "bucket-name": "b", "archiver": False}
    issues = config_issues("vectorize", "AWS_S3", config)
    assert [issue.path for issue in issues] == ["config.access-key", "config.secret-key"]
    for issue in issues:
        assert issue.wanted.startswith("a string without white space around it (")
        assert SECRET not in texts(issue)


def test_an_example_is_valid_where_it_is_given_and_left_out_where_none_can_be_made() -> None:
    for name, operation in OPERATIONS.items():
        for argument, schema in tool(name).input_schema["properties"].items():
            for wrong in (None, 3.5, "", [], {}, "x" * 300):
                try:
                    parse(name, {**operation.example, argument: wrong})
                except InvalidArguments as error:
                    for issue in error.issues:
                        if issue.path == argument and issue.example is not None:
                            assert Draft202012Validator(schema).is_valid(issue.example), (name, argument)
    (issue,) = issues_of("logto_create_connector_test", {"factory_id": "f", "config": {}, "email": "no"})
    assert (issue.example, "of the form name@example.com" in issue.wanted) == (None, True)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_example_of_every_connector_type_passes_and_each_key_missing_from_it_is_named(platform: str) -> None:
    for type_id, kind in connector_types(platform).items():
        whole = example(kind.config)
        assert config_issues(platform, type_id, whole) == []
        for key in kind.config.get("required", ()):
            less = {name: value for name, value in whole.items() if name != key}
            (issue,) = config_issues(platform, type_id, less)
            assert (issue.path, issue.got) == (f"config.{key}", "nothing")
            assert config_issues(platform, type_id, whole | {key: issue.example}) == []
            assert config_issues(platform, type_id, less, complete=False) == []


def test_a_missing_template_is_named_by_its_usage() -> None:
    kind = connector_type("logto", "twilio-short-message-service")
    assert kind is not None
    whole = example(kind.config)
    templates = [template for template in whole["templates"] if template["usageType"] not in ("Register", "Generic")]
    issues = config_issues("logto", kind.type, whole | {"templates": templates})
    for issue, usage in zip(issues, ("Register", "Generic"), strict=True):
        assert (issue.path, issue.got) == ("config.templates", "an array of 2")
        assert issue.wanted == f"an array with an entry whose usageType is {usage}"
        assert config_issues("logto", kind.type, whole | {"templates": issue.example}) == []


def test_a_member_that_fits_none_of_its_forms_is_told_the_word_that_chooses_one() -> None:
    kind = connector_type("logto", "simple-mail-transfer-protocol")
    assert kind is not None
    (issue,) = config_issues("logto", kind.type, example(kind.config) | {"auth": {"type": "kerberos", "pass": SECRET}})
    assert (issue.path, issue.got) == ("config.auth.type", "a string of 8 characters")
    assert issue.wanted == "one of login, Login, LOGIN, oauth2, OAuth2, OAUTH2"
    assert SECRET not in texts(issue)
    (issue,) = config_issues("logto", kind.type, example(kind.config) | {"auth": SECRET})
    assert issue.path == "config.auth"
    assert issue.wanted.startswith("an object (How to sign in to the SMTP server")


def test_of_a_config_that_is_merged_nulls_and_missing_members_pass_and_wrong_types_do_not() -> None:
    oidc = {"scope": None, "idTokenVerificationConfig": {"issuer": "https://id.example.com"}}
    assert config_issues("logto", "oidc", oidc, complete=False) == []
    paths = {issue.path for issue in config_issues("logto", "oidc", oidc)}
    assert paths >= {"config.scope", "config.idTokenVerificationConfig.jwksUri"}
    smtp = {"auth": {"type": "oauth2", "refreshToken": SECRET}}
    assert config_issues("logto", "simple-mail-transfer-protocol", smtp, complete=False) == []
    (wrong,) = config_issues("logto", "oidc", {"scope": 5}, complete=False)
    assert (wrong.path, wrong.got) == ("config.scope", "the number 5")
    template = {"templates": [{"usageType": "SignIn"}]}
    paths = {i.path for i in config_issues("logto", "twilio-short-message-service", template, complete=False)}
    assert "config.templates[0].content" in paths


@pytest.mark.parametrize(
    ("given_config", "merged", "paths"),
    [
        ({"b": 1}, {"b": 1}, []),
        ({"a": None}, {"b": 1}, ["config.a"]),
        ({"inner": {"x": 5}}, {"a": "stored", "inner": {"x": 5}}, ["config.inner.y", "config.inner.x"]),
        ({"inner": {"x": "t"}}, {"a": 7, "inner": {"x": "t", "y": "t"}, "old": 1}, []),
        ({"inner": {}}, {"a": "t", "inner": {}}, ["config.inner.y"]),
        ({"new": 1}, {"a": "t", "new": 1, "old": 1}, ["config.new"]),
        ({"list": [1]}, {"a": "t", "list": [1]}, ["config.list[0]"]),
    ],
)
def test_a_merged_config_is_held_to_its_schema_where_the_call_touches_it(
    given_config: Any, merged: Any, paths: list[str]
) -> None:
    inner = {"type": "object", "properties": {"x": {"type": "string"}, "y": {}}, "required": ["y"]}
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {}, "inner": inner, "list": {"items": {"type": "string"}}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert merged_issues(schema, given_config, merged) == paths


def test_a_number_in_the_place_of_a_secret_is_not_repeated() -> None:
    (issue,) = config_issues("logto", "github-universal", {"clientId": "c", "clientSecret": 1234})
    assert (issue.path, issue.got) == ("config.clientSecret", "a number")


def test_a_key_of_the_pipeline_is_sent_there() -> None:
    keys = {k.type: [*k.traits["pipeline_config"]["properties"]] for k in connector_types("vectorize").values()}
    for kind in [connector_types("vectorize")[type_id] for type_id, names in keys.items() if names]:
        key = keys[kind.type][0]
        issues = config_issues("vectorize", kind.type, {**example(kind.config), key: "x"})
        assert "belongs to the pipeline" in next(issue for issue in issues if issue.path == f"config.{key}").wanted


def test_a_config_of_an_unknown_type_is_not_held_against_anything() -> None:
    assert refusal({"anything": [1]}, None) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"), (True, "true"), (999_999, "the number 999999"), (1_000_000, "a number"),
        (-1_000_000, "a number"), (10**5000, "a number"), (0.5, "the number 0.5"), (0.123456789, "a number"),
        ("", "an empty string"), (SECRET, f"a string of {len(SECRET)} characters"), ([1], "an array of 1"),
        ({}, "an object"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)  # fmt: skip
def test_a_value_is_described_without_giving_it_away(value: Any, words: str) -> None:
    assert describe(value) == words
