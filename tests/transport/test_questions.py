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
    InputRequiredResult,
    ListRootsResult,
)

from connector_mcp.engine.caller import Caller, CallResult, CannotAsk, Question
from connector_mcp.transport.mcp.server import build_server
from tests.transport.conftest import FakeEngine, client_of

pytestmark = pytest.mark.anyio

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
async def test_an_answer_reaches_the_engine_uncoerced(mode: Any, given: Any, content: Any) -> None:
    shown: list[Any] = []
    async with client_of(FakeEngine(asks), mode, answer(given, shown)) as client:
        result = await client.call_tool(TOOL, ARGUMENTS)
    assert result.structured_content == {"action": given.action, "content": content, "ticket": "ticket-1"}
    for key, value in content.items():
        assert type(result.structured_content["content"][key]) is type(value)
    (question,) = shown
    assert isinstance(question, ElicitRequestFormParams)
    assert (question.message, question.requested_schema) == ("Delete it?", SCHEMA)


async def test_a_client_that_declares_no_elicitation_is_never_asked(mode: Any) -> None:
    async with client_of(FakeEngine(asks), mode) as client:
        result = await client.call_tool(TOOL, ARGUMENTS)
    assert result.is_error
    assert result.structured_content == {"outcome": "cannot_ask", "can_ask": False}


async def test_a_question_that_nobody_answers_in_time_is_cancelled() -> None:
    async def never(context: Any, params: Any) -> Any:
        await anyio.sleep_forever()

    async with client_of(FakeEngine(asks, ask_timeout=0.01), "legacy", never) as client:
        result = await client.call_tool(TOOL, ARGUMENTS)
    assert result.structured_content == {"action": "cancel", "content": {}, "ticket": "ticket-1"}


@pytest.mark.parametrize(
    "responses",
    [
        None,
        {},
        {"other": ElicitResult(action="accept", content={"confirm": "orders"})},
        {"confirm": ListRootsResult(roots=[])},
    ],
)
async def test_a_state_without_a_fitting_answer_is_a_cancelled_question(responses: Any) -> None:
    async with client_of(FakeEngine(asks), "auto", answer(None)) as client:
        asked = await client.session.call_tool(TOOL, ARGUMENTS, allow_input_required=True)
        assert isinstance(asked, InputRequiredResult)
        result = await client.session.call_tool(
            TOOL, ARGUMENTS, input_responses=responses, request_state=asked.request_state, allow_input_required=True
        )
    assert isinstance(result, CallToolResult)
    assert result.structured_content == {"action": "cancel", "content": {}, "ticket": "ticket-1"}


async def test_an_answer_without_a_state_answers_nothing() -> None:
    yes = {"confirm": ElicitResult(action="accept", content={"confirm": "orders"})}
    async with client_of(FakeEngine(asks), "auto", answer(None)) as client:
        result = await client.session.call_tool(TOOL, ARGUMENTS, input_responses=yes, allow_input_required=True)
    assert isinstance(result, InputRequiredResult)
    assert result.input_requests is not None
    assert isinstance(result.input_requests["confirm"], ElicitRequest)


async def test_the_ticket_is_not_readable_in_what_the_client_carries() -> None:
    async with client_of(FakeEngine(asks), "auto", answer(None)) as client:
        asked = await client.session.call_tool(TOOL, ARGUMENTS, allow_input_required=True)
    assert isinstance(asked, InputRequiredResult)
    assert asked.request_state
    assert "ticket-1" not in asked.request_state


@pytest.mark.parametrize("wrong", ["altered", "invented", "other arguments", "other tool", "other key"])
async def test_a_state_that_is_not_ours_for_this_call_runs_nothing(wrong: str) -> None:
    engine = FakeEngine(asks)
    yes = {"confirm": ElicitResult(action="accept", content={"confirm": "orders"})}
    other = Client(build_server(FakeEngine(asks), request_state_key=b"o" * 32), elicitation_callback=answer(None))
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


async def test_another_process_with_the_same_key_takes_the_question_up() -> None:
    yes = {"confirm": ElicitResult(action="accept", content={"confirm": "orders"})}
    async with (
        client_of(FakeEngine(asks), "auto", answer(None)) as first,
        client_of(FakeEngine(asks), "auto", answer(None)) as second,
    ):
        asked = await first.session.call_tool(TOOL, ARGUMENTS, allow_input_required=True)
        assert isinstance(asked, InputRequiredResult)
        result = await second.session.call_tool(TOOL, ARGUMENTS, input_responses=yes, request_state=asked.request_state)
    assert result.structured_content == {"action": "accept", "content": {"confirm": "orders"}, "ticket": "ticket-1"}


async def test_an_earlier_client_cannot_bring_an_answer_to_a_question_it_was_not_asked() -> None:
    async with client_of(FakeEngine(asks), "auto", answer(None)) as modern:
        asked = await modern.session.call_tool(TOOL, ARGUMENTS, allow_input_required=True)
    assert isinstance(asked, InputRequiredResult)
    yes = {"confirm": ElicitResult(action="accept", content={"confirm": "orders"})}
    async with client_of(FakeEngine(asks), "legacy", answer(ElicitResult(action="decline"))) as client:
        result = await client.session.call_tool(TOOL, ARGUMENTS, input_responses=yes, request_state=asked.request_state)
    assert result.structured_content is not None
    assert result.structured_content["action"] == "decline"
