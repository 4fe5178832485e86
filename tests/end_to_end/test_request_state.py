"""The state that a 2026-07-28 client returns with an answer releases one call, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ElicitResult, InputRequiredResult

from connector_mcp.sandbox import seed
from tests.end_to_end.faces import World, client, world

pytestmark = pytest.mark.anyio

TOOL = "vectorize_delete_source_connector"
S3 = {"source_connector_id": seed.VECTORIZE_S3}
CRAWLER = {"source_connector_id": seed.VECTORIZE_WEB_CRAWLER}
YES = ElicitResult(action="accept", content={"confirm": "Product documents"})


async def never(context: Any, params: Any) -> ElicitResult:
    """Declares the capability; these tests bring the answers themselves."""
    raise AssertionError("the client was to leave the question to the test")


@asynccontextmanager
async def asked(state: Path) -> AsyncIterator[tuple[World, Client, str]]:
    """A question about deleting the S3 connector, over HTTP, with the state that came with it."""
    async with world(state) as here:
        environ = here.environ | {"CONNECTOR_MCP_POLICY": "destroy=ask"}
        async with client("http auto", environ, elicitation_callback=never) as connected:
            question = await connected.session.call_tool(TOOL, S3, allow_input_required=True)
            assert isinstance(question, InputRequiredResult)
            assert question.request_state
            yield here, connected, question.request_state


async def answer(connected: Client, arguments: dict[str, Any], state: str, reply: ElicitResult = YES) -> Any:
    given = {"input_responses": {"confirm": reply}, "request_state": state}
    return await connected.session.call_tool(TOOL, arguments, **given, allow_input_required=True)


async def test_the_state_serves_once(tmp_path: Path) -> None:
    async with asked(tmp_path) as (here, connected, state):
        stored = here.sandbox.world.get("vectorize.sources", seed.VECTORIZE_S3)
        assert stored is not None
        first = await answer(connected, S3, state)
        assert isinstance(first, CallToolResult)
        assert not first.is_error, first.structured_content
        # Somebody makes the very same connector again: what was confirmed is not a deletion of that one.
        here.sandbox.world.put("vectorize.sources", seed.VECTORIZE_S3, stored)
        before = here.writes()
        again = await answer(connected, S3, state)
        assert again.structured_content["error"]["code"] == "confirmation_invalid"
        assert here.writes() == before


async def test_a_state_that_was_declined_cannot_be_accepted_later(tmp_path: Path) -> None:
    async with asked(tmp_path) as (here, connected, state):
        declined = await answer(connected, S3, state, ElicitResult(action="decline"))
        assert declined.structured_content["error"]["code"] == "refused"
        replayed = await answer(connected, S3, state)
        assert replayed.structured_content["error"]["code"] == "confirmation_invalid"
        assert here.writes() == []


@pytest.mark.parametrize("how", ["altered", "other arguments", "other server's", "made up"])
async def test_a_state_of_another_call_opens_nothing(how: str, tmp_path: Path) -> None:
    async with asked(tmp_path / "one") as (here, connected, state):
        arguments = S3
        if how == "altered":
            state = state[:-2] + ("AA" if state[-2:] != "AA" else "BB")
        elif how == "made up":
            state = "v1.AAAA"
        elif how == "other arguments":
            arguments = CRAWLER
        else:
            async with asked(tmp_path / "two") as (_, _, state):
                pass
        with pytest.raises(MCPError, match="requestState"):
            await answer(connected, arguments, state)
        assert here.writes() == []
        assert (await answer_without_state(connected)).is_error
        assert here.writes() == []


async def answer_without_state(connected: Client) -> Any:
    """Send an answer before any question: the server asks first, and here that question is not answered."""
    question = await connected.session.call_tool(TOOL, S3, input_responses={"confirm": YES}, allow_input_required=True)
    assert isinstance(question, InputRequiredResult)
    state = question.request_state
    assert state
    return await connected.session.call_tool(TOOL, S3, request_state=state, allow_input_required=True)
