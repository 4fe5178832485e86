"""What the tools across platforms know of a platform: which connectors it has, and how to tell whether one works.

A platform's module `overview` declares `find_connectors` and `CHECKS`. Both are generators: they yield the reads that
they need next, receive what each returned, and return the answer. So they stay pure, and the engine sends every read as
it sends any other call.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import ModuleType
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from connector_mcp.errors import ConnectorError
from connector_mcp.operations.operation import Operation

Answer = TypeVar("Answer")


class Read(NamedTuple):
    """A call of an operation that only reads, with its arguments but for the tenant, which the engine fills in."""

    operation: type[Operation]
    arguments: Mapping[str, Any]


def read(operation: type[Operation], **arguments: Any) -> Read:
    """Make a read."""
    return Read(operation, arguments)


Reads = Generator[Sequence[Read], Sequence[Any], Answer]
"""Yields reads that may be sent side by side; receives in the same order the data of each, or the `ConnectorError` that
it ended with. A list's data has the rows of all its pages."""


Status = Literal["ok", "failing", "paused", "pending", "unknown"]


@dataclass(frozen=True)
class Row:
    """A connector, or another thing that a connector needs, in the form that is the same for all platforms."""

    kind: str
    """Such as `source connector`; a key of the platform's `CHECKS` if the thing can be checked."""
    id: str
    name: str
    type: str
    status: Status = "unknown"
    """What the list itself shows; `check_connector` looks deeper."""
    error: str = ""
    """The platform's own words about a failure."""
    within: str = ""
    """Id of what it belongs to where its own id does not suffice to read it, such as an app."""


class Awaited(NamedTuple):
    """Calls that would change a verdict, and whose outcome the platform does not show at once."""

    operations: Sequence[type[Operation]]
    target: str
    """The id of what they act on."""
    since: datetime | None
    """The time of the latest outcome that is shown; None if none is."""


@dataclass(frozen=True)
class Verdict:
    """Whether a connector works."""

    works: bool | None
    """True where the platform shows what its recipe ends with. None where it shows neither that nor a fault."""
    reason: str
    """One sentence: what shows it."""
    next: str = ""
    """What to do now, naming the tool, if anything is left to do."""
    seen: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The few facts that the reason rests on, such as a status."""
    unproven: str = ""
    """One sentence: what the platform never shows although it matters, such as whether credentials are right."""
    awaits: Awaited | None = None
    """If one of these calls was made a short while ago, the verdict is not known yet."""


class Check(Protocol):
    """Tells whether a thing of one kind works."""

    def __call__(self, identifier: str, within: str) -> Reads[Verdict]: ...


@dataclass(frozen=True)
class Overview:
    """What a platform's module `overview` declares."""

    find_connectors: Callable[[], Reads[Sequence[Row]]]
    """Lists the connectors. A read that failed is raised if nothing can be said without it."""
    checks: Mapping[str, Check]
    """The check of each kind of thing; the first is the one that is meant where none is named."""

    @staticmethod
    def of(module: ModuleType) -> Overview:
        """Take it out of the module, which names it `find_connectors` and `CHECKS`."""
        return Overview(module.find_connectors, module.CHECKS)


def required(outcome: Any) -> Any:
    """The data of a read that the answer cannot do without.

    Raises:
        ConnectorError: The read ended with it.
    """
    if isinstance(outcome, ConnectorError):
        raise outcome
    return outcome
