"""Prompts: what a person picks in their client to set an assistant to a task that these tools are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, GetPromptResult, ListPromptsResult, PromptArgument, PromptMessage, TextContent
from mcp_types import Prompt as WirePrompt

from connector_mcp.text import clean


@dataclass(frozen=True)
class Prompt:
    """A task, with `{platform}` where the chosen platform goes and `{subject}` where what the person typed goes."""

    name: str
    title: str
    description: str
    asks: str
    """What the person may type: the description of the argument `subject`."""
    text: str


PROMPTS = (
    Prompt(
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
    Prompt(
        name="look_over_connectors",
        title="Look over the connectors",
        description="Find connectors that fail, were never verified or look forgotten. Changes nothing.",
        asks="What to look for, such as: failed verification.",
        text="Look over our connectors on {platform}: {subject}.\n"
        "Use tools that only read. List all pages, read what looks wrong in detail, and give me a short table: "
        "connector, what is wrong, what you would do. Change nothing before I have chosen.",
    ),
)


def listed(platforms: Sequence[str]) -> ListPromptsResult:
    """The prompts, for the platforms that are served."""
    return ListPromptsResult(
        prompts=[
            WirePrompt(
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


def got(name: str, arguments: Mapping[str, str] | None, platforms: Sequence[str]) -> GetPromptResult:
    """A prompt with its arguments in place.

    Raises:
        MCPError: There is no such prompt, or no such platform is served; says which there are.
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
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return MCPError(
        INVALID_PARAMS, f"Unknown {kind}: {clean(name, 64) or 'none given'}.{hint} There are {', '.join(known)}."
    )
