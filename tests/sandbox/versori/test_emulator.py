"""The emulated Versori keeps the platform's wire contract."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.sandbox import seed
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.sandbox.versori.emulator import CONNECTORS

pytestmark = pytest.mark.anyio

PLATFORM = "versori"
LIST = f"/o/{seed.VERSORI_ORGANISATION_ID}/connectors"
CRM = f"{LIST}/{seed.VERSORI_CRM}"
LEAST: dict[str, Any] = {
    "id": seed.VERSORI_CRM,
    "organisationId": seed.VERSORI_ORGANISATION_ID,
    "name": "Acme CRM",
    "protocol": "http",
    "baseUrl": "https://{{region}}.api.acme.example/v2",
}


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"JWT {seed.VERSORI_API_KEY}"])
async def test_a_missing_or_wrong_key_is_401_with_the_error_body(anonymous, header):
    answer = await anonymous.get(LIST, headers={} if header is None else {"authorization": header})
    assert answer.status_code == 401
    assert {"code", "message"} <= set(answer.json())


async def test_a_signing_key_token_comes_with_its_own_prefix(anonymous):
    assert (await anonymous.get(LIST, headers={"authorization": f"JWT {seed.VERSORI_JWT}"})).status_code == 200


async def test_seeded_ids_are_ulids(sandbox: Sandbox):
    def ids(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [each for key, each in value.items() if key == "id" and each not in ("key", "mtls")]
            return own + [found for each in value.values() for found in ids(each)]
        return [found for each in value for found in ids(each)] if isinstance(value, list) else []

    found = [seed.VERSORI_ORGANISATION_ID, *ids(sandbox.world.all(CONNECTORS))]
    assert {len(each) for each in found} == {26}
    assert set("".join(found)) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


async def test_lists_come_latest_change_first_and_page_by_after(client):
    first = (await client.get(LIST, params={"first": "2"})).json()
    assert first["totalCount"] == 3
    assert first["connectors"][0]["id"] == seed.VERSORI_CRM
    assert "prev" not in first
    second = (await client.get(LIST, params={"first": "2", "after": first["next"]})).json()
    assert len(second["connectors"]) == 1
    assert "next" not in second
    back = (await client.get(LIST, params={"first": "2", "before": second["prev"]})).json()
    assert back["connectors"] == first["connectors"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"name": "ACME"}, {"Acme CRM", "Acme Billing"}),
        ({"protocol": "big"}, {"Sales warehouse"}),
        ({"categories": ["CRM", "Accounting"]}, {"Acme CRM", "Acme Billing"}),
        ({"tags": "team:sales"}, {"Acme CRM"}),
        ({"tags": "team"}, {"Acme CRM"}),
        ({"tags": "team:ops"}, set()),
    ],
)
async def test_lists_filter(client, query, names):
    page = (await client.get(LIST, params=query)).json()
    assert {each["name"] for each in page["connectors"]} == names
    assert page["totalCount"] == len(names)


@pytest.mark.parametrize("query", [{"first": "0"}, {"first": "x"}, {"after": "%%"}, {"sort": "name"}])
async def test_an_invalid_page_is_400_naming_the_field(client, query):
    answer = await client.get(LIST, params=query)
    assert answer.status_code == 400
    assert answer.json()["fields"][0]["field"] in query


async def test_answers_embed_credential_data_blanked_only_in_part_and_no_categories(client):
    shown = (await client.get(CRM)).json()
    used = [each["credentials"]["action"][0]["credential"] for each in shown["connections"]]
    assert used[0]["data"] == {"value": ""}
    assert used[1]["data"]["key"] == "sandbox-secret-versori-certificate-key"
    assert "categories" not in shown


async def test_an_unknown_connector_is_404_and_another_organisation_403(client):
    assert (await client.get(f"{LIST}/01J0000000000000000000000")).status_code == 404
    assert (await client.get("/o/01J0000000000000000000000/connectors")).status_code == 403


async def test_put_unsets_what_is_missing_but_keeps_schemes_and_variables(client, sandbox: Sandbox):
    before = (await client.get(CRM)).json()
    after = (await client.put(CRM, json=LEAST)).json()
    assert {"documentationURL", "imageURL", "tags"} <= set(before)
    assert {"documentationURL", "imageURL", "tags"}.isdisjoint(after)
    assert (before["public"], after["public"]) == (True, False)
    for kept in ("authSchemeConfigs", "connectionVariables", "connections", "versions", "createdAt"):
        assert after[kept] == before[kept]
    assert after["updatedAt"] > before["updatedAt"]
    assert sandbox.world.get(CONNECTORS, seed.VERSORI_CRM)["categories"] == ["CRM"]
    assert (await client.get(CRM)).json() == after


async def test_connection_variables_rewrite_those_of_every_connection(client):
    before = (await client.get(CRM)).json()
    assert [each["variables"][0]["value"] for each in before["connections"]] == ["eu", "us"]
    wanted = [{"name": "region", "value": "ap"}]
    after = (await client.put(CRM, json=LEAST | {"connectionVariables": wanted})).json()
    assert after["connectionVariables"] == wanted
    assert [each["variables"] for each in after["connections"]] == [wanted, wanted]


async def test_auth_scheme_config_ids_reorder(client):
    after = (await client.put(CRM, json=LEAST | {"authSchemeConfigIds": ["mtls", "key"]})).json()
    assert [each["id"] for each in after["authSchemeConfigs"]] == ["mtls", "key"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": None}, "id"),
        ({"id": seed.VERSORI_BILLING}, "id"),
        ({"organisationId": None}, "organisationId"),
        ({"organisationId": "01J0000000000000000000000"}, "organisationId"),
        ({"name": ""}, "name"),
        ({"protocol": "bigquery", "datasetId": "a.b"}, "protocol"),
        ({"baseUrl": None}, "baseUrl"),
        ({"baseUrl": "api.acme.example"}, "baseUrl"),
        ({"baseUrl": "http://["}, "baseUrl"),
        ({"documentationURL": "docs"}, "documentationURL"),
        ({"tags": ["sales"]}, "tags"),
        ({"public": "yes"}, "public"),
        ({"connectionVariables": {"region": "eu"}}, "connectionVariables"),
        ({"authSchemeConfigIds": ["key"]}, "authSchemeConfigIds"),
        ({"authSchemeConfigIds": ["key", "mtls", "new"]}, "authSchemeConfigIds"),
    ],
)
async def test_an_invalid_put_is_400_naming_the_field_and_changes_nothing(client, change, field):
    before = (await client.get(CRM)).json()
    answer = await client.put(CRM, json=LEAST | change)
    assert answer.status_code == 400
    assert field in {each["field"] for each in answer.json()["fields"]}
    assert (await client.get(CRM)).json() == before


async def test_a_bigquery_connector_has_a_dataset_and_no_connection_variables(client):
    path = f"{LIST}/{seed.VERSORI_WAREHOUSE}"
    body = LEAST | {"id": seed.VERSORI_WAREHOUSE, "protocol": "bigquery", "datasetId": "acme-prod.returns"}
    assert (await client.put(path, json=body)).json()["datasetId"] == "acme-prod.returns"
    assert (await client.put(path, json=body | {"connectionVariables": []})).status_code == 400
    assert (await client.put(path, json=body | {"datasetId": "no-dot"})).status_code == 400
