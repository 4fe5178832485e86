"""The streams of clients of the older transport, `/sse`: the SDK's, on which answers of ours go out too.

The SDK opens a stream, agrees with the client on what is spoken, and answers whatever is no call. A call that is posted
to `/messages/` it would take through four queues and three tasks; here it is made in the task that brought it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp_types import PROTOCOL_VERSION_META_KEY, ErrorData
from starlette.requests import Request
from starlette.types import Message, Scope, Send

from connector_mcp.transport.exchange import Exchange
from connector_mcp.transport.http_answer import body_of, event_of
from connector_mcp.transport.lines import encode_answer, encode_error
from connector_mcp.transport.posted import Calls
from connector_mcp.transport.sessions import Session, handshake, owner_of

PATH: Final = "/messages/"

_ENDPOINT: Final = re.compile(rb"event: endpoint\r\ndata: [^\r\n?]*\?([^\r\n]+)\r\n")
_ACCEPTED: Final = b"Accepted"
_LENGTH: Final = (b"content-length", b"%d" % len(_ACCEPTED))


class EventStreams:
    """The open streams by the query with which their clients post.

    `learn` is MCP middleware, the outermost, by which it is known what the SDK has agreed on with them.
    """

    def __init__(self, server: Server[dict[str, Any]]) -> None:
        self._server = server
        self._open: dict[bytes, EventStream] = {}

    def of(self, scope: Scope) -> EventStream | None:
        """The stream of a request's session; None where there is none of this caller's."""
        stream = self._open.get(scope["query_string"])
        return stream if stream is not None and owner_of(scope) == stream.owner else None

    @contextmanager
    def opened(self, scope: Scope, send: Send) -> Generator[EventStream]:
        """A stream for this request, whose calls end with the context."""
        stream = EventStream(scope, send, self._open)
        try:
            yield stream
        finally:
            stream.end()

    async def learn(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Note what the SDK agrees on with the client of a stream."""
        answer = await call_next(ctx)
        if ctx.method == "initialize":
            scope: Scope = getattr(ctx.request, "scope", {})
            stream = self.of(scope) if scope.get("path") == PATH else None
            params = handshake(ctx.params)
            if stream is not None and params is not None:
                stream.agreed(Session(self._server, params))
        return answer


class EventStream:
    """One client's stream, which is among `known` by its query from when the SDK has told that until it ends."""

    def __init__(self, scope: Scope, send: Send, known: dict[bytes, EventStream]) -> None:
        self.owner = owner_of(scope)
        self._send = send
        self._known = known
        self._query: bytes | None = None
        self._session: Session | None = None
        self._is_agreed = False
        # One event at a time: a client that does not read holds up whoever sends to it.
        self._turn = asyncio.Lock()
        self._open = True

    async def pass_on(self, event: Message) -> None:
        """Send what the SDK sends; the ASGI `send` that it is given."""
        if self._query is None and self._open and (told := _ENDPOINT.match(event.get("body", b""))):
            query: bytes = told[1]
            self._query, self._known[query] = query, self
        async with self._turn:
            if event["type"] == "http.response.body" and not event.get("more_body", False):
                self._open = False
            await self._send(event)

    async def tell(self, message: bytes) -> None:
        """Send what comes before an answer; in silence where the stream has ended."""
        await self._put(message)
        # What is sent to a client that has gone is done at once: whoever watches for that must get a turn.
        await asyncio.sleep(0)

    async def took(self, message: dict[str, Any], calls: Calls, request: Request, send: Send) -> bool:
        """Deal with what was posted, unless it is for the SDK to do so."""
        session = self._session
        if message.get("method") == "initialize":
            # What the SDK makes of it is not known yet. After a second one all that follows is left to the SDK.
            self._is_agreed = False
        if session is None:
            return False
        if self._is_agreed and calls.include(message) and not _is_of_2026(message["params"]):
            exchange = Exchange(request, message, self, session.channel)
            await self._answer(exchange, session, send)
            return True
        if session.hear(message):
            await _accept(send)
            return True
        return False

    def agreed(self, session: Session) -> None:
        """The SDK has accepted a handshake."""
        if self._session is None:
            self._session, self._is_agreed = session, True

    def end(self) -> None:
        """The stream is over: its calls are cancelled, as the SDK's are."""
        self._open = False
        if self._query is not None:
            del self._known[self._query]
        if self._session is not None:
            self._session.end()

    async def _answer(self, exchange: Exchange, session: Session, send: Send) -> None:
        session.began(exchange)
        try:
            await _accept(send)
            with exchange.scope:
                outcome = await exchange.outcome(session.runner)
                # A call that the client has cancelled gets no answer, as in the SDK.
                if exchange.is_cancelled:
                    return
                if isinstance(outcome, ErrorData):
                    await self._put(encode_error(exchange.request_id, outcome))
                else:
                    await self._put(encode_answer(exchange.request_id, outcome))
        finally:
            session.ended(exchange)

    async def _put(self, message: bytes) -> None:
        async with self._turn:
            if self._open:
                await self._send(body_of(event_of(message), more=True))


async def _accept(send: Send) -> None:
    await send({"type": "http.response.start", "status": 202, "headers": [_LENGTH]})
    await send(body_of(_ACCEPTED, more=False))


def _is_of_2026(params: Mapping[str, Any]) -> bool:
    """Whether a request bears the envelope of a later revision than its stream was opened with."""
    meta: Any = params.get("_meta")
    return isinstance(meta, dict) and PROTOCOL_VERSION_META_KEY in cast("dict[str, Any]", meta)
