"""Counts requests for all replicas, in PostgreSQL."""

from __future__ import annotations

import math
from itertools import count
from typing import Final

from connector_mcp.state.database import Database, Transaction, one_allowance

# `due` is when the requests so far would have gone out at an even rate. A row in the past counts like none.
_TAKE: Final = """
INSERT INTO rates (name, due) VALUES (:key, epoch() + :interval)
ON CONFLICT (name) DO UPDATE SET due = greatest(rates.due, epoch()) + :interval
    WHERE greatest(rates.due, epoch()) + :interval - epoch() <= :ahead
RETURNING due - epoch() AS ahead
"""
_LOOK: Final = "SELECT due + :interval - epoch() AS ahead FROM rates WHERE name = :key"
_CLEAN_UP_EVERY: Final = 10_000


class SharedRates:
    """Counts in the table `rates`, by the database's clock."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._taken = count(1)

    async def take(self, key: str, *, interval: float, burst: float, longest: float = 0.0) -> float:
        """Count one request and return the seconds until it may go out, 0 for now.

        `burst` requests may go out at once, and one more every `interval` seconds. A request that would have to wait
        for more than `longest` seconds is not counted.

        Raises:
            StoreUnavailable: The database cannot be used.
        """
        values = {"key": key, "interval": interval, "ahead": interval * burst + longest}

        def work(transaction: Transaction) -> float:
            if next(self._taken) % _CLEAN_UP_EVERY == 0:
                transaction.execute("DELETE FROM rates WHERE due < epoch()")
            if (row := transaction.execute(_TAKE, values).first()) is not None:
                return max(0.0, row["ahead"] - interval * burst)
            row = transaction.execute(_LOOK, values).first()
            # Time has passed since the request was not counted. It must not look like one that was.
            return max(row["ahead"] - interval * burst if row else 0.0, math.nextafter(longest, math.inf))

        # A request may wait for its turn several times, so it has a time limit of its own.
        with one_allowance():
            return await self._database.write(work)
