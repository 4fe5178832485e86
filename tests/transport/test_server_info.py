"""What the server says of itself: instructions, prompts and completions. Nothing in it is about what is not served."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference, ResourceTemplateReference

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.operations.catalog import PLATFORMS, catalog
from connector_mcp.operations.tool import Tool
from connector_mcp.transport.mcp import resources, server_info
from connector_mcp.transport.mcp.server import build_server
from connector_mcp.transport.mcp.tools import _listed
from tests.engine.conftest import FakeCaller

pytestmark = pytest.mark.anyio

KEY = b"k" * 32
NAMES = re.compile(rf"\b(?:{'|'.join(catalog())}|list_secrets)\b")
SUBSETS = [",".join(names) for count in range(1, 5) for names in combinations(PLATFORMS, count)]
LISTS = "vectorize_get_source_connectors=block,logto_list_*=block,versori_list_*=block,conductorone_list_*=block"
CONFIGURATIONS: list[dict[str, Any]] = [
    *({"platforms": names, "read_only": read_only} for names in SUBSETS for read_only in (False, True)),
    *({"policy": f"{name}_*=block"} for name in PLATFORMS),
    {"policy": LISTS},
    {"policy": "describe_connector_type=block"},
    {"policy": "read=block,describe_connector_type=allow"},
    {"tools": "*_update_*"},
]


def said(tools: Sequence[Tool]) -> str:
    """Everything that a client is told of these tools."""
    platforms = server_info.served_platforms(tools)
    prompts = server_info.list_prompts(tools)
    parts: list[Any] = [server_info.instructions(tools), *map(_listed, tools), prompts, resources.TEMPLATE]
    parts += resources.indexes(platforms)
    for prompt in prompts.prompts:
        for platform in server_info.complete("platform", "", None, tools).values:
            try:
                parts.append(server_info.get_prompt(prompt.name, {"platform": platform}, tools))
            except MCPError as error:
                parts.append(error)
    for uri in ("connector-type://acme/x", *(f"connector-type://{name}/x" for name in platforms)):
        with pytest.raises(MCPError) as missing:
            resources.read_resource(uri, platforms)
        parts.append(missing.value)
    return "\n".join(json.dumps(part) if isinstance(part, dict) else str(part) for part in parts)


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda each: str(each)[:60])
async def test_nothing_that_is_not_served_is_named(configuration: dict[str, Any], tmp_path: Path) -> None:
    settings = Settings.load({}, sandbox=True, state_dir=tmp_path, **configuration)
    async with open_engine(settings, {}, "stdio") as engine:
        tools = engine.tools()
    served = {tool.name for tool in tools}
    text = said(tools)
    assert set(NAMES.findall(text)) == served
    named = {name for name in PLATFORMS if name in text.lower()}
    assert named == set(server_info.served_platforms(tools))
    for tool in tools:
        assert len(tool.description) >= 20
        assert all(len(part["description"]) >= 9 for part in tool.listed_schema["properties"].values()), tool.name
    if configuration.get("read_only"):
        assert "only reads" in server_info.instructions(tools)
        assert [prompt.name for prompt in server_info.list_prompts(tools).prompts] == ["look_over_connectors"]


async def test_a_caller_is_told_only_of_what_its_scopes_allow(tmp_path: Path) -> None:
    async with open_engine(Settings.load({}, sandbox=True, state_dir=tmp_path), {}, "http") as engine:
        tools = engine.tools(FakeCaller(scopes=frozenset({"connectors:read"})))
    assert set(NAMES.findall(said(tools))) == {tool.name for tool in tools} < set(catalog())


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_prompt_names_the_platform_and_what_the_person_typed(era: str, tmp_path: Path) -> None:
    settings = Settings.load({}, sandbox=True, platforms="logto,versori,vectorize", state_dir=tmp_path)
    async with (
        open_engine(settings, {}, "stdio") as engine,
        Client(build_server(engine, request_state_key=KEY), mode=era) as client,
    ):
        listed = (await client.list_prompts()).prompts
        assert [prompt.name for prompt in listed] == ["set_up_connector", "look_over_connectors"]
        for prompt, able in zip(listed, ("logto, vectorize", "logto, versori, vectorize"), strict=True):
            asked = {argument.name: argument for argument in prompt.arguments or ()}
            assert (asked["platform"].required, asked["platform"].description) == (True, f"One of {able}.")
            got = await client.get_prompt(prompt.name, {"platform": "logto", "subject": "our SMTP {server}\u202e."})
            assert "on logto: our SMTP {server}." in got.messages[0].content.text
        with pytest.raises(MCPError, match="Did you mean 'set_up_connector'"):
            await client.get_prompt("setup_connector", {"platform": "logto"})
        with pytest.raises(MCPError, match="There are logto, vectorize"):
            await client.get_prompt("set_up_connector", {"platform": "versori"})
        with pytest.raises(MCPError, match="none given"):
            await client.get_prompt("set_up_connector")


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_arguments_of_prompts_and_of_the_template_are_completed(era: str, tmp_path: Path) -> None:
    settings = Settings.load({}, sandbox=True, platforms="logto,vectorize", state_dir=tmp_path)
    prompt = PromptReference(type="ref/prompt", name="set_up_connector")
    template = ResourceTemplateReference(type="ref/resource", uri=resources.TEMPLATE.uri_template)
    async with (
        open_engine(settings, {}, "stdio") as engine,
        Client(build_server(engine, request_state_key=KEY), mode=era) as client,
    ):

        async def completed(ref: Any, name: str, typed: str, **context: str) -> list[str]:
            done = await client.complete(ref, {"name": name, "value": typed}, context or None)
            return list(done.completion.values)

        assert await completed(prompt, "platform", "") == ["logto", "vectorize"]
        assert await completed(template, "platform", "Vec") == ["vectorize"]
        assert await completed(template, "type", "google", platform="logto") == ["google-universal"]
        assert await completed(template, "type", "aws_", platform="vectorize") == ["AWS_S3"]
        assert len(await completed(template, "type", "", platform="logto")) == 51
        assert await completed(template, "type", "a") == await completed(prompt, "subject", "a") == []
        assert await completed(template, "type", "http", platform="versori") == []
