"""What the server says of itself: instructions, prompts and completions. Nothing in it is about what is not served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    Completion,
    GetPromptResult,
    ListPromptsResult,
    Prompt,
    PromptArgument,
    PromptMessage,
    TextContent,
)

from connector_mcp.operations.catalog import platform_folder
from connector_mcp.operations.connector_types import connector_types
from connector_mcp.operations.operation import Effect
from connector_mcp.operations.tool import Tool, only_served
from connector_mcp.operations.type_names import similar_types
from connector_mcp.suggest import did_you_mean
from connector_mcp.text import clean
from connector_mcp.transport.mcp.skills import skills_with

MOST_COMPLETIONS = 100
"""Values that the protocol lets one completion have."""

_LOOK_FIRST = (
    "Call describe_connector_type before you create a connector or change a config: it gives the keys, which of them "
    "are required or secret, and an example."
)
_READS_ONLY = "This server only reads: what changes something is not served."
_DECISIONS = (
    "Calls that destroy or overwrite something are put to a person or parked for an operator; the result says which. "
    "Make the same call again, unchanged, once it is approved. You cannot confirm it yourself."
)
_REDACTED = (
    "Secrets come back as `[redacted]`. Never send that text as a value. Each tool's description says whether what you "
    "leave out is kept."
)
_REFERENCES = (
    "A secret field takes `secret://NAME` for a secret that is stored here, so that you never see its value. "
    "list_secrets gives the names."
)
_ERRORS = "An error says in `fix` what to do next; `outcome_unknown` means look before you repeat."


def served_platforms(tools: Sequence[Tool]) -> list[str]:
    """The platforms that have a tool, in the order of their tools."""
    return list(dict.fromkeys(tool.operation.on.name for tool in tools if tool.operation.on))


def instructions(tools: Sequence[Tool]) -> str:
    """What a model should know before it calls one of these tools."""
    titles = [platform_folder(name).platform.title for name in served_platforms(tools)]
    where = f"{', '.join(titles[:-1])} and {titles[-1]}" if len(titles) > 1 else "".join(titles) or "no platform"
    if any(tool.operation.effect is not Effect.READ for tool in tools):
        lines = [f"Provisions and looks after connectors on {where}.", _LOOK_FIRST, _DECISIONS, _REDACTED, _REFERENCES]
    else:
        lines = [f"Reads connectors on {where}.", _READS_ONLY, "Secrets come back as `[redacted]`."]
    names = {tool.name for tool in tools}
    return "\n".join(said for line in (*lines, _ERRORS) if (said := only_served(line, names)))


@dataclass(frozen=True)
class PromptTemplate:
    """A task. Its text has `{platform}` and `{subject}` in the places of the two arguments."""

    name: str
    title: str
    description: str
    asks: str
    """The description of the argument `subject`, which the person may type."""
    text: str
    needs: Effect = Effect.READ
    """The effect without which a platform's tools cannot do the task."""


PROMPTS = (
    PromptTemplate(
        name="set_up_connector",
        title="Set up a connector",
        description="Create a connector step by step, and see that it works.",
        asks="What to connect, such as: our S3 bucket acme-docs.",
        text="Set up a connector on {platform}: {subject}.\n"
        "1. List the connectors that there are, so that none is made twice or replaced.\n"
        "2. Find out which values are needed, and tell me which of them you need from me. "
        "describe_connector_type gives them for the type that fits.\n"
        "3. When you have them, create the connector.\n"
        "4. Read it back and tell me what the platform says of its credentials, or how else to see that it works.",
        needs=Effect.CREATE,
    ),
    PromptTemplate(
        name="look_over_connectors",
        title="Look over the connectors",
        description="Find connectors that fail, were never verified or look forgotten. Changes nothing.",
        asks="What to look for, such as: failing connectors.",
        text="Look over our connectors on {platform}: {subject}.\n"
        "Use tools that only read. List all pages, read what looks wrong in detail, and give me a short table: "
        "connector, what is wrong, what you would do. Change nothing before I have chosen.",
    ),
)


def _able(prompt: PromptTemplate, tools: Sequence[Tool]) -> list[str]:
    """The platforms that have a tool for the task."""
    return served_platforms([tool for tool in tools if tool.operation.effect is prompt.needs])


def list_prompts(tools: Sequence[Tool]) -> ListPromptsResult:
    """List the prompts that the tools can carry out, with the platforms that they can do so on."""
    prompts = [
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
        if (platforms := _able(prompt, tools))
    ]
    prompts += [
        Prompt(
            name=skill.name,
            title=skill.title,
            description=skill.description,
            arguments=[PromptArgument(name="subject", description=skill.asks, required=False)],
        )
        for skill in skills_with({tool.name for tool in tools})
    ]
    return ListPromptsResult(prompts=prompts)


def get_prompt(name: str, arguments: Mapping[str, str] | None, tools: Sequence[Tool]) -> GetPromptResult:
    """Fill a prompt with its arguments.

    Raises:
        MCPError: The prompt or the platform is not served; the message names those that are.
    """
    able = {prompt.name: platforms for prompt in PROMPTS if (platforms := _able(prompt, tools))}
    names = {tool.name for tool in tools}
    skills = {skill.name: skill for skill in skills_with(names)}
    given = arguments or {}
    subject = clean(given.get("subject", "")).rstrip(".") or "ask me what exactly"
    if skill := skills.get(name):
        return _prompt_result(skill.description, f"{skill.title}: {subject}.\n{skill.steps(names)}")
    if name not in able:
        raise _unknown("prompt", name, [*able, *skills])
    prompt = next(prompt for prompt in PROMPTS if prompt.name == name)
    platform = given.get("platform", "")
    if platform not in able[name]:
        raise _unknown("platform", platform, able[name])
    task = "\n".join(only_served(line, names) for line in prompt.text.split("\n"))
    return _prompt_result(prompt.description, task.format(platform=platform, subject=subject))


def _prompt_result(description: str, text: str) -> GetPromptResult:
    message = PromptMessage(role="user", content=TextContent(text=text))
    return GetPromptResult(description=description, messages=[message])


def complete(argument: str, typed: str, context: Mapping[str, str] | None, tools: Sequence[Tool]) -> Completion:
    """The values that an argument of a prompt or of the resource template can have, as far as they are known here."""
    platforms, given = served_platforms(tools), (context or {}).get("platform", "")
    if argument == "platform":
        values = [name for name in platforms if typed.strip().casefold() in name]
    elif argument == "type" and given in platforms:
        begun = [key for key in connector_types(given) if key.casefold().startswith(typed.strip().casefold())]
        values = list(dict.fromkeys([*begun, *(kind.type for kind in similar_types(given, typed))]))
    else:
        values = []
    return Completion(values=values[:MOST_COMPLETIONS], total=len(values), has_more=len(values) > MOST_COMPLETIONS)


def _unknown(kind: str, name: str, known: Sequence[str]) -> MCPError:
    named = clean(name, 64) or "none given"
    served = f"There are {', '.join(known)}." if known else "There is none."
    return MCPError(INVALID_PARAMS, f"Unknown {kind}: {named}.{did_you_mean(name, known)} {served}")
