"""Versori's Platform API v2 and further operations of Connect v1: losses, problems, what is left to do, configs."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest

from connector_mcp.engine.redaction.redactor import MARKER, redact_arguments, redact_record
from connector_mcp.errors import InvalidArguments
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import platform_folder
from connector_mcp.operations.connector_types import connector_types
from connector_mcp.operations.operation import Effect, Operation
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.versori.activations import ActivateUser, ListEndUsers
from connector_mcp.operations.versori.connections import CreateConnection, UpdateConnection, unproven
from connector_mcp.operations.versori.connectors import UpdateConnector
from connector_mcp.operations.versori.connectors_v1 import V1UpsertAuthSchemeConfig
from connector_mcp.operations.versori.kinds import Connections, ConnectionTemplates
from connector_mcp.operations.versori.platform import VERSORI, pick
from connector_mcp.operations.versori.projects import CreateProject, DeployProjectVersion, ListProjects
from connector_mcp.operations.versori.systems import (
    CreateSystem,
    InitialiseOauth2Connection,
    SystemAuthScheme,
    UpdateSystem,
    UpsertAuthSchemeConfig,
)
from connector_mcp.operations.versori.templates import DeleteConnectionTemplate, UpdateConnectionTemplate
from connector_mcp.operations.versori.variables import (
    GetProjectVariablesSchema,
    SetDynamicVariable,
    SetDynamicVariables,
    SetProjectVariablesSchema,
)
from tests.operations.hooks import losses, problems
from tools.operations_page import documented

Made = TypeVar("Made", bound=Operation)
OPERATIONS = platform_folder("versori").operations
KEY: JsonObject = {"type": "api-key", "apiKey": {"id": "key", "description": "d", "name": "X-Key", "in": "header"}}
APP = {"credentialId": "cred", "organisationId": "org", "clientId": "app"}


def oauth(grant: str = "authorizationCode", **app: Any) -> JsonObject:
    settings: JsonObject = {"id": "oauth", "description": "d", "tokenUrl": "https://a.example/t"}
    settings |= {"scopes": [], "defaultScopes": []}
    return {"type": "oauth2", "oauth2": {**settings, "grant": {"type": grant, grant: app}}}


def credential(scheme: JsonObject = KEY, kind: str = "string") -> JsonObject:
    return {"auth_scheme_config": scheme, "type": kind, "data": {"value": "sk"}}


def make(operation: type[Made], **arguments: Any) -> Made:
    """The operation with its example's arguments, and these in their place."""
    tenant = {"organisation_id": "org"} if "organisation_id" in operation.model_fields else {}
    return operation.model_validate({**tenant, **operation.example, **arguments})


# What a call would destroy -------------------------------------------------------------------------------------------

STORED_SCHEME = {"found": True, "config": {**KEY, "apiKey": {**KEY["apiKey"], "note": "n"}}}
CONNECTION = {"id": "c", "name": "n", "credentials": [{"id": "1", "authSchemeConfig": KEY}]}
TEMPLATE = {"found": True, "name": "t", "dynamic": False, "authSchemeConfigs": [KEY]}
SCHEMA = {"kind": "variables-schema", "variables": {"type": "object", "properties": {"a": {"type": "string"}}}}
ACTIVATION = {"id": "a", "dynamicVariables": {"kept": 1, "map": {"x": 1, "y": 2}}}
RUNNING = {"found": True, "name": "production", "deployedVersion": {"id": "v1", "name": "1.0.0"}}


def declared(*names: str, **more: Any) -> JsonObject:
    return {"variables": {"type": "object", "properties": {name: {"type": "string"} for name in names}, **more}}


def named(value: Any) -> str | None:
    return type(value).__name__ if isinstance(value, Operation) else None


@pytest.mark.parametrize(
    ("operation", "current", "lost"),
    [
        (make(UpdateConnector, public=True), {"id": "c", "public": False}, "Shows the connector with its base URL to"),
        (make(UpdateConnector, public=True), {"id": "c", "public": True}, ""),
        (make(UpsertAuthSchemeConfig, config=KEY), STORED_SCHEME, "Unsets config.apiKey.note"),
        (make(UpsertAuthSchemeConfig, config=KEY), {"found": False, "config": {}}, ""),
        (make(UpdateConnection, credentials=[credential(oauth(), "oauth2-code")]), CONNECTION,
         "Drops the credential for auth scheme key"),
        (make(UpdateConnection, credentials=[credential()]), CONNECTION, ""),
        (make(UpdateConnectionTemplate, auth_scheme_config_ids=["other"]), TEMPLATE, "Drops auth scheme key"),
        (make(UpdateConnectionTemplate, auth_scheme_config_ids=["key", "more"]), TEMPLATE, ""),
        (make(SetProjectVariablesSchema, **declared()), SCHEMA, "Removes the declarations of all variables"),
        (make(SetProjectVariablesSchema, **declared("b")), SCHEMA, "Removes the declaration of variable a"),
        (make(SetDynamicVariables, variables={"map": {"x": 1}}), ACTIVATION, "Unsets dynamicVariables.map.y"),
        (make(SetDynamicVariables, variables={"new": 1}), ACTIVATION, ""),
        (make(SetDynamicVariable, variable_name="map", value={"value": 7}), ACTIVATION, "Unsets dynamicVariables.map"),
        (make(DeployProjectVersion, version_id="v2"), RUNNING, "Replaces the version that runs now"),
        (make(DeployProjectVersion, version_id="v1"), RUNNING, ""),
        (make(DeployProjectVersion, version_id="v1"), {"found": True, "status": "draft"}, ""),
    ],
    ids=named,
)  # fmt: skip
def test_only_what_would_be_lost_or_shown_needs_a_decision(operation: Operation, current: Any, lost: str) -> None:
    found = [each for each, *_ in losses(operation, Situation(current))]
    assert len(found) == (1 if lost else 0)
    assert all(sentence.startswith(lost) for sentence in found)


@pytest.mark.parametrize("stored", [{**APP, "clientSecret": "****"}, {**APP, "clientSecret": ""}, APP])
def test_a_stored_client_secret_is_kept_by_its_ids_and_is_no_loss(stored: JsonObject) -> None:
    system = {"id": UpsertAuthSchemeConfig.example["system_id"], "authSchemeConfigs": [KEY, oauth(**stored)]}
    reader = make(SystemAuthScheme, system_id=system["id"], auth_scheme_config_id="oauth")
    now = Situation(reader.shape_result([system], Situation()))
    update = make(UpsertAuthSchemeConfig, auth_scheme_config_id="oauth", config=oauth(clientId="app 2"))
    assert losses(update, now) == []
    assert update.make_body(now) == oauth(**APP | {"clientId": "app 2"})
    other = make(UpsertAuthSchemeConfig, auth_scheme_config_id="oauth", config=oauth("clientCredentials"))
    assert other.make_body(now) == oauth("clientCredentials")


def test_connect_v1_keeps_a_stored_client_secret_too() -> None:
    config = {"schemeType": "oauth2", "id": "oauth", "grant": {"grantType": "password", "clientId": "b"}}
    stored = {**config, "grant": {"grantType": "password", **APP}}
    update = make(V1UpsertAuthSchemeConfig, auth_scheme_config_id="oauth", config=config)
    body = update.make_body(Situation({"found": True, "config": stored}))
    assert body["grant"] == {"grantType": "password", **APP, "clientId": "b"}


def test_nothing_is_concluded_from_an_answer_that_is_not_the_list_or_the_record() -> None:
    assert pick({"items": []}, "id", "x") is None
    reader = make(SystemAuthScheme, system_id="s", auth_scheme_config_id="key")
    for answer in ({}, {"id": "another", "authSchemeConfigs": [KEY]}, {"id": reader.system_id}, "page"):
        assert reader.shape_result([answer], Situation()) is None


# What is refused -----------------------------------------------------------------------------------------------------

CODE = oauth(**APP)
ONE = {"connection_template_id": "t", "existing_connection_id": "c"}
NEW = {"name": "n", "credentials": [credential()], "base_url": "https://own.example"}


@pytest.mark.parametrize(
    ("operation", "current", "paths"),
    [
        (make(CreateConnection, credentials=[credential(kind="basic-auth")]), None, ["credentials[0].type"]),
        (make(CreateConnection, credentials=[credential(CODE, "oauth2-client")]), None, ["credentials[0].type"]),
        (make(CreateConnection, credentials=[credential({"type": "jwt-bearer"})]), None,
         ["credentials[0].auth_scheme_config.type"]),
        (make(CreateConnection, credentials=[credential({"type": "hmac"}, "key")]), None, ["credentials[0].type"]),
        (make(CreateSystem, auth_scheme_configs=[KEY, oauth(credentialId="c")]), None, ["auth_scheme_configs[1]"]),
        (make(UpsertAuthSchemeConfig, auth_scheme_config_id="other"), None, ["config"]),
        (make(UpsertAuthSchemeConfig, auth_scheme_config_id="oauth", config=oauth(credentialId="c")), None, ["config"]),
        (make(InitialiseOauth2Connection), {"found": True, "config": KEY}, ["auth_scheme_config_id"]),
        (make(InitialiseOauth2Connection), {"found": False, "config": {}}, ["auth_scheme_config_id"]),
        (make(UpdateConnectionTemplate), {"found": False}, ["template_id"]),
        (make(UpdateConnectionTemplate, dynamic=None), TEMPLATE, ["arguments"]),
        (make(DeleteConnectionTemplate), {"found": False}, ["template_id"]),
        (make(ActivateUser, connections=[ONE, ONE]), [], ["connections[1].connection_template_id"]),
        (make(ActivateUser, connections=[{"connection_template_id": "t"}]), [], ["connections[0]"]),
        (make(ActivateUser, connections=[{**ONE, "connection": NEW}]), [], ["connections[0]"]),
        (make(ActivateUser), [{"id": "a"}], ["user_id"]),
        (make(SetDynamicVariables, variables={"a": None}), ACTIVATION, ["variables.a"]),
        (make(SetDynamicVariables, variables={}), ACTIVATION, ["variables"]),
        (make(SetDynamicVariable, value={"channel_id": "x"}), ACTIVATION, ["value"]),
        (make(SetProjectVariablesSchema, **declared(required=["a"])), SCHEMA, ["variables.required"]),
        (make(DeployProjectVersion), {"found": False}, ["project_env"]),
    ],
    ids=named,
)  # fmt: skip
def test_what_cannot_work_is_refused_in_its_place(operation: Operation, current: Any, paths: list[str]) -> None:
    assert problems(operation, Situation(current)) == paths


@pytest.mark.parametrize("given", [{"activated": True}, {"environment_id": "e"}])
def test_end_users_are_filtered_by_both_of_two_arguments_or_neither(given: Any) -> None:
    with pytest.raises(InvalidArguments) as refused:
        make(ListEndUsers, **given).make_query()
    assert refused.value.issues[0].path in {"activated", "environment_id"} - given.keys()


# Where credentials go ------------------------------------------------------------------------------------------------


def goes(operation: Operation, current: Any = None) -> list[tuple[str, str, bool]]:
    return [(each.host, each.path, each.is_chosen) for each in operation.find_destinations(Situation(current))]


def test_credentials_go_to_the_hosts_of_their_auth_scheme_and_to_that_of_the_base_url() -> None:
    given = [credential(), credential(oauth("password"), "oauth2-password")]
    made = make(CreateConnection, connection_template_id="t", credentials=given, base_url="https://own.example/x")
    assert ("a.example", "credentials[1]", True) in goes(made)
    assert ("own.example", "credentials", True) in goes(made)
    user = make(ActivateUser, connections=[ONE, ONE | {"existing_connection_id": None, "connection": NEW}])
    assert ("own.example", "connections[1].connection.credentials", True) in goes(user)


def test_a_host_that_no_argument_shows_counts_as_chosen_where_the_caller_chose_the_template() -> None:
    made = make(CreateConnection, connection_template_id="t", credentials=[credential()])
    assert goes(made) == [("the host of connection template t", "credentials", True)]
    change = make(UpdateConnection, connection_id="c", credentials=[credential()])
    assert goes(change, CONNECTION) == [("the host of connection c", "credentials", False)]
    assert goes(change, CONNECTION | {"baseUrl": "https://own.example"}) == [("own.example", "credentials", False)]
    moved = make(UpdateConnection, credentials=[credential()], base_url="https://new.example")
    assert goes(moved, CONNECTION) == [("new.example", "", True), ("new.example", "credentials", True)]


# What a person reads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "told", "untold"),
    [
        (make(UpdateSystem), "Changes the name or website", "address"),
        (make(UpdateSystem, name=None, domain="https://d"), "Changes the name or website", "address"),
        (make(UpdateSystem, template_base_url="https://b"), "calls the new address", "website"),
        (make(UpdateConnectionTemplate, dynamic=None, name="u"), "another name fails.", "no longer count"),
        (make(UpdateConnectionTemplate, name="t"), "connections no longer count.", "another name"),
        (make(UpdateConnectionTemplate, name="u"), "another name fails; it takes one connection per", "static"),
        (make(UpdateConnectionTemplate, dynamic=False, auth_scheme_config_ids=["key"]), "template {name}.", ";"),
    ],
    ids=named,
)
def test_a_change_tells_what_it_does_and_nothing_else(operation: Operation, told: str, untold: str) -> None:
    sentence = operation.describe_effect(Situation(TEMPLATE))
    assert (told in sentence, untold in sentence) == (True, False)


# What a manifest changes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changes", "sent"),
    [
        (Connections, {("base_url",): None}, {"base_url": ""}),
        (Connections, {("base_url",): "https://b", ("name",): "n"}, {"base_url": "https://b", "name": "n"}),
        (ConnectionTemplates, {("dynamic",): None}, {"dynamic": False}),
        (ConnectionTemplates, {("dynamic",): True, ("name",): "n"}, {"dynamic": True, "name": "n"}),
    ],
)
def test_what_a_manifest_unsets_is_sent_as_its_empty_form(kind: Any, changes: Any, sent: Any) -> None:
    [call] = kind().update("id", "p/e", {"credentials": [credential()]}, changes)
    make(call.operation, **call.arguments)
    assert {name: call.arguments[name] for name in call.arguments if name in ("name", "base_url", "dynamic")} == sent


# What is shown -------------------------------------------------------------------------------------------------------


def test_the_settings_of_an_api_key_scheme_are_shown_and_its_key_is_not() -> None:
    held = {"credential": {"data": {"string": {"value": "sk"}}}, "authSchemeConfig": KEY}
    shown = redact_record({"credentials": [held], "apiKey": "sk"}, None, VERSORI)
    assert shown["credentials"][0]["authSchemeConfig"] == KEY
    assert shown["credentials"][0]["credential"]["data"]["string"]["value"] == MARKER
    assert shown["apiKey"] == MARKER


def test_the_value_of_a_variable_is_hidden_where_its_name_says_that_it_is_secret() -> None:
    for name, hidden in (("api_token", True), ("channel_id", False)):
        operation = make(SetDynamicVariable, variable_name=name, value={"value": "v-1"})
        shown = redact_arguments(operation, (), operation.model_dump(exclude_unset=True))
        assert (shown["value"] == {"value": MARKER}) is hidden


def test_a_declaration_of_a_secret_variable_is_shown_whole() -> None:
    schema = {"type": "object", "properties": {"api_token": {"type": "string", "description": "Token."}}}
    read = make(GetProjectVariablesSchema)
    record = read.shape_result([schema], Situation())
    assert redact_record(record, read.stored_config, VERSORI) == record
    assert read.shape_result([None], Situation())["variables"] == {"type": "object", "properties": {}}


def test_source_code_is_left_out() -> None:
    code: JsonObject = {"files": []}
    project = {"id": "p", "currentFiles": code, "environments": [{"id": "e", "name": "n", **code}]}
    shown = {"id": "p", "environments": [{"id": "e", "name": "n"}]}
    assert make(ListProjects).shape_result([{"projects": [project]}], Situation()) == [shown]
    for one in (CreateProject, DeployProjectVersion):
        assert make(one).shape_result([project], Situation()) == shown


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [([None], "not validated"), ([["401"]], "invalid"), ([[]], ""),
     ([[], None], "not validated"), ([], "not validated"), ([None, ["401"]], "invalid")],
)  # fmt: skip
def test_a_connection_says_what_is_known_of_all_its_credentials(verdicts: list[Any], word: str) -> None:
    credentials = [{"credential": {} if errors is None else {"errors": errors}} for errors in verdicts]
    said = unproven({"credentials": credentials})
    assert word in said
    assert bool(said) == bool(word)


def test_each_next_step_names_a_tool_that_exists() -> None:
    names = {operation.tool_name() for operation in OPERATIONS}
    data = {"id": "x", "authSchemeConfigs": [KEY], "dynamic": True}
    made = [operation for operation in OPERATIONS if operation.effect is Effect.CREATE]
    for operation in made:
        step = make(operation, **({"external_id": "m"} if "external_id" in operation.model_fields else {}))
        said = step.find_next_step(data, Situation())
        tools = {word.strip(".,:;") for word in said.split() if word.startswith("versori_")}
        assert tools <= names
        assert said or operation is ActivateUser, operation


def test_one_operation_of_the_first_rank_is_no_tool() -> None:
    listed = documented("versori")
    assert len(listed) == 82
    assert [each.operation for each in listed if each.rank == "A" and each.reason] == ["GetProject"]


# Configs -------------------------------------------------------------------------------------------------------------

KINDS = [kind for kind in connector_types("versori").values() if kind.creatable]


def test_every_documented_type_with_a_shape_is_there() -> None:
    shapes = {"none", "api-key", "basic-auth", "oauth2", "oauth1", "hmac", "certificate"}
    credentials = {
        "none", "string", "binary", "basic-auth", "oauth2-client", "oauth2-code", "oauth2-password", "oauth2-token",
        "oauth1", "oauth1-token", "certificate",
    }  # fmt: skip
    wanted = {f"auth-scheme-{name}" for name in shapes} | {f"credential-{name}" for name in credentials}
    wanted |= {f"v1-auth-scheme-{name}" for name in shapes - {"oauth1"}} | {"variables-schema"}
    assert {kind.type for kind in KINDS} == wanted


def test_the_secrets_of_each_type_are_marked() -> None:
    secrets = {
        kind.type: {path.rpartition(".")[2] for path in kind.secret_paths} for kind in KINDS if kind.secret_paths
    }
    app = {"clientSecret", "additionalTokenParams"}
    assert secrets == {
        "auth-scheme-oauth1": {"consumerSecret"}, "auth-scheme-oauth2": app, "v1-auth-scheme-oauth2": app,
        "credential-string": {"value"}, "credential-binary": {"valueBase64"}, "credential-basic-auth": {"password"},
        "credential-oauth2-password": {"password"}, "credential-oauth2-client": {"clientSecret"},
        "credential-oauth2-token": {"refreshToken", "accessToken"}, "credential-oauth2-code": {"code", "state"},
        "credential-oauth1": {"oauthToken", "oauthVerifier", "state"},
        "credential-oauth1-token": {"token", "tokenSecret"}, "credential-certificate": {"key"},
    }  # fmt: skip
