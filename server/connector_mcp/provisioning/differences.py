"""What differs between an entry of a manifest and a thing on a platform.

Members that the manifest does not give are left alone. Of a config, which the manifest gives whole, further keys count
unless they are defaults, computed by the platform, secret, or not documented. Secrets are never compared by what a read
shows: `planning.compare_secrets` compares what was last written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connector_mcp.engine.preview import path_text
from connector_mcp.json_values import JsonObject, is_array, is_object, items, members, same_json
from connector_mcp.operations.connector_types import ConnectorType
from connector_mcp.operations.operation import at
from connector_mcp.operations.provisioning.kinds import ORDERED, Kind, ListOrder
from connector_mcp.operations.situation import Path
from connector_mcp.operations.update import without_vacant
from connector_mcp.provisioning.manifest import text_places
from connector_mcp.secrets.reference import referenced_name


@dataclass(frozen=True)
class Difference:
    """A member that has another value on the platform. `after` is None if it is to be unset."""

    path: Path
    before: Any
    after: Any


def find_differences(
    kind: Kind, declared: JsonObject, observed: JsonObject, applied: Mapping[str, Any]
) -> list[Difference]:
    """Find what differs. `applied` is the entry as it was last applied, empty if it never was."""
    found: list[Difference] = []
    for member, value in declared.items():
        if member in kind.hidden:
            before = applied.get(member)
            if before is not None and not same_json(before, value):
                found.append(Difference((member,), before, value))
        elif member in observed:
            found += [*_compare(kind, (member,), value, observed[member])] or _hidden(kind, member, value, applied)
    if kind.config_member in observed:
        found += _undeclared(kind, declared, observed, members(applied.get(kind.config_member)))
    return found


def _hidden(kind: Kind, member: str, value: Any, applied: Mapping[str, Any]) -> list[Difference]:
    """Compare a member that reads show only in part with what was last applied."""
    is_partly_hidden = any(path.startswith(f"{member}.") for path in kind.hidden)
    before = applied.get(member)
    if not is_partly_hidden or before is None or same_json(before, value):
        return []
    return [Difference((member,), before, value)]


def references_in(entry: Any) -> dict[str, str]:
    """Return the names of the secrets that an entry refers to, by path."""
    found = ((steps, referenced_name(text)) for steps, text in text_places(entry))
    return {path_text(steps): name for steps, name in found if name is not None}


def _compare(kind: Kind, path: Path, value: Any, before: Any) -> Iterator[Difference]:
    if _is_reference(value):
        return
    if is_object(value) and (is_object(before) or before is None) and value:
        held = members(before)
        for key, member in value.items():
            inner = (*path, key)
            if ".".join(inner) not in kind.hidden:
                yield from _compare(kind, inner, member, held.get(key))
    elif is_array(value):
        if not _same_list(kind, path, value, items(before)):
            yield Difference(path, before, value)
    elif not _same(value, before):
        yield Difference(path, before, value)


def _same_list(kind: Kind, path: Path, value: list[Any], before: list[Any]) -> bool:
    order = order_of(kind, path)
    if len(value) != len(before):
        return False
    if order.kind == "ordered":
        pairs = list(zip(value, before, strict=True))
    elif order.kind == "keyed":
        named = {str(at(each, order.key)): each for each in before}
        if len(named) < len(before):
            pairs = list(zip(value, before, strict=True))
        else:
            pairs = [(each, named.get(str(at(each, order.key)))) for each in value]
    else:
        return _same_set(value, before)
    return not any(True for one, other in pairs for _ in _compare(kind, path, one, other))


def _same_set(value: list[Any], before: list[Any]) -> bool:
    left = list(before)
    for each in value:
        match = next((index for index, other in enumerate(left) if same_json(each, other)), None)
        if match is None:
            return False
        del left[match]
    return True


def order_of(kind: Kind, path: Path) -> ListOrder:
    """Return how the list at a path is compared."""
    any_key = (*path[:-1], "*")
    return kind.lists.get(".".join(path)) or kind.lists.get(".".join(any_key)) or ORDERED


def _same(value: Any, before: Any) -> bool:
    """Check whether two values are equal. Platforms show an unset value as null, empty, false or 0, or not at all."""
    if same_json(value, before):
        return True
    return not (_stored(value) or _stored(before))


def _stored(value: Any) -> Any:
    return without_vacant(value) if not isinstance(value, bool | int | float) else value


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and referenced_name(value) is not None


def _undeclared(kind: Kind, declared: JsonObject, observed: JsonObject, applied: JsonObject) -> Iterator[Difference]:
    """Find keys of the config that are stored but not in the manifest."""
    given, known = members(declared.get(kind.config_member)), kind.config_type(declared)
    for key, value in members(observed[kind.config_member]).items():
        if key in given or key in kind.computed or is_withheld(known, key) or not _stored(value):
            continue
        schema = members(at(known.config, ("properties", key))) if known else {}
        is_default = "default" in schema and same_json(schema["default"], value)
        if key in applied or (schema and not is_default):
            yield Difference((kind.config_member, key), value, None)


def is_withheld(known: ConnectorType | None, key: str) -> bool:
    """Check whether a key of a config holds secrets, or may hold them in a form that no schema describes."""
    if known is None:
        return False
    secret = [path.partition(".")[0] for path in known.secret_paths if "." not in path]
    return key in secret or key in known.traits.get("mayContainSecrets", ())
