"""The head of an answer and its body in one write.

uvicorn writes them apart: two system calls, two packets, and a client that is woken twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_Data = bytes | bytearray | memoryview


class GatheringTransport(asyncio.Transport):
    """A transport around another, which holds what is written until more is, or the event loop comes round."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._held: _Data | None = None
        self._turn: asyncio.Handle | None = None

    def write(self, data: _Data) -> None:
        held = self._held
        if held is None:
            self._held = data
            self._turn = self._loop.call_soon(self._let_go)
            return
        self._held = None
        if self._turn is not None:
            self._turn.cancel()
        self._transport.writelines((held, data))

    def writelines(self, list_of_data: Iterable[_Data]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        self._let_go()
        self._transport.close()

    def abort(self) -> None:
        self._held = None
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._transport.write(held)
