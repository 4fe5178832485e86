"""Versori's Platform API v2, emulated: its traps, and that things take time."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from connector_mcp.sandbox import seed
from connector_mcp.sandbox.versori.projects import DEPLOY_SECONDS
from tests.sandbox.conftest import Connect, MovableClock

pytestmark = pytest.mark.anyio

ORGANISATION = f"https://versori.sandbox.invalid/api/v2/o/{seed.VERSORI_ORGANISATION_ID}"
PLATFORM = "versori"
NO_ID = "0" * 26
KEY = {"type": "api-key", "apiKey": {"id": "key", "description": "API key", "name": "X-Api-Key", "in": "header"}}
NEW_SYSTEM = {"name": "New", "domain": "https://new.example", "templateBaseUrl": "https://new.example/api"}


@pytest.fixture
async def versori(connect: Connect) -> httpx.AsyncClient:
    client = await connect(PLATFORM)
    client.base_url = ORGANISATION
    return client


def credentials(kind: str = "string", **data: Any) -> list[dict[str, Any]]:
    field = {"string": "string", "certificate": "certificate"}[kind]
    credential = {"id": NO_ID, "organisationId": seed.VERSORI_ORGANISATION_ID, "type": kind, "data": {field: data}}
    return [{"id": NO_ID, "authSchemeConfig": KEY, "credential": credential}]


async def connect_template(client: httpx.AsyncClient, template: str, name: str = "n", **data: Any) -> httpx.Response:
    connection = {"name": name, "credentials": credentials(**(data or {"value": "sk"}))}
    return await client.post("/connections", json={"connectionTemplateId": template, "connection": connection})


async def test_both_apis_want_the_key_and_the_organisation(connect: Connect, versori: httpx.AsyncClient) -> None:
    anonymous = await connect(PLATFORM, authorized=False)
    assert (await anonymous.get(f"{ORGANISATION}/systems")).status_code == 401
    other = await versori.get(f"{ORGANISATION[:-1]}1/systems")
    assert (other.status_code, other.json()["message"]) == (403, "forbidden")


async def test_a_system_is_made_changed_searched_and_kept_while_a_project_uses_it(versori: httpx.AsyncClient) -> None:
    assert (await versori.post("/systems", json=NEW_SYSTEM)).status_code == 400
    made = (await versori.post("/systems", json=NEW_SYSTEM | {"authSchemeConfigs": None})).json()
    path = f"/systems/{made['id']}"
    assert (await versori.put(path, json={"name": "Newer"})).json() == made | {"name": "Newer"}
    assert (await versori.get("/systems", params={"search": "newer"})).json()["totalCount"] == 1
    assert (await versori.delete(path)).status_code == 204
    assert (await versori.get(path)).status_code == 404
    assert (await versori.delete(f"/systems/{seed.VERSORI_SYSTEM}")).status_code == 409


async def test_a_client_credential_is_kept_by_both_ids_and_refused_by_one(versori: httpx.AsyncClient) -> None:
    path = f"/systems/{seed.VERSORI_SHOP}"
    config = (await versori.get(path)).json()["authSchemeConfigs"][1]
    app = config["oauth2"]["grant"]["authorizationCode"]
    assert app["clientSecret"] == ""
    scheme = f"{path}/auth-scheme-configs/oauth"
    app.pop("clientSecret")
    assert (await versori.put(scheme, json=config)).json()["oauth2"]["grant"]["authorizationCode"]["credentialId"]
    stored = app.pop("credentialId")
    assert (await versori.put(scheme, json=config)).status_code == 400
    app.pop("organisationId")
    made = (await versori.put(scheme, json=config)).json()["oauth2"]["grant"]["authorizationCode"]["credentialId"]
    assert made != stored
    assert (await versori.put(f"{path}/auth-scheme-configs/other", json=config)).status_code == 400


async def test_a_template_has_two_ids_and_a_connection_wants_the_second(versori: httpx.AsyncClient) -> None:
    listed = await versori.get(f"/projects/{seed.VERSORI_PROJECT}/connection-templates")
    (template,) = listed.json()["items"]
    assert (template["id"], template["connectionTemplateId"]) == (seed.VERSORI_SYSTEM, seed.VERSORI_TEMPLATE)
    assert (await connect_template(versori, template["id"])).status_code == 400
    made = await connect_template(versori, template["connectionTemplateId"])
    assert made.status_code == 201
    assert (await connect_template(versori, template["connectionTemplateId"])).status_code == 400, "the name is taken"


async def test_credentials_are_judged_after_the_answer_and_only_partly_blanked(versori: httpx.AsyncClient) -> None:
    made = (await connect_template(versori, seed.VERSORI_TEMPLATE, value="invalid-key")).json()
    assert "errors" not in made["credentials"][0]["credential"]
    credential = (await versori.get(f"/connections/{made['id']}")).json()["credentials"][0]["credential"]
    assert (credential["data"]["string"]["value"], bool(credential["errors"])) == ("", True)
    pem = {"certificate": "c", "key": "k", "ca": "a"}
    signed = await connect_template(versori, seed.VERSORI_TEMPLATE, "pem", kind="certificate", **pem)
    assert signed.json()["credentials"][0]["credential"]["data"]["certificate"]["key"] == "k"


async def test_a_static_connection_in_use_is_deleted_and_one_of_an_end_user_is_not(versori: httpx.AsyncClient) -> None:
    assert (await versori.delete(f"/connections/{seed.VERSORI_CONNECTION}")).status_code == 204
    static = await versori.get(f"/projects/{seed.VERSORI_PROJECT}/connections")
    assert static.json()["items"] == []
    used = await versori.delete(f"/connections/{seed.VERSORI_SHOP_CONNECTION}")
    assert used.status_code == 412
    by_external_id = await versori.get("/connections", params={"end_user_id": "merchant-1"})
    assert "ULID" in by_external_id.text
    linked = await versori.post(
        f"/connections/{seed.VERSORI_SHOP_CONNECTION}/link", json={"connectionTemplateId": seed.VERSORI_TEMPLATE}
    )
    assert (linked.status_code, linked.content) == (201, b"")


async def test_a_deployment_takes_time_and_a_failed_version_ends_in_error(
    versori: httpx.AsyncClient, clock: MovableClock
) -> None:
    async def status() -> str:
        projects = (await versori.get("/projects")).json()["projects"]
        return projects[0]["environments"][0]["status"]

    path = f"/projects/{seed.VERSORI_PROJECT}/versions"
    for version, outcome in ((seed.VERSORI_NEXT_VERSION, "running"), (seed.VERSORI_FAILED_VERSION, "error")):
        deployed = await versori.put(f"{path}/{version}/deploy", params={"project_env": "production"}, json={})
        assert "currentFiles" in deployed.json()
        assert await status() == "draft"
        clock.forward(DEPLOY_SECONDS)
        assert await status() == outcome
    by_id = {"project_env": seed.VERSORI_PRODUCTION}
    assert (await versori.put(f"{path}/{seed.VERSORI_VERSION}/deploy", params=by_id, json={})).status_code == 404


async def test_logs_page_by_next_token_in_either_order(versori: httpx.AsyncClient) -> None:
    path, first = f"/projects/{seed.VERSORI_PROJECT}/logs", {"project_env": "production", "first": "1"}
    page = (await versori.get(path, params=first | {"order": "desc"})).json()
    assert "200 from" in page["logs"][0]["message"]
    rest = (await versori.get(path, params=first | {"order": "desc", "next_token": page["nextToken"]})).json()
    assert ([line["message"] for line in rest["logs"]], "nextToken" in rest) == (["order 1001 synced"], False)
    assert (await versori.get(path, params=first | {"search": "1001"})).json() == rest
    assert (await versori.get(path, params=first | {"first": "1001"})).json()["message"] == "invalid page size"


ACTIVATIONS = f"/environments/{seed.VERSORI_STOREFRONT_PRODUCTION}/activations"
ACTIVATE: dict[str, Any] = {
    "userId": "merchant-2",
    "environmentId": seed.VERSORI_STOREFRONT_PRODUCTION,
    "dynamicVariables": {"channel_id": "x"},
}


async def test_an_activation_wants_a_connection_for_each_template_and_declared_variables(
    versori: httpx.AsyncClient,
) -> None:
    user = {"externalId": "merchant-2"}
    assert (await versori.post("/users", json=user)).status_code == 201
    assert (await versori.post("/users", json=user)).status_code == 400
    connection = {"name": "merchant-2-shop", "credentials": credentials(value="sk")}
    part = {"connectionTemplateId": seed.VERSORI_SHOP_TEMPLATE, "connection": connection}
    by_system = {"connectionTemplateId": seed.VERSORI_SHOP, "connection": connection}
    for parts, variables in (
        ([], {"channel_id": "x"}),
        ([part, part], {"channel_id": "x"}),
        ([by_system], {"channel_id": "x"}),
        ([part], {}),
        ([part], {"channel_id": 7}),
        ([part], {"channel_id": "x", "other": "y"}),
    ):
        given = ACTIVATE | {"connections": parts, "dynamicVariables": variables}
        assert (await versori.post("/activations", json=given)).status_code == 400
    made = await versori.post("/activations", json=ACTIVATE | {"connections": [part]})
    assert (made.status_code, made.json()["user"]["externalId"]) == (200, "merchant-2")
    assert (await versori.post("/activations", json=ACTIVATE | {"connections": [part]})).status_code == 409
    path = f"{ACTIVATIONS}/{made.json()['id']}"
    changed = await versori.put(f"{path}/variables/channel_id", json={"value": "y"})
    assert changed.json() == {"channel_id": "y"}
    of_user = f"/environment/{seed.VERSORI_STOREFRONT_PRODUCTION}/users/merchant-2/activations"
    assert [each["id"] for each in (await versori.get(of_user)).json()] == [made.json()["id"]]
    active = {"activated": "true", "environment_id": seed.VERSORI_STOREFRONT_PRODUCTION}
    assert len((await versori.get("/users", params=active)).json()["users"]) == 2
    assert (await versori.delete(path)).status_code == 204
    assert len((await versori.get("/users", params=active | {"activated": "false"})).json()["users"]) == 1


async def test_connect_v1_makes_lists_and_deletes_connectors(connect: Connect) -> None:
    client = await connect(PLATFORM)
    made = {"name": "New", "baseUrl": "https://new.example", "authSchemeConfigs": []}
    create = f"/o/{seed.VERSORI_ORGANISATION_ID}/protocols/http/connectors"
    assert (await client.post(create, json=made)).status_code == 400, "connections are required"
    connector = (await client.post(create, json=made | {"connections": []})).json()
    path = f"/o/{seed.VERSORI_ORGANISATION_ID}/connectors/{connector['id']}"
    scheme = {"schemeType": "api-key", "id": "key", "description": "d", "name": "X-Key", "in": "header"}
    put = await client.put(f"{path}/auth-scheme-configs/key", json=scheme)
    assert put.json()["authSchemeConfigs"] == [scheme]
    public = (await client.get("/connectors")).json()["connectors"]
    assert [each["id"] for each in public] == [seed.VERSORI_CRM]
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
