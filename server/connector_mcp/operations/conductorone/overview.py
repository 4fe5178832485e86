"""Which connectors there are on ConductorOne, and whether one works (facts: section 6; works, sections 4 and 5).

A connector works once a sync has finished after its config was last changed, and its app then shows users. Errors and
the reasons of a pause come from outside and stand only in `seen` and in a row's `error`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from connector_mcp.errors import ConnectorError
from connector_mcp.json_values import JsonObject, items, members, text
from connector_mcp.operations.conductorone.apps import GetApp, ListApps
from connector_mcp.operations.conductorone.connectors import GetConnector, ListConnectors
from connector_mcp.operations.conductorone.sync import ForceSync, ResumeSync
from connector_mcp.operations.connector_types import connector_type
from connector_mcp.operations.operation import at
from connector_mcp.operations.overview import Awaited, Check, Reads, Row, Status, Verdict, read, required

_AGAIN: Final = "Call check_connector again in some minutes."
_SYNC: Final = "Call conductorone_force_sync, then check_connector in some minutes."
_ENTER: Final = "A person enters it in ConductorOne's console, or conductorone_update_connector sets it."
_RESUME: Final = (
    "Find out why: if data was missing, a person confirms the sync in ConductorOne's console. Otherwise call "
    "conductorone_resume_sync."
)
_MEMBERS: Final = [
    "id", "displayName", "catalogId", "config", "status", "syncDisabledAt", "syncDisabledReason", "configUpdatedAt",
]  # fmt: skip


def find_connectors() -> Reads[Sequence[Row]]:
    """List the connectors of all apps. An app that could not be read is a row of its own."""
    apps, lists = yield from _read_apps()
    rows: list[Row] = []
    for app, found in zip(apps, lists, strict=True):
        identifier, name = text(app.get("id")) or "", text(app.get("displayName")) or ""
        if isinstance(found, ConnectorError):
            rows.append(Row("app", identifier, name, "app", error=f"Its connectors were not read. {found.message}"))
        else:
            rows += [_row(members(each), identifier) for each in items(found)]
    if lists and all(isinstance(each, ConnectorError) for each in lists):
        required(lists[0])
    return rows


def _read_apps() -> Reads[tuple[list[JsonObject], Sequence[Any]]]:
    """Read the apps, and of each one the list of its connectors, which may have ended with an error."""
    (apps,) = yield [read(ListApps, limit=100, detail="full")]
    present = [each for each in map(members, items(required(apps))) if not each.get("deletedAt")]
    lists: Sequence[Any] = []
    if present:
        lists = yield [read(ListConnectors, app_id=each["id"], limit=100, fields=_MEMBERS) for each in present]
    return present, lists


def _row(connector: JsonObject, app_id: str) -> Row:
    catalog_id = text(connector.get("catalogId")) or ""
    known = connector_type("conductorone", catalog_id)
    error = text(at(connector, "status.lastError")) or ""
    if connector.get("syncDisabledAt"):
        error = text(connector.get("syncDisabledReason")) or error
    name, kind = text(connector.get("displayName")) or "", known.name if known else catalog_id
    return Row("connector", text(connector.get("id")) or "", name, kind, _status(connector), error, app_id)


def _status(connector: JsonObject) -> Status:
    if connector.get("syncDisabledAt"):
        return "paused"
    match at(connector, "status.status"):
        case "SYNC_STATUS_DONE":
            return "ok" if _is_current(connector) else "pending"
        case "SYNC_STATUS_ERROR":
            return "failing"
        case "SYNC_STATUS_DISABLED":
            return "paused"
        case "SYNC_STATUS_RUNNING" | "SYNC_STATUS_UNSPECIFIED" | None:
            return "pending"
        case _:
            return "unknown"


def _is_current(connector: JsonObject) -> bool:
    """Whether the last sync ended after the config was last changed."""
    completed = _time(at(connector, "status.completedAt"))
    changed = _time(connector.get("configUpdatedAt") or connector.get("createdAt"))
    return completed is not None and (changed is None or completed > changed)


def _time(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found.replace(tzinfo=found.tzinfo or UTC) if found else None


# Checks --------------------------------------------------------------------------------------------------------------


def check_connector(identifier: str, within: str) -> Reads[Verdict]:
    """Tell whether a connector works. `within` is its app, without which all apps are looked through."""
    if not within:
        apps, lists = yield from _read_apps()
        found = [
            str(app["id"])
            for app, rows in zip(apps, lists, strict=True)
            if any(at(each, "id") == identifier for each in items([] if isinstance(rows, ConnectorError) else rows))
        ]
        if not found and any(isinstance(each, ConnectorError) for each in lists):
            return Verdict(None, "Not all apps could be read.", "Call again with the app's id as within.")
        if not found:
            return Verdict(False, "No app has a connector with this id.", "conductorone_list_connectors lists them.")
        within = found[0]
    connector, app = yield [read(GetConnector, app_id=within, id=identifier), read(GetApp, id=within)]
    return _judge(members(required(connector)), app)


def check_app(identifier: str, within: str) -> Reads[Verdict]:
    """Tell whether the connectors of an app work."""
    app, rows = yield [
        read(GetApp, id=identifier),
        read(ListConnectors, app_id=identifier, limit=100, detail="full"),
    ]
    required(app)
    connectors = [members(each) for each in items(required(rows))]
    if not connectors:
        return Verdict(False, "The app has no connector.", "Create one with conductorone_create_connector.")
    for connector in connectors:
        verdict = _judge(connector, app)
        if verdict.works is not True:
            seen = {"connector": connector.get("id"), **verdict.seen}
            return replace(verdict, reason=f"Of a connector of it: {verdict.reason}", seen=seen)
    return Verdict(True, "Every connector of it works.", seen={"connectors": len(connectors)})


CHECKS: Mapping[str, Check] = {"connector": check_connector, "app": check_app}


def _judge(connector: JsonObject, app: Any) -> Verdict:
    """Tell whether a connector works. `app` is its app, or the error that its read ended with."""
    verdict = _judge_status(connector, app)
    if verdict.works is True or connector.get("deletedAt"):
        return verdict
    # A sync is only queued: until it begins, the connector shows what was before (trap 10).
    shown = (at(connector, "status.startedAt"), at(connector, "status.completedAt"), connector.get("syncDisabledAt"))
    since = max(filter(None, map(_time, shown)), default=None)
    return replace(verdict, awaits=Awaited((ForceSync, ResumeSync), str(connector.get("id")), since))


def _judge_status(connector: JsonObject, app: Any) -> Verdict:
    status = members(connector.get("status"))
    seen: JsonObject = {key: status[key] for key in ("status", "completedAt") if status.get(key)}
    if connector.get("deletedAt"):
        return Verdict(False, "It was deleted.", "Create another one with conductorone_create_connector.", seen)
    if connector.get("syncDisabledAt") or status.get("status") == "SYNC_STATUS_DISABLED":
        paused = ("syncDisabledAt", "syncDisabledCategory", "syncDisabledReason")
        seen |= {key: connector[key] for key in paused if connector.get(key)}
        return Verdict(False, "It is paused: nothing is synced, and grants and revocations wait.", _RESUME, seen)
    match status.get("status"):
        case "SYNC_STATUS_RUNNING":
            return Verdict(None, "A sync is running.", _AGAIN, seen)
        case "SYNC_STATUS_ERROR":
            seen["lastError"] = status.get("lastError")
            if not _is_current(connector):
                return Verdict(None, "The last sync failed, before the config was changed.", _SYNC, seen)
            next_step = "Correct the config with conductorone_update_connector, then call conductorone_force_sync."
            return Verdict(False, "The last sync failed.", next_step, seen)
        case "SYNC_STATUS_DONE":
            return _judge_data(connector, app, seen)
        case "SYNC_STATUS_UNSPECIFIED" | "" | None:
            return _judge_new(connector, seen)
        case _:
            return Verdict(None, "Its sync has a status that is not known.", _AGAIN, seen)


def _judge_new(connector: JsonObject, seen: JsonObject) -> Verdict:
    """Judge a connector that has never synced."""
    known = connector_type("conductorone", connector.get("catalogId"))
    if known is not None and not known.config["properties"]:
        next_step = "If it is self-hosted, start it with a credential of conductorone_rotate_credential."
        return Verdict(False, "It has never synced.", next_step, seen)
    if not connector.get("config") and not connector.get("configUpdatedAt"):
        return Verdict(False, "It has no config yet.", _ENTER, seen)
    return Verdict(False, "It has never synced.", _SYNC, seen)


def _judge_data(connector: JsonObject, app: Any, seen: JsonObject) -> Verdict:
    """Judge a connector with a sync that is done."""
    if not _is_current(connector):
        return Verdict(None, "The config was changed after the last sync that is done.", _SYNC, seen)
    if isinstance(app, ConnectorError):
        return Verdict(None, "A sync is done, but its app could not be read.", app.fix or "", seen)
    users = at(app, "userCount")
    seen["userCount"] = users
    if users in (None, "", "0", 0):
        reason = "A sync is done, but the app shows no users: the credential may see none, or the type brings none."
        return Verdict(None, reason, "Look at what the credential may read in the app itself.", seen)
    return Verdict(True, "A sync is done since the config was last changed, and its app shows users.", seen=seen)
