"""Who calls, and how they can be asked: all that the engine knows of a transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from connector_mcp.json_values import JsonObject

TransportName = Literal["stdio", "http", "cli"]


@dataclass(frozen=True)
class Question:
    """What a person is asked: a plain-text message and a flat form."""

    message: str
    schema: JsonObject


@dataclass(frozen=True)
class Visit:
    """What a person is asked to do in their browser. That they accept says only that they open the page."""

    id: str
    message: str
    url: str


@dataclass(frozen=True)
class Reply:
    """What the person answered; `content` holds the form's values as they came, uncoerced."""

    action: Literal["accept", "decline", "cancel"]
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Resumed:
    """The second round of a question that was asked by returning it: its ticket and the reply."""

    ticket: str
    reply: Reply


class AnswerDue(Exception):
    """Raised through the engine by `Caller.ask` and `send_to` where one asks by returning the question (2026-07-28)."""

    def __init__(self, question: Question | Visit, ticket: str) -> None:
        super().__init__("an answer is due")
        self.question = question
        self.ticket = ticket


class CannotAsk(Exception):
    """Raised by `Caller.ask` and `send_to` where it failed: no back-channel, or the client answered an error."""


class Caller(Protocol):
    """One request's caller. Implemented by the transports and the command line."""

    @property
    def principal(self) -> str:
        """Who calls: `local` on stdio and the command line, the token's name over HTTP."""
        ...

    @property
    def client(self) -> str | None:
        """Name and version of the client, as it says of itself."""
        ...

    @property
    def transport(self) -> TransportName: ...

    @property
    def scopes(self) -> frozenset[str] | None:
        """What the caller's credential allows; None where there are no scopes."""
        ...

    @property
    def can_ask(self) -> bool:
        """Whether this very request declares form elicitation and has a way to carry it."""
        ...

    @property
    def resumed(self) -> Resumed | None:
        """The answer that this request brings to a question of an earlier one."""
        ...

    @property
    def gone(self) -> bool:
        """Whether the client is known to have hung up, so that nobody would hear an answer."""
        ...

    async def ask(self, question: Question, ticket: str) -> Reply:
        """Put a question to the person at the client.

        Raises:
            AnswerDue: The question is asked by returning it; the same call will come again with the reply.
            CannotAsk: It could not be put.
        """
        ...

    @property
    def can_send(self) -> bool:
        """Whether this very request declares that the client opens pages, and has a way to carry the address."""
        ...

    async def send_to(self, visit: Visit, ticket: str) -> Reply:
        """Have the person at the client open a page. Raises what `ask` does."""
        ...

    async def visited(self, visit: Visit) -> None:
        """Tell the client that the person is done with the page, where its protocol has a word for that."""
        ...

    async def progress(self, message: str) -> None:
        """Tell the client that work goes on, where it wants to know."""
        ...


@dataclass(frozen=True)
class CallResult:
    """What a call answers: the structured content, and whether it is a failure."""

    content: JsonObject
    is_error: bool
    encoded: bytes | None = None
    """The content as compact JSON in UTF-8, without halves of surrogate pairs, where that was made on the way."""
