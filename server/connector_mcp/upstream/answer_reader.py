"""HTTP/1.1 answers out of the bytes of one connection: what is taken for one, and where it ends.

llhttp, by httptools, reads the syntax, and is strict as it comes: lengths that are given twice, or beside chunks, lines
that end in a bare LF, folded lines and characters that no header has are refused. What is added here is what a parser
cannot know: the bounds, the request that is answered, and that what comes after an answer belongs to nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from connector_mcp.upstream.exchange import TOLD, Outcome, Reply, Told, broken_off, make_reply
from connector_mcp.upstream.inflating import inflate
from connector_mcp.upstream.wire_errors import RemoteProtocolError, WireError

MOST_HEAD: Final = 64 * 1024
"""Bytes of the headers of an answer, interim ones and trailers included, and of anything that brings no body along."""
MOST_HEADERS: Final = 256

_WITHOUT_BODY: Final = frozenset({204, 304})


class AnswerReader:
    """Reads one answer after the other. `answer_bytes` bounds a body, also what a compressed one swells to.

    `now` gives seconds since the epoch, for a `Retry-After` that is a date.
    """

    def __init__(self, answer_bytes: int, now: Callable[[], float]) -> None:
        self._answer_bytes = answer_bytes
        self._now = now
        self._parser = HttpResponseParser(self)
        self.begin(head_only=False)

    def begin(self, *, head_only: bool) -> None:
        """Another answer is due. To a HEAD request (`head_only`) it has no body, whatever it says."""
        self.reusable = False
        """The answer is complete, and the connection may carry another."""
        self._head_only = head_only
        self._told: Told | None = None
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._head_count = 0
        self._until_close = False
        self._chunks: list[bytes] = []
        self._size = 0
        self._barren = 0
        self._complete = False
        self._given_up = False

    def feed(self, data: bytes) -> Reply | None:
        """The answer once it is complete, or too large to be read to its end.

        Raises:
            RemoteProtocolError: This is no answer, or none that is accepted.
        """
        before = self._size
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.reusable = False
            if not (self._complete or self._given_up):
                raise RemoteProtocolError("The answer is not HTTP as it is accepted.") from error
        if self._complete or self._given_up:
            return self._reply()
        # A line that does not end, in a head, in the size of a chunk or in a trailer, is told to nobody.
        self._barren = self._barren + len(data) if self._size == before else 0
        if self._barren > MOST_HEAD:
            raise RemoteProtocolError("The head of the answer is too long.")
        return None

    def end(self) -> Reply:
        """The answer, where the end of the connection is its end.

        Raises:
            RemoteProtocolError: It is not.
        """
        if not self._until_close:
            raise RemoteProtocolError("The connection was closed before the answer was complete.")
        return self._reply()

    def break_off(self, error: WireError) -> Outcome:
        """What became of the answer if `error` is what ends it."""
        return error if self._told is None else broken_off(error, self._status, self._told)

    def _reply(self) -> Reply:
        told = self._told or Told()
        if self._given_up:
            return make_reply(self._status, None, told)
        # An idle connection holds on to nothing.
        chunks, self._chunks = self._chunks, []
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if not told.coding:
            return make_reply(self._status, body, told)
        try:
            return make_reply(self._status, inflate(body, told.coding, self._answer_bytes), told)
        except ValueError:
            return Reply(self._status, b"", told.request_id, told.retry_after, unreadable=True)

    # What follows is called by the parser.

    def on_message_begin(self) -> None:
        # A second answer to one request was not asked for, and must not become that to the next. Whatever comes behind
        # an answer begins one for the parser, except for line ends, which it skips.
        if self._complete:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_count += 1
        self._head_size += len(name) + len(value)
        if self._head_count > MOST_HEADERS or self._head_size > MOST_HEAD:
            raise RemoteProtocolError("The head of the answer is too long.")
        lowered = name.lower()
        if lowered in TOLD:
            self._headers.append((lowered, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self._headers.clear()
            return
        if self._complete:
            return
        self._status = status
        told = self._told = Told.by(self._headers, self._now)
        if told.transfer and told.transfer.strip(b" ").lower() != b"chunked":
            raise RemoteProtocolError("The body has a transfer coding that was not asked for.")
        if self._head_only:
            self._complete = True
        elif status not in _WITHOUT_BODY:
            self._given_up = told.announces_more_than(self._answer_bytes)
            self._until_close = not (told.length or told.transfer)

    def on_body(self, piece: bytes) -> None:
        if self._complete or self._given_up:
            return
        if self._told is None:
            raise RemoteProtocolError("An interim answer has a body.")
        self._size += len(piece)
        if self._size > self._answer_bytes:
            self._given_up = True
            self._chunks.clear()
        else:
            self._chunks.append(piece)

    def on_message_complete(self) -> None:
        if self._told is not None and not self._complete:
            self._complete = True
            self.reusable = self._parser.should_keep_alive() and not self._given_up
