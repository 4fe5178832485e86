"""What a client posts, read and looked at: whether it is a call that is beyond reproach.

Whatever is not goes to the SDK as it came, which judges it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from mcp.shared.inbound import x_mcp_header_map
from pydantic_core import from_json
from starlette.types import Message, Receive

from connector_mcp.transport.direct_call import METHOD
from connector_mcp.transport.http.headers import Headers

_MEMBERS: Final = frozenset({"jsonrpc", "id", "method", "params"})


def is_json(headers: Headers, most: int) -> bool:
    """Whether the body is said to be JSON of at most so many bytes."""
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json" and not kind.startswith(b"application/json;"):
        return False
    length = headers.get(b"content-length", b"0")
    return length.isdigit() and len(length) <= 9 and int(length) <= most


async def read_body(receive: Receive, most: int) -> tuple[bytes | None, Receive]:
    """The body, None where it is too long or breaks off, and a `receive` that gives it once more."""
    event = await receive()
    events = [event]
    size = len(event.get("body", b""))
    while event["type"] == "http.request" and event.get("more_body", False) and size <= most:
        event = await receive()
        events.append(event)
        size += len(event.get("body", b""))
    body = None
    if event["type"] == "http.request" and size <= most:
        body = event["body"] if len(events) == 1 else b"".join(each.get("body", b"") for each in events)
    events.reverse()

    async def again() -> Message:
        return events.pop() if events else await receive()

    return body, again


def message_of(body: bytes) -> dict[str, Any] | None:
    """The JSON object of a body; None where it is none."""
    try:
        decoded: Any = from_json(body)
    except ValueError:
        return None
    return cast("dict[str, Any]", decoded) if isinstance(decoded, dict) else None


class Calls:
    """Knows calls of tools that there are; `input_schema` gives the schema of one by name."""

    def __init__(self, input_schema: Callable[[str], Mapping[str, Any] | None] | None) -> None:
        self._input_schema = input_schema
        self._simple: dict[str, bool] = {}

    def include(self, message: Mapping[str, Any]) -> bool:
        """Whether this is a call, well-formed, of a tool that takes nothing from headers."""
        if message.get("method") != METHOD or message.get("jsonrpc") != "2.0" or not message.keys() <= _MEMBERS:
            return False
        identifier, params = message.get("id"), message.get("params")
        if isinstance(identifier, bool) or not isinstance(identifier, str | int) or not isinstance(params, dict):
            return False
        name = cast("dict[str, Any]", params).get("name")
        if not isinstance(name, str):
            return False
        simple = self._simple.get(name)
        if simple is None:
            schema = self._input_schema(name) if self._input_schema else None
            if schema is None:
                return False
            simple = self._simple[name] = not x_mcp_header_map(schema)
        return simple
