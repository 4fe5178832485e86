"""When the same request goes out again, and after which pause.

    429                             any method: the platform says that it did nothing
    no connection was made          any method: nothing was sent
    502, 503, 504, a broken answer  GET, HEAD, PUT and DELETE that are declared harmless to repeat; POST and PATCH only
                                    where they change nothing

`Retry-After` is honoured; without it the pause is random up to a bound that doubles (full jitter). A pause that would
not end before the deadline is not begun: the caller learns at once.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from connector_mcp.operations.platform import Request
from connector_mcp.upstream.exchange import Outcome, Reply
from connector_mcp.upstream.limits import Limits
from connector_mcp.upstream.wire_errors import NeverSent

_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_READS: Final = frozenset({"GET", "HEAD"})


def may_repeat(request: Request) -> bool:
    """Whether the request may go out again after one whose fate is not known."""
    return request.repeatable and (request.method in _IDEMPOTENT or not request.changes)


def is_read(request: Request) -> bool:
    """Whether a lost answer leaves nothing to wonder about."""
    return request.method in _READS or not request.changes


def was_never_sent(outcome: Outcome) -> bool:
    """Whether no byte of the request left this machine."""
    return isinstance(outcome, NeverSent)


def is_uncertain(outcome: Outcome) -> bool:
    """Whether the platform may or may not have acted on the request.

    A gateway that answers 502 or 504 has passed the request on; 503 means that it was turned away.
    """
    if isinstance(outcome, Reply):
        return outcome.status in {502, 504}
    return not was_never_sent(outcome)


def deserves_another(outcome: Outcome, *, repeats: bool) -> bool:
    """Whether another attempt is allowed and may help."""
    if isinstance(outcome, Reply):
        return outcome.status == 429 or (repeats and outcome.status in {502, 503, 504})
    if was_never_sent(outcome):
        return not has_bad_certificate(outcome)
    return repeats


def has_bad_certificate(error: BaseException) -> bool:
    """Whether a connection failed because the other side could not prove who it is; it will not next time either."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


async def keep_trying(
    first: Outcome,
    attempt: Callable[[], Awaitable[Outcome]],
    *,
    repeats: bool,
    limits: Limits,
    remaining: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> Outcome:
    """Go on after the outcome of a first attempt; returns the last outcome, good or bad.

    `remaining` gives the seconds left before the deadline.
    """
    # Imported here because nearly every call succeeds at once: 10 ms of start-up and 60 us a call are saved.
    from tenacity import AsyncRetrying, RetryCallState, retry_if_result, wait_random_exponential

    jitter = wait_random_exponential(multiplier=limits.first_pause, max=limits.longest_pause)
    outcome: Outcome | None = first

    async def next_outcome() -> Outcome:
        nonlocal outcome
        known, outcome = outcome, None
        return known if known is not None else await attempt()

    def last(state: RetryCallState) -> Outcome:
        if state.outcome is None:
            raise RuntimeError("asked for an outcome before the first attempt")
        return state.outcome.result()

    def pause(state: RetryCallState) -> float:
        known = last(state)
        asked = known.retry_after if isinstance(known, Reply) else None
        return jitter(state) if asked is None else asked

    def must_stop(state: RetryCallState) -> bool:
        return state.attempt_number >= limits.attempts or state.upcoming_sleep >= remaining()

    retrying = AsyncRetrying(
        sleep=sleep,
        retry=retry_if_result(lambda result: deserves_another(result, repeats=repeats)),
        wait=pause,
        stop=must_stop,
        retry_error_callback=last,
    )
    return await retrying(next_outcome)
