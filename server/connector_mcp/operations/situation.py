"""The situation of a call, and what a declaration finds in it: configs, destinations, losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from connector_mcp.json_values import JsonObject
from connector_mcp.operations.connector_types import ConnectorType

Path = tuple[str, ...]
"""The keys that lead to a member of a record. A key may hold dots, so that a dotted string would be ambiguous."""


@dataclass(frozen=True)
class Loss:
    """Something a call would destroy. `before` is the present value; it is redacted before it is shown."""

    sentence: str
    """Starts with a verb in the third person: `Unsets documentationURL`."""
    path: Path = ()
    before: Any = None

    @property
    def field(self) -> str:
        """The path as a person reads it."""
        return ".".join(self.path)


@dataclass(frozen=True)
class ConfigUse:
    """A connector config among the arguments."""

    path: str
    """Where it stands, as a person would write it: `connectors[0].config`."""
    type_id: str | None
    type: ConnectorType | None
    """None where the type is not known: then the config is not checked and every string in it counts as secret."""
    value: JsonObject
    complete: bool = True
    """Whether the required members must all be here; not so where the server merges with what is stored."""
    merged: JsonObject | None = None
    """The config as it will be stored, where the server merges it and the stored one is known."""
    check_as: ConnectorType | None = None
    """The type to check the config against, where the platform describes another one than this server."""
    empty_is_missing: bool = False
    """Whether an empty member counts as missing: the platform drops it, or cannot work with it."""


@dataclass(frozen=True)
class Destination:
    """A host that credentials go to because the arguments, or the stored config that they complete, name it."""

    host: str
    path: str
    """The argument with the credentials that go there, as a person would write it; empty for those of all arguments."""
    is_chosen: bool = True
    """Whether the arguments name the host. Otherwise the stored config does."""


@dataclass(frozen=True)
class Situation:
    """What a declaration may look at besides its own arguments."""

    current: Any = None
    """The target as the platform holds it now; None where the operation has no target or has not read it."""
    described: JsonObject | None = None
    """What `type_read` returned: empty if the platform does not have that type, None where it was not asked."""
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    """The platform's variables that are not secret."""
    dependents: tuple[Any, ...] | None = None
    """All rows of the target's `dependents`; None where there is no such list or it could not be read."""
