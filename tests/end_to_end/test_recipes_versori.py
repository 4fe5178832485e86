"""Every recipe for a connector that works on Versori, as an agent does it over MCP, and what the check says if not."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.sandbox import seed
from connector_mcp.sandbox.versori.projects import DEPLOY_SECONDS
from tests.end_to_end.recipes import Agent

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("platform", ["versori"])]

KEY: dict[str, Any] = {
    "type": "api-key",
    "apiKey": {"id": "key", "description": "API key", "name": "X-Api-Key", "in": "header"},
}
WRONG = "invalid-key"


def credentials(secret: str) -> list[dict[str, Any]]:
    return [{"auth_scheme_config": KEY, "type": "string", "data": {"value": secret}}]


async def connect_a_system(agent: Agent, secret: str) -> str:
    """From a search that finds nothing to a static connection in the running environment of a project."""
    assert await agent.call("versori_list_systems", search="Acme CRM") == []
    system = await agent.call(
        "versori_create_system",
        name="Acme CRM",
        domain="https://acme.example",
        template_base_url="https://api.acme.example/v2",
    )
    await agent.call(
        "versori_upsert_auth_scheme_config", system_id=system["id"], auth_scheme_config_id="key", config=KEY
    )
    projects = await agent.call("versori_list_projects")
    project = next(each for each in projects if each["name"] == "Orders")
    production = next(each for each in project["environments"] if each["name"] == "production")
    template = await agent.call(
        "versori_create_connection_template",
        project_id=project["id"],
        system_id=system["id"],
        name="crm",
        environment_id=production["id"],
        dynamic=False,
    )
    connection = await agent.call(
        "versori_create_connection",
        connection_template_id=template["connectionTemplateId"],
        name="acme-production",
        credentials=credentials(secret),
    )
    return connection["id"]


async def test_a_system_is_connected_until_it_works(agent: Agent) -> None:
    verdict = await agent.check(await connect_a_system(agent, "acme-key"), "connection")
    assert verdict["works"] == "yes"
    assert verdict["seen"]["status"] == "running"
    agent.assert_next_steps_were_taken(
        "versori_create_system", "versori_upsert_auth_scheme_config", "versori_create_connection_template"
    )


async def test_a_connection_with_a_wrong_key_does_not_work(agent: Agent) -> None:
    verdict = await agent.check(await connect_a_system(agent, WRONG), "connection")
    assert verdict["works"] == "no"
    assert "credentials" in verdict["reason"]
    assert "versori_update_connection" in verdict["next"]


async def activate_a_customer(agent: Agent, *, active: bool) -> dict[str, Any]:
    """Connect an end user's account to the storefront's template; the shop needs its channel."""
    project = (await agent.call("versori_list_projects"))[1]
    environment = project["environments"][0]["id"]
    declared = await agent.call("versori_get_project_variables_schema", project_id=project["id"])
    assert declared["variables"]["required"] == ["channel_id"]
    await agent.call("versori_create_end_user", external_id="merchant-42", display_name="Merchant 42")
    (template,) = await agent.call(
        "versori_list_project_connection_templates", project_id=project["id"], environment_id=environment
    )
    connection = await agent.call(
        "versori_create_connection",
        connection_template_id=template["connectionTemplateId"],
        name="merchant-42-a1b2",
        credentials=credentials("merchant-key"),
        external_id="merchant-42",
    )
    if not active:
        return connection
    existing = {
        "connection_template_id": template["connectionTemplateId"],
        "existing_connection_id": connection["id"],
    }
    activation = await agent.call(
        "versori_activate_user",
        user_id="merchant-42",
        environment_id=environment,
        connections=[existing],
        dynamic_variables={"channel_id": "aboutyou"},
    )
    return activation | {"within": environment}


async def test_a_customer_is_connected_until_it_works(agent: Agent) -> None:
    activation = await activate_a_customer(agent, active=True)
    verdict = await agent.check(activation["id"], "activation", activation["within"])
    assert verdict["works"] == "yes"
    agent.assert_next_steps_were_taken("versori_create_end_user", "versori_create_connection")


async def test_a_customer_who_is_not_active_does_not_work(agent: Agent) -> None:
    connection = await activate_a_customer(agent, active=False)
    verdict = await agent.check(connection["id"], "connection")
    assert (verdict["works"], verdict["next"]) == ("no", "Activate them: versori_activate_user.")


SHOP = {"environment_id": seed.VERSORI_STOREFRONT_PRODUCTION}


async def test_a_setting_of_a_customer_is_changed(agent: Agent) -> None:
    (activation,) = await agent.call("versori_list_activations", **SHOP)
    values = {"variables": {"channel_id": "other"}}
    changed = await agent.call("versori_set_dynamic_variables", **SHOP, activation_id=activation["id"], **values)
    assert changed == {"dynamicVariables": {"channel_id": "other"}}
    verdict = await agent.check(activation["id"], "activation", seed.VERSORI_STOREFRONT_PRODUCTION)
    assert verdict["works"] == "yes"


async def test_a_setting_that_is_not_declared_is_refused_and_changes_nothing(agent: Agent) -> None:
    at = {**SHOP, "activation_id": seed.VERSORI_ACTIVATION}
    error = await agent.refused("versori_set_dynamic_variables", **at, variables={"chanel_id": "other"})
    assert error["code"] == "rejected"
    assert (await agent.call("versori_get_activation", **at))["dynamicVariables"] == {"channel_id": "main"}


@pytest.mark.parametrize(("secret", "works"), [("erp-key-2", "yes"), (WRONG, "no")])
async def test_a_credential_is_rotated(agent: Agent, secret: str, works: str) -> None:
    stored = await agent.call("versori_get_connection", connection_id=seed.VERSORI_CONNECTION)
    scheme = stored["credentials"][0]["authSchemeConfig"]
    given = [{"auth_scheme_config": scheme, "type": "string", "data": {"value": secret}}]
    await agent.call("versori_update_connection", connection_id=stored["id"], credentials=given)
    again = await agent.call("versori_get_connection", connection_id=stored["id"])
    assert again["name"] == stored["name"]
    assert again["credentials"][0]["credential"]["id"] == stored["credentials"][0]["credential"]["id"]
    assert (await agent.check(stored["id"], "connection"))["works"] == works
    agent.assert_next_steps_were_taken()


async def test_a_customer_leaves_and_the_environment_works_on(agent: Agent) -> None:
    at = {**SHOP, "activation_id": seed.VERSORI_ACTIVATION}
    await agent.call("versori_delete_activation", **at)
    (connection,) = await agent.call("versori_list_connections", end_user_id=seed.VERSORI_END_USER)
    assert (await agent.check(connection["id"], "connection"))["works"] == "no"
    await agent.call("versori_delete_connection", connection_id=connection["id"])
    assert await agent.call("versori_list_user_activations", **SHOP, external_user_id="merchant-1") == []
    verdict = await agent.check(seed.VERSORI_STOREFRONT_PRODUCTION, "environment")
    assert verdict["works"] == "yes"


async def test_a_connection_of_a_customer_who_is_active_cannot_be_deleted(agent: Agent) -> None:
    error = await agent.refused("versori_delete_connection", connection_id=seed.VERSORI_SHOP_CONNECTION)
    assert error["code"] == "conflict"


async def deploy(agent: Agent, version: str) -> dict[str, Any]:
    versions = await agent.call("versori_list_project_versions", project_id=seed.VERSORI_PROJECT)
    assert version in [each["id"] for each in versions]
    await agent.call(
        "versori_deploy_project_version",
        project_id=seed.VERSORI_PROJECT,
        version_id=version,
        project_env="production",
    )
    verdict = await agent.check(seed.VERSORI_PRODUCTION, "environment")
    assert (verdict["works"], verdict["seen"]["status"]) == ("unknown", "draft")
    agent.wait(DEPLOY_SECONDS)
    return await agent.check(seed.VERSORI_PRODUCTION, "environment")


async def test_a_stored_version_is_made_live(agent: Agent) -> None:
    verdict = await deploy(agent, seed.VERSORI_NEXT_VERSION)
    assert (verdict["works"], verdict["seen"]["version"]) == ("yes", "1.1.0")
    agent.assert_next_steps_were_taken()


async def test_a_version_that_failed_does_not_start(agent: Agent) -> None:
    verdict = await deploy(agent, seed.VERSORI_FAILED_VERSION)
    assert (verdict["works"], verdict["seen"]["status"]) == ("no", "error")
    assert "versori_get_project_logs" in verdict["next"]


async def test_an_environment_that_lacks_a_static_connection_cannot_be_deployed(agent: Agent) -> None:
    await agent.call("versori_delete_connection", connection_id=seed.VERSORI_CONNECTION)
    place = {"project_id": seed.VERSORI_PROJECT, "project_env": "production"}
    error = await agent.refused("versori_deploy_project_version", **place, version_id=seed.VERSORI_NEXT_VERSION)
    assert error["code"] == "rejected"
    assert "missing connections" in str(error["upstream"])
