"""Wrong arguments and failing platforms, as a client sees them: a code to branch on, and what to do next."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from connector_mcp.composition import engine as assemble
from connector_mcp.config.settings import Settings
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.sandbox.faults import Fault
from tests.end_to_end.faces import attached

pytestmark = pytest.mark.anyio

LIST = ("vectorize_get_source_connectors", dict[str, Any]())
CRAWLER = {"name": "a", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}
CREATE = ("vectorize_create_source_connector", {"connectors": [CRAWLER]})
CODES = {400: "rejected", 401: "unauthenticated", 403: "forbidden", 404: "not_found", 409: "conflict"}
CODES |= {422: "rejected", 500: "upstream_failed"}


@pytest.fixture
def connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Open a client of a server over a sandbox with these faults and settings."""

    @asynccontextmanager
    async def connect(*faults: Fault, **settings: Any) -> AsyncIterator[tuple[Client, Sandbox]]:
        sandbox = Sandbox(faults=faults)
        monkeypatch.setattr(assemble, "_open_sandbox", lambda *_: sandbox)
        loaded = Settings.load({}, sandbox=True, state_dir=tmp_path, **settings)
        async with attached(loaded) as client:
            yield client, sandbox

    return connect


def fault(times: int = 10, **what: Any) -> Fault:
    return Fault("vectorize", what.pop("method", "GET"), "/v1/org/*/connectors/sources", times, **what)


@pytest.mark.parametrize(
    ("broken", "code", "sent"),
    [
        *((fault(kind="status", status=status), code, 1) for status, code in CODES.items()),
        (fault(kind="html", status=200), "malformed_answer", 1),
        (fault(kind="huge", size=50_000_000), "answer_too_large", 1),
        (fault(kind="status", status=429, headers={"Retry-After": "3600"}), "rate_limited", 1),
        (fault(1, kind="status", status=429, headers={"Retry-After": "0"}), None, 2),
        (fault(1, kind="status", status=503, headers={"Retry-After": "0"}), None, 2),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else None,
)
async def test_each_failure_of_a_read_has_its_code(broken: Fault, code: str | None, sent: int, connected: Any) -> None:
    async with connected(broken) as (client, sandbox):
        result = await client.call_tool(*LIST)
        assert len(sandbox.requests) == sent
        if code is None:
            assert not result.is_error
            return
        error = result.structured_content["error"]
        assert (result.is_error, error["code"]) == (True, code)
        assert error["message"]
        assert error["fix"]
        assert error["sandbox"] is True


@pytest.mark.parametrize(
    "broken",
    [
        *(
            fault(method="POST", kind=kind, applied=True)
            for kind in ("timeout", "hang_up", "cut", "truncated_json", "huge")
        ),
        fault(method="POST", kind="status", status=504, applied=True),
    ],
    ids=lambda broken: broken.kind,
)
async def test_a_write_with_an_unknown_outcome_is_sent_once_and_says_how_to_look(broken: Fault, connected: Any) -> None:
    async with connected(broken) as (client, sandbox):
        error = (await client.call_tool(*CREATE)).structured_content["error"]
        assert error["code"] == "outcome_unknown"
        assert error["retryable"] is False
        assert "vectorize_get_source_connectors" in error["fix"]
        assert [request.method for request in sandbox.requests] == ["POST"]


@pytest.mark.parametrize(
    "broken",
    [
        *(fault(1, method="POST", kind="html", status=status, applied=True) for status in (200, 499, 500, 502, 503)),
        *(fault(1, method="POST", kind="html", status=status, applied=True) for status in (504, 520, 522, 524, 527)),
    ],
    ids=lambda broken: str(broken.status),
)
async def test_a_write_that_a_page_answered_is_remembered_when_the_same_call_is_made_again(
    broken: Fault, connected: Any
) -> None:
    async with connected(broken) as (client, _):
        error = (await client.call_tool(*CREATE)).structured_content["error"]
        assert error["code"] == "outcome_unknown"
        assert error["upstream"]["page"]["title"] == "Sandbox"
        again = (await client.call_tool(*CREATE)).structured_content
        assert any("check that it did not take effect twice" in warning for warning in again["meta"]["warnings"])


@pytest.mark.parametrize("status", [408, 521, 523, 530])
async def test_a_write_that_a_gateway_did_not_pass_on_is_not_remembered(status: int, connected: Any) -> None:
    async with connected(fault(1, method="POST", kind="html", status=status)) as (client, _):
        error = (await client.call_tool(*CREATE)).structured_content["error"]
        assert (error["code"], error["retryable"]) == ("upstream_failed", True)
        assert "warnings" not in (await client.call_tool(*CREATE)).structured_content["meta"]


S3 = {"access-key": "a" * 20, "secret-key": "hush-hush-hush", "bucket-name": "b", "archiver": False}


def create(**connector: Any) -> tuple[str, dict[str, Any]]:
    connectors = [{"name": "n", "type": "AWS_S3", "config": S3} | connector]
    return "vectorize_create_source_connector", {"connectors": connectors}


WRONG: list[tuple[str, tuple[str, dict[str, Any]], str]] = [
    ("missing", ("vectorize_get_source_connector", {}), "source_connector_id"),
    ("wrong type", ("vectorize_get_source_connector", {"source_connector_id": 7}), "source_connector_id"),
    ("unknown argument", ("vectorize_get_source_connector", {"source_conector_id": "x"}), "source_conector_id"),
    ("text that is no JSON", ("vectorize_create_source_connector", {"connectors": "[{"}), "connectors"),
    ("unknown type", create(type="AWS_S4"), "connectors[0].type"),
    ("wrong config key", create(config={**S3, "bucket": "b"}), "connectors[0].config.bucket"),
    ("missing config key", create(config={"bucket-name": "b"}), "connectors[0].config.access-key"),
    ("wrong config type", create(config=S3 | {"archiver": "perhaps"}), "connectors[0].config.archiver"),
    ("pipeline key", create(config=S3 | {"file-extensions": ["pdf"]}), "connectors[0].config.file-extensions"),
    ("secret beside the config", create(**{"secret-key": "hush-hush-hush"}), "connectors[0].secret-key"),
    ("marker", create(config=S3 | {"secret-key": "[redacted]"}), "connectors[0].config.secret-key"),
    ("no recipient", ("logto_create_connector_test", {"factory_id": "http-sms", "config": {"endpoint": "e"}}), "phone"),
    ("replace without the rest", ("versori_update_connector", {"connector_id": "x", "replace": True}), "name"),
    ("mask", ("conductorone_update_connector", {"app_id": "a", "id": "b", "update_mask": "nam"}), "update_mask"),
]


@pytest.mark.parametrize(("call", "path"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
async def test_wrong_input_is_named_by_path_and_nothing_is_sent(call: Any, path: str, connected: Any) -> None:
    async with connected() as (client, sandbox):
        result = await client.call_tool(*call)
        assert result.is_error
        error = result.structured_content["error"]
        assert error["code"] == "invalid_arguments"
        issue = next(issue for issue in error["issues"] if issue["path"] == path)
        assert issue["got"]
        assert issue["wanted"]
        assert "hush" not in result.model_dump_json()
        assert sandbox.requests == []


async def test_text_in_place_of_objects_numbers_and_booleans_is_accepted(connected: Any) -> None:
    async with connected() as (client, _):
        connectors = json.dumps([CRAWLER | {"config": json.dumps(CRAWLER["config"])}])
        created = await client.call_tool("vectorize_create_source_connector", {"connectors": connectors})
        assert not created.is_error, created.structured_content
        page = await client.call_tool("vectorize_get_source_connectors", {"limit": "2"})
        assert len(page.structured_content["data"]) == 2
        assert page.structured_content["meta"]["cursor"]
        change = {"connector_id": seed.VERSORI_CRM, "public": "true"}
        public = await client.call_tool("versori_update_connector", change)
        assert not public.is_error, public.structured_content


async def test_read_only_serves_reads_and_refuses_the_rest_by_name(connected: Any) -> None:
    async with connected(read_only=True, policy="destroy=allow") as (client, sandbox):
        tools = (await client.list_tools()).tools
        assert tools
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools)
        error = (await client.call_tool(*CREATE)).structured_content["error"]
        assert error["code"] == "blocked"
        assert "--read-only" in error["fix"]
        assert sandbox.requests == []
