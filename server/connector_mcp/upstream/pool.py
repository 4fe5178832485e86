"""Connections to one host, kept and used again, as the wire of the shared client.

What it buys, measured as processor time of an exchange over loopback: a third of what aiohttp's session takes, whose
layers above its parser are two thirds of it, and none of its import, a quarter of a second that the first call waited
for. `httpx-aiohttp` is no way out: it reports a server that hangs up as a connection that was never made (so a create
would go out twice), keeps cookies, lets aiohttp repeat PUT and DELETE behind our back, and has the address written anew
(`%2E%2E` becomes `..`).
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Final

import anyio

from connector_mcp.upstream.connection import Connection
from connector_mcp.upstream.dialing import dial
from connector_mcp.upstream.exchange import Outcome, Sending
from connector_mcp.upstream.limits import Limits
from connector_mcp.upstream.urls import Address
from connector_mcp.upstream.wire_errors import (
    ConnectError,
    ConnectTimeout,
    LocalProtocolError,
    NeverSent,
    PoolTimeout,
    UnsupportedProtocol,
)

_WORD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_TARGET: Final = re.compile(r"/[\x21-\x7e]*")
_WITHOUT_CONTENT: Final = frozenset({"GET", "HEAD"})


class PooledWire:
    """A wire over HTTP/1.1 connections to one address. Belongs to one event loop, opens nothing before the first
    exchange. `context` is that of TLS, for https.

    An outcome is `NeverSent` only where no byte of the request was sent, and another `WireError` wherever one may have
    been. It follows no redirect, keeps no cookie and repeats no request; a connection whose answer was not read to its
    end is closed, and so is one on which anything comes that was not asked for.
    """

    def __init__(
        self, address: Address, limits: Limits, context: ssl.SSLContext | None, now: Callable[[], float]
    ) -> None:
        self._address = address
        self._origin = address.origin
        self._limits = limits
        self._context = context
        self._now = now
        # Token requests do not wait for a slot among the calls, so they find a connection of their own.
        self._free = anyio.Semaphore(limits.in_flight + 4, fast_acquire=True)
        self._written: tuple[Mapping[str, str], bytes] = ({}, b"")
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._closed = False
        self._all_lost = anyio.Event()

    async def exchange(self, sending: Sending) -> Outcome:
        """Send once and read the answer."""
        if not sending.address.startswith(self._origin):
            return UnsupportedProtocol("The address is another host's.")
        try:
            request = self._write(sending)
        except ValueError:
            # Its text may be a credential.
            return LocalProtocolError("The request cannot be sent as it is.")
        try:
            connection = await self._take()
        except NeverSent as error:
            return error
        try:
            return await connection.exchange(request, head_only=sending.method == "HEAD")
        finally:
            if connection.open:
                self._idle.append(connection)
            self._free.release()

    async def aclose(self) -> None:
        """Close all connections; those who wait for an answer get an error."""
        self._closed = True
        for connection in self._open:
            connection.close()
        if self._open:
            await self._all_lost.wait()

    def _write(self, sending: Sending) -> bytes:
        """Head and body together, so that they go out at once.

        Raises:
            ValueError: Something would break its line.
        """
        target = sending.address[len(self._origin) :]
        if not (_WORD.fullmatch(sending.method) and _TARGET.fullmatch(target)):
            raise ValueError("no method, or no target")
        # Most requests have the very headers of the one before: a tenth of an exchange is saved.
        if self._written[0] is not sending.headers:
            self._written = (sending.headers, _write_headers(sending.headers))
        start = f"{sending.method} {target} HTTP/1.1\r\n".encode("ascii")
        content = sending.content or b""
        if not content and sending.method in _WITHOUT_CONTENT:
            return b"%b%b\r\n" % (start, self._written[1])
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (start, self._written[1], len(content), content)

    async def _take(self) -> Connection:
        """A connection to send on. Raises NeverSent."""
        try:
            self._free.acquire_nowait()
        except anyio.WouldBlock:
            await self._wait_for_slot()
        try:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_clean():
                    return connection
                connection.close()
            return await self._connect()
        except BaseException:
            self._free.release()
            raise

    async def _wait_for_slot(self) -> None:
        try:
            with anyio.fail_after(self._limits.connect):
                await self._free.acquire()
        except TimeoutError:
            raise PoolTimeout("All connections were in use for too long.") from None

    async def _connect(self) -> Connection:
        if self._closed:
            raise ConnectError("The connections are closed.")
        try:
            with anyio.fail_after(self._limits.connect):
                connection = await self._open_one()
        except TimeoutError as error:
            raise ConnectTimeout("No connection was made in time.") from error
        # Of names that are no names come ValueErrors, and RuntimeErrors of uvloop where asyncio has OSErrors.
        except (OSError, ValueError, RuntimeError) as error:
            raise ConnectError(type(error).__name__) from error
        if self._closed or not connection.open:
            connection.close()
            raise ConnectError("The connection was closed as soon as it was made.")
        return connection

    async def _open_one(self) -> Connection:
        loop = asyncio.get_running_loop()
        host = self._address.host
        made = await dial(host, self._address.reached_at)
        try:
            transport, connection = await loop.create_connection(
                lambda: Connection(self._limits, self._now, self._forget),
                sock=made,
                ssl=self._context,
                server_hostname=None if self._context is None else host.rstrip("."),
            )
        except BaseException:
            made.close()
            raise
        connection.opened(transport)
        if not connection.lost:
            self._open.add(connection)
        return connection

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._closed and not self._open:
            self._all_lost.set()


def _write_headers(headers: Mapping[str, str]) -> bytes:
    lines: list[str] = []
    for name, value in headers.items():
        if not (_WORD.fullmatch(name) and _VALUE.fullmatch(value)):
            raise ValueError("no header")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1")
