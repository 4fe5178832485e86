"""What depends on a target is read with it and told to the person who decides."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.sandbox import seed
from connector_mcp.sandbox.faults import Fault
from tests.engine.conftest import Bench, BenchMaker, FakeCaller

pytestmark = pytest.mark.anyio

DELETION = {"destination_connector_id": seed.VECTORIZE_PINECONE}


async def told(bench: Bench) -> str:
    """The sentence with which a deletion is parked for an operator."""
    result = await bench.engine.call("vectorize_delete_destination_connector", DELETION, FakeCaller())
    assert result.is_error
    return str(result.content["error"])


async def test_the_pipelines_that_a_deletion_breaks_are_named_whatever_page_they_are_on(bench: BenchMaker) -> None:
    made = bench(policy="destroy=approve")
    world = made.sandbox.world
    stored: Any = world.get("vectorize.pipelines", seed.VECTORIZE_PIPELINE)
    for number in range(150):
        other = stored["destinationConnector"] | {"id": "other"}
        world.put("vectorize.pipelines", f"p{number}", stored | {"id": f"p{number}", "destinationConnector": other})
    world.put("vectorize.pipelines", "last", stored | {"id": "last", "name": "Last {one}"})
    sentence = await told(made)
    assert "pipelines that write to it fail: “Product search”, “Last {one}”." in sentence
    assert sum(path.endswith("/pipelines") for _, path in made.requests("GET")) == 2


async def test_without_a_list_of_pipelines_a_deletion_says_what_it_says_of_any_target(bench: BenchMaker) -> None:
    made = bench(policy="destroy=approve")
    made.sandbox.inject(Fault("vectorize", "GET", "*/pipelines", 9, status=403))
    sentence = await told(made)
    assert "pipelines that write to it fail." in sentence
    assert "no pipeline" not in sentence


async def test_that_nothing_depends_on_it_is_said_only_of_a_list_that_was_read(bench: BenchMaker) -> None:
    made = bench(policy="destroy=approve")
    for pipeline in made.sandbox.world.all("vectorize.pipelines"):
        made.sandbox.world.delete("vectorize.pipelines", pipeline["id"])
    assert "no pipeline that uses it is listed" in await told(made)


async def test_the_size_of_a_page_is_no_argument_where_the_platform_decides_it(bench: BenchMaker) -> None:
    arguments = {"pipeline_id": seed.VECTORIZE_PIPELINE, "limit": 5}
    result = await bench().engine.call("vectorize_get_pipeline_events", arguments, FakeCaller())
    assert [issue["path"] for issue in result.content["error"]["issues"]] == ["limit"]
