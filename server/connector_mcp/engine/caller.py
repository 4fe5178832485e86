"""The caller of a request: all that the engine knows about a transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from connector_mcp.json_values import JsonObject

TransportName = Literal["stdio", "http", "cli", "probe"]


@dataclass(frozen=True)
class Question:
    """A question to the person at the client: a plain-text message and a flat form."""

    message: str
    schema: JsonObject


@dataclass(frozen=True)
class Visit:
    """A request to open a page in a browser. Accepting it means only that the person opens the page."""

    id: str
    message: str
    url: str


@dataclass(frozen=True)
class ElicitationReply:
    """The person's answer. `content` has the form's values, unchanged."""

    action: Literal["accept", "decline", "cancel"]
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Resumed:
    """The answer to a question that was asked by returning it: the question's ticket and the reply."""

    ticket: str
    reply: ElicitationReply


class AnswerDue(Exception):
    """Raised by `Caller.ask` and `send_to` to ask by returning the question (protocol 2026-07-28)."""

    def __init__(self, question: Question | Visit, ticket: str) -> None:
        super().__init__("an answer is due")
        self.question = question
        self.ticket = ticket


class CannotAsk(Exception):
    """Raised by `Caller.ask` and `send_to` if the client cannot be asked or answered with an error."""


@dataclass
class Caller:
    """The caller of one request. One that can be asked is a subclass, in a transport or the command line."""

    principal: str
    """The caller's identity: `local` on stdio and the command line, the token's name over HTTP."""
    transport: TransportName
    scopes: frozenset[str] | None = None
    """The scopes of the caller's credential; None if there are no scopes."""
    client: str | None = None
    """The client's name and version, as it reports them."""
    profiles: frozenset[str] | None = None
    """The profiles that the caller may act under; None if it may act under all."""
    resumed: Resumed | None = None
    """The answer that this request brings to an earlier request's question."""
    can_ask: bool = False
    """Whether this request declares form elicitation and can carry it."""
    can_send: bool = False
    """Whether this request declares URL elicitation and can carry it."""

    @property
    def gone(self) -> bool:
        """Whether the client is known to have disconnected."""
        return False

    async def ask(self, question: Question, ticket: str) -> ElicitationReply:
        """Ask the person at the client.

        Raises:
            AnswerDue: The question is asked by returning it; the same call will come again with the reply.
            CannotAsk: The question could not be asked.
        """
        raise CannotAsk

    async def send_to(self, visit: Visit, ticket: str) -> ElicitationReply:
        """Ask the person at the client to open a page. Raises what `ask` raises."""
        raise CannotAsk

    async def visited(self, visit: Visit) -> None:
        """Notify the client that the person is done with the page, if its protocol supports that."""

    async def progress(self, message: str) -> None:
        """Report progress, if the client asked for it."""


@dataclass(frozen=True)
class CallResult:
    """The result of a call: the structured content, and whether it is a failure."""

    content: JsonObject
    is_error: bool
    encoded: bytes | None = None
    """The content as compact JSON in UTF-8, if it was already encoded. It has no halves of surrogate pairs."""
