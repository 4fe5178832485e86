"""Check that a platform's success has its documented shape, and that a read shows the target that was asked for.

A page of a gateway, or another version of an API, answers 200 as well. Nothing is concluded from such an answer: a list
is not empty because it cannot be found, and a target that was not recognized is not one without anything to lose.
"""

from __future__ import annotations

from typing import Any

from connector_mcp.json_values import is_array, is_object
from connector_mcp.operations.operation import Effect, ListOperation, Operation, at


def find_flaw(operation: Operation, data: Any) -> str | None:
    """Say what an answer shows instead of the documented data; None if it shows that.

    `data` is what the operation takes out of the answer.
    """
    if operation.returns_list:
        if not is_array(data):
            return "no list"
        return next((f"a list in which {flaw}" for row in data if (flaw := _find_row_flaw(operation, row))), None)
    if data is None and operation.effect is not Effect.READ and "id" not in operation.output.model_fields:
        # Platforms confirm some changes without a body.
        return None
    if flaw := _find_row_flaw(operation, data):
        return f"something in which {flaw}"
    if operation.effect is Effect.READ and "id" in operation.output.model_fields and operation.http.placeholders:
        wanted = getattr(operation, operation.http.placeholders[-1])
        return None if str(at(data, "id")) == wanted else "another id than the one asked for"
    return None


def find_target_flaw(operation: Operation, reader: Operation, record: Any) -> str | None:
    """Say why a read does not show the target of a change; None if it does. Its shape was checked before."""
    if operation.acts_on is None:
        return None
    stored = reader.stored_config
    type_at = operation.acts_on.type_at or (stored.type_at if stored else "")
    for row in record if isinstance(reader, ListOperation) else [record]:
        kind = at(row, type_at) if type_at else "any"
        if not isinstance(kind, str) or not kind:
            return f"a {operation.acts_on.kind} without {type_at}"
    return None


def _find_row_flaw(operation: Operation, row: Any) -> str | None:
    fields = operation.output.model_fields
    if not is_object(row):
        return "there is no object"
    if "id" in fields:
        identifier = row.get("id")
        is_id = isinstance(identifier, str | int) and not isinstance(identifier, bool) and identifier != ""
        return None if is_id else "there is no id"
    names = {info.alias or name for name, info in fields.items()}
    return None if any(row.get(name) is not None for name in names) else "there is none of the documented members"
