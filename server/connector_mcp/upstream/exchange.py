"""One attempt: a request out, a bounded answer in."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import pydantic_core

_REQUEST_ID_HEADERS: Final = frozenset(
    {b"x-request-id", b"request-id", b"x-correlation-id", b"x-amzn-requestid", b"x-trace-id"}
)
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


Outcome = Reply | httpx.RequestError
"""What became of one attempt. A failure of the connection is a value: whether it is an error depends on the call."""


async def exchange(
    transport: httpx.AsyncBaseTransport, request: httpx.Request, answer_bytes: int, now: Callable[[], float]
) -> Outcome:
    """Send once and read the answer. More than `answer_bytes` of body, decompressed, are not read.

    `now` gives seconds since the epoch, for a `Retry-After` that is a date.
    """
    try:
        response = await transport.handle_async_request(request)
    except httpx.RequestError as error:
        return error
    status = response.status_code
    request_id = retry_after = None
    declared = b""
    for name, value in response.headers.raw:
        lowered = name.lower()
        if lowered in _REQUEST_ID_HEADERS:
            request_id = request_id or value.decode("latin-1")
        elif lowered == b"content-length":
            declared = value
        elif lowered == b"retry-after":
            retry_after = read_retry_after(value.decode("latin-1"), now())
    try:
        announced = declared.isdigit() and (len(declared) > 15 or int(declared) > answer_bytes)
        body = None if announced else await _read(response, answer_bytes)
    except httpx.DecodingError:
        return Reply(status, b"", request_id, retry_after, unreadable=True)
    except httpx.RequestError as error:
        # Below 400 the answer is what was asked for; above, the status alone says what happened.
        return error if status < 400 else Reply(status, b"", request_id, retry_after)
    finally:
        await response.aclose()
    if body is None:
        return Reply(status, b"", request_id, retry_after, too_large=True)
    return Reply(status, body, request_id, retry_after)


def read_retry_after(said: str, now: float) -> float | None:
    """Seconds that a `Retry-After` asks to wait, which is a number or an HTTP date; None where it is neither."""
    said = said.strip()
    if _SECONDS.fullmatch(said):
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - now)
    except (ValueError, OverflowError):
        return None


async def _read(response: httpx.Response, answer_bytes: int) -> bytes | None:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > answer_bytes:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
