"""What the server says of itself: instructions, prompts and completions. Nothing in it is about what is not served."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference, ResourceTemplateReference, TextContent, TextResourceContents

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.operations.catalog import PLATFORMS, catalog
from connector_mcp.operations.tool import Tool
from connector_mcp.transport.mcp import resources, server_info
from tests.documents import ROOT
from tests.engine.conftest import FakeCaller
from tests.transport.conftest import client_of

pytestmark = pytest.mark.anyio

NAMES = re.compile(rf"\b(?:{'|'.join(catalog())}|list_secrets)\b")
SUBSETS = [",".join(names) for count in range(1, 5) for names in combinations(PLATFORMS, count)]
LISTS = "vectorize_get_source_connectors=block,logto_list_*=block,versori_list_*=block,conductorone_list_*=block"
CONFIGURATIONS: list[dict[str, Any]] = [
    *({"platforms": names, "read_only": read_only} for names in SUBSETS for read_only in (False, True)),
    *({"policy": f"{name}_*=block"} for name in PLATFORMS),
    {"policy": ",".join(f"{name}_*=block" for name in PLATFORMS)},
    {"policy": LISTS},
    {"policy": "describe_connector_type=block"},
    {"policy": "read=block,describe_connector_type=allow"},
    {"tools": "*_update_*"},
]


@asynccontextmanager
async def sandbox_client(state_dir: Path, mode: str, **options: Any) -> AsyncGenerator[Client]:
    settings = Settings.load({}, sandbox=True, state_dir=state_dir, **options)
    async with open_engine(settings, {}, "stdio") as engine, client_of(engine, mode) as client:
        yield client


def said(tools: Sequence[Tool]) -> str:
    """Everything that a client is told of these tools."""
    platforms = resources.served_platforms(tools)
    prompts = server_info.list_prompts(tools)
    parts: list[Any] = [
        server_info.instructions(tools),
        *(tool.as_dict() for tool in tools),
        prompts,
        resources.TEMPLATE,
    ]
    for resource in resources.list_resources(tools):
        parts += [resource, *([resources.read_resource(resource.uri, tools)] if "skill" in resource.uri else [])]
    parts += [server_info.get_prompt(prompt.name, {}, tools) for prompt in prompts.prompts]
    for uri in ("connector-type://acme/x", *(f"connector-type://{name}/x" for name in platforms)):
        with pytest.raises(MCPError) as missing:
            resources.read_resource(uri, tools)
        assert "Read  " not in str(missing.value)
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
    assert named == set(resources.served_platforms(tools))
    for tool in tools:
        assert len(tool.description) >= 20
        assert all(len(part["description"]) >= 9 for part in tool.listed_schema["properties"].values()), tool.name
    if configuration.get("read_only"):
        assert "only reads" in server_info.instructions(tools)
        assert [prompt.name for prompt in server_info.list_prompts(tools).prompts] == ["rotate-credential"]


async def test_a_caller_is_told_only_of_what_its_scopes_allow(tmp_path: Path) -> None:
    async with open_engine(Settings.load({}, sandbox=True, state_dir=tmp_path), {}, "http") as engine:
        tools = engine.tools(FakeCaller(scopes=frozenset({"connectors:read"})))
    assert set(NAMES.findall(said(tools))) == {tool.name for tool in tools} < set(catalog())


async def test_a_prompt_has_what_the_person_typed_and_an_unknown_one_the_names_of_the_others(
    mode: str, tmp_path: Path
) -> None:
    async with sandbox_client(tmp_path, mode, platforms="logto,versori,vectorize") as client:
        listed = (await client.list_prompts()).prompts
        assert {prompt.name for prompt in listed} >= {"connect-data-source", "connect-system", "rotate-credential"}
        for prompt in listed:
            (asked,) = prompt.arguments or ()
            assert (asked.name, asked.required) == ("subject", False)
            got = await client.get_prompt(prompt.name, {"subject": "our SMTP {server}\u202e."})
            assert isinstance(got.messages[0].content, TextContent)
            assert got.messages[0].content.text.startswith(f"{prompt.title}: our SMTP {{server}}.\n")
            got = await client.get_prompt(prompt.name)
            assert isinstance(got.messages[0].content, TextContent)
            assert got.messages[0].content.text.startswith(f"{prompt.title}: ask me what exactly.\n")
        with pytest.raises(MCPError, match="Did you mean 'connect-system'"):
            await client.get_prompt("connect_systems")
        with pytest.raises(MCPError, match=r"There are .*connect-data-source"):
            await client.get_prompt("")


async def test_arguments_of_prompts_and_of_the_template_are_completed(mode: str, tmp_path: Path) -> None:
    prompt = PromptReference(type="ref/prompt", name="connect-data-source")
    template = ResourceTemplateReference(type="ref/resource", uri=resources.TEMPLATE.uri_template)
    async with sandbox_client(tmp_path, mode, platforms="logto,vectorize") as client:

        async def completed(ref: Any, name: str, typed: str, **context: str) -> list[str]:
            done = await client.complete(ref, {"name": name, "value": typed}, context or None)
            return list(done.completion.values)

        assert await completed(template, "platform", "") == ["logto", "vectorize"]
        assert await completed(template, "platform", "Vec") == ["vectorize"]
        assert await completed(template, "type", "google", platform="logto") == ["GoogleWorkspace", "google-universal"]
        assert await completed(template, "type", "aws_", platform="vectorize") == ["AWS_S3"]
        assert len(await completed(template, "type", "", platform="logto")) > 50
        assert await completed(template, "type", "a") == await completed(prompt, "subject", "a") == []
        assert await completed(template, "type", "http", platform="versori") == []


def test_every_tool_that_a_skill_names_exists() -> None:
    assert {skill.name for skill in resources.all_skills()} >= {
        "connect-data-source",
        "add-sign-in-provider",
        "set-up-sso",
    }
    for skill in resources.all_skills():
        named = set(re.findall(rf"`((?:(?:{'|'.join(PLATFORMS)})_|[a-z]+_connector)[a-z_]*)`", "\n".join(skill.lines)))
        assert skill.tools <= set(catalog())
        assert named <= set(catalog()), skill.name
        assert skill.steps(set(catalog())).split() == "\n".join(skill.lines).split()


def test_the_wheel_has_every_file_of_the_package_and_so_the_skills() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["server/connector_mcp"]}
    found = {path.parent.name for path in (ROOT / wheel["packages"][0]).glob("skills/*/SKILL.md")}
    assert found == {skill.name for skill in resources.all_skills()}


async def test_a_skill_is_a_prompt_and_a_resource_where_its_tools_are_served(mode: str, tmp_path: Path) -> None:
    wanted = {"add-sign-in-provider", "set-up-sso", "switch-email-provider", "rotate-credential"}
    async with sandbox_client(tmp_path, mode, platforms="logto", toolsets="all") as client:
        prompts = {prompt.name: prompt for prompt in (await client.list_prompts()).prompts}
        assert {name for name in prompts if "-" in name} == wanted
        got = await client.get_prompt("set-up-sso", {"subject": "Okta for acme.com"})
        assert isinstance(got.messages[0].content, TextContent)
        assert got.messages[0].content.text.startswith("Set up SSO for a domain: Okta for acme.com.\n")
        content = (await client.read_resource("skill://index.json")).contents[0]
        assert isinstance(content, TextResourceContents)
        index = json.loads(content.text)
        assert {entry["name"] for entry in index} == wanted
        listed = {str(resource.uri) for resource in (await client.list_resources()).resources}
        for entry in index:
            content = (await client.read_resource(entry["uri"])).contents[0]
            assert isinstance(content, TextResourceContents)
            assert content.text.startswith(f"---\nname: {entry['name']}\n")
            assert entry["uri"] in listed
        with pytest.raises(MCPError, match="for the skills"):
            await client.read_resource("skill://register-app/SKILL.md")


@pytest.mark.parametrize("form", ["both", "text", "structured"])
async def test_a_result_goes_out_in_the_forms_that_the_operator_chose(form: str, mode: str, tmp_path: Path) -> None:
    async with sandbox_client(tmp_path, mode, platforms="logto", result_content=form) as client:
        result = await client.call_tool("logto_list_connectors", {})
        assert (bool(result.content), bool(result.structured_content)) == (form != "structured", form != "text")
        failed = await client.call_tool("logto_get_connector", {"id": "none"})
        assert failed.is_error
        assert failed.content
        assert failed.structured_content
