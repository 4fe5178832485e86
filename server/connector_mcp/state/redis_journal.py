"""The journal in Redis or Valkey: a stream, and its head beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from connector_mcp.state.journal import Place
from connector_mcp.state.redis_connection import RedisConnection

# The first write is the one that a server without memory refuses, so that nothing is half done.
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
    """A `Journal` by its name on a connection, which it closes."""

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
