"""Connector types as MCP resources, and prompts: tasks that a person picks in their client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    GetPromptResult,
    ListPromptsResult,
    Prompt,
    PromptArgument,
    PromptMessage,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextContent,
    TextResourceContents,
)

from connector_mcp.engine.results import encode
from connector_mcp.operations.connector_types import ConnectorType, connector_types
from connector_mcp.suggest import did_you_mean
from connector_mcp.text import clean

SCHEME = "connector-type://"
JSON = "application/json"

TEMPLATE = ResourceTemplate(
    uri_template=SCHEME + "{platform}/{type}",
    name="connector-type",
    title="Connector type",
    description="The exact config schema of one connector type, as JSON. Secret members carry writeOnly.",
    mime_type=JSON,
)


def indexes(platforms: Sequence[str]) -> list[Resource]:
    """List the resources: one index for each platform that has connector types."""
    return [
        Resource(
            uri=SCHEME + platform,
            name=f"{platform} connector types",
            description=f"The connector types of {platform}, each with the address of its schema.",
            mime_type=JSON,
        )
        for platform in platforms
        if connector_types(platform)
    ]


def read_resource(uri: str, platforms: Sequence[str]) -> ReadResourceResult:
    """Read the index or the connector type at an address.

    Raises:
        MCPError: -32602 with the address in its data: nothing is there, or its platform is not on.
    """
    platform, _, type_id = uri.removeprefix(SCHEME).partition("/")
    known = connector_types(platform) if uri.startswith(SCHEME) and platform in platforms else {}
    found = known.get(unquote(type_id))
    if found is not None:
        content: Any = _described(found)
    elif known and not type_id:
        content = [_entry(entry) for entry in known.values()]
    else:
        raise MCPError(
            INVALID_PARAMS,
            "Resource not found. Read connector-type://{platform} for the types of a platform that is on.",
            {"uri": uri},
        )
    text = TextResourceContents(uri=uri, mime_type=JSON, text=encode(content))
    return ReadResourceResult(contents=[text])


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


@dataclass(frozen=True)
class PromptTemplate:
    """A task. Its text has `{platform}` and `{subject}` in the places of the two arguments."""

    name: str
    title: str
    description: str
    asks: str
    """The description of the argument `subject`, which the person may type."""
    text: str


PROMPTS = (
    PromptTemplate(
        name="set_up_connector",
        title="Set up a connector",
        description="Create a connector step by step, and see that it works.",
        asks="What to connect, such as: our S3 bucket acme-docs.",
        text="Set up a connector on {platform}: {subject}.\n"
        "1. List the connectors that there are, so that none is made twice or replaced.\n"
        "2. Call describe_connector_type for the type that fits, and tell me which values you need from me.\n"
        "3. When you have them, create the connector.\n"
        "4. Read it back and tell me whether the platform accepted its credentials.",
    ),
    PromptTemplate(
        name="look_over_connectors",
        title="Look over the connectors",
        description="Find connectors that fail, were never verified or look forgotten. Changes nothing.",
        asks="What to look for, such as: failed verification.",
        text="Look over our connectors on {platform}: {subject}.\n"
        "Use tools that only read. List all pages, read what looks wrong in detail, and give me a short table: "
        "connector, what is wrong, what you would do. Change nothing before I have chosen.",
    ),
)


def list_prompts(platforms: Sequence[str]) -> ListPromptsResult:
    """List the prompts, for the platforms that are on."""
    return ListPromptsResult(
        prompts=[
            Prompt(
                name=prompt.name,
                title=prompt.title,
                description=prompt.description,
                arguments=[
                    PromptArgument(name="platform", description=f"One of {', '.join(platforms)}.", required=True),
                    PromptArgument(name="subject", description=prompt.asks, required=False),
                ],
            )
            for prompt in PROMPTS
        ]
    )


def get_prompt(name: str, arguments: Mapping[str, str] | None, platforms: Sequence[str]) -> GetPromptResult:
    """Fill a prompt with its arguments.

    Raises:
        MCPError: The prompt or the platform does not exist; the message names those that do.
    """
    prompt = next((prompt for prompt in PROMPTS if prompt.name == name), None)
    if prompt is None:
        raise _unknown("prompt", name, [prompt.name for prompt in PROMPTS])
    given = arguments or {}
    platform = given.get("platform", "")
    if platform not in platforms:
        raise _unknown("platform", platform, platforms)
    subject = clean(given.get("subject", "")).rstrip(".") or "ask me what exactly"
    text = prompt.text.format(platform=platform, subject=subject)
    message = PromptMessage(role="user", content=TextContent(text=text))
    return GetPromptResult(description=prompt.description, messages=[message])


def _unknown(kind: str, name: str, known: Sequence[str]) -> MCPError:
    named = clean(name, 64) or "none given"
    return MCPError(
        INVALID_PARAMS, f"Unknown {kind}: {named}.{did_you_mean(name, known)} There are {', '.join(known)}."
    )
