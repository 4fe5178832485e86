"""The store, the journal and the shared rate limit in Redis or Valkey, for replicas on any number of machines."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

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
from connector_mcp.json_values import JsonObject
from connector_mcp.state.store import Place, from_text, to_text

SETTING = "CONNECTOR_MCP_STATE"

TIMEOUT = 2.0
"""Seconds for each of: opening a connection, waiting for a free one, waiting for an answer."""

CONNECTIONS = 32

_PREFIX = "{connector-mcp}:"
"""Prefix of every key. The part in braces is a hash tag: a cluster keeps all keys with it on one node."""

_REFUSED = (AuthenticationError, AuthorizationError, NoPermissionError)


class RedisConnection:
    """Runs Lua scripts, each as one atomic step. Connects when the first script runs.

    Nothing is retried, because a script may have taken effect even if its answer was lost. The same holds for a call
    that was cancelled while it ran.
    """

    def __init__(self, url: str, *, password: str | None = None) -> None:
        """`password` is used if the address has none.

        Raises:
            Misconfigured: The address is not that of a Redis server.
        """
        try:
            options: dict[str, Any] = {**_default_options(password), **parse_url(url)}
            self._pool = BlockingConnectionPool(timeout=TIMEOUT, **options)
        except (ValueError, TypeError):
            # The library's message may quote the password.
            raise Misconfigured(
                f"{SETTING} is not the address of a Redis server (its value is not shown).",
                fix=f"Set {SETTING} to a URL such as redis://redis.internal:6379/0, rediss://… for TLS, or "
                "unix:///run/redis.sock.",
            ) from None
        self.place = _place(self._pool.connection_kwargs)
        # The methods of `Redis` are not fully typed.
        self._redis: Any = Redis(connection_pool=self._pool)
        self._scripts: dict[str, Any] = {}

    async def run(self, script: str, keys: Sequence[str], *arguments: str | float) -> Any:
        """Run a Lua script and return its answer. `keys` are given without this program's prefix.

        Raises:
            StoreUnavailable: The server did not answer, or refused.
        """
        registered = self._scripts.get(script)
        if registered is None:
            registered = self._scripts[script] = self._redis.register_script(script)
        prefixed = [f"{_PREFIX}{key}" for key in keys]
        return await self._guarded(partial(registered, keys=prefixed, args=arguments))

    async def information(self) -> dict[str, Any]:
        """Return the server's INFO, plus `clock_ahead`: by how many seconds its clock is ahead of this machine's.

        Raises:
            StoreUnavailable: The server did not answer, or refused.
        """
        info: dict[str, Any] = await self._guarded(self._redis.info)
        seconds, micros = await self._guarded(self._redis.time)
        return {**info, "clock_ahead": seconds + micros / 1_000_000 - time.time()}

    async def aclose(self) -> None:
        """Close the connections. A later call opens new ones."""
        with anyio.CancelScope(shield=True):
            await self._pool.disconnect()

    async def _guarded(self, request: Callable[[], Awaitable[Any]]) -> Any:
        answer: Any = None
        # The pool loses a connection that is cancelled at the wrong moment. The timeouts bound the shielded time.
        with anyio.CancelScope(shield=True):
            try:
                answer = await request()
            except (RedisError, OSError, ValueError) as failure:
                # Idle connections may be just as dead as this one.
                with suppress(RedisError, OSError):
                    await self._pool.disconnect(inuse_connections=False)
                raise _unavailable(self.place, failure) from None
        return answer


def _default_options(password: str | None) -> dict[str, Any]:
    return {
        "password": password,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "max_connections": CONNECTIONS,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": True,
        # Old servers do not speak version 3.
        "protocol": 2,
        "client_name": "connector-mcp",
    }


def _place(options: dict[str, Any]) -> str:
    """Name the server without any credential."""
    path = options.get("path")
    return str(path) if path else f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"


def _unavailable(where: str, failure: Exception) -> StoreUnavailable:
    """Describe a failure in fixed words. The messages of the server and of its client may quote what was sent."""
    # A failure during connecting arrives as the cause of a ConnectionError.
    if isinstance(failure, _REFUSED) or isinstance(failure.__cause__, _REFUSED):
        return StoreUnavailable(
            f"The Redis store at {where} refuses these credentials, or does not allow the user what is needed.",
            fix=f"Correct user and password in {SETTING} (or CONNECTOR_MCP_STATE_PASSWORD_FILE), and allow the user to "
            "run scripts on keys that begin with {connector-mcp}.",
            retryable=False,
        )
    if isinstance(failure, OutOfMemoryError):
        return StoreUnavailable(
            f"The Redis store at {where} is full.",
            fix="Give the server more memory. Approvals and audit records are never dropped to make room.",
        )
    if isinstance(failure, ReadOnlyError):
        return StoreUnavailable(
            f"The Redis store at {where} is a read-only replica.", fix=f"Name the primary in {SETTING}."
        )
    if isinstance(failure, ValueError):
        return StoreUnavailable(
            f"The Redis store at {where} holds an entry that another program wrote.",
            fix=f"Name a database in {SETTING} that no other program writes to.",
            retryable=False,
        )
    if isinstance(failure, TimeoutError | BusyLoadingError):
        reason = "is still loading" if isinstance(failure, BusyLoadingError) else f"did not answer within {TIMEOUT:g} s"
    elif isinstance(failure, ConnectionError | OSError):
        reason = "cannot be reached"
    else:
        reason = f"answered with an error ({type(failure).__name__})"
    return StoreUnavailable(
        f"The Redis store at {where} {reason}.",
        fix=f"Call again once the server named by {SETTING} is running. Reads work meanwhile.",
        retry_after=1.0,
    )


_PRELUDE: Final = """
local values, order, expiry = KEYS[1], KEYS[2], KEYS[3]
local now = tonumber(ARGV[1])
if not now then
    local time = redis.call('TIME')
    now = time[1] + time[2] / 1000000
end
local function forget(key)
    redis.call('HDEL', values, key)
    redis.call('ZREM', order, key)
    redis.call('ZREM', expiry, key)
end
local function live(key)
    local at = redis.call('ZSCORE', expiry, key)
    return not (at and tonumber(at) <= now) and redis.call('HGET', values, key)
end
local function keep(key, value, at)
    redis.call('HSET', values, key, value)
    if at == '' then redis.call('ZREM', expiry, key) else redis.call('ZADD', expiry, at, key) end
end
"""

# A server that is out of memory refuses the first write of a script, but no later one. So the new value is written
# first, and expired entries are removed after it, a limited number at a time.
_PUT_ONCE: Final = f"""{_PRELUDE}
if live(ARGV[2]) then return 0 end
local youngest = redis.call('ZREVRANGE', order, 0, 0, 'WITHSCORES')[2]
keep(ARGV[2], ARGV[3], ARGV[4])
redis.call('ZADD', order, (youngest or 0) + 1, ARGV[2])
for _, key in ipairs(redis.call('ZRANGEBYSCORE', expiry, '-inf', string.format('%.17g', now), 'LIMIT', 0, 100)) do
    forget(key)
end
return 1
"""

_GET: Final = f"""{_PRELUDE}
return live(ARGV[2])
"""

_REPLACE: Final = f"""{_PRELUDE}
if live(ARGV[2]) ~= ARGV[4] then return 0 end
if ARGV[5] ~= '' and tonumber(ARGV[5]) <= now then forget(ARGV[2]) else keep(ARGV[2], ARGV[3], ARGV[5]) end
return 1
"""

_TAKE_ONCE: Final = f"""{_PRELUDE}
local value = live(ARGV[2])
forget(ARGV[2])
return value
"""

_ENTRIES: Final = f"""{_PRELUDE}
local found = {{}}
for _, key in ipairs(redis.call('ZRANGE', order, 0, -1)) do
    local value = live(key)
    if value then
        found[#found + 1] = key
        found[#found + 1] = value
    end
end
return found
"""

_REMOVE: Final = f"""{_PRELUDE}
forget(ARGV[2])
return 1
"""


class RedisStore:
    """A `Store` in Redis. Every method is one script.

    A collection is a hash of values and two sorted sets: the order of the entries, and when they expire. The server's
    clock decides on expiry, so that all replicas agree; `clock` replaces it in tests.
    """

    def __init__(self, connection: RedisConnection, *, clock: Callable[[], float] | None = None) -> None:
        self.connection = connection
        self._clock = clock

    async def put_once(self, collection: str, key: str, value: JsonObject, *, expires_at: float | None = None) -> bool:
        return await self._run(_PUT_ONCE, collection, key, to_text(value), _moment(expires_at)) == 1

    async def get(self, collection: str, key: str) -> JsonObject | None:
        return self._value(await self._run(_GET, collection, key))

    async def replace(
        self, collection: str, key: str, value: JsonObject, *, expected: JsonObject, expires_at: float | None = None
    ) -> bool:
        after, before = to_text(value), to_text(expected)
        return await self._run(_REPLACE, collection, key, after, before, _moment(expires_at)) == 1

    async def take_once(self, collection: str, key: str) -> JsonObject | None:
        return self._value(await self._run(_TAKE_ONCE, collection, key))

    async def entries(self, collection: str) -> list[tuple[str, JsonObject]]:
        flat: list[str] = await self._run(_ENTRIES, collection)
        found = ((key, self._value(text)) for key, text in zip(flat[::2], flat[1::2], strict=True))
        return [(key, value) for key, value in found if value is not None]

    async def remove(self, collection: str, key: str) -> None:
        await self._run(_REMOVE, collection, key)

    async def aclose(self) -> None:
        await self.connection.aclose()

    async def _run(self, script: str, collection: str, *arguments: str) -> Any:
        keys = [f"{part}:{collection}" for part in ("values", "order", "expiry")]
        return await self.connection.run(script, keys, _moment(self._clock() if self._clock else None), *arguments)

    def _value(self, text: object) -> JsonObject | None:
        if text is None:
            return None
        try:
            return from_text(str(text))
        except ValueError as failure:
            raise _unavailable(self.connection.place, failure) from failure


def _moment(at: float | None) -> str:
    return "" if at is None else repr(float(at))


# A server that is out of memory refuses the first write, so that nothing is half done.
_APPEND: Final = """
local head = redis.call('GET', KEYS[1]) or ''
if head ~= ARGV[1] then return {head} end
for index = 3, #ARGV do redis.call('XADD', KEYS[2], '*', 'line', ARGV[index]) end
redis.call('SET', KEYS[1], ARGV[2])
return {}
"""

_END: Final = """
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
return {redis.call('GET', KEYS[1]) or '', last and last[1] or ''}
"""

_PAGE: Final = """
local found = {}
for _, entry in ipairs(redis.call(ARGV[1], KEYS[2], ARGV[2], ARGV[3], 'COUNT', ARGV[4])) do
    found[#found + 1] = entry[1]
    found[#found + 1] = entry[2][2]
end
return found
"""

_PROBE: Final = """
redis.call('SET', KEYS[3], '1')
return 1
"""


class RedisJournal:
    """A `Journal` in Redis: a stream of lines, and a head beside it. Closes its connection."""

    def __init__(self, connection: RedisConnection, name: str) -> None:
        self._connection = connection
        self._keys = [f"{name}:head", f"{name}:lines", f"{name}:probe"]

    async def append(self, lines: Sequence[str], *, head: str, expected: str) -> str | None:
        found: list[str] = await self._connection.run(_APPEND, self._keys, expected, head, *lines)
        return found[0] if found else None

    async def end(self) -> tuple[str, Place]:
        head, last = await self._connection.run(_END, self._keys)
        return head, last

    async def page(self, count: int, *, after: Place = "", until: Place = "") -> list[tuple[Place, str]]:
        return await self._lines("XRANGE", f"({after}" if after else "-", until or "+", count)

    async def latest(self, count: int, *, before: Place = "") -> list[tuple[Place, str]]:
        return await self._lines("XREVRANGE", f"({before}" if before else "+", "-", count)

    async def probe(self) -> None:
        await self._connection.run(_PROBE, self._keys)

    async def aclose(self) -> None:
        await self._connection.aclose()

    async def _lines(self, command: str, start: str, end: str, count: int) -> list[tuple[Place, str]]:
        flat: list[str] = await self._connection.run(_PAGE, self._keys, command, start, end, count)
        return list(zip(flat[::2], flat[1::2], strict=True))


# The generic cell rate algorithm. Only one time is stored for each key: when all turns taken so far are paid for. It is
# limited to what can be owed, so that a clock that was set back does not block callers for longer.
_TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local interval, burst, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ahead = interval * burst
local paid = tonumber(redis.call('GET', KEYS[1]) or now)
paid = math.min(math.max(paid, now), now + ahead + longest)
local wait = math.max(0, paid + interval - ahead - now)
-- A shorter wait comes from rounding.
if wait < 0.0001 then wait = 0 end
if wait <= longest then
    paid = paid + interval
    redis.call('SET', KEYS[1], string.format('%.6f', paid), 'PX', math.ceil((paid - now) * 1000))
end
return string.format('%.6f', wait)
"""


class RedisRateLimit:
    """A rate limit shared by all replicas, by the server's clock. The state of an unused key expires."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    async def take(self, key: str, *, interval: float, burst: float, longest: float = 0.0) -> float:
        """Take a turn and return the seconds until it begins: `burst` turns at once, then one every `interval` seconds.

        A turn that is further away than `longest` is not taken.

        Raises:
            StoreUnavailable: The server did not answer, or refused.
        """
        answer = await self._connection.run(_TAKE, [f"turns:{key}"], interval, burst, longest)
        try:
            return float(answer)
        except ValueError as failure:
            raise _unavailable(self._connection.place, failure) from None
