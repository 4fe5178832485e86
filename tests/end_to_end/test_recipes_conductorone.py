"""Every recipe for a connector that works on ConductorOne, as an agent does it, and what the check says if not."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from connector_mcp.sandbox import seed
from connector_mcp.sandbox.conductorone.sync import QUEUE_SECONDS, SYNC_SECONDS
from connector_mcp.sandbox.conductorone.wire import LATE_SECONDS
from tests.end_to_end.recipes import Agent

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("platform", ["conductorone"])]

ALICE, BRUNO = (user["id"] for user in seed.CONDUCTORONE_USERS)
OKTA = {"app_id": seed.CONDUCTORONE_APP_ID, "connector_id": seed.CONDUCTORONE_OKTA}
OKTA_TYPE = "2kG3aTftCcAvWtHZt2Ywry0dPn7"
BATON = "2HErg7BRmNdHgX8sTCWVq4E1fyh"
CONFIG = {"okta_v2_domain": "new.okta.com", "okta_v2_api_token": "okta-token"}
WRONG = "invalid-token"


async def start(agent: Agent, credential: dict[str, Any]) -> int:
    """Start a self-hosted connector with a credential, as its operator does; the status of its sign-in."""
    secret = agent.secret(credential["clientSecret"])
    form = {"grant_type": "client_credentials", "client_id": credential["clientId"], "client_secret": secret}
    async with httpx.AsyncClient() as connector:
        return (await connector.post(f"{agent.origin}/conductorone/auth/v1/token", data=form)).status_code


async def register(agent: Agent, config: dict[str, Any]) -> tuple[str, str]:
    """From a search that finds nothing to an app with a connector that was told to sync."""
    assert await agent.call("conductorone_search_apps", display_name="Acme CRM") == []
    app = await agent.call("conductorone_create_app", display_name="Acme CRM", owners=[ALICE])
    kind = await agent.call("describe_connector_type", platform="conductorone", type="Okta v2")
    made = await agent.call(
        "conductorone_create_connector", app_id=app["id"], catalog_id=kind["type"], config=config, user_ids=[BRUNO]
    )
    await agent.call("conductorone_force_sync", app_id=app["id"], connector_id=made["id"])
    return app["id"], made["id"]


async def test_an_app_gets_a_connector_that_syncs_until_it_works(agent: Agent) -> None:
    app, connector = await register(agent, CONFIG)
    agent.wait(QUEUE_SECONDS)
    verdict = await agent.check(connector, within=app)
    assert (verdict["works"], verdict["reason"]) == ("unknown", "A sync is running.")
    agent.wait(SYNC_SECONDS)
    verdict = await agent.check(connector, within=app)
    assert (verdict["works"], verdict["seen"]["userCount"]) == ("yes", "12")
    agent.assert_next_steps_were_taken(
        "conductorone_create_app", "conductorone_create_connector", "conductorone_force_sync"
    )


@pytest.mark.parametrize(
    ("wrong", "works", "reason"),
    [
        ({"okta_v2_api_token": WRONG}, "no", "The last sync failed."),
        ({"okta_v2_domain": "empty.okta.com"}, "unknown", "A sync is done, but the app shows no users"),
    ],
    ids=["credentials that the app refuses", "an app without users"],
)
async def test_an_app_whose_sync_brings_nothing(agent: Agent, wrong: Any, works: str, reason: str) -> None:
    app, connector = await register(agent, CONFIG | wrong)
    agent.wait(SYNC_SECONDS)
    verdict = await agent.check(connector, within=app)
    assert verdict["works"] == works
    assert verdict["reason"].startswith(reason)
    rows = await agent.call("find_connectors", platform="conductorone", status="failing")
    assert [(row["id"], row["within"], row["type"]) for row in rows] == [(connector, app, "Okta v2")] * (works == "no")
    assert ("401" in verdict["seen"].get("lastError", "")) == (works == "no")


async def delegate(agent: Agent) -> tuple[dict[str, str], str]:
    """A new connector for a person to finish, in the existing app."""
    (app,) = await agent.call("conductorone_search_apps", query="workforce")
    made = await agent.call(
        "conductorone_create_delegated_connector", app_id=app["id"], catalog_id=OKTA_TYPE, display_name="Okta (new)"
    )
    assert made["displayName"] == "Okta (new)"
    return {"app_id": app["id"], "connector_id": made["id"]}, made["id"]


async def test_a_person_enters_the_config_of_a_connector(agent: Agent) -> None:
    place, connector = await delegate(agent)
    verdict = await agent.check(connector, within=place["app_id"])
    assert (verdict["works"], verdict["reason"]) == ("no", "It has no config yet.")
    await agent.call("conductorone_update_connector", app_id=place["app_id"], id=connector, config=CONFIG)
    verdict = await agent.check(connector, within=place["app_id"])
    assert (verdict["works"], verdict["reason"]) == ("no", "It has never synced.")
    await agent.call("conductorone_force_sync", **place)
    agent.wait(SYNC_SECONDS)
    assert (await agent.check(connector, within=place["app_id"]))["works"] == "yes"
    agent.assert_next_steps_were_taken("conductorone_create_delegated_connector", "conductorone_force_sync")


async def test_a_connector_without_config_cannot_sync(agent: Agent) -> None:
    place, connector = await delegate(agent)
    error = await agent.refused("conductorone_force_sync", **place)
    assert "not configured" in str(error["upstream"])
    assert (await agent.check(connector, within=place["app_id"]))["works"] == "no"


async def host(agent: Agent) -> tuple[dict[str, str], dict[str, Any]]:
    """A new app with a self-hosted connector and its credential."""
    app = await agent.call("conductorone_create_app", display_name="Mainframe")
    made = await agent.call("conductorone_create_delegated_connector", app_id=app["id"], catalog_id=BATON)
    place = {"app_id": app["id"], "connector_id": made["id"]}
    credential = await agent.call("conductorone_rotate_credential", **place)
    assert credential["clientSecret"].startswith("secret://")
    return place, credential


async def test_a_self_hosted_connector_starts_with_a_credential_that_only_the_secret_store_has(agent: Agent) -> None:
    place, credential = await host(agent)
    assert (await agent.check(place["connector_id"], within=place["app_id"]))["reason"] == "It has never synced."
    assert await start(agent, credential) == 200
    read = await agent.call("conductorone_get_credentials", **place, credential_id=credential["id"])
    assert read["lastUsedAt"]
    agent.wait(SYNC_SECONDS)
    assert (await agent.check(place["connector_id"], within=place["app_id"]))["works"] == "yes"
    agent.assert_next_steps_were_taken(
        "conductorone_create_app", "conductorone_create_delegated_connector", "conductorone_rotate_credential"
    )


async def test_a_self_hosted_connector_does_not_start_with_a_revoked_credential(agent: Agent) -> None:
    place, credential = await host(agent)
    await agent.call("conductorone_revoke_credential", **place, credential_id=credential["id"])
    assert await start(agent, credential) == 401
    verdict = await agent.check(place["connector_id"], within=place["app_id"])
    assert (verdict["works"], verdict["reason"]) == ("no", "It has never synced.")
    assert "conductorone_rotate_credential" in verdict["next"]


async def test_a_connector_is_paused_and_resumed(agent: Agent) -> None:
    await agent.call("conductorone_pause_sync", **OKTA)
    verdict = await agent.check(seed.CONDUCTORONE_OKTA)
    assert (verdict["works"], verdict["seen"]["syncDisabledReason"]) == ("no", "Paused by a user.")
    assert "grants and revocations wait" in verdict["reason"]
    assert (await agent.refused("conductorone_force_sync", **OKTA))["code"] == "invalid_arguments"
    await agent.call("conductorone_resume_sync", **OKTA)
    agent.wait(SYNC_SECONDS)
    assert (await agent.check(seed.CONDUCTORONE_OKTA, within=seed.CONDUCTORONE_APP_ID))["works"] == "yes"
    agent.assert_next_steps_were_taken("conductorone_pause_sync", "conductorone_resume_sync")


@pytest.mark.parametrize(("secret", "works"), [("okta-token-2", "yes"), (WRONG, "no")])
async def test_a_credential_is_rotated(agent: Agent, secret: str, works: str) -> None:
    place = {"app_id": seed.CONDUCTORONE_APP_ID, "id": seed.CONDUCTORONE_OKTA}
    await agent.call("conductorone_update_connector", **place, config={"okta_v2_api_token": secret})
    verdict = await agent.check(seed.CONDUCTORONE_OKTA, within=seed.CONDUCTORONE_APP_ID)
    assert (verdict["works"], "conductorone_force_sync" in verdict["next"]) == ("unknown", True)
    await agent.call("conductorone_force_sync", **OKTA)
    agent.wait(SYNC_SECONDS)
    assert (await agent.check(seed.CONDUCTORONE_OKTA, within=seed.CONDUCTORONE_APP_ID))["works"] == works
    agent.assert_next_steps_were_taken("conductorone_force_sync")


async def test_an_app_and_its_connector_get_owners(agent: Agent) -> None:
    at_app = {"app_id": seed.CONDUCTORONE_APP_ID}
    await agent.call("conductorone_add_app_owner", **at_app, user_id=BRUNO)
    await agent.call("conductorone_create_connector_user_owner", **OKTA, role_slug="owner", user_id=BRUNO)
    assert await agent.call("conductorone_list_app_owner_ids", **at_app) == [{"id": ALICE}]
    agent.wait(LATE_SECONDS)
    assert await agent.call("conductorone_list_app_owner_ids", **at_app) == [{"id": ALICE}, {"id": BRUNO}]
    rows = await agent.call("conductorone_search_connector_user_owners", **OKTA)
    assert [(row["id"], row["roleSlug"]) for row in rows] == [(ALICE, "owner"), (BRUNO, "owner")]
    assert (await agent.check(seed.CONDUCTORONE_APP_ID, kind="app"))["works"] == "yes"
    agent.assert_next_steps_were_taken("conductorone_add_app_owner", "conductorone_create_connector_user_owner")


async def test_a_user_who_does_not_exist_cannot_be_an_owner(agent: Agent) -> None:
    error = await agent.refused("conductorone_add_app_owner", app_id=seed.CONDUCTORONE_APP_ID, user_id="2nobody")
    assert error["code"] == "not_found"
    agent.wait(LATE_SECONDS)
    rows = await agent.call("conductorone_list_app_owner_ids", app_id=seed.CONDUCTORONE_APP_ID)
    assert rows == [{"id": ALICE}]


async def test_a_connector_that_is_deleted_does_not_work(agent: Agent) -> None:
    place = {"app_id": seed.CONDUCTORONE_APP_ID, "id": seed.CONDUCTORONE_OKTA}
    await agent.call("conductorone_delete_connector", **place)
    verdict = await agent.check(seed.CONDUCTORONE_OKTA, within=seed.CONDUCTORONE_APP_ID)
    assert (verdict["works"], verdict["reason"]) == ("no", "It was deleted.")
