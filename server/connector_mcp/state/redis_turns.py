"""Turns that all replicas count together, in Redis."""

from __future__ import annotations

from typing import Final

from connector_mcp.state.redis_connection import RedisConnection, unavailable

# The generic cell rate algorithm: of each key only the moment is kept at which all turns taken so far are paid for. A
# clock that was set back must not make anybody wait for longer than what may be owed.
_TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local interval, burst, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ahead = interval * burst
local paid = tonumber(redis.call('GET', KEYS[1]) or now)
paid = math.min(math.max(paid, now), now + ahead + longest)
local wait = math.max(0, paid + interval - ahead - now)
-- Shorter than this, it is what rounding leaves.
if wait < 0.0001 then wait = 0 end
if wait <= longest then
    paid = paid + interval
    redis.call('SET', KEYS[1], string.format('%.6f', paid), 'PX', math.ceil((paid - now) * 1000))
end
return string.format('%.6f', wait)
"""


class RedisTurns:
    """Counts by the clock of Redis. What is kept of a key goes as soon as it says nothing more."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    async def take(self, key: str, *, interval: float, burst: float, longest: float = 0.0) -> float:
        """Seconds until this turn, 0 where it is now: `burst` at once, and one more every `interval` seconds.

        One that is further away than `longest` is not taken.

        Raises:
            StoreUnavailable: There is no answer.
        """
        answer = await self._connection.run(_TAKE, [f"turns:{key}"], interval, burst, longest)
        try:
            return float(answer)
        except ValueError as failure:
            raise unavailable(self._connection.place, failure) from None
