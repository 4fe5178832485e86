"""A failing platform, as a client sees it: a code to branch on, and what to do next."""

from __future__ import annotations

from pathlib import Path

import pytest

from connector_mcp.composition import engine
from connector_mcp.config.settings import Settings
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.sandbox.faults import Fault
from tests.end_to_end.faces import attached

SITE = {"name": "a", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "broken",
    [
        *(Fault(kind=kind, applied=True) for kind in ("timeout", "hang_up", "cut", "truncated_json", "huge")),
        Fault(kind="status", status=504, applied=True),
        *(
            Fault(kind="html", status=status, applied=True)
            for status in (200, 499, 500, 502, 503, 504, 520, 522, 524, 527)
        ),
    ],
    ids=lambda broken: f"{broken.kind} {broken.status}",
)
async def test_a_write_with_an_unknown_outcome_is_sent_once_and_remembered(
    broken: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = Sandbox(faults=[broken])
    monkeypatch.setattr(engine, "_open_sandbox", lambda *_: sandbox)
    async with attached(Settings.load({}, sandbox=True, state_dir=tmp_path)) as client:
        call = ("vectorize_create_source_connector", {"connectors": [SITE]})
        error = (await client.call_tool(*call)).structured_content["error"]
        assert (error["code"], error["retryable"]) == ("outcome_unknown", False)
        assert "vectorize_get_source_connectors" in error["fix"]
        assert [request.method for request in sandbox.requests] == ["POST"]
        again = (await client.call_tool(*call)).structured_content
        assert any("check that it did not take effect twice" in warning for warning in again["meta"]["warnings"])
