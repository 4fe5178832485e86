"""Connector types and skills as MCP resources.

A skill is a recipe in a SKILL.md file, served as a resource and as a prompt. It is offered only with all of its tools.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote, unquote

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from connector_mcp.engine.results import encode
from connector_mcp.operations.connector_types import ConnectorType, connector_types
from connector_mcp.operations.tool import Tool, only_served
from connector_mcp.operations.type_names import similar_types

SCHEME = "connector-type://"
JSON = "application/json"
MARKDOWN = "text/markdown"
SKILLS = "skill://"
INDEX = f"{SKILLS}index.json"

TEMPLATE = ResourceTemplate(
    uri_template=SCHEME + "{platform}/{type}",
    name="connector-type",
    title="Connector type",
    description="The exact config schema of one connector type, as JSON. Secret members carry writeOnly.",
    mime_type=JSON,
)


@dataclass(frozen=True)
class Skill:
    """One SKILL.md: what its front matter says, and the steps below it."""

    name: str
    title: str
    description: str
    asks: str
    """The description of the prompt's argument `subject`."""
    tools: frozenset[str]
    """The tools without which it is not offered."""
    head: str
    lines: tuple[str, ...]
    """The text below the front matter, with each paragraph and each step on one line."""

    @property
    def uri(self) -> str:
        """The address of its resource."""
        return f"{SKILLS}{self.name}/SKILL.md"

    def steps(self, served: Collection[str]) -> str:
        """The steps, one on each line, without the sentences about tools that are not served."""
        return "\n".join(said for line in self.lines if (said := only_served(line, served)))

    def text(self, served: Collection[str]) -> str:
        """The file, with the steps that can be taken here."""
        return f"---\n{self.head}\n---\n\n{self.steps(served)}\n"


@cache
def all_skills() -> tuple[Skill, ...]:
    """Every skill of the package, by name."""
    folder = resources.files("connector_mcp") / "skills"
    return tuple(
        _parse((each / "SKILL.md").read_text("utf-8"))
        for each in sorted(folder.iterdir(), key=lambda each: each.name)
        if (each / "SKILL.md").is_file()
    )


def skills_with(served: Collection[str]) -> list[Skill]:
    """The skills that these tools can carry out."""
    return [skill for skill in all_skills() if skill.tools <= set(served)]


def _parse(text: str) -> Skill:
    _, head, body = text.split("---\n", 2)
    # Our own files: each member stands on one line, and what is quoted is quoted as in JSON.
    pairs = (line.strip().partition(": ") for line in head.splitlines())
    given = {key: json.loads(value) if value.startswith('"') else value for key, _, value in pairs}
    tools = frozenset(given["tools"].split())
    lines = re.split(r"\n\n|\n(?=\d+\. )", body.strip())
    joined = tuple(" ".join(line.split()) for line in lines)
    return Skill(given["name"], given["title"], given["description"], given["asks"], tools, head.strip(), joined)


def served_platforms(tools: Sequence[Tool]) -> list[str]:
    """The platforms that have a tool, in the order of their tools."""
    return list(dict.fromkeys(tool.operation.on.name for tool in tools if tool.operation.on))


def list_resources(tools: Sequence[Tool]) -> list[Resource]:
    """List an index for each platform with connector types, and the skills that the tools can carry out with theirs."""
    listed = [
        Resource(
            uri=SCHEME + platform,
            name=f"{platform} connector types",
            description=f"The connector types of {platform}, each with the address of its schema.",
            mime_type=JSON,
        )
        for platform in served_platforms(tools)
        if connector_types(platform)
    ]
    if found := skills_with({tool.name for tool in tools}):
        description = "The skills, each with its address."
        listed.append(Resource(uri=INDEX, name="skills", description=description, mime_type=JSON))
    for each in found:
        listed.append(
            Resource(uri=each.uri, name=each.name, title=each.title, description=each.description, mime_type=MARKDOWN)
        )
    return listed


def read_resource(uri: str, tools: Sequence[Tool]) -> ReadResourceResult:
    """Read an index, a connector type or a skill.

    Raises:
        MCPError: -32602 with the address in its data: nothing is there, or its platform or its tools are not served.
    """
    if uri.startswith(SKILLS):
        kind, text = _read_skill(uri, {tool.name for tool in tools})
    else:
        kind, text = JSON, encode(_read_types(uri, served_platforms(tools)))
    return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type=kind, text=text)])


def _read_skill(uri: str, served: Collection[str]) -> tuple[str, str]:
    found = {each.uri: each for each in skills_with(served)}
    if uri == INDEX:
        index = [{"name": each.name, "description": each.description, "uri": each.uri} for each in found.values()]
        return JSON, encode(index)
    if uri in found:
        return MARKDOWN, found[uri].text(served)
    raise MCPError(INVALID_PARAMS, f"Resource not found. Read {INDEX} for the skills.", {"uri": uri})


def _read_types(uri: str, platforms: Sequence[str]) -> Any:
    platform, _, type_id = uri.removeprefix(SCHEME).partition("/")
    known = connector_types(platform) if uri.startswith(SCHEME) and platform in platforms else {}
    if found := known.get(unquote(type_id)):
        return _described(found)
    if known and not type_id:
        return [_entry(entry) for entry in known.values()]
    near = [each.type for each in similar_types(platform, unquote(type_id))] if known else []
    also = f" Perhaps {', '.join(near[:3])}." if near else ""
    listed = ", ".join(SCHEME + name for name in platforms if connector_types(name))
    look = f" Read {listed} for the types." if listed else ""
    raise MCPError(INVALID_PARAMS, f"Resource not found.{also}{look}", {"uri": uri})


def _entry(entry: ConnectorType) -> dict[str, Any]:
    return {
        "type": entry.type,
        "name": entry.name,
        "kind": entry.kind,
        "creatable": entry.creatable,
        "uri": f"{SCHEME}{entry.platform}/{quote(entry.type, safe='')}",
    }


def _described(entry: ConnectorType) -> dict[str, Any]:
    return {
        "platform": entry.platform,
        "type": entry.type,
        "name": entry.name,
        "kind": entry.kind,
        "creatable": entry.creatable,
        "notes": list(entry.notes),
        "secret_paths": list(entry.secret_paths),
        "config": entry.config,
        **entry.traits,
    }
