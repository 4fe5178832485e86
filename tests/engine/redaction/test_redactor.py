"""Nothing secret leaves: by schema, by name, by value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

import pytest

from connector_mcp.engine.redaction.redactor import (
    MARKER,
    KeyClass,
    _classify_cached,
    by_name,
    by_plan,
    classify_key,
    hide,
    names_a_secret,
    redact_arguments,
    redact_config,
    redact_record,
    secret_values,
)
from connector_mcp.operations.catalog import catalog, platform_folder
from connector_mcp.operations.connector_types import ConnectorType, config_plan, connector_type, connector_types
from connector_mcp.operations.operation import SECRET, Effect, Operation, Record, StoredConfig
from connector_mcp.operations.platform import POST, Platform
from connector_mcp.operations.situation import ConfigUse, Situation
from tests.for_each import for_each

STORED = {
    "vectorize": StoredConfig("configDoc", "type"),
    "logto": StoredConfig("config", "connectorId"),
    "conductorone": StoredConfig("config.configuration", "catalogId"),
    "versori": StoredConfig("config", "protocol"),
}


def by_schema(value: Any, schema: Mapping[str, Any], platform: Platform | None = None, *, strict: bool = False) -> Any:
    """A config as it is shown by a schema that is no connector type's."""
    return by_plan(value, config_plan(schema), platform, strict=strict)


EVERY_TYPE = [kind for platform in STORED for kind in connector_types(platform).values()]
every_type = for_each("kind", EVERY_TYPE, ids=lambda kind: f"{kind.platform}:{kind.type}")


def platform_of(name: str) -> Platform:
    return platform_folder(name).platform


class Plant:
    """Configs made from a schema, with a marked value wherever a secret may stand."""

    def __init__(self) -> None:
        self.secrets: list[str] = []

    def mark(self) -> str:
        self.secrets.append(f"planted-secret-{len(self.secrets)}-Zq9")
        return self.secrets[-1]

    def every_form(self, schema: Mapping[str, Any], *, secret: bool = False) -> Iterator[Any]:
        """A value for each alternative of the schema."""
        secret = secret or bool(schema.get("writeOnly"))
        branches = [branch for word in ("anyOf", "oneOf") for branch in schema.get(word, ())]
        if branches:
            for branch in branches:
                yield from self.every_form(branch, secret=secret)
        elif schema.get("properties"):
            forms = {key: list(self.every_form(inner, secret=secret)) for key, inner in schema["properties"].items()}
            for index in range(max(map(len, forms.values()))):
                yield {key: values[min(index, len(values) - 1)] for key, values in forms.items()}
        elif schema.get("type") == "object":
            others = schema.get("additionalProperties")
            inner = others if isinstance(others, dict) else {"type": "string"}
            yield {"plain": next(self.every_form(inner, secret=secret)), "api_token": self.mark()}
        elif schema.get("type") == "array":
            yield [next(self.every_form(schema.get("items", {}), secret=secret))]
        elif schema.get("type") in ("boolean", "number", "integer"):
            yield 7 if schema["type"] != "boolean" else True
        else:
            yield self.mark() if secret else "shown-as-it-is"


def configs_of(kind: ConnectorType) -> tuple[list[Any], list[str]]:
    plant = Plant()
    return list(plant.every_form(kind.config)) if kind.config.get("properties") else [{}], plant.secrets


def record_of(kind: ConnectorType, config: Any) -> dict[str, Any]:
    stored = STORED[kind.platform]
    if kind.platform == "conductorone":
        wrapped = {
            key: {"keyValues": {"items": [{"key": k, "value": v} for k, v in value.items()]}}
            if isinstance(value, dict)
            else {"stringValue": value if isinstance(value, str) else json.dumps(value)}
            for key, value in config.items()
        }
        return {stored.type_at: kind.type, "config": {"@type": "EnvConfig", "configuration": wrapped}}
    return {stored.type_at: kind.type, stored.at: config, "name": "Product documents"}


@every_type
def test_every_secret_of_every_type_is_hidden_in_the_platforms_record(kind: ConnectorType) -> None:
    configs, secrets = configs_of(kind)
    assert bool(secrets) >= bool(kind.secret_paths)
    platform = platform_of(kind.platform)
    records = [record_of(kind, config) for config in configs]
    shown = json.dumps(redact_record(records, STORED[kind.platform], platform))
    assert [secret for secret in secrets if secret in shown] == []
    # The endpoint of DataStax is called `endpoint_secret`, and names decide in doubt.
    is_shown = "shown-as-it-is" in json.dumps(records) and kind.type != "DATASTAX"
    assert (kind.type in shown, "shown-as-it-is" in shown) == (True, is_shown)


@every_type
def test_every_secret_of_every_type_is_hidden_in_the_arguments_and_known_from_then_on(kind: ConnectorType) -> None:
    configs, secrets = configs_of(kind)
    known: set[str] = set()
    for config in configs:
        operation = Call(config=config)
        uses = [ConfigUse("config", kind.type, kind, config)]
        shown = json.dumps(redact_arguments(operation, uses, operation.model_dump(exclude_unset=True)))
        assert [secret for secret in secrets if secret in shown] == []
        known |= secret_values(operation, uses)
    assert known >= set(secrets)
    named = [key for key in kind.config["properties"] if names_a_secret(key) and key not in kind.secret_paths]
    assert "shown-as-it-is" not in known or named or kind.traits.get("mayContainSecrets")


@every_type
def test_a_config_of_an_unknown_type_shows_no_string(kind: ConnectorType) -> None:
    for config in configs_of(kind)[0]:
        record = record_of(kind, config) | {STORED[kind.platform].type_at: "SOMETHING_NEW"}
        text = json.dumps(redact_record(record, STORED[kind.platform], platform_of(kind.platform)))
        assert "shown-as-it-is" not in text
        assert "planted-secret" not in text


class Call(Operation):
    """A call with everything that can be secret."""

    on = platform_of("vectorize")
    http = POST("/calls")
    effect = Effect.CREATE
    output = Record

    config: Any = None
    refresh_token: Annotated[Any, SECRET] = None
    variables: Any = None
    label: str | None = None


def test_members_that_may_hold_credentials_are_hidden_with_their_names_kept() -> None:
    for type_id, member in (("oauth2", "customConfig"), ("oidc", "customConfig"), *SMTP_MEMBERS):
        config = {member: {"X-Any-Name": "marked-value", "flag": True}}
        shown = redact_config(config, connector_type("logto", type_id), platform_of("logto"))
        assert shown == {member: {"X-Any-Name": MARKER, "flag": True}}


SMTP_MEMBERS = [("simple-mail-transfer-protocol", "customHeaders"), ("simple-mail-transfer-protocol", "tls")]


@pytest.mark.parametrize(
    "config", ["a string", ["a list"], '{"api": "text"}', 5], ids=["string", "list", "json", "number"]
)
def test_a_config_of_another_form_than_an_object_is_hidden(config: Any) -> None:
    record = {"type": "AWS_S3", "configDoc": config, "name": "n"}
    shown = redact_record(record, STORED["vectorize"], platform_of("vectorize"))
    assert shown == {"type": "AWS_S3", "configDoc": hide(config), "name": "n"}


def test_a_wrapped_config_of_another_form_keeps_the_name_of_the_form_only() -> None:
    record = {"catalogId": "x", "config": {"@type": "type.googleapis.com/Other", "host": "h", "n": {"x": "y"}}}
    shown = redact_record(record, STORED["conductorone"], platform_of("conductorone"))
    assert shown["config"] == {"@type": "type.googleapis.com/Other", "host": MARKER, "n": {"x": MARKER}}


def test_versori_credentials_show_everything_but_their_data() -> None:
    data = {"value": "crm-key", "certificate": ["c"], "expires": 5}
    connection = {"name": "prod", "credentials": {"action": [{"credential": {"id": "1", "name": "k", "data": data}}]}}
    shown = redact_record({"connections": [connection]}, None, platform_of("versori"))
    credential = shown["connections"][0]["credentials"]["action"][0]["credential"]
    assert credential == {"id": "1", "name": "k", "data": {"value": MARKER, "certificate": [MARKER], "expires": MARKER}}


SECRET_NAMES = """
password Passwd pwd pass db_password clientSecret client-secret CLIENT_SECRET secret token accessToken access_token_2
refreshToken bearerToken apiKey api-key X-API-KEY apikey apiKeys accessKey secretAccessKey privateKey private_key
privateKeys signingKey encryptionKey accountKey authKey passphrase Authorization proxyAuthorization credential
credentials credentialsJson serviceAccountJson service-account-json connectionString uploadUrl downloadUrl cookie
tokens secretKeys authToken securityToken token_value webhookSecret idToken
"""


@for_each("key", SECRET_NAMES.split())
def test_a_name_that_says_secret_hides_its_value(key: str) -> None:
    assert names_a_secret(key)
    assert by_name({key: "v", "other": "v"}) == {key: MARKER, "other": "v"}
    assert by_name({"list": [{key: 5}]}) == {"list": [{key: MARKER}]}


HARMLESS_NAMES = """
nextToken nextPageToken page_token continuationToken cursor tokenEndpoint token_endpoint tokenEndpointAuthMethod
clientSecretJwtSigningAlgorithm accessKeyId access-key-id secretName secret_id tokenType tokenUrl token_uri
isTokenStorageSupported enableTokenStorage tokenExpiresAt tokenExpiresIn maxTokenAge apiKeyPlaceholder passwordPolicy
credentialType credentialIds author authorizationEndpoint authMethod keyboard monkey compass passenger bucket-name
username host id name url 名前 - 42
"""


@for_each("key", HARMLESS_NAMES.split())
def test_a_name_that_only_sounds_like_a_secret_hides_nothing(key: str) -> None:
    assert not names_a_secret(key)
    assert by_name({key: "v"}) == {key: "v"}


def test_a_platform_may_name_further_keys() -> None:
    own = replace(platform_of("logto"), secret_keys=frozenset({"pat"}))
    assert by_name({"PAT": "x", "path": "y"}, own) == {"PAT": MARKER, "path": "y"}


def test_a_pair_of_name_and_value_is_judged_by_the_name() -> None:
    for member, name, hidden in (("name", "apiKey", True), ("key", "Authorization", True), ("name", "region", False)):
        assert by_name([{member: name, "value": "x"}]) == [{member: name, "value": MARKER if hidden else "x"}]


@pytest.mark.parametrize(
    "value",
    [
        "-----BEGIN PRIVATE KEY-----\nMIIE",
        "  -----BEGIN RSA PRIVATE KEY-----",
        "postgres://user:hunter2@db.example.com/x",
        '{"private_key": "x", "project": "p"}',
        ' \n[{"token": "x"}]',
        '{"a": "{\\"password\\": \\"x\\"}"}',
        '{"a":' * 2_000,
    ],
    ids=["pem", "rsa", "address", "json", "json-array", "json-in-json", "deep"],
)
def test_a_string_that_is_or_holds_a_credential_is_hidden_under_any_name(value: str) -> None:
    if value.startswith('{"a":{"a"'):
        value = value + "1" + "}" * 2_000
    assert by_name({"notes": value}) == {"notes": MARKER}
    assert by_schema({"notes": value}, {"properties": {"notes": {"type": "string"}}}) == {"notes": MARKER}


@pytest.mark.parametrize("value", ["{{region}}.example.com", "[not json", '{"project": "p"}', "https://a.example/x@y"])
def test_a_string_that_holds_none_is_shown(value: str) -> None:
    assert by_name({"notes": value}) == {"notes": value}


def test_the_schema_decides_where_it_marks_and_the_name_where_it_does_not() -> None:
    schema = {
        "properties": {
            "plain": {"type": "string", "writeOnly": True},
            "accessKeyId": {"type": "string"},
            "api_key": {"type": "string"},
            "map": {"type": "object", "additionalProperties": {"type": "string", "writeOnly": True}},
            "either": {"anyOf": [{"type": "string", "writeOnly": True}, {"properties": {"user": {"type": "string"}}}]},
            "list": {"type": "array", "items": {"type": "string", "writeOnly": True}},
            "tokenRules": {"type": "object", "properties": {"issuer": {"type": "string"}}},
        }
    }
    config = {
        "plain": {"nested": "x"}, "accessKeyId": "AKIA", "api_key": {"stringValue": "x"},
        "map": {"a": "x", "b": ["y"]}, "list": ["x", 5], "tokenRules": {"issuer": "i", "password": "x"},
        "unknown": "shown", "unknown_token": "x",
    }  # fmt: skip
    assert by_schema(config, schema) == {
        "plain": {"nested": MARKER},
        "accessKeyId": "AKIA",
        "api_key": {"stringValue": MARKER},
        "map": {"a": MARKER, "b": [MARKER]},
        "list": [MARKER, MARKER],
        "tokenRules": {"issuer": "i", "password": MARKER},
        "unknown": "shown",
        "unknown_token": MARKER,
    }
    assert by_schema({"either": "x"}, schema) == {"either": MARKER}
    assert by_schema({"either": {"user": "u"}}, schema) == {"either": {"user": "u"}}


@pytest.mark.parametrize("word", ["anyOf", "oneOf", "allOf"])
def test_a_member_is_hidden_where_any_alternative_marks_it(word: str) -> None:
    marks: dict[str, Any] = {"properties": {"code": {"type": "string", "writeOnly": True}, "lines": {"items": {}}}}
    shows = {"properties": {"code": {"type": "string"}, "lines": {"items": {"writeOnly": True}}}}
    for parts in ([marks, shows], [shows, marks]):
        shown = by_schema({"code": "x", "lines": ["y"], "other": "z"}, {word: parts})
        assert shown == {"code": MARKER, "lines": [MARKER], "other": "z"}


def test_what_a_caller_put_where_the_schema_has_no_place_for_it_is_hidden() -> None:
    schema = {"properties": {"a": {"properties": {"b": {}}}, "open": {"type": "object"}}, "additionalProperties": False}
    config = {"a": {"b": "x", "c": "y"}, "open": {"any": "z"}, "other": {"k": ["v"]}}
    assert by_schema(config, schema) == config
    assert by_schema(config, schema, strict=True) == {**config, "other": {"k": [MARKER]}}
    kind = connector_type("vectorize", "AWS_S3")
    given = {"bucket-name": "b", "key": "wrong-place"}
    shown = redact_arguments(Call(config=given), [ConfigUse("config", "AWS_S3", kind, given)], {"config": given})
    assert shown == {"config": {"bucket-name": "b", "key": MARKER}}


def test_hiding_keeps_the_shape_and_what_says_nothing() -> None:
    value = {"a": ["x", 1, 0.5], "b": None, "c": True, "d": "", "e": {}}
    assert hide(value) == {"a": [MARKER, MARKER, MARKER], "b": None, "c": True, "d": "", "e": {}}


def test_redaction_leaves_its_input_alone_and_may_be_done_twice() -> None:
    record = {"type": "AWS_S3", "configDoc": {"secret-key": "x", "bucket-name": "b"}, "token": "t"}
    before = json.dumps(record)
    once = redact_record(record, STORED["vectorize"], platform_of("vectorize"))
    assert json.dumps(record) == before
    assert redact_record(once, STORED["vectorize"], platform_of("vectorize")) == once


def test_secret_arguments_are_hidden_and_missing_ones_not_named() -> None:
    key = {"name": "api_key", "value": "the-api-key"}
    operation = Call(refresh_token="the-refresh-token", variables=[key], label="l")
    shown = redact_arguments(operation, [], operation.model_dump(exclude_unset=True))
    assert shown == {"refresh_token": MARKER, "variables": [{**key, "value": MARKER}], "label": "l"}
    assert secret_values(operation, []) == {"the-refresh-token", "the-api-key"}


def test_a_config_inside_a_list_is_redacted_in_its_place() -> None:
    create = catalog()["vectorize_create_source_connector"]
    connectors = [
        {"name": "a", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}},
        {"name": "b", "type": "AWS_S3", "config": {"secret-key": "planted-secret-1", "bucket-name": "b"}},
    ]
    operation = create.model_validate({"organization_id": "o", "connectors": connectors})
    shown = redact_arguments(operation, operation.find_configs(Situation()), operation.model_dump(exclude_unset=True))
    assert shown["connectors"][0] == connectors[0]
    assert shown["connectors"][1]["config"] == {"secret-key": MARKER, "bucket-name": "b"}


def test_the_parts_of_a_secret_that_is_json_are_secrets_too() -> None:
    kind = connector_type("vectorize", "GCS")
    account = ' {"private_key": "the-private-key", "project_id": "the-project"}'
    config = {"service-account-json": account}
    found = secret_values(Call(config=config), [ConfigUse("config", "GCS", kind, config)])
    assert found == {account, "the-private-key"}


@pytest.mark.parametrize(
    "value", [("a", "tuple"), {"a set"}, b"bytes", object()], ids=["tuple", "set", "bytes", "object"]
)
def test_what_is_no_json_is_hidden(value: Any) -> None:
    assert by_name({"notes": value}) == {"notes": MARKER}
    assert by_schema({"notes": value}, {"properties": {"notes": {}}}) == {"notes": MARKER}
    assert redact_record(value, STORED["vectorize"], platform_of("vectorize")) == MARKER


def test_only_short_keys_are_remembered_and_only_so_many() -> None:
    assert by_name({"k" * 65: "shown", "secret" * 20: "hidden"}, None) == {"k" * 65: "shown", "secret" * 20: MARKER}
    before = _classify_cached.cache_info().currsize
    classify_key("k" * 66)
    assert _classify_cached.cache_info().currsize == before
    for number in range(5_000):
        assert classify_key(f"key-{number}") is KeyClass.PLAIN
        assert classify_key(f"token-{number}") is not KeyClass.PLAIN
    assert _classify_cached.cache_info().currsize <= 4096
