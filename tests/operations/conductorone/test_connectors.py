"""ConductorOne's reads and the published form of its tools."""

from __future__ import annotations

from connector_mcp.operations.conductorone.connectors import CONNECTOR_TARGET, GetConnector, ListConnectors
from connector_mcp.operations.platform import NO_BODY
from connector_mcp.operations.situation import Situation

APP = "2abCDEfghIJKlmnOPQrstUVwxyZ"
CONNECTOR = "2xyConnector00000000000001"


def test_a_list_gives_connectors_out_of_their_views_and_no_deleted_ones() -> None:
    kept = {"id": "1", "displayName": "Okta", "deletedAt": None}
    deleted = {"id": "2", "displayName": "Old", "deletedAt": "2026-08-01T09:00:00Z"}
    views = [{"connector": kept, "appPath": ""}, {"connector": deleted, "appPath": ""}]
    operation = ListConnectors(app_id=APP)
    assert operation.shape_result([{"list": views, "nextPageToken": ""}], Situation()) == [kept]
    assert operation.shape_result([{"list": None, "expanded": None}], Situation()) == []


def test_a_connector_is_read_out_of_its_view() -> None:
    operation = GetConnector(app_id=APP, id=CONNECTOR)
    [request] = operation.make_requests(Situation())
    assert (request.method, request.path) == ("GET", "/api/v1/apps/{app_id}/connectors/{id}")
    assert (request.path_values, request.body) == ({"app_id": APP, "id": CONNECTOR}, NO_BODY)
    answer = {"connectorView": {"connector": {"id": CONNECTOR}, "appPath": ""}, "expanded": []}
    assert operation.shape_result([answer], Situation()) == {"id": CONNECTOR}


def test_what_a_running_sync_changes_is_no_part_of_the_fingerprint() -> None:
    assert {"status", "updatedAt", "syncDisabledAt", "oauthAuthorizedAs"} <= CONNECTOR_TARGET.volatile
    assert not {"config", "displayName", "userIds", "deletedAt", "catalogId"} & CONNECTOR_TARGET.volatile
