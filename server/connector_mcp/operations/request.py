"""What is to be sent, before it is tied to an address, credentials or a connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final


class Absent(Enum):
    """The body of a request that has none, so that None can stay JSON's null."""

    NO_BODY = "no body"


NO_BODY: Final = Absent.NO_BODY


@dataclass(frozen=True)
class Request:
    """One HTTP request relative to a platform's base URL.

    `path` is a template whose `{name}` placeholders are filled from `path_values`, percent-encoded by the sender.
    `repeatable` says that sending it twice does no more than sending it once.
    """

    method: str
    path: str
    path_values: Mapping[str, str] = field(default_factory=dict[str, str])
    query: Mapping[str, str | Sequence[str]] = field(default_factory=dict[str, str | Sequence[str]])
    body: Any = NO_BODY
    repeatable: bool = False
    changes: bool = True
    """Whether it may change anything: of a request that does not, a lost answer leaves nothing to wonder about."""
