"""A socket to whichever address of a host answers first (RFC 8305, happy eyeballs).

asyncio has this, uvloop does not, and a host whose first address is a black hole is common where IPv6 is half set up.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

import anyio

NEXT_ADDRESS: Final = 0.25
"""Seconds after which the next address is tried beside one that has not answered."""


async def dial(host: str, port: int) -> socket.socket:
    """A connected socket. Names are looked up each time, by the machine's own resolver.

    Raises:
        OSError: The name has no address, or none of its addresses answers.
        ValueError: It is not a name that could be looked up.
    """
    loop = asyncio.get_running_loop()
    failures: list[Exception] = []
    connected: list[socket.socket] = []

    async def attempt(family: int, address: tuple[Any, ...], over: anyio.Event) -> None:
        try:
            made = socket.socket(family, socket.SOCK_STREAM)
            try:
                made.setblocking(False)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_connect(made, address)
            except BaseException:
                made.close()
                raise
            connected.append(made)
            tasks.cancel_scope.cancel()
        # RuntimeErrors are uvloop's, where asyncio has OSErrors.
        except (OSError, RuntimeError) as failure:
            failures.append(failure)
        finally:
            over.set()

    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    try:
        async with anyio.create_task_group() as tasks:
            for family, _, _, _, address in found:
                over = anyio.Event()
                tasks.start_soon(attempt, family, address, over)
                with anyio.move_on_after(NEXT_ADDRESS):
                    await over.wait()
    except BaseException:
        for one in connected:
            one.close()
        raise
    for late in connected[1:]:
        late.close()
    if connected:
        return connected[0]
    raise OSError("no address of the host answers") from (failures[0] if failures else None)
