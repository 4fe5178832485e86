"""Changes of the approval queue, sent to open pages as server-sent events."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import suppress
from http import HTTPStatus

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from connector_mcp.console.access import OperatorSessions, session_key
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.errors import StoreUnavailable
from connector_mcp.state.database import Database
from connector_mcp.transport.http.health import CachedCheck

READ_SECONDS = 0.5
"""How often the queue is read at most, however often it changes and however many pages are open."""

HEARTBEAT_SECONDS = 15.0
"""After how long a quiet stream sends something, so that nothing between server and browser closes it."""

MAX_STREAMS = 64
"""Streams that are open at the same time."""


class QueueStreams:
    """ASGI endpoint: a stream of the queue's changes for each page of a signed-in operator. All share one reading."""

    def __init__(self, approvals: Approvals, database: Database, sessions: OperatorSessions) -> None:
        self._queue = CachedCheck(approvals.version, READ_SECONDS)
        self._database = database
        self._sessions = sessions
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        key = session_key(request)
        try:
            status = HTTPStatus.OK if await self._is_signed_in(key) else HTTPStatus.FORBIDDEN
        except StoreUnavailable:
            # The session may be good, so the page must not say that it has ended.
            status = HTTPStatus.SERVICE_UNAVAILABLE
        if status is not HTTPStatus.OK or request.method == "HEAD":
            response = Response(status_code=status)
        elif self._open >= MAX_STREAMS:
            response = PlainTextResponse("Too many pages are open. Reload this one.", 503, {"Retry-After": "30"})
        else:
            headers = {"X-Accel-Buffering": "no"}
            response = StreamingResponse(self._changes(key), media_type="text/event-stream", headers=headers)
        self._open += 1
        try:
            await response(scope, receive, send)
        finally:
            self._open -= 1

    async def _is_signed_in(self, key: str | None) -> bool:
        return await self._sessions.find(key, in_use=False) is not None

    async def _changes(self, key: str | None) -> AsyncGenerator[str]:
        """Yield changes until the session ends, or the store cannot be read; the browser then connects again."""
        sent = None
        is_new = True
        text = "retry: 5000\n\n"
        with suppress(StoreUnavailable):
            while await self._is_signed_in(key):
                changes = self._database.changes
                state = await self._queue.result()
                if state != sent:
                    version, pending = sent = state
                    name = hashlib.sha256(version.encode()).hexdigest()[:16]
                    text += f"event: queue\nid: {name}\ndata: {pending}\n\n"
                yield text or ":\n\n"
                text = ""
                # What was read for another stream may be older than this one's page, so it is read again at once.
                if not is_new:
                    await self._database.changed(HEARTBEAT_SECONDS, changes)
                is_new = False
                # What changes in quick succession is read once.
                await anyio.sleep(READ_SECONDS)
            yield "event: ended\ndata:\n\n"
