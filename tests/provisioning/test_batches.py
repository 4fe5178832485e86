"""Several single calls as one plan: "delete all that fail" is one question, through MCP in both eras."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from mcp.client import Client
from mcp_types import ElicitRequestParams, ElicitResult

from connector_mcp.transport.mcp.server import build_server
from tests.engine.conftest import BenchMaker

pytestmark = pytest.mark.anyio

SECTIONS = {"source connector": "sources", "AI platform connector": "ai_platforms", "pipeline": "pipelines"}
FAILING = ("invalid-key of a", "invalid-key of b")


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_all_that_fail_are_deleted_after_one_question(bench: BenchMaker, era: Literal["auto", "legacy"]) -> None:
    made, asked = bench(toolsets=("all",), policy="create=allow", ask_reading_time=0.0), list[str]()

    async def person(_context: Any, question: ElicitRequestParams) -> ElicitResult:
        asked.append(question.message)
        return ElicitResult(action="accept", content={"confirm": "cleanup"})

    server = build_server(made.engine, request_state_key=await made.engine.request_state_key())
    async with Client(server, mode=era, elicitation_callback=person) as client:

        async def call(tool: str, **arguments: Any) -> Any:
            result = await client.call_tool(tool, arguments)
            assert result.structured_content is not None
            assert not result.is_error, result.structured_content
            return result.structured_content["data"]

        connectors = [{"name": name, "type": "OPENAI", "config": {"key": name}} for name in FAILING]
        await call("vectorize_create_ai_platform_connector", connectors=connectors)
        failing = await call("find_connectors", platform="vectorize", status="failing")
        assert {*FAILING} < {row["name"] for row in failing}
        manifest: dict[str, Any] = {"name": "cleanup"}
        for number, row in enumerate(failing):
            section = manifest.setdefault(SECTIONS[row["kind"]], {})
            section[f"failing-{number}"] = {"id": row["id"], "state": "absent"}
        plan = await call("plan_connectors", manifest=manifest)
        assert sorted(action["name"] for action in plan["actions"]) == sorted(row["name"] for row in failing)
        applied = await call("apply_plan", plan_id=plan["plan_id"])
        assert applied["status"] == "done"
        (question,) = asked
        assert all(row["name"] in question for row in failing)
        assert await call("find_connectors", platform="vectorize", status="failing") == []
