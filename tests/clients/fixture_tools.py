"""The tools that the conformance suite's scenarios call, by the names and with the results that it wants of them.

The suite's own words for each are in the description of its scenarios. It also wants pauses between some notifications;
none is made, because what it looks at is that they arrive.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import PromptsListChanged, SubscriptionBus, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata

Context = ServerRequestContext[dict[str, Any], Any]
ToolResult = types.CallToolResult | types.InputRequiredResult
Call = Callable[[Context, types.CallToolRequestParams], Awaitable[ToolResult]]

# One red pixel, and no samples.
PNG: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV: Final = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="
STRING: Final = {"type": "string"}


def text(words: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=words)])


def form(message: str, properties: Mapping[str, Any]) -> types.ElicitRequest:
    schema = {"type": "object", "properties": dict(properties), "required": list(properties)}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def sampling(prompt: str, most: int = 100) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=types.TextContent(text=prompt))
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=most))


def accepted(params: types.CallToolRequestParams, key: str, member: str) -> Any:
    """What the client answered to one question; None where it did not, or with something else."""
    answer = (params.input_responses or {}).get(key)
    return (answer.content or {}).get(member) if isinstance(answer, types.ElicitResult) else None


NAME: Final = form("What is your name?", {"name": STRING})
CONFIRM: Final = form("Please confirm", {"ok": {"type": "boolean"}})


def fixed(*content: types.ContentBlock, is_error: bool = False) -> Call:
    """A tool that always gives the same."""

    async def call(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
        return types.CallToolResult(content=list(content), is_error=is_error)

    return call


def resource(uri: str, kind: str, words: str) -> types.EmbeddedResource:
    return types.EmbeddedResource(resource=types.TextResourceContents(uri=uri, mime_type=kind, text=words))


async def with_logging(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.session.send_log_message("info", message, related_request_id=ctx.request_id)
    return text("Logged.")


async def with_progress(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    for progress in (0, 50, 100):
        await ctx.session.report_progress(progress, 100)
    return text("Done.")


async def with_sampling(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    answer = await ctx.session.send_request(
        sampling((params.arguments or {})["prompt"]),
        types.CreateMessageResult,
        metadata=ServerMessageMetadata(related_request_id=ctx.request_id),
    )
    assert isinstance(answer.content, types.TextContent)
    return text(f"LLM response: {answer.content.text}")


async def with_elicitation(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    message = (params.arguments or {})["message"]
    properties = {"username": STRING | {"description": "User's response"}, "email": STRING}
    return text(f"User response: {await elicited(ctx, message, properties)}")


def eliciting(properties: Mapping[str, Any]) -> Call:
    """A tool that puts a form over the back-channel."""

    async def call(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
        return text(f"Elicitation completed: {await elicited(ctx, 'Please fill in the form', properties)}")

    return call


async def elicited(ctx: Context, message: str, properties: Mapping[str, Any]) -> str:
    schema = {"type": "object", "properties": dict(properties), "required": list(properties)}
    answer = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return f"action={answer.action}, content={json.dumps(answer.content)}"


def requiring(inputs: Mapping[str, types.InputRequest], state: str | None = None) -> Call:
    """A tool of several rounds: it asks until every input is there, of its kind, and with its own state."""
    kinds = {"elicitation/create": types.ElicitResult, "sampling/createMessage": types.CreateMessageResult}

    async def call(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
        given = params.input_responses or {}
        expected = {key: kinds.get(wanted.method, types.ListRootsResult) for key, wanted in inputs.items()}
        complete = all(isinstance(given.get(key), kind) for key, kind in expected.items())
        if not complete or params.request_state != state:
            return types.InputRequiredResult(input_requests=dict(inputs), request_state=state)
        return text(f"state-ok: {sorted(given)}")

    return call


async def ask_name(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    name = accepted(params, "user_name", "name")
    if not isinstance(name, str):
        return types.InputRequiredResult(input_requests={"user_name": NAME})
    return text(f"Hello, {name}!")


async def multi_round(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    if params.request_state == "named" and (color := accepted(params, "step2", "color")) is not None:
        return text(f"Complete: {color}")
    if params.request_state == "asked" and accepted(params, "step1", "name") is not None:
        step2 = form("Step 2: What is your favorite color?", {"color": STRING})
        return types.InputRequiredResult(input_requests={"step2": step2}, request_state="named")
    step1 = form("Step 1: What is your name?", {"name": STRING})
    return types.InputRequiredResult(input_requests={"step1": step1}, request_state="asked")


async def as_capable(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    declared = ctx.session.client_capabilities
    inputs: dict[str, types.InputRequest] = {}
    if declared is not None and declared.elicitation is not None:
        inputs["user_name"] = NAME
    if declared is not None and declared.sampling is not None:
        inputs["greeting"] = sampling("Generate a greeting")
    return types.InputRequiredResult(input_requests=inputs) if inputs else text("Nothing can be asked.")


async def missing_capability(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    declared = ctx.session.client_capabilities
    if declared is None or declared.sampling is None:
        data: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool samples.", data)
    return text("The client samples.")


def changing(bus: SubscriptionBus, event: ToolsListChanged | PromptsListChanged) -> Call:
    """A tool that announces a changed list."""

    async def call(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
        await bus.publish(event)
        return text("Changed.")

    return call


DEFAULTS: Final = {
    "name": STRING | {"default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": STRING | {"enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
OPTIONS: Final = ["option1", "option2", "option3"]
TITLED: Final = [{"const": f"value{at}", "title": title} for at, title in enumerate(("First", "Second", "Third"), 1)]
ENUMS: Final = {
    "untitledSingle": STRING | {"enum": OPTIONS},
    "titledSingle": STRING | {"oneOf": TITLED},
    "legacyEnum": STRING
    | {"enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]},
    "untitledMulti": {"type": "array", "items": STRING | {"enum": OPTIONS}},
    "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
}

EMBEDDED: Final = resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")
IMAGE: Final = types.ImageContent(data=PNG, mime_type="image/png")
MIXED: Final = resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')


def calls(bus: SubscriptionBus) -> dict[str, Call]:
    """What each tool does, by its name; changes of lists are published on `bus`."""
    required = "test_input_required_result_"
    return {
        "test_simple_text": fixed(types.TextContent(text="This is a simple text response for testing.")),
        "test_image_content": fixed(IMAGE),
        "test_audio_content": fixed(types.AudioContent(data=WAV, mime_type="audio/wav")),
        "test_embedded_resource": fixed(EMBEDDED),
        "test_multiple_content_types": fixed(types.TextContent(text="Multiple content types test:"), IMAGE, MIXED),
        "test_error_handling": fixed(
            types.TextContent(text="This tool intentionally returns an error for testing"), is_error=True
        ),
        "test_tool_with_logging": with_logging,
        "test_logging_tool": with_logging,
        "test_tool_with_progress": with_progress,
        "test_sampling": with_sampling,
        "test_elicitation": with_elicitation,
        "test_elicitation_sep1034_defaults": eliciting(DEFAULTS),
        "test_elicitation_sep1330_enums": eliciting(ENUMS),
        "test_custom_header": fixed(types.TextContent(text="The header was that of the argument.")),
        "json_schema_2020_12_tool": fixed(types.TextContent(text="The schema is what is looked at.")),
        "test_missing_capability": missing_capability,
        "test_streaming_elicitation": ask_name,
        "test_trigger_tool_change": changing(bus, ToolsListChanged()),
        "test_trigger_prompt_change": changing(bus, PromptsListChanged()),
        f"{required}elicitation": ask_name,
        f"{required}sampling": requiring({"capital_question": sampling("What is the capital of France?")}),
        f"{required}list_roots": requiring({"client_roots": types.ListRootsRequest()}),
        f"{required}request_state": requiring({"confirm": CONFIRM}, "confirming"),
        f"{required}multiple_inputs": requiring(
            {
                "user_name": NAME,
                "greeting": sampling("Generate a greeting", 50),
                "client_roots": types.ListRootsRequest(),
            },
            "asking for three",
        ),
        f"{required}multi_round": multi_round,
        f"{required}tampered_state": requiring({"confirm": CONFIRM}, "sealed"),
        f"{required}capabilities": as_capable,
    }


NO_ARGUMENTS: Final = {"type": "object", "properties": {}}
SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "test_sampling": {"type": "object", "properties": {"prompt": STRING}, "required": ["prompt"]},
    "test_elicitation": {"type": "object", "properties": {"message": STRING}, "required": ["message"]},
    "test_custom_header": {"type": "object", "properties": {"region": STRING | {"x-mcp-header": "Region"}}},
    "json_schema_2020_12_tool": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"city": STRING}}},
        "properties": {"address": {"$ref": "#/$defs/address"}, "phone": STRING, "email": STRING},
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"required": ["phone"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
}
"""The input schemas of the tools that take arguments."""


def listed(name: str) -> types.Tool:
    """A tool as it is listed."""
    schema = SCHEMAS.get(name, NO_ARGUMENTS)
    return types.Tool(name=name, description=f"The conformance suite's {name}.", input_schema=schema)
