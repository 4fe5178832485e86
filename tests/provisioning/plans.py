"""Plans made by hand, of calls that the sandbox takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connector_mcp.engine.caller import Caller, CallResult
from connector_mcp.operations.operation import Effect
from connector_mcp.provisioning.journal import Journal
from connector_mcp.provisioning.plan import Action, Plan
from tests.engine.conftest import Bench, FakeCaller

CRAWLER = {"seed-urls": ["https://docs.example.com"]}


def source(number: int, key: str, name: str = "", **others: Any) -> Action:
    """The creation of a source connector."""
    entry = {"name": name or key, "type": "WEB_CRAWLER", "config": CRAWLER}
    made: dict[str, Any] = {
        "verb": "create", "entry": f"sources.{key}", "platform": "vectorize", "profile": "default",
        "name": entry["name"], "tool": "vectorize_create_source_connector", "arguments": {"connectors": [entry]},
        "effect": Effect.CREATE, "sentence": f"Creates {entry['name']}.", "declared": entry,
    }  # fmt: skip
    return Action(number=number, **made | others)


def deletion(number: int, key: str, identifier: str, **others: Any) -> Action:
    """The deletion of a source connector."""
    made: dict[str, Any] = {
        "verb": "delete", "entry": f"sources.{key}", "platform": "vectorize", "profile": "default", "name": key,
        "tool": "vectorize_delete_source_connector", "arguments": {"source_connector_id": identifier},
        "identifier": identifier, "effect": Effect.DESTROY,
    }  # fmt: skip
    return Action(number=number, **made | others)


async def stored(bench: Bench, *actions: Action, principal: str = "local", manifest: str = "ingestion") -> Plan:
    """Store a plan."""
    journal = Journal(bench.engine.database)
    return await journal.store(actions, principal=principal, manifest=manifest, ttl=600.0, sandbox=True)


async def apply(bench: Bench, plan: Plan, caller: Caller | None = None, **arguments: Any) -> CallResult:
    """Apply a plan once."""
    return await bench.engine.call("apply_plan", {"plan_id": plan.id, **arguments}, caller or FakeCaller())


def applied(result: CallResult) -> dict[str, Any]:
    """The data of an apply that did not fail."""
    assert not result.is_error, result.content
    return result.content["data"]


async def sources(bench: Bench) -> list[dict[str, Any]]:
    """The source connectors that the platform has."""
    found = await bench.engine.call(
        "vectorize_get_source_connectors", {"limit": 100, "fields": ["id", "name"]}, FakeCaller()
    )
    return found.content["data"]


def entries(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The entries of the rows of an answer."""
    return [row["entry"] for row in rows]
