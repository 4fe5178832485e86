"""A process that serves the engine of conftest.py whose calls hang: `serve_fake.py stdio|http AUDIT_FILE`.

Over HTTP it prints its address to stdout. It exits with the status that the transport gives.
"""

import logging
import sys
from pathlib import Path

import anyio
from conftest import SECRET, FakeEngine, hang

from connector_mcp.transport.http.app import serve_http
from connector_mcp.transport.stdio import serve_stdio


async def chatty(*arguments: object) -> object:
    """A call that prints where it should not, and logs a secret, before it hangs."""
    print("printed by a careless library")  # noqa: T201 - what is tested is where this goes
    logging.getLogger("careless").error("the key is %s", SECRET)
    return await hang(*arguments)


async def main() -> int:
    engine = FakeEngine(chatty, audit=Path(sys.argv[2]))
    if sys.argv[1] == "stdio":
        return await serve_stdio(engine)
    status = 1
    async with anyio.create_task_group() as tasks:

        async def serve(*, task_status: anyio.abc.TaskStatus[str]) -> None:
            nonlocal status
            status = await serve_http(engine, "127.0.0.1", 0, grace=0.2, task_status=task_status)

        print(await tasks.start(serve), flush=True)  # noqa: T201 - the test reads it
    return status


sys.exit(anyio.run(main))
