"""The connection to Redis or Valkey that the store and the journal share, and what its failures are called."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - Redis's own
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,  # noqa: A004 - Redis's own
)

from connector_mcp.errors import Misconfigured, StoreUnavailable

SETTING = "CONNECTOR_MCP_STATE"

TIMEOUT = 2.0
"""Seconds that making a connection, waiting for a free one, and an answer may take, each."""

CONNECTIONS = 32

_PREFIX = "{connector-mcp}:"
"""In front of every key. What is in braces makes them lie together where keys are spread over several servers."""

_REFUSED = (AuthenticationError, AuthorizationError, NoPermissionError)


class RedisConnection:
    """Runs scripts, each of which is one atomic step. Connects with the first of them.

    Nothing is tried twice: whether a script whose answer was lost took effect is not known. A call that was cancelled
    while it ran has still taken effect.
    """

    def __init__(self, url: str, *, password: str | None = None) -> None:
        """`password` is that of the server where the address holds none.

        Raises:
            Misconfigured: The address is none of a Redis server.
        """
        try:
            given: dict[str, Any] = {**options(password), **parse_url(url)}
            self._pool = BlockingConnectionPool(timeout=TIMEOUT, **given)
        except (ValueError, TypeError):
            # What it says may quote the password.
            raise not_an_address() from None
        self.place = place(self._pool.connection_kwargs)
        # Its methods are not fully typed.
        self._redis: Any = Redis(connection_pool=self._pool)
        self._scripts: dict[str, Any] = {}

    async def run(self, script: str, keys: Sequence[str], *arguments: str | float) -> Any:
        """The answer of a Lua script. `keys` are given without this program's prefix.

        Raises:
            StoreUnavailable: There is no answer, or it is a refusal.
        """
        registered = self._scripts.get(script)
        if registered is None:
            registered = self._scripts[script] = self._redis.register_script(script)
        prefixed = [f"{_PREFIX}{key}" for key in keys]
        return await self._guarded(partial(registered, keys=prefixed, args=arguments))

    async def information(self) -> dict[str, Any]:
        """What the server tells of itself, as INFO does, and in `clock_ahead` by how many seconds its clock is ahead.

        Raises:
            StoreUnavailable: There is no answer, or it is a refusal.
        """
        told: dict[str, Any] = await self._guarded(self._redis.info)
        seconds, micros = await self._guarded(self._redis.time)
        return {**told, "clock_ahead": seconds + micros / 1_000_000 - time.time()}

    async def aclose(self) -> None:
        """Close the connections. A later call makes new ones."""
        with anyio.CancelScope(shield=True):
            await self._pool.disconnect()

    async def _guarded(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        answer: Any = None
        # The pool loses a connection that is cancelled at the wrong moment; the time-outs bound what is shielded.
        with anyio.CancelScope(shield=True):
            try:
                answer = await ask()
            except (RedisError, OSError, ValueError) as failure:
                # The others that are idle may be as dead as this one was.
                with suppress(RedisError, OSError):
                    await self._pool.disconnect(inuse_connections=False)
                raise unavailable(self.place, failure) from None
        return answer


def options(password: str | None) -> dict[str, Any]:
    """What every client of ours is made with."""
    return {
        "password": password,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "max_connections": CONNECTIONS,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": True,
        # Servers of every age speak it.
        "protocol": 2,
        "client_name": "connector-mcp",
    }


def place(connection: dict[str, Any]) -> str:
    """Where the server is, as it may be told."""
    path = connection.get("path")
    return str(path) if path else f"{connection.get('host', 'localhost')}:{connection.get('port', 6379)}"


def not_an_address() -> Misconfigured:
    return Misconfigured(
        f"{SETTING} is no address of a Redis server (its value is not shown).",
        fix=f"Set {SETTING} to such as redis://redis.internal:6379/0, rediss://… for TLS, or unix:///run/redis.sock.",
    )


def unavailable(where: str, failure: Exception) -> StoreUnavailable:
    """The error of a failure, in words of ours: those of the server and its client may quote what was sent."""
    # What goes wrong while connecting comes as the cause of a failed connection.
    if isinstance(failure, _REFUSED) or isinstance(failure.__cause__, _REFUSED):
        return StoreUnavailable(
            f"The Redis store at {where} refuses these credentials, or what is to be done with them.",
            fix=f"Correct user and password in {SETTING} (or CONNECTOR_MCP_STATE_PASSWORD_FILE), and let the user run "
            "scripts on keys that begin with {connector-mcp}.",
            retryable=False,
        )
    if isinstance(failure, OutOfMemoryError):
        return StoreUnavailable(
            f"The Redis store at {where} is full.",
            fix="Give the server more memory; no approval or audit record is dropped to make room.",
        )
    if isinstance(failure, ReadOnlyError):
        return StoreUnavailable(
            f"The Redis store at {where} is a read-only replica.", fix=f"Name the primary in {SETTING}."
        )
    if isinstance(failure, ValueError):
        return StoreUnavailable(
            f"The Redis store at {where} holds an entry that is not one of this program's.",
            fix=f"Name a database in {SETTING} that nothing else writes to.",
            retryable=False,
        )
    if isinstance(failure, TimeoutError | BusyLoadingError):
        reason = "is still loading" if isinstance(failure, BusyLoadingError) else f"gave no answer in {TIMEOUT:g} s"
    elif isinstance(failure, ConnectionError | OSError):
        reason = "cannot be reached"
    else:
        reason = f"answered with a failure ({type(failure).__name__})"
    return StoreUnavailable(
        f"The Redis store at {where} {reason}.",
        fix=f"Call again once the server that {SETTING} names runs; reads are answered meanwhile.",
        retry_after=1.0,
    )
