"""What this server does not know of a config: refused with the setting that opens it, or sent with a warning."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.json_values import JsonObject
from connector_mcp.sandbox.faults import Fault
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.sources import EnvironmentSource
from tests.engine.conftest import BenchMaker, FakeCaller

pytestmark = pytest.mark.anyio

SITE = {"name": "a", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"], "new": 1}}
OKTA = {"app_id": "2sandboxApp0000000000000001", "id": "2sandboxConnector0000000001"}
CALLS: dict[str, tuple[str, JsonObject, str]] = {
    "key": (
        "vectorize_create_source_connector",
        {
            "connectors": [
                {"name": "a", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"], "new": 1}}
            ]
        },
        "connectors[0].config.new",
    ),
    "type": (
        "vectorize_create_source_connector",
        {"connectors": [{"name": "a", "type": "NEW_SOURCE", "config": {"a": "b"}}]},
        "connectors[0].type",
    ),
    "update": ("conductorone_update_connector", OKTA | {"config": {"okta_v2_new": "x"}}, "config.okta_v2_new"),
}


@pytest.mark.parametrize(("tool", "arguments", "path"), CALLS.values(), ids=CALLS)
async def test_what_is_unknown_is_refused_or_sent_with_a_warning(
    bench: BenchMaker, tool: str, arguments: Any, path: str
) -> None:
    refused = await bench().engine.call(tool, arguments, FakeCaller())
    error = refused.content["error"]
    assert (error["code"], [issue["path"] for issue in error["issues"]]) == ("invalid_arguments", [path])
    assert "CONNECTOR_MCP_UNKNOWN_CONFIG=warn" in error["fix"]
    made = bench(unknown_config="warn")
    result = await made.engine.call(tool, arguments, FakeCaller())
    assert result.content.get("error", {}).get("code") != "invalid_arguments"
    assert [method for method, _ in made.requests() if method != "GET"] == ["POST"]
    warnings = result.content.get("meta", {}).get("warnings", [])
    assert result.is_error or any(warning.startswith(f"Not checked: {path} is an unknown") for warning in warnings)


async def test_a_wrong_value_of_a_known_key_is_refused_whatever_the_setting_says(bench: BenchMaker) -> None:
    config = {"seed-urls": "no list"}
    arguments = {"connectors": [{"name": "a", "type": "WEB_CRAWLER", "config": config}]}
    made = bench(unknown_config="warn")
    error = (await made.engine.call("vectorize_create_source_connector", arguments, FakeCaller())).content["error"]
    assert [issue["path"] for issue in error["issues"]] == ["connectors[0].config.seed-urls"]
    assert "UNKNOWN_CONFIG" not in error["fix"]


async def test_a_creation_takes_the_keys_that_the_description_of_its_type_names(bench: BenchMaker) -> None:
    """The platform describes a type otherwise than this server knows it: one key is new, and one is now secret."""
    stored = EnvironmentSource({"CONNECTOR_MCP_SECRET_key": "s3cr3t-of-the-app"})
    made, okta = bench(secrets=Secrets([stored])), "2kG3aTftCcAvWtHZt2Ywry0dPn7"
    fields: list[JsonObject] = [
        {"name": "address", "displayName": "Address", "required": True, "stringField": {}},
        {"name": "seed", "displayName": "Seed", "stringField": {"passwordField": {}}},
    ]
    described: JsonObject = {"schema": {"displayName": "Okta", "fields": fields}, "formSchema": None}
    made.sandbox.inject(Fault("conductorone", "POST", "*/connectorcatalog", status=200, times=9, body=described))
    known = await made.engine.call("describe_connector_type", {"platform": "conductorone", "type": okta}, FakeCaller())
    assert set(known.content["data"]["config_schema"]["properties"]) == {"address", "seed"}
    cases: list[tuple[JsonObject, str]] = [
        # An operator is asked, because the secret goes to an address of the caller's choice.
        ({"address": "acme.example", "seed": "secret://key"}, "approval_required"),
        ({"address": "acme.example", "okta_v2_domain": "acme.okta.com"}, "invalid_arguments"),
    ]
    for config, code in cases:
        arguments: JsonObject = {"app_id": OKTA["app_id"], "catalog_id": okta, "config": config}
        error = (await made.engine.call("conductorone_create_connector", arguments, FakeCaller())).content["error"]
        assert error["code"] == code, error
