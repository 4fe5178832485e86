"""A client of any SDK, attached to the server: what the tests ask of it, and what it shows for an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Transport = Literal["stdio", "http", "sse"]
Era = Literal["legacy", "2026-07-28"]


@dataclass(frozen=True)
class Reply:
    """What the person at the client answers to whatever is asked during a call."""

    action: Literal["accept", "decline", "cancel"]
    content: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a client shows of one call: a result, or the code and message of the failure that it raised instead."""

    content: dict[str, Any] = field(default_factory=dict[str, Any])
    text: str = ""
    is_error: bool = False
    raised: tuple[int | None, str] | None = None
    questions: tuple[str, ...] = ()
    progress: tuple[str | None, ...] = ()

    @property
    def error_code(self) -> str | None:
        """The code of a failure that reached the model as a result."""
        return self.content["error"]["code"] if self.is_error else None


@dataclass(frozen=True)
class Connection:
    """Which client speaks which era of the protocol over which transport."""

    sdk: Literal["python", "typescript-1", "typescript-2"]
    transport: Transport
    era: Era

    def __str__(self) -> str:
        return f"{self.sdk}, {self.transport}, {self.era}"


@dataclass(frozen=True)
class Server:
    """How to reach the server: a command to start for stdio, an origin for the others."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    origin: str = ""

    def url(self, transport: Transport) -> str:
        return f"{self.origin}/{'sse' if transport == 'sse' else 'mcp'}"


class Attached(Protocol):
    """A connected client."""

    protocol: str | None
    """The version of the protocol that was agreed on, where the client tells."""
    tools: list[str]
    """The names that it was given when it listed the tools after it connected."""

    async def call(self, tool: str, arguments: Mapping[str, Any], reply: Reply | None = None) -> Outcome: ...
