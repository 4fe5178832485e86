"""In the sandbox, the profiles of two teams are two accounts: neither sees or changes what the other has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.file import read_config
from connector_mcp.config.settings import Settings
from connector_mcp.sandbox import seed
from connector_mcp.transport.auth.authorization import Callers
from connector_mcp.transport.auth.static_tokens import StaticToken, digest_of
from tests.end_to_end.faces import PLATFORMS, serving

pytestmark = pytest.mark.anyio

TEAMS = ("red", "blue")
OWN = "Only the red team's"
FACEBOOK = {"clientId": "one", "clientSecret": "two"}
SYSTEM = {"name": OWN, "domain": "https://acme.example", "template_base_url": "https://api.acme.example"}
# How each platform is made to hold something new, and the tool that lists it.
MADE: dict[str, tuple[str, dict[str, Any], str]] = {
    "vectorize": (
        "vectorize_create_source_connector",
        {"connectors": [{"name": OWN, "type": "FILE_UPLOAD"}]},
        "vectorize_get_source_connectors",
    ),
    "logto": (
        "logto_create_connector",
        {"connector_id": "facebook-universal", "id": OWN, "config": FACEBOOK},
        "logto_list_connectors",
    ),
    "versori": ("versori_create_system", SYSTEM, "versori_list_systems"),
    "conductorone": ("conductorone_create_app", {"display_name": OWN}, "conductorone_list_apps"),
}


@asynccontextmanager
async def teams(folder: Path, data: Path | None) -> AsyncIterator[dict[str, Client]]:
    """A client of each team. Its token is bound to the profiles with the team's name."""
    file = folder / "connector-mcp.toml"
    file.write_text("".join(f"[profiles.{platform}.{team}]\n" for platform in PLATFORMS for team in TEAMS))
    environ = {"CONNECTOR_MCP_STATE_DIR": str(folder), "CONNECTOR_MCP_INLINE_SECRETS": "allow"}
    flags: dict[str, Any] = {"toolsets": "all", "policy": "destroy=allow", "sandbox": True, "sandbox_data": data}
    settings = Settings.load(environ, read_config(file), **flags)
    tokens = [StaticToken(team, digest_of(team), profiles=frozenset({team})) for team in TEAMS]
    async with open_engine(settings, environ, "http") as engine, serving(engine, callers=Callers(tokens)) as origin:
        red, blue = (create_mcp_http_client(headers={"Authorization": f"Bearer {team}"}) for team in TEAMS)
        async with (
            red,
            blue,
            Client(streamable_http_client(f"{origin}/mcp", http_client=red)) as of_red,
            Client(streamable_http_client(f"{origin}/mcp", http_client=blue)) as of_blue,
        ):
            yield dict(zip(TEAMS, (of_red, of_blue), strict=True))


async def told(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


@pytest.mark.parametrize("kept", [False, True], ids=["in memory", "in one file"])
async def test_what_one_team_creates_or_deletes_does_not_show_under_the_profile_of_another(
    tmp_path: Path, kept: bool
) -> None:
    data = tmp_path / "world.db" if kept else None
    async with teams(tmp_path, data) as team:
        for tool, arguments, _ in MADE.values():
            await told(team["red"], tool, **arguments)
        await told(
            team["red"], "vectorize_delete_source_connector", source_connector_id=seed.VECTORIZE_S3, profile="red"
        )
        for *_, listing in MADE.values():
            seen = {name: str(await told(client, listing)) for name, client in team.items()}
            assert (OWN in seen["red"], OWN in seen["blue"]) == (True, False), listing
        still = await told(team["blue"], "vectorize_get_source_connector", source_connector_id=seed.VECTORIZE_S3)
        assert still["meta"]["profile"] == "blue"
        assert seed.VECTORIZE_S3 not in str(await told(team["red"], "vectorize_get_source_connectors"))
        found = {name: str(await told(client, "find_connectors", name=OWN)) for name, client in team.items()}
        assert (OWN in found["red"], OWN in found["blue"]) == (True, False)
    if kept:
        async with teams(tmp_path, data) as again:
            for *_, listing in MADE.values():
                seen = {name: str(await told(client, listing)) for name, client in again.items()}
                assert (OWN in seen["red"], OWN in seen["blue"]) == (True, False), listing
