"""One attempt: a request out, a bounded answer in.

Between the shared client and a connection stands a `Wire`: `pool` has the one that is used, over sockets, and
`over_httpx` one over any httpx transport, such as the sandbox or a way through a proxy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol

import pydantic_core

from connector_mcp.upstream.wire_errors import WireError

_REQUEST_ID_HEADERS: Final = frozenset(
    {b"x-request-id", b"request-id", b"x-correlation-id", b"x-amzn-requestid", b"x-trace-id"}
)
TOLD: Final = _REQUEST_ID_HEADERS | {b"content-length", b"content-encoding", b"transfer-encoding", b"retry-after"}
"""The headers that `Told` knows, in lower case."""
_SECONDS: Final = re.compile(r"\d{1,9}(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came: any status, the body within the cap.

    `body` is empty where `too_large` or `unreadable` says that it was given up. `retry_after` is in seconds.
    """

    status: int
    body: bytes
    request_id: str | None = None
    retry_after: float | None = None
    too_large: bool = False
    unreadable: bool = False

    def parse(self) -> Any:
        """The JSON value of the body, None where there is none.

        Raises:
            ValueError: The body is not JSON.
        """
        # Twice as fast as the standard parser, and strict where that is lax: NaN, and half surrogates that no answer
        # of ours could be encoded with.
        body = self.body.strip()
        return pydantic_core.from_json(body, allow_inf_nan=False) if body else None


Outcome = Reply | WireError
"""What became of one attempt. A failure of the connection is a value: whether it is an error depends on the call."""


@dataclass(frozen=True, slots=True)
class Sending:
    """A request as it goes out. `headers` may be kept and used again, and are not to be changed."""

    method: str
    address: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(default=None, repr=False)


class Wire(Protocol):
    """Sends once and reads the answer."""

    async def exchange(self, sending: Sending) -> Outcome:
        """What became of it. More of a body, decompressed, than the wire's bound are not read."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


@dataclass(slots=True)
class Told:
    """What the headers of an answer say that is of interest here."""

    request_id: str | None = None
    retry_after: float | None = None
    length: bytes = b""
    transfer: bytes = b""
    coding: bytes = b""
    """How the body is compressed, as the platform says it."""

    @staticmethod
    def by(headers: Iterable[tuple[bytes, bytes]], now: Callable[[], float]) -> Told:
        """Read the headers. `now` gives seconds since the epoch, for a `Retry-After` that is a date."""
        told = Told()
        for name, value in headers:
            match name.lower():
                case b"content-length":
                    told.length = value
                case b"content-encoding":
                    told.coding = _add(told.coding, value)
                case b"transfer-encoding":
                    told.transfer = _add(told.transfer, value)
                case b"retry-after":
                    told.retry_after = read_retry_after(value.decode("latin-1"), now())
                case lowered if lowered in _REQUEST_ID_HEADERS:
                    told.request_id = told.request_id or value.decode("latin-1")
                case _:
                    pass
        return told

    def announces_more_than(self, answer_bytes: int) -> bool:
        """Whether the body need not be begun."""
        return self.length.isdigit() and (len(self.length) > 15 or int(self.length) > answer_bytes)


def make_reply(status: int, body: bytes | None, told: Told) -> Reply:
    """The answer with this body; None for one that was given up because it is too long."""
    return Reply(status, body or b"", told.request_id, told.retry_after, too_large=body is None)


def broken_off(error: WireError, status: int, told: Told) -> Outcome:
    """What became of an answer whose body broke off."""
    # Below 400 the answer is what was asked for; above, the status alone says what happened.
    return error if status < 400 else Reply(status, b"", told.request_id, told.retry_after)


def read_retry_after(said: str, now: float) -> float | None:
    """Seconds that a `Retry-After` asks to wait, which is a number or an HTTP date; None where it is neither."""
    said = said.strip()
    if _SECONDS.fullmatch(said):
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _add(said: bytes, value: bytes) -> bytes:
    """Said twice, a coding is two codings."""
    return said + b"," + value if said else value
