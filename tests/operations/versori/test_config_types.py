"""What holds for every config of Versori: auth schemes of both APIs, credentials, declarations of variables."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from connector_mcp.operations.connector_types import ConnectorType, connector_types
from connector_mcp.operations.operation import Operation
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.versori.connections import CreateConnection
from connector_mcp.operations.versori.connectors_v1 import V1CreateHttpConnector
from connector_mcp.operations.versori.systems import CreateSystem
from connector_mcp.operations.versori.variables import SetProjectVariablesSchema
from tests.operations.hooks import issues
from tests.operations.test_every_config import at, config_of, objects, path_of

KINDS = [kind for kind in connector_types("versori").values() if kind.creatable]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.type)
# Any credential fits a signature.
HMAC: dict[str, Any] = {
    "type": "hmac",
    "hmac": {
        "id": "k", "description": "d", "name": "X-Signature", "in": "header", "algorithm": "sha256",
        "digestInputs": ["body"], "encoding": "hex",
    },
}  # fmt: skip
WRONG: dict[str, Any] = {
    "string": 7, "array": "text", "object": "text", "boolean": "text", "number": "text", "integer": "text",
}  # fmt: skip


def call(kind: ConnectorType, config: Any) -> tuple[Operation, str]:
    """A call with this config, and the path of the config in it."""
    org = {"organisation_id": "org"}
    match kind.kind:
        case "auth scheme":
            system = {"name": "n", "domain": "d", "template_base_url": "u", "auth_scheme_configs": [config]}
            return CreateSystem.model_validate(org | system), "auth_scheme_configs[0]"
        case "auth scheme of Connect v1":
            connector = {"name": "n", "base_url": "u", "auth_scheme_configs": [config]}
            return V1CreateHttpConnector.model_validate(org | connector), "auth_scheme_configs[0]"
        case "credential":
            given = {"auth_scheme_config": HMAC, "type": kind.type.removeprefix("credential-"), "data": config}
            connection = {"connection_template_id": "t", "name": "n", "credentials": [given]}
            return CreateConnection.model_validate(org | connection), "credentials[0].data"
        case _:
            return SetProjectVariablesSchema.model_validate(org | {"project_id": "p", "variables": config}), "variables"


def refused(kind: ConnectorType, config: Any) -> dict[str, str]:
    """What is wanted instead, by the path inside of the config."""
    operation, path = call(kind, config)
    return {
        issue.path.removeprefix(path).lstrip("."): issue.wanted for issue in issues(operation, Situation({"found": 1}))
    }


def test_every_documented_type_with_a_shape_is_there() -> None:
    shapes = {"none", "api-key", "basic-auth", "oauth2", "oauth1", "hmac", "certificate"}
    credentials = {
        "none", "string", "binary", "basic-auth", "oauth2-client", "oauth2-code", "oauth2-password", "oauth2-token",
        "oauth1", "oauth1-token", "certificate",
    }  # fmt: skip
    wanted = {f"auth-scheme-{name}" for name in shapes} | {f"credential-{name}" for name in credentials}
    wanted |= {f"v1-auth-scheme-{name}" for name in shapes - {"oauth1"}} | {"variables-schema"}
    assert {kind.type for kind in KINDS} == wanted


@every_kind
def test_a_valid_config_is_taken(kind: ConnectorType) -> None:
    assert refused(kind, config_of(kind)) == {}


@every_kind
def test_a_required_key_that_is_left_out_is_named_with_what_is_wanted(kind: ConnectorType) -> None:
    whole = config_of(kind)
    for steps, schema in objects(kind.config, whole):
        for key in schema.get("required", ()):
            config = deepcopy(whole)
            del at(config, steps)[key]
            wanted = {place: text for place, text in refused(kind, config).items() if place.endswith(key)}
            # An object that fits none of several alternatives is refused as a whole.
            assert wanted or path_of(steps) in refused(kind, config), (kind.type, steps, key)
            assert all(wanted.values())


@every_kind
def test_a_value_of_another_type_is_refused_in_its_place(kind: ConnectorType) -> None:
    whole = config_of(kind)
    for steps, schema in objects(kind.config, whole):
        for key, member in schema.get("properties", {}).items():
            # An error does not repeat longer keys.
            if "type" not in member or len(key) > 32:
                continue
            config = deepcopy(whole)
            at(config, steps)[key] = WRONG[member["type"]]
            places = refused(kind, config)
            assert any(path_of((*steps, key)).startswith(place) for place in places if place), (kind.type, steps, key)


@every_kind
def test_an_unknown_key_is_refused_at_every_depth(kind: ConnectorType) -> None:
    whole = config_of(kind)
    for steps, schema in objects(kind.config, whole):
        if schema.get("additionalProperties", True) is not False:
            continue
        config = deepcopy(whole)
        at(config, steps)["noSuchKey"] = "x"
        assert refused(kind, config), (kind.type, steps)


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
