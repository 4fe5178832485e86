"""The first answers over stdio, given before the SDK is imported, which is four fifths of a cold start.

Nearly every client begins with the same three lines: `initialize`, `notifications/initialized`, `tools/list`. Where
they are beyond reproach they are answered here as the SDK would, which tests compare. Any other line ends the greeting
and goes to the SDK as it came. The SDK reads the handshake all the same, so it alone says what a connection may do;
only its answer is withheld, as the client has it. What it buys: benchmarks/README.md.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import anyio
import orjson
from pydantic_core import from_json

from connector_mcp.json_values import JsonObject
from connector_mcp.operations.tool import Tool
from connector_mcp.transport.mcp.server_info import HANDSHAKES, introduced, listed

RequestId = str | int

LONGEST: Final = 1 << 16
"""Bytes of the longest line that is awaited here."""

PATIENCE: Final = 0.5
"""Seconds that a client which has introduced itself has to ask for the tools, before the SDK is imported."""

# What the SDK takes as it is. Of a client that says anything else of itself, the SDK is the judge.
_MODES: Final = {"elicitation": {"form", "url"}, "sampling": {"context", "tools"}}
_LARGEST_ID: Final = 1 << 53


@dataclass(frozen=True)
class Greeting:
    """What became of a client's first lines."""

    unread: bytes = b""
    """What the SDK is to read before anything else."""
    answered: RequestId | None = None
    """The id of the `initialize` among it, which has its answer."""
    listed: bool = False
    """Whether the tools were listed, too."""


async def greet(tools: Callable[[], Sequence[Tool]], source: int = 0, sink: int = 1) -> Greeting:
    """Answer what can be answered of the lines from `source`, until the tools are listed or a line is for the SDK."""
    if sys.platform == "win32":
        # There the event loop cannot wait for a descriptor.
        return Greeting()
    lines = _Lines(source)
    read = [await lines.next()]
    hello = handshake(read[0])
    if hello is None or not await _written(sink, hello[0], introduced(hello[1])):
        return Greeting(read[0] + lines.ahead)
    wanted = None
    with anyio.move_on_after(PATIENCE):
        read.append(await lines.next())
        if is_initialized(read[-1]):
            read.append(await lines.next())
            wanted = list_request(read[-1])
    if wanted is None or wanted == hello[0] or not await _written(sink, wanted, listed(tools())):
        return Greeting(b"".join(read) + lines.ahead, hello[0])
    # The request of a list leaves no trace, so the SDK need not see it.
    return Greeting(b"".join(read[:-1]) + lines.ahead, hello[0], listed=True)


def handshake(line: bytes) -> tuple[RequestId, str] | None:
    """The id and the revision of an `initialize` to which there is one answer only; None for any other line."""
    message = _members(line)
    identifier, params = message.pop("id", None), message.pop("params", None)
    if message != {"jsonrpc": "2.0", "method": "initialize"} or not _is_id(identifier) or not isinstance(params, dict):
        return None
    given = cast("JsonObject", params)
    version = given.get("protocolVersion")
    if given.keys() != {"protocolVersion", "capabilities", "clientInfo"}:
        return None
    if not isinstance(version, str) or version not in HANDSHAKES:
        return None
    if not _is_client(given["clientInfo"]) or not _are_capabilities(given["capabilities"]):
        return None
    return identifier, version


def is_initialized(line: bytes) -> bool:
    """Whether a line says that the handshake is over, and nothing else."""
    message = _members(line)
    return message.pop("params", {}) == {} and message == {"jsonrpc": "2.0", "method": "notifications/initialized"}


def list_request(line: bytes) -> RequestId | None:
    """The id of a `tools/list` that asks for all there is; None for any other line."""
    message = _members(line)
    identifier = message.pop("id", None)
    plain = message.pop("params", {}) == {} and message == {"jsonrpc": "2.0", "method": "tools/list"}
    return identifier if plain and _is_id(identifier) else None


def _members(line: bytes) -> JsonObject:
    try:
        value: Any = from_json(line)
    except ValueError:
        return {}
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def _is_id(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < _LARGEST_ID
    return isinstance(value, str)


def _is_client(info: Any) -> bool:
    if not isinstance(info, dict):
        return False
    members = cast("JsonObject", info)
    return {"name", "version"} <= members.keys() <= {"name", "version", "title"} and all(
        isinstance(value, str) for value in members.values()
    )


def _are_capabilities(declared: Any) -> bool:
    return isinstance(declared, dict) and all(
        _is_capability(name, value) for name, value in cast("JsonObject", declared).items()
    )


def _is_capability(name: str, value: Any) -> bool:
    if name == "roots":
        return value in ({}, {"listChanged": True}, {"listChanged": False})
    if name not in _MODES or not isinstance(value, dict):
        return False
    modes = cast("JsonObject", value)
    return modes.keys() <= _MODES[name] and all(mode == {} for mode in modes.values())


class _Lines:
    """The lines of a descriptor. What was read and not given out is in `ahead`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.ahead = b""

    async def next(self) -> bytes:
        """The next line with its line feed; empty where there is none, or it is too long to be awaited here."""
        while b"\n" not in self.ahead:
            if len(self.ahead) > LONGEST:
                return b""
            try:
                await anyio.wait_readable(self._descriptor)
                chunk = os.read(self._descriptor, LONGEST)
            except BlockingIOError:
                continue
            except OSError:
                # Files and the null device cannot be waited for.
                return b""
            if not chunk:
                return b""
            self.ahead += chunk
        line, feed, self.ahead = self.ahead.partition(b"\n")
        return line + feed


async def _written(descriptor: int, identifier: RequestId, result: JsonObject) -> bool:
    line = memoryview(
        orjson.dumps({"jsonrpc": "2.0", "id": identifier, "result": result}, option=orjson.OPT_APPEND_NEWLINE)
    )
    while line:
        try:
            await anyio.wait_writable(descriptor)
            # A pipe that is ready takes this much without blocking, and may not take more.
            line = line[os.write(descriptor, line[: select.PIPE_BUF]) :]
        except BlockingIOError:
            continue
        except PermissionError:
            # A file, which is always ready.
            line = line[os.write(descriptor, line) :]
        except OSError:
            # Nobody reads, which the SDK's answer then comes to notice.
            return False
    return True
