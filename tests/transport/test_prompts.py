"""The prompts that clients offer to people."""

from __future__ import annotations

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.transport.mcp.server import build_server

pytestmark = pytest.mark.anyio

KEY = b"k" * 32


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_prompt_names_the_platform_and_what_the_person_typed(era: str, tmp_path) -> None:
    settings = Settings.load({}, sandbox=True, platforms="logto,vectorize", state_dir=tmp_path)
    async with (
        open_engine(settings, {}, "stdio") as engine,
        Client(build_server(engine, request_state_key=KEY), mode=era) as client,
    ):
        listed = (await client.list_prompts()).prompts
        assert [prompt.name for prompt in listed] == ["set_up_connector", "look_over_connectors"]
        for prompt in listed:
            asked = {argument.name: argument for argument in prompt.arguments or ()}
            assert asked["platform"].required
            assert "logto, vectorize" in (asked["platform"].description or "")
            got = await client.get_prompt(prompt.name, {"platform": "logto", "subject": "our SMTP {server}\u202e."})
            assert "on logto: our SMTP {server}." in got.messages[0].content.text


async def test_an_unknown_prompt_or_platform_is_refused_with_those_there_are(tmp_path) -> None:
    settings = Settings.load({}, sandbox=True, platforms="logto", state_dir=tmp_path)
    async with (
        open_engine(settings, {}, "stdio") as engine,
        Client(build_server(engine, request_state_key=KEY)) as client,
    ):
        with pytest.raises(MCPError, match="Did you mean 'set_up_connector'"):
            await client.get_prompt("setup_connector", {"platform": "logto"})
        with pytest.raises(MCPError, match="There are logto"):
            await client.get_prompt("set_up_connector", {"platform": "vectorize"})
        with pytest.raises(MCPError, match="none given"):
            await client.get_prompt("set_up_connector")
