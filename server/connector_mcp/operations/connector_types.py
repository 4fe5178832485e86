"""The connector types of a platform and the exact schema of each one's config.

Each platform's folder holds `connector_types.json`: `{type: {name, kind, creatable, notes?, users?, config}}`, where
`config` is a JSON Schema (2020-12) whose secret members carry `writeOnly: true`. The file is read when it is first
needed, because it is larger than all the declarations together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from connector_mcp.operations.platform import JsonObject


@dataclass(frozen=True)
class ConnectorType:
    """One kind of connector: what its config may hold, and what a caller should know."""

    platform: str
    type: str
    name: str
    kind: str
    creatable: bool
    config: JsonObject
    notes: tuple[str, ...] = ()
    traits: JsonObject = field(default_factory=dict[str, Any])
    """Further facts of the platform's own, such as Logto's `platform` and `isStandard`."""

    @property
    def secret_paths(self) -> tuple[str, ...]:
        """Dotted paths of the secret members of a config, nested ones included."""
        return tuple(sorted(set(_secret_paths(self.config, ""))))


def _secret_paths(schema: JsonObject, path: str) -> Iterator[str]:
    if schema.get("writeOnly") and path:
        yield path
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _secret_paths(branch, path)
    if isinstance(schema.get("items"), dict):
        yield from _secret_paths(schema["items"], path)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _secret_paths(schema["additionalProperties"], path)
    for key, member in schema.get("properties", {}).items():
        yield from _secret_paths(member, f"{path}.{key}" if path else key)


@cache
def connector_types(platform: str) -> dict[str, ConnectorType]:
    """Every connector type of a platform by its id; empty for a platform without any."""
    file = resources.files("connector_mcp.operations") / platform / "connector_types.json"
    if not file.is_file():
        return {}
    known = ("name", "kind", "creatable", "config", "notes")
    return {
        key: ConnectorType(
            platform=platform,
            type=key,
            name=entry["name"],
            kind=entry["kind"],
            creatable=entry["creatable"],
            config=entry["config"],
            notes=tuple(entry.get("notes", ())),
            traits={name: value for name, value in entry.items() if name not in known},
        )
        for key, entry in json.loads(file.read_text("utf-8")).items()
    }


def connector_type(platform: str, type_id: str) -> ConnectorType | None:
    """The connector type with this id, or None."""
    return connector_types(platform).get(type_id)
