"""The sandbox as a whole: faults, late visibility, persistence, and the same platforms behind a socket."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from connector_mcp.operations.conductorone.platform import CONDUCTORONE
from connector_mcp.operations.logto.platform import LOGTO
from connector_mcp.operations.vectorize.platform import VECTORIZE
from connector_mcp.operations.versori.platform import VERSORI
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.sandbox.faults import Fault
from connector_mcp.sandbox.vectorize.emulator import SOURCES
from tests.end_to_end.faces import served
from tests.sandbox.conftest import assertion_form

pytestmark = pytest.mark.anyio

LIST = f"/org/{seed.VECTORIZE_ORGANIZATION_ID}/connectors/sources"
S3 = f"{LIST}/{seed.VECTORIZE_S3}"
NEW = {"name": "new", "type": "FILE_UPLOAD"}


def vectorize(sandbox: Sandbox) -> httpx.AsyncClient:
    values = sandbox.variables("vectorize")
    headers = {"authorization": f"Bearer {values['VECTORIZE_API_KEY']}"}
    address, transport = values["VECTORIZE_BASE_URL"], sandbox.transport("vectorize")
    return httpx.AsyncClient(base_url=address, headers=headers, transport=transport)


def names(sandbox: Sandbox) -> list[str]:
    return [each["name"] for each in sandbox.world.all(SOURCES)]


@pytest.mark.parametrize("platform", [VECTORIZE, LOGTO, VERSORI, CONDUCTORONE])
def test_the_variables_are_the_platforms_own(sandbox: Sandbox, platform):
    given = sandbox.variables(platform.name)
    assert set(given) <= {variable.name for variable in platform.variables}
    assert given[platform.base_url.name].startswith(f"https://{platform.name}.sandbox.invalid")
    served = sandbox.variables(platform.name, "http://127.0.0.1:8800")
    assert served[platform.base_url.name].startswith(f"http://127.0.0.1:8800/{platform.name}")


async def test_a_status_fault_answers_in_the_platforms_shape_with_headers_and_then_is_over(sandbox: Sandbox):
    sandbox.inject(Fault("vectorize", "POST", "*/sources", 2, status=429, headers={"Retry-After": "7"}))
    async with vectorize(sandbox) as client:
        for _ in range(2):
            answer = await client.post(LIST, json=NEW)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
            assert "error" in answer.json()
        assert "new" not in names(sandbox)
        assert (await client.post(LIST, json=NEW)).status_code == 200
    assert len(sandbox.requests) == 3


@pytest.mark.parametrize(
    "wanted",
    [{"platform": "logto"}, {"method": "POST"}, {"path_glob": "*/other"}, {"times": 0}, {"kind": "stale_read"}],
)
async def test_a_fault_strikes_only_what_it_was_meant_for(sandbox: Sandbox, wanted):
    sandbox.inject(Fault(**wanted))
    async with vectorize(sandbox) as client:
        assert (await client.get(LIST)).status_code == 200


@pytest.mark.parametrize("platform", seed.PLATFORMS)
@pytest.mark.parametrize("status", [401, 409, 503])
async def test_every_platform_fails_with_a_json_body_of_its_own(connect, sandbox: Sandbox, platform, status):
    client = await connect(platform)
    sandbox.inject(Fault(platform, status=status))
    answer = await client.get("/whatever")
    assert answer.status_code == status
    assert {"error", "message"} & set(answer.json())


@pytest.mark.parametrize(
    ("kind", "applied", "raised", "done"),
    [
        ("timeout", False, httpx.ReadTimeout, False),
        ("timeout", True, httpx.ReadTimeout, True),
        ("unreachable", True, httpx.ConnectError, False),
        ("hang_up", False, httpx.RemoteProtocolError, False),
        ("hang_up", True, httpx.RemoteProtocolError, True),
        ("cut", False, httpx.RemoteProtocolError, True),
    ],
)
async def test_a_network_fault_raises_what_httpx_raises_and_decides_whether_the_write_was_carried_out(
    sandbox: Sandbox, kind, applied, raised, done
):
    sandbox.inject(Fault(kind=kind, applied=applied))
    async with vectorize(sandbox) as client:
        with pytest.raises(raised):
            await client.post(LIST, json=NEW)
    assert ("new" in names(sandbox)) is done
    assert len(sandbox.requests) == (0 if kind == "unreachable" else 1)


async def test_a_slow_body_arrives_whole_in_pieces(sandbox: Sandbox):
    async with vectorize(sandbox) as client:
        whole = (await client.get(LIST)).content
        sandbox.inject(Fault(kind="slow", delay=0))
        async with client.stream("GET", LIST) as answer:
            pieces = [piece async for piece in answer.aiter_raw()]
    assert len(pieces) > 10
    assert b"".join(pieces) == whole


async def test_a_body_slower_than_the_read_timeout_times_out_at_once(sandbox: Sandbox):
    sandbox.inject(Fault(kind="slow", delay=3600))
    async with vectorize(sandbox) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(LIST)


async def test_html_truncated_json_and_huge_bodies_are_sent_as_requested(sandbox: Sandbox):
    sandbox.inject(Fault(kind="html", status=200))
    sandbox.inject(Fault(kind="truncated_json"))
    sandbox.inject(Fault(kind="huge", size=200_000))
    async with vectorize(sandbox) as client:
        page = await client.get(LIST)
        assert page.headers["content-type"] == "text/html"
        half = await client.get(LIST)
        with pytest.raises(ValueError):
            half.json()
        huge = await client.get(LIST)
        assert len(huge.content) == 200_000
        assert "content-length" not in huge.headers


async def test_a_stale_read_shows_the_version_before_the_last_write_as_often_as_asked(sandbox: Sandbox):
    sandbox.inject(Fault(kind="stale_read", times=2))
    async with vectorize(sandbox) as client:
        before = (await client.get(S3)).json()
        await client.patch(S3, json={"config": {"bucket-name": "new"}})
        assert [(await client.get(S3)).json() == before for _ in range(3)] == [True, True, False]


async def test_creations_and_deletions_show_late_too(sandbox: Sandbox):
    sandbox.inject(Fault(kind="stale_read", times=2))
    async with vectorize(sandbox) as client:
        created = (await client.post(LIST, json=NEW)).json()["connector"]["id"]
        assert (await client.get(f"{LIST}/{created}")).status_code == 404
        await client.delete(S3)
        listed = (await client.get(LIST)).json()["sourceConnectors"]
        assert seed.VECTORIZE_S3 in {each["id"] for each in listed}
        assert (await client.get(S3)).status_code == 404
        assert (await client.get(f"{LIST}/{created}")).status_code == 200


async def test_revoked_tokens_are_unknown(connect, sandbox: Sandbox):
    client = await connect("logto")
    sandbox.revoke_tokens()
    assert (await client.get("/api/connectors")).status_code == 401


async def test_a_data_file_keeps_what_was_done_and_is_seeded_once(tmp_path: Path):
    file = tmp_path / "world.db"
    first = Sandbox(file)
    async with vectorize(first) as client:
        await client.delete(S3)
        await client.post(LIST, json=NEW)
    kept = names(first)
    first.close()
    second = Sandbox(file)
    assert names(second) == kept
    assert "Product documents" not in kept
    second.close()


async def test_two_sandboxes_over_one_file_see_each_other(tmp_path: Path):
    one, other = Sandbox(tmp_path / "world.db"), Sandbox(tmp_path / "world.db")
    async with vectorize(one) as client:
        await client.post(LIST, json=NEW)
    assert names(other)[-1] == "new"
    one.close()
    other.close()


async def test_the_served_application_answers_under_a_prefix_for_each_platform(sandbox: Sandbox):
    origin = "http://127.0.0.1:8800"
    transport = httpx.ASGITransport(sandbox.app())
    async with httpx.AsyncClient(transport=transport) as client:
        assert (await client.get(origin)).json()["platforms"] == sorted(seed.PLATFORMS)
        for platform, path in (("vectorize", LIST), ("versori", f"/o/{seed.VERSORI_ORGANISATION_ID}/connectors")):
            values = sandbox.variables(platform, origin)
            key = next(value for name, value in values.items() if name.endswith("_API_KEY"))
            address = values[f"{platform.upper()}_BASE_URL"]
            answer = await client.get(address + path, headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == 200
        logto = sandbox.variables("logto", origin)["LOGTO_ENDPOINT"]
        assert (await client.get(f"{logto}/api/connectors")).json()["code"] == "auth.authorization_header_missing"


async def test_over_a_socket_the_assertion_names_the_host_without_its_port(sandbox: Sandbox, clock):
    async with served(sandbox.app()) as origin, httpx.AsyncClient() as client:
        address = sandbox.variables("conductorone", origin)["CONDUCTORONE_BASE_URL"]
        statuses = []
        for audience in ("127.0.0.1", origin.removeprefix("http://")):
            form = assertion_form(int(clock.now.timestamp()), {"aud": [audience]})
            statuses.append((await client.post(f"{address}/auth/v1/token", data=form)).status_code)
    assert statuses == [200, 401]


@pytest.mark.parametrize("kind", ["cut", "hang_up"])
async def test_over_a_socket_the_connection_really_ends(sandbox: Sandbox, kind):
    sandbox.inject(Fault(kind=kind))
    async with served(sandbox.app()) as origin, httpx.AsyncClient() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"{origin}/vectorize/v1{LIST}")
        assert (await client.get(f"{origin}/vectorize/v1{LIST}")).status_code == 401


async def test_served_paths_keep_their_encoding_and_their_query(sandbox: Sandbox):
    transport = httpx.ASGITransport(sandbox.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8800") as client:
        await client.get("/vectorize/v1/org/a%2Fb%25/connectors/sources?workspaceId=%C3%BC&limit=2")
    seen = sandbox.requests[-1]
    assert (seen.raw_path, seen.query) == ("/v1/org/a%2Fb%25/connectors/sources", "workspaceId=%C3%BC&limit=2")
