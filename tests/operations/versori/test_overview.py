"""Whether a thing on Versori works, as far as the reads show it."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.errors import ConnectorError, NotFound, Unreachable
from connector_mcp.operations.overview import Reads, Verdict
from connector_mcp.operations.versori.overview import CHECKS, find_connectors
from tests.operations import hooks

VERSION = {"id": "v", "name": "1.0.0"}
ENVIRONMENT = {"id": "e", "name": "production", "status": "running", "deployedVersion": VERSION}
GONE = NotFound("gone", fix="Look again.")
AWAY = Unreachable("away", fix="Try again.")
LINE = {"severity": "INFO", "message": "ok"}
BAD_LINE = {"severity": "error", "message": "401 from Acme"}


def connection(errors: Any = ()) -> dict[str, Any]:
    credential = {} if errors is None else {"errors": list(errors)}
    ids = {"id": "c", "name": "C", "systemId": "s", "connectionTemplateId": "t"}
    return {**ids, "credentials": [{"credential": credential}]}


def project(**environment: Any) -> list[dict[str, Any]]:
    return [{"id": "p", "environments": [ENVIRONMENT | environment]}]


SYSTEM = {"id": "s", "name": "S", "authSchemeConfigs": [{"type": "none"}]}
WORLD: dict[str, Any] = {
    "GetConnection": connection(),
    "ListConnections": [connection()],
    "ListProjects": project(),
    "ListProjectConnectionTemplates": [{"connectionTemplateId": "t", "name": "t", "dynamic": False}],
    "ListEnvironmentConnections": [connection()],
    "ListActivations": [],
    "GetActivation": {"id": "a", "connections": [connection()]},
    "GetSystem": SYSTEM,
    "ListSystems": [SYSTEM],
    "ListConnectors": [{"id": "v1", "name": "V", "protocol": "http"}],
    "GetConnector": {"id": "v1", "connections": [{"credentials": {"action": [{"credential": {"errors": []}}]}}]},
    "ReadLatestLogs": {"logs": [LINE]},
}  # fmt: skip
DYNAMIC = {"ListProjectConnectionTemplates": [{"connectionTemplateId": "t", "name": "t", "dynamic": True}]}
EMBEDDED: dict[str, Any] = DYNAMIC | {"ListEnvironmentConnections": []}


def drive(reads: Reads[Any], **changed: Any) -> Any:
    """The answer that the reads lead to in this world."""
    return hooks.drive(reads, lambda each: (WORLD | changed)[each.operation.__name__])


def judge(kind: str, within: str = "", identifier: str = "c", **changed: Any) -> Verdict:
    return drive(CHECKS[kind](identifier, within), **changed)


@pytest.mark.parametrize(
    ("kind", "within", "changed", "works", "word"),
    [
        ("connection", "", {}, True, "not an error"),
        ("connection", "p", {"ReadLatestLogs": {"logs": [LINE, BAD_LINE]}}, True, "not an error"),
        ("connection", "", {"ReadLatestLogs": {"logs": []}}, True, "nothing is logged"),
        ("connection", "", {"ReadLatestLogs": {"logs": []}, "GetConnection": connection(None)}, None, "not validated"),
        ("connection", "", {"GetConnection": connection(None)}, None, "not validated"),
        ("connection", "", {"ReadLatestLogs": {"logs": [BAD_LINE, LINE]}}, False, "is an error"),
        ("connection", "", {"ReadLatestLogs": AWAY}, None, "could not be read"),
        ("connection", "", {"GetConnection": connection(["refused"])}, False, "invalid"),
        ("connection", "", {"ListProjects": project(status="draft", deployedVersion=None)}, False, "is deployed to"),
        ("connection", "", {"ListProjects": project(status="draft")}, None, "being deployed"),
        ("connection", "", {"ListProjects": project(status="suspended")}, False, "suspended"),
        ("connection", "", {"ListProjects": project(status="error")}, False, "could not be started"),
        ("connection", "", {"ListProjects": project(status="odd")}, None, "not a known one"),
        ("connection", "", {"ListProjects": []}, False, "No environment uses it"),
        ("connection", "another", {}, None, "another project may"),
        ("connection", "", {"ListEnvironmentConnections": []}, False, "another static connection"),
        ("connection", "", EMBEDDED, False, "not active"),
        ("connection", "", EMBEDDED | {"ListActivations": [{"connections": [{"id": "c"}]}]}, True, "not an error"),
        ("connection", "", EMBEDDED | {"ListActivations": AWAY}, None, "could not be read"),
        ("connection", "", {"ListProjectConnectionTemplates": AWAY, "ListEnvironmentConnections": []}, None,
         "could not all be read"),
        ("connection", "", {"ListEnvironmentConnections": AWAY}, None, "static connections of its environment could"),
        ("connection", "", DYNAMIC | {"ListEnvironmentConnections": AWAY}, False, "not active"),
        ("activation", "e", DYNAMIC, True, "not an error"),
        ("activation", "", DYNAMIC, None, "in its environment"),
        ("activation", "e", {"GetActivation": {"id": "a", "connections": []}}, False, "lacks a connection"),
        ("activation", "other", {}, None, "project of its environment"),
        ("environment", "", {}, False, "No project"),
        ("system", "", {}, True, "Every connection"),
        ("system", "", {"ListConnections": []}, False, "Nothing is connected"),
        ("system", "", {"GetSystem": SYSTEM | {"authSchemeConfigs": []}}, False, "no auth scheme"),
        ("system", "", {"GetConnection": connection(["refused"])}, False, "invalid"),
        ("system", "", {"ListConnections": [connection()] * 6}, None, "first 5 of 6"),
        ("connector", "", {}, None, "shows no runs"),
        ("connector", "", {"GetConnector": {"id": "v1", "connections": []}}, False, "no connection"),
    ],
)  # fmt: skip
def test_a_verdict_says_what_shows_it(kind: str, within: str, changed: Any, works: bool | None, word: str) -> None:
    verdict = judge(kind, within, **changed)
    assert verdict.works is works
    assert word in verdict.reason
    assert verdict.reason.endswith(".")
    # What comes from outside stands only in `seen`.
    assert not any(text in f"{verdict.reason} {verdict.next}" for text in ("refused", "401"))
    if works is False:
        assert verdict.next


@pytest.mark.parametrize(
    ("kind", "lost"),
    [("connection", "GetConnection"), ("connection", "ListProjects"), ("activation", "GetActivation"),
     ("environment", "ListProjects"), ("system", "ListConnections"), ("connector", "GetConnector")],
)  # fmt: skip
def test_a_read_that_nothing_can_be_said_without_is_raised(kind: str, lost: str) -> None:
    with pytest.raises(NotFound):
        judge(kind, "e", **{lost: GONE})


def test_connectors_are_found_even_where_connect_v1_is_not_served() -> None:
    rows = drive(find_connectors(), ListConnections=[connection(["refused"]), connection(None)])
    found = [(row.kind, row.id, row.type, row.status, row.error) for row in rows]
    assert found == [
        ("connection", "c", "S", "failing", "refused"),
        ("connection", "c", "S", "unknown", ""),
        ("system", "s", "system", "unknown", ""),
        ("connector", "v1", "http", "unknown", ""),
    ]
    assert all(row.kind in CHECKS for row in rows)
    assert len(drive(find_connectors(), ListConnectors=GONE)) == 2
    with pytest.raises(ConnectorError):
        drive(find_connectors(), ListSystems=AWAY)
