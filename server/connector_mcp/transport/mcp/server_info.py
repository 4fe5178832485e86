"""Instructions, prompts and completions. None of them mentions a platform or tool that is not served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    Completion,
    GetPromptResult,
    Icon,
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
from connector_mcp.transport.mcp.resources import served_platforms, skills_with

MOST_COMPLETIONS = 100
"""Values that the protocol lets one completion have."""

# The same picture as docs/icon.svg. Every answer of the 2026-07-28 protocol repeats it, so it is small.
ICON = Icon(
    src="data:image/svg+xml,%3Csvg%20xmlns='http://www.w3.org/2000/svg'%20viewBox='0%200%2024%2024'%3E%3Crect%20w"
    "idth='24'%20height='24'%20rx='5'%20fill='%233f51b5'/%3E%3Cpath%20d='M9%204v4m6-4v4M7%208h10v3a5%205%200%"
    "200%201-10%200zm5%208v4'%20fill='none'%20stroke='%23fff'%20stroke-width='2'%20stroke-linecap='round'%20s"
    "troke-linejoin='round'/%3E%3C/svg%3E",
    mime_type="image/svg+xml",
    sizes=["any"],
)

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


def instructions(tools: Sequence[Tool]) -> str:
    """Return what a model should know before it calls one of these tools."""
    titles = [platform_folder(name).platform.title for name in served_platforms(tools)]
    where = f"{', '.join(titles[:-1])} and {titles[-1]}" if len(titles) > 1 else "".join(titles) or "no platform"
    if any(tool.operation.effect is not Effect.READ for tool in tools):
        lines = [f"Provisions and looks after connectors on {where}.", _LOOK_FIRST, _DECISIONS, _REDACTED, _REFERENCES]
    else:
        lines = [f"Reads connectors on {where}.", _READS_ONLY, "Secrets come back as `[redacted]`."]
    names = {tool.name for tool in tools}
    return "\n".join(said for line in (*lines, _ERRORS) if (said := only_served(line, names)))


def list_prompts(tools: Sequence[Tool]) -> ListPromptsResult:
    """List the skills that the tools can carry out."""
    prompts = [
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
    """Return the steps of a skill, with the subject that the person typed.

    Raises:
        MCPError: The skill is not served; the message names those that are.
    """
    names = {tool.name for tool in tools}
    skills = {skill.name: skill for skill in skills_with(names)}
    skill = skills.get(name)
    if skill is None:
        there = f"There are {', '.join(skills)}." if skills else "There is none."
        named = clean(name, 64) or "none given"
        raise MCPError(INVALID_PARAMS, f"Unknown prompt: {named}.{did_you_mean(name, skills)} {there}")
    subject = clean((arguments or {}).get("subject", "")).rstrip(".") or "ask me what exactly"
    message = PromptMessage(role="user", content=TextContent(text=f"{skill.title}: {subject}.\n{skill.steps(names)}"))
    return GetPromptResult(description=skill.description, messages=[message])


def complete(argument: str, typed: str, context: Mapping[str, str] | None, tools: Sequence[Tool]) -> Completion:
    """Return the known values of an argument of a prompt or of the resource template."""
    platforms, given = served_platforms(tools), (context or {}).get("platform", "")
    if argument == "platform":
        values = [name for name in platforms if typed.strip().casefold() in name]
    elif argument == "type" and given in platforms:
        begun = [key for key in connector_types(given) if key.casefold().startswith(typed.strip().casefold())]
        values = list(dict.fromkeys([*begun, *(kind.type for kind in similar_types(given, typed))]))
    else:
        values = []
    return Completion(values=values[:MOST_COMPLETIONS], total=len(values), has_more=len(values) > MOST_COMPLETIONS)
