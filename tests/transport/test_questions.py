"""Asking a person in both eras of the protocol."""

from collections.abc import Mapping
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    ErrorData,
    InputRequiredResult,
    ListRootsResult,
)

from connector_mcp.engine.caller import Caller, CallResult, CannotAsk, Question
from connector_mcp.transport.mcp.server import build_server

KEY = b"k" * 32
TOOL = "vectorize_delete_source_connector"
ARGUMENTS = {"connector_id": "c-1"}
SCHEMA = {
    "type": "object",
    "properties": {"confirm": {"type": "string", "title": "Name", "description": "Type it."}},
    "required": ["confirm"],
}


async def asks(engine: Any, name: str, arguments: Mapping[str, Any], caller: Caller) -> CallResult:
    """Asks, and answers with what came of it."""
    if caller.resumed is not None:
        reply, ticket = caller.resumed.reply, caller.resumed.ticket
    else:
        try:
            reply, ticket = await caller.ask(Question("Delete it?", SCHEMA), "ticket-1"), "ticket-1"
        except CannotAsk:
            return CallResult({"outcome": "cannot_ask", "can_ask": caller.can_ask}, is_error=True)
    return CallResult({"action": reply.action, "content": dict(reply.content), "ticket": ticket}, is_error=False)


def answer(result: Any, shown: list[Any] | None = None) -> Any:
    """An elicitation callback that gives one answer, and keeps what it was shown in `shown`."""

    async def callback(context: Any, params: Any) -> Any:
        if shown is not None:
            shown.append(params)
        return result

    return callback


def client_of(engine: Any, mode: Any, callback: Any = None) -> Client:
    return Client(build_server(engine, request_state_key=KEY), mode=mode, elicitation_callback=callback)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("given", "content"),
    [
        (ElicitResult(action="accept", content={"confirm": "orders"}), {"confirm": "orders"}),
        (ElicitResult(action="accept", content={"confirm": True}), {"confirm": True}),
        (ElicitResult(action="accept", content={"confirm": "yes"}), {"confirm": "yes"}),
        (ElicitResult(action="accept", content={"confirm": 1}), {"confirm": 1}),
        (ElicitResult(action="accept"), {}),
        (ElicitResult(action="decline", content={"confirm": "orders"}), {}),
        (ElicitResult(action="cancel"), {}),
    ],
)
async def test_an_answer_reaches_the_engine_uncoerced(make_engine: Any, mode: Any, given: Any, content: Any) -> None:
    shown: list[Any] = []
    async with client_of(make_engine(asks), mode, answer(given, shown)) as client:
        result = await client.call_tool(TOOL, ARGUMENTS)
    assert result.structured_content == {"action": given.action, "content": content, "ticket": "ticket-1"}
    for key, value in content.items():
        assert type(result.structured_content["content"][key]) is type(value)
    (question,) = shown
    assert isinstance(question, ElicitRequestFormParams)
    assert (question.message, question.requested_schema) == ("Delete it?", SCHEMA)


@pytest.mark.anyio
async def test_a_client_that_declares_no_elicitation_is_never_asked(make_engine: Any, mode: Any) -> None:
    async with client_of(make_engine(asks), mode) as client:
        result = await client.call_tool(TOOL, ARGUMENTS)
    assert result.is_error
    assert result.structured_content == {"outcome": "cannot_ask", "can_ask": False}


@pytest.mark.anyio
async def test_an_error_for_an_answer_means_that_the_question_could_not_be_put(make_engine: Any) -> None:
    callback = answer(ErrorData(code=-32601, message="Method not found"))
    async with client_of(make_engine(asks), "legacy", callback) as client:
        result = await client.call_tool(TOOL, ARGUMENTS)
    assert result.structured_content == {"outcome": "cannot_ask", "can_ask": True}


@pytest.mark.anyio
async def test_an_answer_that_is_none_means_that_the_question_could_not_be_put(make_engine: Any) -> None:
    callback = answer(ElicitResult.model_construct(action="perhaps", content=None))
    async with client_of(make_engine(asks), "legacy", callback) as client:
        result = await client.call_tool(TOOL, ARGUMENTS)
    assert result.structured_content == {"outcome": "cannot_ask", "can_ask": True}


@pytest.mark.anyio
async def test_a_question_that_nobody_answers_in_time_is_cancelled(make_engine: Any) -> None:
    async def never(context: Any, params: Any) -> Any:
        await anyio.sleep_forever()

    async with client_of(make_engine(asks, ask_timeout=0.01), "legacy", never) as client:
        result = await client.call_tool(TOOL, ARGUMENTS)
    assert result.structured_content == {"action": "cancel", "content": {}, "ticket": "ticket-1"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "responses",
    [
        None,
        {},
        {"other": ElicitResult(action="accept", content={"confirm": "orders"})},
        {"confirm": ListRootsResult(roots=[])},
    ],
)
async def test_a_state_without_a_fitting_answer_is_a_cancelled_question(make_engine: Any, responses: Any) -> None:
    async with client_of(make_engine(asks), "auto", answer(None)) as client:
        asked = await client.session.call_tool(TOOL, ARGUMENTS, allow_input_required=True)
        assert isinstance(asked, InputRequiredResult)
        result = await client.session.call_tool(
            TOOL, ARGUMENTS, input_responses=responses, request_state=asked.request_state, allow_input_required=True
        )
    assert isinstance(result, CallToolResult)
    assert result.structured_content == {"action": "cancel", "content": {}, "ticket": "ticket-1"}


@pytest.mark.anyio
async def test_an_answer_without_a_state_answers_nothing(make_engine: Any) -> None:
    yes = {"confirm": ElicitResult(action="accept", content={"confirm": "orders"})}
    async with client_of(make_engine(asks), "auto", answer(None)) as client:
        result = await client.session.call_tool(TOOL, ARGUMENTS, input_responses=yes, allow_input_required=True)
    assert isinstance(result, InputRequiredResult)
    assert result.input_requests is not None
    assert isinstance(result.input_requests["confirm"], ElicitRequest)


@pytest.mark.anyio
async def test_the_ticket_is_not_readable_in_what_the_client_carries(make_engine: Any) -> None:
    async with client_of(make_engine(asks), "auto", answer(None)) as client:
        asked = await client.session.call_tool(TOOL, ARGUMENTS, allow_input_required=True)
    assert isinstance(asked, InputRequiredResult)
    assert asked.request_state
    assert "ticket-1" not in asked.request_state


@pytest.mark.anyio
@pytest.mark.parametrize("wrong", ["altered", "invented", "other arguments", "other tool", "other key"])
async def test_a_state_that_is_not_ours_for_this_call_runs_nothing(make_engine: Any, wrong: str) -> None:
    engine = make_engine(asks)
    yes = {"confirm": ElicitResult(action="accept", content={"confirm": "orders"})}
    other = Client(build_server(make_engine(asks), request_state_key=b"o" * 32), elicitation_callback=answer(None))
    async with client_of(engine, "auto", answer(None)) as client, other as stranger:
        source = stranger if wrong == "other key" else client
        asked = await source.session.call_tool(TOOL, ARGUMENTS, allow_input_required=True)
        assert isinstance(asked, InputRequiredResult)
        assert asked.request_state is not None
        middle = len(asked.request_state) // 2
        flipped = "A" if asked.request_state[middle] != "A" else "B"
        states = {
            "altered": asked.request_state[:middle] + flipped + asked.request_state[middle + 1 :],
            "invented": "ticket-1",
        }
        engine.calls.clear()
        with pytest.raises(MCPError) as caught:
            await client.session.call_tool(
                "vectorize_get_source_connectors" if wrong == "other tool" else TOOL,
                {"connector_id": "c-2"} if wrong == "other arguments" else ARGUMENTS,
                input_responses=yes,
                request_state=states.get(wrong, asked.request_state),
            )
    assert caught.value.code == INVALID_PARAMS
    assert engine.calls == []


@pytest.mark.anyio
async def test_another_process_with_the_same_key_takes_the_question_up(make_engine: Any) -> None:
    yes = {"confirm": ElicitResult(action="accept", content={"confirm": "orders"})}
    async with (
        client_of(make_engine(asks), "auto", answer(None)) as first,
        client_of(make_engine(asks), "auto", answer(None)) as second,
    ):
        asked = await first.session.call_tool(TOOL, ARGUMENTS, allow_input_required=True)
        assert isinstance(asked, InputRequiredResult)
        result = await second.session.call_tool(TOOL, ARGUMENTS, input_responses=yes, request_state=asked.request_state)
    assert result.structured_content == {"action": "accept", "content": {"confirm": "orders"}, "ticket": "ticket-1"}


@pytest.mark.anyio
async def test_an_earlier_client_cannot_bring_an_answer_to_a_question_it_was_not_asked(make_engine: Any) -> None:
    async with client_of(make_engine(asks), "auto", answer(None)) as modern:
        asked = await modern.session.call_tool(TOOL, ARGUMENTS, allow_input_required=True)
    assert isinstance(asked, InputRequiredResult)
    yes = {"confirm": ElicitResult(action="accept", content={"confirm": "orders"})}
    async with client_of(make_engine(asks), "legacy", answer(ElicitResult(action="decline"))) as client:
        result = await client.session.call_tool(TOOL, ARGUMENTS, input_responses=yes, request_state=asked.request_state)
    assert result.structured_content is not None
    assert result.structured_content["action"] == "decline"
