"""The fixtures of the conformance suite behind the transport that we serve: `python -m tests.clients.fixture_server`.

What is served is not our engine; what carries it, guards it and ends it is ours.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from typing import Any, Final

import anyio
import mcp_types as types
from anyio.abc import TaskStatus
from mcp.server.caching import CacheHint
from mcp.server.lowlevel.server import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from starlette.applications import Starlette

from connector_mcp.transport.auth.authorization import Callers
from connector_mcp.transport.http.app import protocol_app
from connector_mcp.transport.http.host_guard import Reach
from connector_mcp.transport.http.limits import HttpLimits
from connector_mcp.transport.http.listener import serve_app
from connector_mcp.transport.http.shutdown import Drain
from connector_mcp.transport.mcp.elicitation import principal_of
from tests.clients.fixture_tools import IMAGE, PNG, STRING, Context, ToolResult, calls, form, listed, resource

TEXT: Final = "This is the content of the static text resource."
TEMPLATE: Final = re.compile(r"test://template/([^/]+)/data")

PROMPTS: Final = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}


async def list_resources(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
    kinds = {"static-text": "text/plain", "static-binary": "image/png", "watched-resource": "text/plain"}
    return types.ListResourcesResult(
        resources=[
            types.Resource(uri=f"test://{name}", name=name, description=f"The suite's {name}.", mime_type=kind)
            for name, kind in kinds.items()
        ]
    )


async def list_templates(
    ctx: Context, params: types.PaginatedRequestParams | None
) -> types.ListResourceTemplatesResult:
    template = types.ResourceTemplate(
        uri_template="test://template/{id}/data", name="template", mime_type="application/json"
    )
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = params.uri
    if uri == "test://static-binary":
        return types.ReadResourceResult(contents=[types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)])
    if found := TEMPLATE.fullmatch(uri):
        words = f'{{"id":"{found[1]}","templateTest":true,"data":"Data for ID: {found[1]}"}}'
        return types.ReadResourceResult(
            contents=[types.TextResourceContents(uri=uri, mime_type="application/json", text=words)]
        )
    if uri in ("test://static-text", "test://watched-resource"):
        return types.ReadResourceResult(
            contents=[types.TextResourceContents(uri=uri, mime_type="text/plain", text=TEXT)]
        )
    raise MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})


async def list_prompts(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
    prompts: list[types.Prompt] = []
    for name, names in PROMPTS.items():
        arguments = [types.PromptArgument(name=argument, required=True) for argument in names]
        prompts.append(types.Prompt(name=name, description=f"The suite's {name}.", arguments=arguments))
    return types.ListPromptsResult(prompts=prompts)


async def get_prompt(
    ctx: Context, params: types.GetPromptRequestParams
) -> types.GetPromptResult | types.InputRequiredResult:
    given = params.arguments or {}
    match params.name:
        case "test_simple_prompt":
            return said(types.TextContent(text="This is a simple prompt for testing."))
        case "test_prompt_with_arguments":
            return said(
                types.TextContent(text=f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'")
            )
        case "test_prompt_with_embedded_resource":
            embedded = resource(given["resourceUri"], "text/plain", "Embedded resource content for testing.")
            return said(embedded, types.TextContent(text="Please process the embedded resource above."))
        case "test_prompt_with_image":
            return said(IMAGE, types.TextContent(text="Please analyze the image above."))
        case "test_input_required_result_prompt":
            answer = (params.input_responses or {}).get("user_context")
            if isinstance(answer, types.ElicitResult):
                return said(types.TextContent(text=f"The context is {answer.content}"))
            question = form("What context should the prompt use?", {"context": STRING})
            return types.InputRequiredResult(input_requests={"user_context": question})
        case unknown:
            raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {unknown}")


def said(*content: types.ContentBlock) -> types.GetPromptResult:
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=block) for block in content])


async def complete(ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    values = [value for value in ("paris", "park", "party") if value.startswith(params.argument.value)]
    return types.CompleteResult(completion=types.Completion(values=values, total=len(values), has_more=False))


async def accept(ctx: Context, params: Any) -> types.EmptyResult:
    return types.EmptyResult()


def fixture_server() -> Server[dict[str, Any]]:
    """An MCP server with all fixtures; questions are sealed as ours are."""
    bus = InMemorySubscriptionBus()
    tools = calls(bus)

    async def list_tools(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[listed(name) for name in tools])

    async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
        if params.name not in tools:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
        return await tools[params.name](ctx, params)

    server = Server[dict[str, Any]](
        "conformance-fixtures",
        version="1",
        cache_hints=dict.fromkeys(
            ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"),
            CacheHint(ttl_ms=60_000, scope="private"),
        ),
        get_tool_input_schema=lambda name: listed(name).input_schema if name in tools else None,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=accept,
        on_unsubscribe_resource=accept,
        on_subscriptions_listen=ListenHandler(bus),
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_set_logging_level=accept,
    )
    security = RequestStateSecurity(keys=[os.urandom(32)], ttl=600, bind_principal=principal_of)
    server.middleware.append(RequestStateBoundary(security, default_audience=server.name))
    return server


async def main() -> int:
    def app(reach: Reach, drain: Drain) -> Starlette:
        return protocol_app(fixture_server(), reach=reach, callers=Callers(), limits=HttpLimits(), drain=drain)

    async def serve(*, task_status: TaskStatus[str]) -> None:
        nonlocal status
        status = await serve_app(app, "127.0.0.1", 0, task_status=task_status)

    status = 1
    async with anyio.create_task_group() as tasks:
        address = await tasks.start(serve)
        print(f"Serving {address}/mcp", file=sys.stderr)  # noqa: T201 - the test reads it
    return status


if __name__ == "__main__":
    # The revision of 2025 has logging, sampling and roots, and its scenarios ask for them.
    warnings.filterwarnings("ignore", category=MCPDeprecationWarning)
    # A scenario brings a state that was tampered with, which is worth a line in a log but not in this one.
    logging.getLogger("mcp.server.request_state").setLevel(logging.ERROR)
    sys.exit(anyio.run(main))
