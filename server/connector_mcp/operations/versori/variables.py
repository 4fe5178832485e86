"""Connection variables of a Versori connector: one list, sent once, rewrites those of every connection (trap 4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Loss, at


def find_variable_losses(variables: Sequence[Mapping[str, Any]], connector: Any) -> Iterator[Loss]:
    """Every variable, of the connector or of one of its connections, that the new list drops or overwrites.

    The connector's own variables are overwritten on purpose, so only those that vanish count; a value of a
    connection's own counts whenever it differs.
    """
    after = {str(variable["name"]): variable["value"] for variable in variables}
    own = _values(at(connector, "connectionVariables"))
    if own and not after:
        yield Loss("Unsets connectionVariables", "connectionVariables", at(connector, "connectionVariables"))
    elif own:
        for name in (name for name in own if name not in after):
            yield Loss(f"Drops variable {name}", f"connectionVariables.{name}", own[name])
    for connection in objects(at(connector, "connections")):
        known_as = connection.get("name") or connection.get("id")
        for name, before in _values(connection.get("variables")).items():
            if after.get(name) != before:
                verb = "Overwrites" if name in after else "Drops"
                sentence = f"{verb} variable {name} of connection {known_as}"
                yield Loss(sentence, f"connections.{known_as}.variables.{name}", before)


def objects(value: Any) -> list[JsonObject]:
    """The objects of an array; none where an answer holds something else in its place."""
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return [item for item in items if isinstance(item, dict)]


def _values(variables: Any) -> dict[str, Any]:
    """Value by name of an array of `{name, value}`."""
    return {str(variable.get("name")): variable.get("value") for variable in objects(variables)}
