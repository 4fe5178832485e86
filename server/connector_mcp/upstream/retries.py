"""Whether and when the same request is sent again.

    429                            any method: the platform did nothing
    no connection was made         any method: nothing was sent
    a broken answer, a gateway     GET, HEAD, PUT and DELETE that are declared repeatable; POST and PATCH only if they
    without one, another outage    change nothing

`Retry-After` is honored; without it the pause is random up to a bound that doubles (full jitter). A pause that would
not end before the deadline is not begun, so that the caller learns at once.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from connector_mcp.operations.platform import Platform, Request
from connector_mcp.upstream.responses import PASSED_ON, TURNED_AWAY, AttemptResult, RawResponse, is_open

if TYPE_CHECKING:
    from connector_mcp.upstream.client import ClientLimits

_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_READS: Final = frozenset({"GET", "HEAD"})
_REPEATED: Final = (PASSED_ON | TURNED_AWAY) - {526}
"""Statuses after which another attempt may help. A gateway that gets a wrong certificate (526) will get it again."""


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


def is_uncertain(platform: Platform, result: AttemptResult) -> bool:
    """Check whether the platform may or may not have acted on the request."""
    return is_open(platform, result) if isinstance(result, RawResponse) else not was_never_sent(result)


def deserves_another(result: AttemptResult, *, repeats: bool) -> bool:
    """Check that another attempt is allowed and may help."""
    if isinstance(result, RawResponse):
        return result.status == 429 or (repeats and result.status in _REPEATED)
    if was_never_sent(result):
        # Imported here to save start-up time.
        from connector_mcp.upstream.proxy import ProxyRefusal

        is_refused = isinstance(result, ProxyRefusal) and result.status < 500
        return not is_refused and not has_bad_certificate(result)
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
