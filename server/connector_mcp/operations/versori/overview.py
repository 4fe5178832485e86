"""List Versori's connectors, and tell whether one works (facts: works, sections 2 and 6).

A connection works where a running environment calls its system with valid credentials: as the static connection of a
connection template, or as that of an end user who is active. Versori's verdict on credentials and the environment's log
show it. Texts of the log and of failed credentials come from outside and stand only in `seen` and in a row's `error`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from connector_mcp.errors import ConnectorError
from connector_mcp.json_values import JsonObject, items, members, text
from connector_mcp.operations.operation import at
from connector_mcp.operations.overview import Check, Reads, Row, Verdict, read, required
from connector_mcp.operations.versori.activations import GetActivation, ListActivations
from connector_mcp.operations.versori.connections import (
    GetConnection,
    ListConnections,
    ListEnvironmentConnections,
    credential_errors,
)
from connector_mcp.operations.versori.connectors import GetConnector, ListConnectors
from connector_mcp.operations.versori.projects import ListProjects, ReadLatestLogs
from connector_mcp.operations.versori.systems import GetSystem, ListSystems
from connector_mcp.operations.versori.templates import ListProjectConnectionTemplates

_MOST: Final = 5
"""Connections of a system that a check of the system reads."""
_LINES: Final = 20
"""Lines of the log that a check reads, the latest."""
_ERRORS: Final = frozenset({"ERROR", "CRITICAL", "ALERT", "EMERGENCY", "FATAL"})
_DEPLOY: Final = "Deploy a version with versori_deploy_project_version."
_NOT_RUNNING: Final[Mapping[str, tuple[bool | None, str, str]]] = {
    "draft": (
        None, "The version of its environment is being deployed.", "Wait 15 seconds, then call check_connector again.",
    ),
    "suspended": (False, "Its environment is suspended.", _DEPLOY),
    "error": (
        False, "Its environment could not be started.",
        "Read versori_get_project_logs with build; then deploy another version.",
    ),
}  # fmt: skip
"""The verdict, its reason and the next step of each status of an environment that does not run."""

Status = Literal["ok", "failing", "paused", "pending", "unknown"]


def find_connectors() -> Reads[Sequence[Row]]:
    """List the connections and systems, and the connectors of Connect v1."""
    connections, systems, connectors = yield [
        read(ListConnections, limit=100, detail="full"),
        read(ListSystems, limit=100),
        read(ListConnectors, limit=100),
    ]
    named = {
        text(each.get("id")) or "": text(each.get("name")) or "" for each in map(members, items(_or_empty(systems)))
    }
    rows = [_connection_row(members(each), named) for each in items(required(connections))]
    rows += [_row("system", each, "system") for each in map(members, items(required(systems)))]
    # An organisation without Connect v1 may not be served there.
    return [
        *rows,
        *(_row("connector", each, text(each.get("protocol")) or "") for each in items(_or_empty(connectors))),
    ]


def _or_empty(outcome: Any) -> Any:
    return [] if isinstance(outcome, ConnectorError) else outcome


def _row(kind: str, record: JsonObject, type_name: str, status: Status = "unknown", error: str = "") -> Row:
    return Row(kind, text(record.get("id")) or "", text(record.get("name")) or "", type_name, status, error)


def _connection_row(connection: JsonObject, systems: Mapping[str, str]) -> Row:
    errors = credential_errors(connection)
    status: Status = "unknown" if errors is None else "failing" if errors else "ok"
    system = str(connection.get("systemId") or "")
    return _row("connection", connection, systems.get(system, system), status, "; ".join(errors or ()))


# Checks --------------------------------------------------------------------------------------------------------------


def check_connection(identifier: str, within: str) -> Reads[Verdict]:
    """Tell whether a connection works. `within` is its project, for fewer reads."""
    connection, projects = yield [read(GetConnection, connection_id=identifier), read(ListProjects, limit=100)]
    connection = required(connection)
    if verdict := _judge_credentials(connection):
        return verdict
    template_id = connection.get("connectionTemplateId")
    places = [place for place in _places(required(projects)) if within in ("", place[0].get("id"))]
    lists = yield [
        read(operation, project_id=project["id"], environment_id=environment["id"], limit=100)
        for project, environment in places
        for operation in (ListProjectConnectionTemplates, ListEnvironmentConnections)
    ]
    failed = [each for each in lists if isinstance(each, ConnectorError)]
    for (project, environment), templates, static in zip(places, lists[::2], lists[1::2], strict=True):
        own = next((each for each in _rows(templates) if at(each, "connectionTemplateId") == template_id), None)
        is_static = identifier in [at(each, "id") for each in _rows(static)]
        if own is None and not is_static:
            continue
        if not is_static and isinstance(static, ConnectorError) and not at(own, "dynamic"):
            return _unknown("The static connections of its environment could not be read.", static.fix)
        if not is_static:
            activations = (yield [read(ListActivations, environment_id=environment["id"], detail="full")])[0]
            if isinstance(activations, ConnectorError):
                return _unknown("The activations of its environment could not be read.", activations.fix)
            held = [at(each, "id") for row in _rows(activations) for each in items(at(row, "connections"))]
            if identifier not in held:
                return _unbound(bool(at(own, "dynamic")))
        return (yield from _check_environment(project, environment, credential_errors(connection) is not None))
    if failed:
        return _unknown("The environments that use it could not all be read.", failed[0].fix)
    if within:
        return _unknown("No environment of that project uses it; another project may.", "Check it without `within`.")
    return Verdict(False, "No environment uses it.", "Bind it with versori_link_connection_to_environment.")


def check_activation(identifier: str, within: str) -> Reads[Verdict]:
    """Tell whether an environment works for an end user. `within` is the environment's id."""
    if not within:
        next_step = "Call again with the environment's id as `within`."
        return _unknown("An activation is read in its environment.", next_step)
    own = read(GetActivation, environment_id=within, activation_id=identifier)
    activation, projects = yield [own, read(ListProjects, limit=100)]
    connections = [members(each) for each in items(at(required(activation), "connections"))]
    for connection in connections:
        if verdict := _judge_credentials(connection):
            return verdict
    place = _place_of(required(projects), within)
    if place is None:
        return _unknown("The project of its environment is not among those that can be read.", "")
    (listed,) = yield [read(ListProjectConnectionTemplates, project_id=place[0]["id"], environment_id=within)]
    templates, bound = items(required(listed)), {each.get("connectionTemplateId") for each in connections}
    lacking = [str(at(each, "name")) for each in templates if at(each, "connectionTemplateId") not in bound]
    if lacking:
        next_step = "Make one with versori_create_connection; then versori_delete_activation and versori_activate_user."
        reason = f"It lacks a connection for {len(lacking)} of {len(templates)} connection templates."
        return Verdict(False, reason, next_step, {"templates_without_connection": lacking})
    checked = all(credential_errors(each) is not None for each in connections)
    return (yield from _check_environment(*place, checked))


def check_environment(identifier: str, within: str) -> Reads[Verdict]:
    """Tell whether an environment runs without errors."""
    (projects,) = yield [read(ListProjects, limit=100)]
    place = _place_of(required(projects), identifier)
    if place is None:
        return Verdict(False, "No project has an environment with this id.", "See versori_list_projects.")
    return (yield from _check_environment(*place, True))


def check_system(identifier: str, within: str) -> Reads[Verdict]:
    """Tell whether the connections to a system work."""
    listing = read(ListConnections, system_id=identifier, limit=100)
    system, connections = yield [read(GetSystem, system_id=identifier), listing]
    found = items(required(connections))
    if not at(required(system), "authSchemeConfigs"):
        return Verdict(False, "The system has no auth scheme.", "Add one with versori_upsert_auth_scheme_config.")
    if not found:
        next_step = "versori_create_connection_template, then versori_create_connection."
        return Verdict(False, "Nothing is connected to the system.", next_step)
    verdicts: list[Verdict] = []
    for each in found[:_MOST]:
        verdicts.append((yield from check_connection(str(at(each, "id")), "")))
        if verdicts[-1].works is not True:
            seen = {"connection": at(each, "id"), **verdicts[-1].seen}
            return Verdict(verdicts[-1].works, f"Of a connection to it: {verdicts[-1].reason}", verdicts[-1].next, seen)
    if len(found) > _MOST:
        return _unknown(f"The first {_MOST} of {len(found)} connections work.", "Check the others one by one.")
    return Verdict(True, "Every connection to it works.", seen={"connections": len(found)})


def check_connector(identifier: str, within: str) -> Reads[Verdict]:
    """Tell what is known of a connector of Connect v1, which shows no runs."""
    (connector,) = yield [read(GetConnector, connector_id=identifier)]
    connections = [members(each) for each in items(at(required(connector), "connections"))]
    if not connections:
        return Verdict(False, "It has no connection.", "Connect an account in Versori's console.")
    errors = [text for each in connections for text in _v1_errors(each)]
    if errors:
        reason = "Versori found credentials of its connections invalid."
        next_step = "Make a new connection in Versori's console: Connect v1 cannot change credentials."
        return Verdict(False, reason, next_step, {"errors": errors[:_MOST]})
    return _unknown("Connect v1 shows no runs, only that no credential is known to be invalid.", "")


CHECKS: Mapping[str, Check] = {
    "connection": check_connection,
    "activation": check_activation,
    "environment": check_environment,
    "system": check_system,
    "connector": check_connector,
}


def _v1_errors(connection: JsonObject) -> Iterator[str]:
    for side in members(connection.get("credentials")).values():
        for each in items(side):
            yield from map(str, items(at(each, "credential.errors")))


def _rows(outcome: Any) -> list[Any]:
    """The rows of a list; none where it could not be read."""
    return [] if isinstance(outcome, ConnectorError) else items(outcome)


def _place_of(projects: Any, environment_id: str) -> tuple[JsonObject, JsonObject] | None:
    """The project and the environment with this id."""
    return next((place for place in _places(projects) if place[1].get("id") == environment_id), None)


def _places(projects: Any) -> list[tuple[JsonObject, JsonObject]]:
    """Every environment, after its project."""
    return [
        (project, environment)
        for project in map(members, items(projects))
        for environment in map(members, items(project.get("environments")))
    ]


def _judge_credentials(connection: JsonObject) -> Verdict | None:
    errors = credential_errors(connection)
    if not errors:
        return None
    reason = "Versori found the credentials of the connection invalid."
    seen = {"connection": connection.get("id"), "errors": errors[:_MOST]}
    return Verdict(False, reason, "Give correct ones with versori_update_connection.", seen)


def _unbound(dynamic: bool) -> Verdict:
    if dynamic:
        return Verdict(False, "It belongs to an end user who is not active.", "Activate them: versori_activate_user.")
    next_step = "Bind it with versori_link_connection_to_environment."
    return Verdict(False, "Its template uses another static connection, or none.", next_step)


def _check_environment(project: JsonObject, environment: JsonObject, checked: bool) -> Reads[Verdict]:
    """Tell whether the environment runs, and its log shows no errors. `checked`: Versori validated the credentials."""
    status, name = environment.get("status"), str(environment.get("name"))
    version = at(environment, "deployedVersion.name")
    seen: JsonObject = {"project": project.get("id"), "environment": name, "status": status}
    if version is not None:
        seen["version"] = version
    if status == "draft" and version is None:
        return Verdict(False, "Nothing is deployed to its environment.", _DEPLOY, seen)
    if status != "running":
        unknown = (None, "The status of its environment is not a known one.", "")
        return Verdict(*_NOT_RUNNING.get(str(status), unknown), seen)
    logs = read(ReadLatestLogs, project_id=project["id"], project_env=name, first=_LINES, order="desc")
    (page,) = yield [logs]
    if isinstance(page, ConnectorError):
        return Verdict(None, "Its environment runs, but the log could not be read.", page.fix or "", seen)
    return _judge_log([members(each) for each in items(at(page, "logs"))], checked, seen)


def _judge_log(lines: Sequence[JsonObject], checked: bool, seen: JsonObject) -> Verdict:
    failed = [each for each in lines if str(each.get("severity")).upper() in _ERRORS or each.get("error")]
    seen["log_lines"], seen["log_errors"] = len(lines), len(failed)
    if lines and failed and lines[0] is failed[0]:
        seen["last_error"] = failed[0].get("message")
        reason = "Its environment runs, and the latest line of the log is an error."
        return Verdict(False, reason, "Read versori_get_project_logs, order desc.", seen)
    if not checked:
        # The log is that of all systems: that it shows no error proves nothing of this one.
        next_step = "Look for calls to its system in versori_get_project_logs, or check again later."
        return Verdict(None, "Its environment runs, but Versori has not validated the credentials.", next_step, seen)
    shown = "the latest line of the log is not an error" if lines else "nothing is logged yet"
    return Verdict(True, f"Its environment runs, no credential is known to be invalid, and {shown}.", seen=seen)


def _unknown(reason: str, next_step: str | None) -> Verdict:
    return Verdict(None, reason, next_step or "")
