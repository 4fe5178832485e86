"""A valid config of every connector type, and the calls of each platform that take a whole one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

from connector_mcp.errors import Issue
from connector_mcp.json_values import is_array, is_object
from connector_mcp.operations.conductorone.connector_setup import CreateConnector as CreateCatalogConnector
from connector_mcp.operations.conductorone.connectors import UpdateConnector as UpdateCatalogConnector
from connector_mcp.operations.connector_types import ConnectorType, connector_types, example
from connector_mcp.operations.logto.connectors import CreateConnector
from connector_mcp.operations.logto.sso_connectors import CreateSsoConnector, UpdateSsoConnector
from connector_mcp.operations.logto.use import CreateConnectorTest
from connector_mcp.operations.operation import Operation
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.vectorize.ai_platform_connectors import (
    CreateAiPlatformConnector,
    UpdateAiPlatformConnector,
)
from connector_mcp.operations.vectorize.connectors import ConnectorUpdate
from connector_mcp.operations.vectorize.destination_connectors import (
    CreateDestinationConnector,
    UpdateDestinationConnector,
)
from connector_mcp.operations.vectorize.pipelines import CreatePipeline
from connector_mcp.operations.vectorize.source_connectors import CreateSourceConnector, UpdateSourceConnector
from connector_mcp.operations.vectorize.source_users import TOKENS, AddUserToSourceConnector
from connector_mcp.operations.versori.connections import CreateConnection
from connector_mcp.operations.versori.connectors_v1 import V1CreateHttpConnector
from connector_mcp.operations.versori.systems import CreateSystem
from connector_mcp.operations.versori.variables import SetProjectVariablesSchema
from tests.operations.hooks import issues

Steps = tuple[str | int, ...]

KEY_FILE = json.dumps(
    {
        "type": "service_account",
        "client_email": "robot@acme.iam.gserviceaccount.com",
        "private_key": "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n",
    }
)
LOGTO = [kind for kind in connector_types("logto").values() if kind.creatable and kind.kind != "SSO"]
SSO = [kind for kind in connector_types("logto").values() if kind.kind == "SSO"]
VECTORIZE = [kind for kind in connector_types("vectorize").values() if kind.config["properties"]]
VECTORIZE_CALLS: dict[str, tuple[type[Operation], type[ConnectorUpdate]]] = {
    "source": (CreateSourceConnector, UpdateSourceConnector),
    "destination": (CreateDestinationConnector, UpdateDestinationConnector),
    "AI platform": (CreateAiPlatformConnector, UpdateAiPlatformConnector),
}
IN_PIPELINE = " in a pipeline"
PIPELINE_PART = {
    f"{kind}{IN_PIPELINE}": path
    for kind, path in [
        ("source", "source_connectors[0]"), ("destination", "destination_connector"),
        ("AI platform", "ai_platform_connector"), ("built-in", "ai_platform_connector"),
    ]
}  # fmt: skip
PIPELINES = [
    replace(kind, type=kind.type + IN_PIPELINE, kind=kind.kind + IN_PIPELINE, config=kind.traits["pipeline_config"])
    for kind in connector_types("vectorize").values()
]
SELECTION = " selection"
SELECTIONS = [
    replace(kind, type=kind.type + SELECTION, kind=SELECTION, config=kind.traits["selected_files"])
    for kind in connector_types("vectorize").values()
    if kind.traits.get("users")
]
VERSORI = [kind for kind in connector_types("versori").values() if kind.creatable]
CATALOG = [kind for kind in connector_types("conductorone").values() if kind.creatable]
# Any credential fits a signature.
HMAC: dict[str, Any] = {
    "type": "hmac",
    "hmac": {
        "id": "k", "description": "d", "name": "X-Signature", "in": "header", "algorithm": "sha256",
        "digestInputs": ["body"], "encoding": "hex",
    },
}  # fmt: skip


def filled(value: Any, key: str = "") -> Any:
    """The example without placeholders."""
    if is_object(value):
        return {name.strip("<>"): filled(member, name) for name, member in value.items()}
    if is_array(value):
        return [filled(item, key) for item in value]
    if key == "service-account-json":
        return KEY_FILE
    return "value-1" if isinstance(value, str) and value.startswith("<") and not value.startswith("<p>") else value


def config_of(kind: ConnectorType, choice: int = 0) -> Any:
    """A valid config with all members that its schema describes in detail, at any depth.

    Where there are alternatives, `choice` is the one that is taken.
    """
    config = detailed(kind.config, filled(example(kind.config)), choice)
    return config | {"key": KEY_FILE} if kind.type == "VERTEX" else config


def detailed(schema: Any, value: Any, choice: int) -> Any:
    branches = [each for each in schema.get("anyOf", ()) if each.get("properties")]
    if branches and is_object(value):
        chosen = branches[min(choice, len(branches) - 1)]
        return detailed(chosen, {key: filled(example(part), key) for key, part in chosen["properties"].items()}, choice)
    if is_array(value):
        return [detailed(schema.get("items", {}), item, choice) for item in value]
    if not is_object(value):
        return value
    held = dict(value)
    for key, member in schema.get("properties", {}).items():
        if key not in held and (member.get("properties") or member.get("anyOf")):
            held[key] = {name: filled(example(part), name) for name, part in member.get("properties", {}).items()}
            held[key] = held[key] or filled(example(member), key)
        if key in held:
            held[key] = detailed(member, held[key], choice)
    return held


def variants(kind: ConnectorType) -> list[Any]:
    """A config for each choice among alternatives."""
    found: list[Any] = []
    for config in (config_of(kind, choice) for choice in range(3)):
        found += [config] if config not in found else []
    return found


def calls(kind: ConnectorType, config: Any) -> Iterator[tuple[Operation, Situation, str]]:
    """The calls that take a whole config of this type, and the path of the config in each."""
    if kind.platform == "vectorize":
        if (path := PIPELINE_PART.get(kind.kind)) is not None:
            yield pipeline(path, kind.type.removesuffix(IN_PIPELINE), config), Situation(), f"{path}.config"
            return
        if kind.kind == SELECTION:
            token = TOKENS[kind.traits["user_credential"]]
            user = {"organization_id": "org", "source_connector_id": "src", "user_id": "u", token: "t"}
            add = AddUserToSourceConnector.model_validate(user | {"selected_files": config})
            yield add, Situation({"id": "src", "type": kind.type.removesuffix(SELECTION)}), "selected_files"
            return
        creation, change = VECTORIZE_CALLS[kind.kind]
        if kind.creatable and kind.traits.get("takes_config_on_create", True):
            connector = {"name": "Docs", "type": kind.type, "config": config}
            create = creation.model_validate({"organization_id": "org", "connectors": [connector]})
            yield create, Situation(), "connectors[0].config"
        update = change.model_validate(
            {"organization_id": "org", change.http.placeholders[-1]: "src", "config": config}
        )
        yield update, Situation({"id": "src", "type": kind.type, "configDoc": {}}), "config"
        return
    if kind.platform == "versori":
        yield versori_call(kind, config)
        return
    if kind.platform == "conductorone":
        given = {"app_id": "a", "catalog_id": kind.type, "config": config}
        yield CreateCatalogConnector.model_validate(given), Situation(described={"name": kind.name}), "config"
        stored = {"id": "c", "appId": "a", "catalogId": kind.type, "config": {}}
        yield UpdateCatalogConnector(app_id="a", id="c", config=config), Situation(stored), "config"
        return
    if kind.kind == "SSO":
        given = {"provider_name": kind.type, "connector_name": "Acme", "config": config}
        yield CreateSsoConnector.model_validate(given), Situation(), "config"
        stored = {"id": "c", "providerName": kind.type, "config": {}, "branding": {}}
        yield UpdateSsoConnector(id="c", config=config), Situation(stored), "config"
        return
    metadata = {"metadata": {"target": "acme"}} if kind.traits["isStandard"] else {}
    given = {"connector_id": kind.type, "config": config, **metadata}
    described = {"id": kind.type, "type": kind.kind}
    yield CreateConnector.model_validate(given), Situation(described=described), "config"
    if kind.kind != "Social":
        recipient = {"phone": "49170"} if kind.kind == "Sms" else {"email": "a@example.com"}
        test = CreateConnectorTest.model_validate({"factory_id": kind.type, "config": config, **recipient})
        yield test, Situation(described=described), "config"


def versori_call(kind: ConnectorType, config: Any) -> tuple[Operation, Situation, str]:
    org, found = {"organisation_id": "org"}, Situation({"found": 1})
    match kind.kind:
        case "auth scheme":
            system = {"name": "n", "domain": "d", "template_base_url": "u", "auth_scheme_configs": [config]}
            return CreateSystem.model_validate(org | system), found, "auth_scheme_configs[0]"
        case "auth scheme of Connect v1":
            connector = {"name": "n", "base_url": "u", "auth_scheme_configs": [config]}
            return V1CreateHttpConnector.model_validate(org | connector), found, "auth_scheme_configs[0]"
        case "credential":
            given = {"auth_scheme_config": HMAC, "type": kind.type.removeprefix("credential-"), "data": config}
            connection = {"connection_template_id": "t", "name": "n", "credentials": [given]}
            return CreateConnection.model_validate(org | connection), found, "credentials[0].data"
        case _:
            given = {"project_id": "p", "variables": config}
            return SetProjectVariablesSchema.model_validate(org | given), found, "variables"


def pipeline(path: str, type_id: str, config: Any) -> CreatePipeline:
    """A pipeline in which this config is the one at a path, and all else is right."""
    given: dict[str, Any] = {"organization_id": "org", **deepcopy(CreatePipeline.example)}
    part = {"id": "c", "type": type_id, "config": config}
    member = path.removesuffix("[0]")
    given[member] = [part] if member != path else part
    return CreatePipeline.model_validate(given)


def refusals(kind: ConnectorType, config: Any) -> Iterator[dict[str, Issue]]:
    """What each call refuses, by the path inside of the config."""
    for call, situation, path in calls(kind, config):
        yield {issue.path.removeprefix(path).lstrip("."): issue for issue in issues(call, situation)}


def objects(schema: Any, value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """Every object of a config with the schema that describes it; of alternatives the one that it fits."""
    for branch in schema.get("anyOf", ()):
        if is_object(value) and set(value) <= set(branch.get("properties", ())):
            yield from objects(branch, value, steps)
            return
    if is_object(value):
        yield steps, schema
        for key, member in value.items():
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            yield from objects(inner if is_object(inner) else {}, member, (*steps, key))
    elif is_array(value):
        # The items of a list have one schema: the first of them is enough.
        for item in value[:1]:
            yield from objects(schema.get("items", {}), item, (*steps, 0))


def at(value: Any, steps: Steps) -> Any:
    for step in steps:
        value = value[step]
    return value


def path_of(steps: Steps) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
