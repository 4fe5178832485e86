"""The connector type files: what they promise to the tools that validate, redact and describe by them."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from connector_mcp.engine.results import encode_bytes
from connector_mcp.operations.connector_types import (
    SECRET_PLACEHOLDER,
    ConnectorType,
    connector_type,
    connector_types,
    example,
)
from tests.for_each import for_each
from tests.operations.hooks import describe, schemas

PLATFORMS = {"vectorize": 48, "logto": 57, "conductorone": 148, "versori": 27}

VECTORIZE_SECRETS: dict[str, set[str]] = {
    "AWS_S3": {"access-key", "secret-key"}, "AZURE_BLOB": {"storage-account-key"}, "CONFLUENCE": {"api-token"},
    "DISCORD": {"bot-token"}, "DOCUSIGN": set(), "DROPBOX": {"refresh-token"}, "DROPBOX_OAUTH": {"selection-details"},
    "DROPBOX_OAUTH_MULTI": set(), "DROPBOX_OAUTH_MULTI_CUSTOM": {"app-key", "app-secret"}, "FILE_UPLOAD": set(),
    "FIRECRAWL": {"api-key"}, "FIREFLIES": {"api-key"}, "GCS": {"service-account-json"}, "GITHUB": {"oauth-token"},
    "GMAIL": {"refresh-token"}, "GOOGLE_DRIVE": {"service-account-json"}, "GOOGLE_DRIVE_OAUTH": {"selection-details"},
    "GOOGLE_DRIVE_OAUTH_MULTI": set(),
    "GOOGLE_DRIVE_OAUTH_MULTI_CUSTOM": {"oauth2-client-id", "oauth2-client-secret"}, "INTERCOM": {"token"},
    "NOTION": {"access-token", "editedToken"}, "NOTION_OAUTH_MULTI": set(),
    "NOTION_OAUTH_MULTI_CUSTOM": {"client-id", "client-secret"}, "ONE_DRIVE": {"ms-client-secret"},
    "SHAREPOINT": {"ms-client-secret"}, "WEB_CRAWLER": set(), "ZOOM": {"refresh-token"},
    "ZOOM_ADMIN": {"refresh-token"}, "VECTORIZE": set(),
    "CAPELLA": {"password", "connection-string"}, "DATASTAX": {"token"}, "ELASTIC": {"api-key"},
    "PINECONE": {"api-key"}, "TURBOPUFFER": {"api-key"}, "AZUREAISEARCH": {"api-key"},
    "MILVUS": {"token", "password"}, "NEO4J": {"host", "password"}, "POSTGRESQL": {"password"},
    "SUPABASE": {"password"}, "SINGLESTORE": {"password"}, "QDRANT": {"api-key"}, "WEAVIATE": {"api-key"},
    "BEDROCK": {"access-key", "key"}, "VERTEX": {"key"}, "OPENAI": {"key"}, "VOYAGE": {"key"}, "ANTHROPIC": {"key"},
    "GROQ": {"key"},
}  # fmt: skip

VECTORIZE_IN_CREATE_SCHEMA = {
    "AWS_S3", "AZURE_BLOB", "CONFLUENCE", "DISCORD", "FILE_UPLOAD", "FIRECRAWL", "FIREFLIES", "GCS", "GITHUB",
    "GOOGLE_DRIVE", "ONE_DRIVE", "SHAREPOINT", "WEB_CRAWLER", "ZOOM", "ZOOM_ADMIN",
}  # fmt: skip
VECTORIZE_DESTINATIONS = {
    "CAPELLA", "DATASTAX", "ELASTIC", "PINECONE", "AZUREAISEARCH", "MILVUS", "NEO4J", "POSTGRESQL", "QDRANT",
    "SINGLESTORE", "SUPABASE", "TURBOPUFFER", "WEAVIATE",
}  # fmt: skip
VECTORIZE_AI_PLATFORMS = {"ANTHROPIC", "BEDROCK", "GROQ", "OPENAI", "VERTEX", "VOYAGE"}
VECTORIZE_MULTI_USER = {
    f"{provider}_OAUTH_MULTI{owner}" for provider in ("DROPBOX", "GOOGLE_DRIVE", "NOTION") for owner in ("", "_CUSTOM")
}

LOGTO_SECRETS: dict[str, set[str]] = {
    "alipay-native": {"privateKey"}, "aliyun-direct-mail": {"accessKeySecret"}, "apple-universal": set(),
    "aws-ses-mail": {"accessKeySecret"}, "feishu-web": {"appSecret"}, "gatewayapi-sms": {"apiToken"},
    "github-universal": {"clientSecret"}, "google-universal": {"clientSecret"}, "http-email": {"authorization"},
    "http-sms": {"authorization"}, "logto-email": {"appSecret"}, "logto-social-demo": set(),
    "mailgun-email": {"apiKey"}, "oauth2": {"clientSecret"}, "oidc": {"clientSecret"},
    "postmark-mail": {"serverToken"}, "saml": {"privateKey", "privateKeyPass", "encPrivateKey", "encPrivateKeyPass"},
    "simple-mail-transfer-protocol": {
        "auth.accessToken", "auth.clientSecret", "auth.pass", "auth.privateKey", "auth.privateKey.key",
        "auth.privateKey.passphrase", "auth.refreshToken", "tls.key", "tls.passphrase", "tls.pfx",
    },
    "smsbao-sms": {"passwordOrApiKey"}, "twilio-short-message-service": {"authToken"},
    "vonage-sms": {"apiKey", "apiSecret"}, "whatsapp-short-message-service": {"accessToken"},
    "yunpian-sms": {"apikey"},
}  # fmt: skip

EVERY_TYPE = [entry for platform in PLATFORMS for entry in connector_types(platform).values()]
# What a pipeline gives to a connector is described like a config, and held to the same rules.
EVERY_TYPE += [
    replace(entry, type=f"{entry.type} in a pipeline", config=entry.traits["pipeline_config"])
    for entry in connector_types("vectorize").values()
]
every_type = for_each("entry", EVERY_TYPE, ids=lambda entry: f"{entry.platform}:{entry.type}")


def known(platform: str, type_id: str) -> ConnectorType:
    entry = connector_type(platform, type_id)
    assert entry is not None
    return entry


def accepts(entry: ConnectorType, config: Any) -> bool:
    return Draft202012Validator(entry.config).is_valid(config)


@pytest.mark.parametrize(("platform", "count"), PLATFORMS.items())
def test_every_known_type_of_a_platform_is_there(platform: str, count: int) -> None:
    assert len(connector_types(platform)) == count


def test_an_unknown_type_is_none_and_an_unknown_platform_has_no_types() -> None:
    assert connector_type("vectorize", "AWS_S4") is None
    assert connector_type("logto", "AWS_S3") is None
    assert connector_types("airtable") == {}


@every_type
def test_a_config_schema_is_valid_and_closed(entry: ConnectorType) -> None:
    Draft202012Validator.check_schema(entry.config)
    assert entry.config["type"] == "object"
    assert entry.config["additionalProperties"] is False
    assert set(entry.config.get("required", ())) <= set(entry.config["properties"])
    assert not accepts(entry, example(entry.config) | {"no-such-key": "x"})


@every_type
def test_every_member_of_a_config_is_described_in_a_short_sentence(entry: ConnectorType) -> None:
    for path, schema in schemas(entry.config):
        for key, member in schema.get("properties", {}).items():
            description = member.get("description")
            assert description, (path, key)
            assert description.endswith("."), (path, key)
            assert len(description) <= 100, (path, key)


@every_type
def test_the_example_of_a_type_is_accepted_by_its_schema(entry: ConnectorType) -> None:
    validator = Draft202012Validator(entry.config, format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert [error.message for error in validator.iter_errors(example(entry.config))] == []


@every_type
def test_the_example_shows_what_is_required_and_a_placeholder_for_every_secret(entry: ConnectorType) -> None:
    shown = example(entry.config)
    required = entry.config.get("required", ())
    if required:
        assert list(shown) == list(required)
    assert bool(shown) == bool(entry.config["properties"])
    for key in shown:
        if key in entry.secret_paths:
            assert SECRET_PLACEHOLDER in str(shown[key]), key


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_type_file_is_sorted_and_free_of_commit_hashes_and_vendor_addresses(platform: str) -> None:
    text = (resources.files("connector_mcp.operations") / platform / "connector_types.json").read_text("utf-8")
    assert text.endswith("}\n")
    assert list(connector_types(platform)) == sorted(connector_types(platform))
    assert not re.search(r"\b[0-9a-f]{40}\b", text)
    assert "github.com" not in text
    assert "githubusercontent" not in text


def test_changing_an_example_leaves_the_schema_as_it_is() -> None:
    entry = known("vectorize", "WEB_CRAWLER")
    example(entry.config)["seed-urls"].append("https://elsewhere.example")
    assert example(entry.config) == {"seed-urls": ["https://docs.example.com"]}


def test_an_example_takes_const_default_enum_format_and_minimum_before_a_placeholder() -> None:
    text = {"type": "string"}
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"const": "fixed"}, "fixed"),
        ({"type": "boolean", "default": True}, True),
        ({"type": "string", "enum": ["x", "y"]}, "x"),
        ({"type": "string", "format": "email"}, "name@example.com"),
        ({"type": "integer", "minimum": 5}, 5),
        ({"oneOf": [text, {"type": "object"}], "writeOnly": True}, "<secret-key>"),
        ({"type": "array", "items": text, "minItems": 2}, ["<a>", "<a>"]),
        ({"type": "array", "items": text, "writeOnly": True}, ["<secret-key>"]),
        ({"type": "object", "additionalProperties": text, "writeOnly": True}, {"<name>": "<secret-key>"}),
    ]
    for member, shown in cases:
        assert example({"type": "object", "required": ["a"], "properties": {"a": member}}) == {"a": shown}


SECRETS = [("vectorize", *row) for row in VECTORIZE_SECRETS.items()] + [
    ("logto", *row) for row in LOGTO_SECRETS.items()
]


@pytest.mark.parametrize(("platform", "type_id", "secrets"), SECRETS)
def test_the_secrets_of_a_type_are_marked(platform: str, type_id: str, secrets: set[str]) -> None:
    assert set(known(platform, type_id).secret_paths) == secrets


def test_vectorize_types_are_creatable_when_the_api_takes_them_without_a_browser() -> None:
    wanted = {"destination": VECTORIZE_DESTINATIONS, "AI platform": VECTORIZE_AI_PLATFORMS, "built-in": set[str]()}
    wanted["source"] = VECTORIZE_IN_CREATE_SCHEMA | VECTORIZE_MULTI_USER
    assert {entry.kind for entry in connector_types("vectorize").values()} == set(wanted)
    for kind, types in wanted.items():
        known = connector_types("vectorize").values()
        assert {entry.type for entry in known if entry.kind == kind and entry.creatable} == types
    assert set(VECTORIZE_SECRETS) == set(connector_types("vectorize"))


def test_a_vectorize_type_that_cannot_be_created_says_where_it_can() -> None:
    for entry in connector_types("vectorize").values():
        assert entry.creatable or any("console" in note for note in entry.notes), entry.type


def test_vectorize_multi_user_types_say_which_credential_their_users_bring() -> None:
    traits = {key: entry.traits for key, entry in connector_types("vectorize").items() if entry.traits.get("users")}
    assert set(traits) == VECTORIZE_MULTI_USER
    for key, entry in traits.items():
        assert entry["user_credential"] == ("accessToken" if key.startswith("NOTION") else "refreshToken")


def test_vectorize_types_that_take_no_config_on_create_are_known() -> None:
    known = connector_types("vectorize").values()
    without = {e.type for e in known if e.kind == "source" and not e.traits["takes_config_on_create"]}
    assert without == {"FILE_UPLOAD", "DROPBOX_OAUTH_MULTI", "GOOGLE_DRIVE_OAUTH_MULTI", "NOTION_OAUTH_MULTI"}


def test_vectorize_console_bookkeeping_can_never_be_sent() -> None:
    bookkeeping = {"authorized-users", "editedUsers", "deletedUsers", "reconnectUsers"}
    for entry in connector_types("vectorize").values():
        assert not bookkeeping & set(entry.config["properties"]), entry.type


def test_vectorize_pipeline_keys_are_refused_in_a_connector_config_but_known() -> None:
    entry = known("vectorize", "AWS_S3")
    assert {"file-extensions", "idle-time", "recursive", "path-prefix"} <= set(
        entry.traits["pipeline_config"]["properties"]
    )
    for other in connector_types("vectorize").values():
        assert not set(other.traits["pipeline_config"]["properties"]) & set(other.config["properties"]), other.type


@pytest.mark.parametrize("key", [" key", "key ", "key\n", "\tkey", "", " "])
def test_a_vectorize_key_with_space_around_it_is_refused(key: str) -> None:
    entry = connector_type("vectorize", "FIREFLIES")
    assert not accepts(entry, {"api-key": key})
    assert accepts(entry, {"api-key": "k"})
    assert accepts(entry, {"api-key": "two words"})


def test_logto_factories_are_of_three_kinds_and_only_demos_cannot_be_created() -> None:
    factories = [each for each in connector_types("logto").values() if each.kind != "SSO"]
    assert [sum(e.kind == kind for e in factories) for kind in ("Email", "Sms", "Social")] == [10, 11, 30]
    assert [e.type for e in factories if not e.creatable] == ["logto-social-demo"]
    assert {e.type for e in factories if e.traits["isStandard"] and e.creatable} == {"oauth2", "oidc", "saml"}
    assert sum(e.traits["supportsAuthorizationUri"] and e.creatable for e in factories) == 16


def test_a_logto_config_without_one_of_the_required_templates_is_refused() -> None:
    entry = known("logto", "twilio-short-message-service")
    config = example(entry.config)
    assert [template["usageType"] for template in config["templates"]] == entry.traits["requiredTemplateUsageTypes"]
    assert accepts(entry, config)
    assert not accepts(entry, config | {"templates": config["templates"][:-1]})


@pytest.mark.parametrize(
    "auth",
    [
        {"type": "login", "user": "u", "pass": "p"},
        {"type": "oauth2", "user": "u", "serviceClient": "c", "privateKey": "k"},
        {"type": "OAuth2", "user": "u", "serviceClient": "c", "privateKey": {"key": "k", "passphrase": "p"}},
        {"type": "oauth2", "user": "u", "clientId": "c", "clientSecret": "s", "refreshToken": "r"},
    ],
)
def test_smtp_takes_each_of_its_forms_of_sign_in(auth: dict[str, Any]) -> None:
    entry = known("logto", "simple-mail-transfer-protocol")
    assert accepts(entry, example(entry.config) | {"auth": auth})
    assert not accepts(entry, example(entry.config) | {"auth": {**auth, "type": "kerberos"}})


def test_members_in_which_a_credential_may_hide_are_named() -> None:
    known = {"simple-mail-transfer-protocol": ["tls", "customHeaders"], "FIRECRAWL": ["request"]}
    known["FIRECRAWL in a pipeline"] = ["request"]
    hiding = {e.type: e.traits["mayContainSecrets"] for e in EVERY_TYPE if "mayContainSecrets" in e.traits}
    assert hiding == {"oauth2": ["customConfig"], "oidc": ["customConfig"], **known}


def test_an_empty_value_for_a_required_logto_key_is_refused_because_it_would_vanish() -> None:
    entry = known("logto", "github-universal")
    assert accepts(entry, {"clientId": "c", "clientSecret": "s"})
    assert not accepts(entry, {"clientId": "c", "clientSecret": ""})


def test_conductorone_entries_without_fields_are_not_creatable_with_config() -> None:
    without = {e.name for e in connector_types("conductorone").values() if not e.creatable}
    assert without == {"Azure AD", "Baton", "Dropbox", "Ironclad", "Ramp V2"}
    for entry in connector_types("conductorone").values():
        assert entry.creatable == bool(entry.config["properties"])
        assert entry.creatable or entry.notes


def test_conductorone_field_groups_name_known_keys_and_are_selected_by_the_reserved_key() -> None:
    grouped = [e for e in connector_types("conductorone").values() if "fieldGroups" in e.traits]
    assert len(grouped) == 10
    for entry in grouped:
        groups: dict[str, list[str]] = entry.traits["fieldGroups"]
        members = entry.config["properties"]
        assert members["C1_selected_field_group_name"]["enum"] == list(groups)
        assert {key for keys in groups.values() for key in keys} < set(members)
        shown = example(entry.config)
        assert set(shown) == {"C1_selected_field_group_name", *groups[shown["C1_selected_field_group_name"]]}


def test_conductorone_secrets_and_value_types_follow_the_catalog() -> None:
    types = {e.name: e for e in connector_types("conductorone").values()}
    assert set(types["Okta v2"].secret_paths) == {"okta_v2_api_token"}
    assert set(types["GitHub v2"].secret_paths) == {"github_access_token", "github_app_private_key"}
    assert set(types["Salesforce v2"].secret_paths) == {"salesforce_password", "salesforce_security_token"}
    assert "http_connector_map_values" in types["HTTP"].secret_paths
    assert accepts(types["Okta v2"], {"okta_v2_domain": "acme.okta.com", "okta_sync_secrets": True})
    assert accepts(types["GitHub v2"], {"github_org_list": ["acme"]})
    assert accepts(types["HTTP"], {"http_connector_map_values": {"token": "t"}})
    assert not accepts(types["Okta v2"], {"okta_v2_domain": {"stringValue": "acme.okta.com"}})
    assert sum(len(entry.secret_paths) for entry in connector_types("conductorone").values()) == 171


def test_versori_protocols_take_their_own_address_only() -> None:
    http, bigquery = known("versori", "http"), known("versori", "bigquery")
    assert accepts(http, {"base_url": "https://api.example.com"})
    assert accepts(bigquery, {"dataset_id": "project.dataset"})
    assert not accepts(bigquery, {"base_url": "https://api.example.com"})


# What describe_connector_type says ------------------------------------------------------------------------------------


def in_words(shown: Any, schema: Any) -> None:
    """Check that keys in words are all the keys, and that a required one has its meaning or its form."""
    if not schema.get("properties"):
        assert shown
        return
    assert list(shown.get("required", {})) == list(schema.get("required", ()))
    assert {**shown.get("required", {}), **shown.get("optional", {})}.keys() == schema["properties"].keys()
    for group in shown.values():
        assert all(group.values())
    for key, meaning in shown.get("required", {}).items():
        described = schema["properties"][key]["description"].removeprefix("Whether ")
        assert described[:12] in meaning, key
        assert ("secret" in meaning) or not schema["properties"][key].get("writeOnly")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_description_has_at_most_2_kb_and_every_required_key_unless_all_is_asked_for(platform: str) -> None:
    warning = "The platform did not describe the type (malformed_answer): this is what the server knows of it."
    for entry in connector_types(platform).values():
        shown, full = (describe(platform=platform, type=entry.type, detail=detail) for detail in ("summary", "full"))
        assert (full["config_schema"], full["config_example"]) == (entry.config, example(entry.config))
        assert full.items() >= entry.traits.items()
        for found in (shown, describe(platform=platform, type=f" {entry.type} ")):
            assert len(encode_bytes({"data": found, "meta": {"sandbox": True, "warnings": [warning]}})) <= 2_000, (
                entry.type
            )
            text = encode_bytes(found).decode()
            for schema, exact, words in (
                (entry.config, "config_schema", "config_keys"),
                (entry.traits.get("pipeline_config", {}), "pipeline_config", "pipeline_keys"),
                (entry.traits.get("selected_files", {}), "selected_files", "selected_files"),
            ):
                if schema and found.get(exact) != schema:
                    in_words(found[words], schema)
                    assert "detail full" in found["left_out"], entry.type
                for key in {key for _, part in schemas(schema) for key in part.get("required", ())}:
                    assert re.search(rf"\b{re.escape(key)}\b", text), (entry.type, key)
            assert all(found.get(name) for name in ("type", "name", "kind", "described_by"))
            assert set(found.get("notes", ())) >= set(entry.notes)
            assert "creatable" in found


def test_a_description_by_the_platform_stays_small_whatever_it_holds() -> None:
    label = "Long label " * 30
    form = [{"key": f"key{number}", "type": "Text", "label": label} for number in range(300)]
    record = {"type": "Social", "name": {"en": "Own"}, "readme": label * 99, "logo": label * 99}
    required = [{**field, "required": True} for field in form[:3]]
    shown = describe({**record, "formItems": [*required, *form[3:]]}, platform="logto", type="own-factory")
    assert len(encode_bytes(shown)) <= 2_000
    assert list(shown["config_keys"]["required"]) == ["key0", "key1", "key2"]
    assert shown["left_out"].startswith("297 optional keys")
    full = describe({**record, "formItems": form}, platform="logto", type="own-factory", detail="full")
    assert len(full["config_schema"]["properties"]) == 300
    assert "readme" not in full
