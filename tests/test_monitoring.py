"""The dashboard and the alert rules in `deploy/` name metrics and labels that a served sandbox really has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.errors import ConnectorError
from connector_mcp.sandbox import seed
from connector_mcp.telemetry.events import Attempt
from connector_mcp.telemetry.metrics import Metrics
from connector_mcp.telemetry.observer import Observer
from connector_mcp.transport.http.health import observability_pages
from connector_mcp.transport.http.shutdown import Drain
from tests.documents import ROOT
from tests.end_to_end.faces import serving

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "connector-mcp.json").read_text("utf-8"))
RULES = YAML(typ="safe").load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text("utf-8"))
ALERTS: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {
    **{f"panel {panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]},
    **{f"alert {rule['alert']}": rule["expr"] for rule in ALERTS},
}

NAME = re.compile(r"\b(?:up|(?:connector_mcp|mcp|http|process)_\w+)\b")
SELECTOR = re.compile(r"\{([^}]*)\}")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
OF_PROMETHEUS = {"job", "instance", "le"}


def codes(error: type[ConnectorError]) -> set[str]:
    return {error.code}.union(*map(codes, error.__subclasses__()))


OUTCOMES = codes(ConnectorError) | {"ok", "asked", "cancelled", "failed"}


@pytest.fixture(scope="module")
async def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """`/metrics` of a sandbox after calls of each kind."""
    metrics = Metrics("0")
    folder: Path = tmp_path_factory.mktemp("state")
    settings = Settings.load({}, sandbox=True, state_dir=folder, approvals=True)
    async with open_engine(settings, {}, "http", observer=Observer(metrics)) as engine:
        await engine.database.write(lambda tx: tx.execute("INSERT INTO export_cursors (name, seq) VALUES ('log', 0)"))
        with engine.observer.attempt(Attempt("logto", "read", "GET", "/x", "logto.example", 443, resends=1)):
            pass
        async with serving(engine, pages=observability_pages(engine, Drain(), metrics)) as origin:
            async with Client(f"{origin}/mcp") as client:
                await client.call_tool("logto_list_connectors", {})
                await client.call_tool("logto_get_connector", {"id": "no-such"})
                await client.call_tool("logto_delete_connector", {"id": seed.LOGTO_GITHUB})
                await client.call_tool("versori_list_connectors", {"limit": "many"})
            async with httpx.AsyncClient() as http:
                return (await http.get(f"{origin}/metrics")).text


def labels_of(page: str) -> dict[str, set[str]]:
    """The labels of each series on the page, by its name."""
    found: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("where", EXPRESSIONS)
async def test_an_expression_names_series_and_labels_of_the_page(where: str, page: str) -> None:
    expression, known = EXPRESSIONS[where], labels_of(page)
    named = set(NAME.findall(SELECTOR.sub("", GROUPING.sub("", expression))))
    assert named
    assert named <= set(known)
    chosen = [label for each in SELECTOR.findall(expression) for label in re.findall(r"(\w+)\s*[!=]", each)]
    grouped = [label.strip() for each in GROUPING.findall(expression) for label in each.split(",")]
    assert {*chosen, *grouped} - OF_PROMETHEUS <= set().union(*(known[name] for name in named))
    outcomes = [code for each in re.findall(r'outcome!?=~?"([^"]*)"', expression) for code in each.split("|")]
    assert set(outcomes) <= OUTCOMES


def test_the_dashboard_can_be_imported() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert DASHBOARD["schemaVersion"] >= 36
    assert len(set(ids)) == len(ids)
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert "connector_mcp_build_info" in variables["job"]["query"]
    for panel in PANELS:
        assert {each["datasource"]["uid"] for each in [panel, *panel["targets"]]} == {"${datasource}"}
        assert panel["title"]
        assert all('job=~"$job"' in target["expr"] for target in panel["targets"])
    cells = [
        (x, y)
        for each in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(each["x"], each["x"] + each["w"])
        for y in range(each["y"], each["y"] + each["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_what_happened_and_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description"}
    assert 'job="connector-mcp"' in rule["expr"]
    kept = {label for each in GROUPING.findall(rule["expr"]) for label in each.replace(" ", "").split(",")}
    shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    assert shown <= kept | ({"instance"} if "by (" not in rule["expr"] else set())


def test_no_two_alerts_have_one_name() -> None:
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)
