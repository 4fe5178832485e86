"""One connection: a request out, an answer in, and never a byte of one exchange in another."""

from __future__ import annotations

import asyncio
import select
import ssl
import sys
from collections.abc import Callable

from connector_mcp.upstream.answer_reader import AnswerReader
from connector_mcp.upstream.exchange import Outcome
from connector_mcp.upstream.limits import Limits
from connector_mcp.upstream.wire_errors import (
    ReadError,
    ReadTimeout,
    RemoteProtocolError,
    WriteError,
    WriteTimeout,
)


class Connection(asyncio.Protocol):
    """A connection that carries one exchange at a time, and closes itself when it has been idle for too long.

    `forget` is called when it is lost. Times are checked by one timer, which stays set over many exchanges: to set
    a timer for each and take it back is a twentieth of an exchange.
    """

    def __init__(self, limits: Limits, now: Callable[[], float], forget: Callable[[Connection], None]) -> None:
        self._limits = limits
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._reader = AnswerReader(limits.answer_bytes, now)
        self._transport: asyncio.Transport | None = None
        self._has_news: Callable[[], bool] | None = None
        self._waiter: asyncio.Future[Outcome] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._stuck = False
        self._unsent = 0
        self.lost = False

    def opened(self, transport: asyncio.Transport) -> None:
        """Take over the transport of a connection that was made; it may be closed again by now."""
        self._transport = transport
        if not self.open:
            return
        self._has_news = _watch(transport.get_extra_info("socket").fileno())
        # So that `pause_writing` tells of every request that does not go out at once.
        transport.set_write_buffer_limits(high=1, low=0)

    @property
    def open(self) -> bool:
        """Whether it has not been closed from here, nor is known to be from there."""
        return not self.lost and self._transport is not None and not self._transport.is_closing()

    def is_clean(self) -> bool:
        """Whether another request may go out: it is open, and nothing has come since the last answer.

        Asks the system too, because the event loop may not have looked since.
        """
        return self.open and self._has_news is not None and not self._has_news()

    async def exchange(self, request: bytes, *, head_only: bool) -> Outcome:
        """Send once and read the answer. It must be clean. Cancelling closes it."""
        if self._transport is None or self._waiter is not None:
            raise RuntimeError("a connection that is not open, or carries an exchange already")
        waiter = self._waiter = self._loop.create_future()
        self._reader.begin(head_only=head_only)
        self._transport.write(request)
        self._wait_for_peer()
        try:
            return await waiter
        finally:
            if self._waiter is waiter:
                self.close()

    def close(self) -> None:
        """Close at once. What has not gone out is dropped."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            # Nothing was asked: whatever this is, it must not be taken for the answer to the next request.
            self.close()
            return
        try:
            reply = self._reader.feed(data)
        except RemoteProtocolError as error:
            self._settle(self._reader.break_off(error))
            return
        if reply is None:
            self._wait_for_peer()
        else:
            self._settle(reply, keep=self._reader.reusable and not self._stuck)

    def eof_received(self) -> None:
        if self._waiter is None or not self._ended_by_peer():
            return
        try:
            self._settle(self._reader.end())
        except RemoteProtocolError as error:
            self._settle(self._reader.break_off(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiter is not None:
            error = RemoteProtocolError("The connection was closed before the answer was complete.")
            if exc is not None:
                error = (WriteError if self._stuck else ReadError)(type(exc).__name__)
                error.__cause__ = exc
            self._settle(self._reader.break_off(error))
        self._forget(self)

    def pause_writing(self) -> None:
        self._stuck = True
        self._unsent = sys.maxsize

    def resume_writing(self) -> None:
        self._stuck = False
        if self._waiter is not None:
            self._wait_for_peer()

    def _settle(self, outcome: Outcome, *, keep: bool = False) -> None:
        waiter, self._waiter = self._waiter, None
        if keep:
            self._wait(self._limits.keep_alive)
        else:
            self.close()
        if waiter is not None and not waiter.done():
            waiter.set_result(outcome)

    def _wait_for_peer(self) -> None:
        self._wait(self._limits.write if self._stuck else self._limits.read)

    def _wait(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= self._due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._due, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._on_time)
        elif self._waiter is None:
            self.close()
        elif not self._stuck:
            self._settle(self._reader.break_off(ReadTimeout("No byte came in time.")))
        elif (unsent := self._buffered()) < self._unsent:
            self._unsent = unsent
            self._wait_for_peer()
        else:
            self._settle(self._reader.break_off(WriteTimeout("No byte was taken in time.")))

    def _ended_by_peer(self) -> bool:
        """Whether the end of the stream is the other side's word. TLS has one for it; without it anybody may cut."""
        channel = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        if channel is None:
            return True
        try:
            return not channel.read(1)
        except ssl.SSLError:
            return False

    def _buffered(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()


def _watch(file: int) -> Callable[[], bool]:
    """Tells whether there is something to read on a socket, the end of the stream included."""
    if sys.platform == "win32":
        return lambda: bool(select.select([file], [], [], 0)[0])
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return lambda: bool(poll.poll(0))
