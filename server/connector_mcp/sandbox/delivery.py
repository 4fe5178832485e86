"""How an answer travels back: whole, or as the fault that was asked for spoils it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Literal

import anyio

from connector_mcp.sandbox.faults import Fault
from connector_mcp.sandbox.wire import Answer, Call, Emulator, json_answer

_PAGE = b"<!doctype html><html><head><title>Sandbox</title></head><body><h1>Not the API</h1></body></html>"
_SLOW_PIECE = 64
_HUGE_PIECE = b" " * 65_536


@dataclass(frozen=True)
class Delivery:
    """An answer and the manner in which it goes out."""

    answer: Answer
    manner: Literal["whole", "slow", "cut", "huge", "timeout", "unreachable", "hang_up"] = "whole"
    delay: float = 0.0
    size: int = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body in pieces. One of a `cut` delivery ends early: whoever sends it breaks the connection then."""
        body = self.answer.body
        match self.manner:
            case "slow":
                for start in range(0, len(body), _SLOW_PIECE):
                    await anyio.sleep(self.delay)
                    yield body[start : start + _SLOW_PIECE]
            case "cut":
                yield body[: len(body) // 2]
            case "huge":
                for start in range(0, self.size, len(_HUGE_PIECE)):
                    yield _HUGE_PIECE[: self.size - start]
            case _:
                yield body


Answerer = Callable[[Call], Delivery]
"""What a face of the sandbox asks for each request."""


def spoiled(fault: Fault, emulator: Emulator, call: Call) -> Delivery:
    """The delivery that the fault makes of this request; `stale_read` spoils the world instead, and no delivery."""
    real = emulator.handle(call) if fault.carries_out else Answer(200)
    match fault.kind:
        case "slow":
            return Delivery(real, "slow", delay=fault.delay)
        case "cut":
            return Delivery(real, "cut")
        case "truncated_json":
            return Delivery(replace(real, body=real.body[: len(real.body) // 2]))
        case "status":
            answer = emulator.failure(fault.status) if fault.body is None else json_answer(fault.body, fault.status)
            return Delivery(replace(answer, headers={**answer.headers, **_lower_case(fault)}))
        case "html":
            return Delivery(Answer(fault.status, _PAGE, {"content-type": "text/html", **_lower_case(fault)}))
        case "huge":
            return Delivery(Answer(200, b"", {"content-type": "application/json"}), "huge", size=fault.size)
        case "timeout" | "unreachable" | "hang_up":
            return Delivery(real, fault.kind)
        case "stale_read":
            return Delivery(real)


def _lower_case(fault: Fault) -> dict[str, str]:
    return {name.lower(): value for name, value in fault.headers.items()}
