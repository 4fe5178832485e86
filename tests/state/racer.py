"""A separate process that runs one round of `put_once` and `take_once` for each line that it reads."""

import json
import sys
from pathlib import Path

import anyio

from connector_mcp.state.sqlite_store import SqliteStore


async def play(path: str, key: str) -> None:
    store = SqliteStore(Path(path))
    put = await store.put_once("put", key, {"by": "racer"})
    took = await store.take_once("take", key) is not None
    await store.aclose()
    sys.stdout.write(json.dumps([put, took]) + "\n")
    sys.stdout.flush()


async def main() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        await play(*json.loads(line))


anyio.run(main)
