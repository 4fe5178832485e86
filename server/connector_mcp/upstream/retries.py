"""The result of one attempt, and whether and when the same request is sent again.

    429                             any method: the platform did nothing
    no connection was made          any method: nothing was sent
    502, 503, 504, a broken answer  GET, HEAD, PUT and DELETE that are declared repeatable; POST and PATCH only if they
                                    change nothing

`Retry-After` is honored; without it the pause is random up to a bound that doubles (full jitter). A pause that would
not end before the deadline is not begun, so that the caller learns at once.
"""

from __future__ import annotations

import random
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pydantic_core

from connector_mcp.operations.platform import Request

if TYPE_CHECKING:
    import httpx

    from connector_mcp.upstream.client import ClientLimits

_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_READS: Final = frozenset({"GET", "HEAD"})
_SECONDS: Final = re.compile(r"\d{1,9}(\.\d+)?")
_REQUEST_ID_HEADERS: Final = (b"x-request-id", b"request-id", b"x-correlation-id", b"x-amzn-requestid", b"x-trace-id")


@dataclass(frozen=True, slots=True)
class RawResponse:
    """A platform's answer to one attempt, with any status. `retry_after` is in seconds.

    `body` is empty if it was given up: it exceeded the cap (`too_large`), could not be decompressed (`unreadable`), or
    broke off behind an error status.
    """

    status: int
    body: bytes = b""
    request_id: str | None = None
    retry_after: float | None = None
    too_large: bool = False
    unreadable: bool = False

    def parse(self) -> Any:
        """Return the JSON value of the body, None for an empty one.

        Raises:
            ValueError: The body is not JSON, or could not be decompressed.
        """
        if self.unreadable:
            raise ValueError("not decompressed")
        # Stricter than the standard parser, which accepts NaN and half surrogates.
        body = self.body.strip()
        return pydantic_core.from_json(body, allow_inf_nan=False) if body else None


AttemptResult: TypeAlias = "RawResponse | httpx.RequestError"
"""A failed connection is a value here: whether it is an error depends on the call."""


async def read_response(response: httpx.Response, max_bytes: int, now: float) -> AttemptResult:
    """Read the body of `response`, at most `max_bytes` of it after decompression, and close it.

    `now` is in seconds since the epoch, for a `Retry-After` that is a date.
    """
    import httpx

    headers = {name.lower(): value.decode("latin-1") for name, value in response.headers.raw}
    status = response.status_code
    request_id = next((headers[name] for name in _REQUEST_ID_HEADERS if name in headers), None)
    retry_after = read_retry_after(headers.get(b"retry-after", ""), now)
    length = headers.get(b"content-length", "")
    body: list[bytes] = []
    size = int(length[:16]) if length.isdecimal() else 0
    try:
        if size <= max_bytes:
            size = 0
            async for chunk in response.aiter_bytes():
                size += len(chunk)
                if size > max_bytes:
                    break
                body.append(chunk)
    except httpx.DecodingError:
        return RawResponse(status, b"", request_id, retry_after, unreadable=True)
    except httpx.RequestError as error:
        # A status of 400 or above says what happened, even without its body.
        return error if status < 400 else RawResponse(status, b"", request_id, retry_after)
    finally:
        await response.aclose()
    if size > max_bytes:
        return RawResponse(status, b"", request_id, retry_after, too_large=True)
    return RawResponse(status, b"".join(body), request_id, retry_after)


def read_retry_after(text: str, now: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks to wait, None if it is neither a number nor an HTTP date."""
    if _SECONDS.fullmatch(text.strip()):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def may_repeat(request: Request) -> bool:
    """Check that the request may be sent again although the fate of the first one is unknown."""
    return request.repeatable and (request.method in _IDEMPOTENT or not request.changes)


def is_read(request: Request) -> bool:
    """Check that the request cannot change anything."""
    return request.method in _READS or not request.changes


def was_never_sent(result: AttemptResult) -> bool:
    """Check that no byte of the request left this machine."""
    import httpx

    return isinstance(result, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError)


def is_timeout(result: AttemptResult) -> bool:
    """Check that nothing happened for too long."""
    import httpx

    return isinstance(result, httpx.TimeoutException)


def is_uncertain(result: AttemptResult) -> bool:
    """Check whether the platform may or may not have acted on the request.

    A gateway that answers 502 or 504 has passed the request on; with 503 it has turned the request away.
    """
    if isinstance(result, RawResponse):
        return result.status in {502, 504}
    return not was_never_sent(result)


def deserves_another(result: AttemptResult, *, repeats: bool) -> bool:
    """Check that another attempt is allowed and may help."""
    if isinstance(result, RawResponse):
        return result.status == 429 or (repeats and result.status in {502, 503, 504})
    if was_never_sent(result):
        return not has_bad_certificate(result)
    return repeats


def has_bad_certificate(error: BaseException) -> bool:
    """Check whether a connection failed because of the other side's certificate; it would fail again."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


async def send_with_retries(
    attempt: Callable[[], Awaitable[AttemptResult]],
    *,
    repeats: bool,
    deadline: float,
    limits: ClientLimits,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> AttemptResult:
    """Send until another attempt is not allowed or cannot help, and return the last result, good or bad.

    `deadline` is a time of the monotonic `clock`.
    """
    number = 1
    while True:
        result = await attempt()
        if number >= limits.attempts or not deserves_another(result, repeats=repeats):
            return result
        pause = result.retry_after if isinstance(result, RawResponse) else None
        if pause is None:
            bound = min(limits.first_pause * 2 ** (number - 1), limits.longest_pause)
            pause = random.uniform(0, bound)  # noqa: S311 - spreads retries, guards no secret
        if pause >= deadline - clock():
            return result
        await sleep(pause)
        number += 1
