"""The store in Redis or Valkey: for any number of replicas on any number of machines.

A collection is a hash of its values, with two sorted sets beside it: the order in which they were put, and when they
expire. Expiry is judged by the server's clock, so that no two replicas differ on what is still live.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from connector_mcp.state.redis_connection import RedisConnection, unavailable
from connector_mcp.state.store import JsonObject, as_object, as_text

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

# A server without memory refuses the first write of a script and no later one: that is the new value. What expired is
# removed after it, a bounded number at a time.
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
    """A `Store` on a connection. Every method is one script, which the server runs alone.

    Where `clock` is given it is asked for the time in place of the server.
    """

    def __init__(self, connection: RedisConnection, *, clock: Callable[[], float] | None = None) -> None:
        self.connection = connection
        self._clock = clock

    async def put_once(self, collection: str, key: str, value: JsonObject, *, expires_at: float | None = None) -> bool:
        return await self._run(_PUT_ONCE, collection, key, as_text(value), _moment(expires_at)) == 1

    async def get(self, collection: str, key: str) -> JsonObject | None:
        return self._value(await self._run(_GET, collection, key))

    async def replace(
        self, collection: str, key: str, value: JsonObject, *, expected: JsonObject, expires_at: float | None = None
    ) -> bool:
        after, before = as_text(value), as_text(expected)
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
            return as_object(str(text))
        except ValueError as failure:
            raise unavailable(self.connection.place, failure) from failure


def _moment(at: float | None) -> str:
    return "" if at is None else repr(float(at))
