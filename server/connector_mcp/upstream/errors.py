"""What an attempt's outcome means for the caller: the platform's statuses and the connection's failures as our errors.

A call that may have changed something and whose fate is not known is never a plain failure: it is `OutcomeUnknown`,
and the way on is to look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from connector_mcp.errors import (
    Conflict,
    Forbidden,
    Malformed,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unreachable,
    UpstreamError,
    UpstreamFailed,
)
from connector_mcp.operations.platform import Platform, UpstreamMessage
from connector_mcp.text import clean, clean_value
from connector_mcp.upstream import wire_errors
from connector_mcp.upstream.exchange import Outcome, Reply
from connector_mcp.upstream.retries import has_bad_certificate, is_uncertain, was_never_sent

_IDENTIFIER_LIMIT: Final = 128
_REDACTED: Final = "[redacted]"
_LOOK_FIRST: Final = (
    "Read the target first to see whether the change is there. Only if it is not, decide whether to call again."
)


@dataclass(frozen=True)
class Call:
    """The call that failed, as far as its error needs to know it."""

    platform: Platform
    what: str
    """The tool, or method and path template."""
    reads: bool
    """Nothing can have changed."""
    repeats: bool
    """Calling again does no more than calling once."""
    variables: Sequence[str]
    """The settings to check when the credentials are refused."""
    secrets: Callable[[], tuple[str, ...]]
    lacks_scope: bool = False
    uncertain: bool = False
    """An earlier attempt of this call may have taken effect."""

    @property
    def title(self) -> str:
        return self.platform.title


def read_message(platform: Platform, reply: Reply) -> UpstreamMessage:
    """The platform's own words in an error answer; empty where it is not the documented JSON."""
    try:
        return platform.read_error(reply.parse())
    except ValueError:
        return UpstreamMessage()


def describe(call: Call, reply: Reply, said: UpstreamMessage | None = None) -> dict[str, Any]:
    """The error's `upstream` member: cleaned, cut to size and without any secret of the account."""
    said = said or UpstreamMessage()
    members: dict[str, Any] = {"platform": call.platform.name, "status": reply.status}
    if said.code:
        members["code"] = clean(_redact(said.code, call), _IDENTIFIER_LIMIT)
    if said.message:
        members["message"] = clean(_redact(said.message, call))
    if said.details:
        members["details"] = clean_value(_redact_value(dict(said.details), call))
    if reply.request_id:
        members["request_id"] = clean(reply.request_id, _IDENTIFIER_LIMIT)
    return members


def make_error(call: Call, outcome: Outcome) -> UpstreamError:
    """The error for an outcome that is not a usable answer."""
    if isinstance(outcome, Reply):
        return _read_status(call, outcome)
    if was_never_sent(outcome) and not call.uncertain:
        return _never_sent(call, outcome)
    if not call.reads:
        return _unknown(call, "the connection broke" if not _is_timeout(outcome) else "no answer came in time")
    upstream = {"platform": call.platform.name}
    if _is_timeout(outcome):
        return TimedOut(
            f"{call.title} did not answer {call.what} in time.",
            fix="Call again; if it keeps happening, ask for less at once.",
            upstream=upstream,
        )
    return UpstreamFailed(
        f"{call.title} broke the connection before its answer to {call.what} was complete.",
        fix="Call again in a moment.",
        upstream=upstream,
    )


def make_deadline_error(call: Call, seconds: float, *, in_flight: bool, sent: bool) -> UpstreamError:
    """The error for a call that ran out of time; `in_flight` says that an attempt was under way just then."""
    if not call.reads and (in_flight or call.uncertain):
        return _unknown(call, f"no answer came within {seconds:g} s")
    nothing = "" if sent else " Nothing was sent: it waited for its turn or for an access token."
    return TimedOut(
        f"{call.what} on {call.title} did not end within {seconds:g} s.{nothing}",
        fix="Call again; if it keeps happening, make fewer calls at once.",
        upstream={"platform": call.platform.name},
    )


def make_malformed(call: Call, reply: Reply) -> UpstreamError:
    """The error for a success whose body is not the JSON that was promised."""
    done = "" if call.reads else " It accepted the call, so the change has most likely been made."
    return Malformed(
        f"{call.title} answered {call.what} with status {reply.status} and something that is not JSON.{done}",
        fix=f"{'' if call.reads else _LOOK_FIRST + ' '}Check that {call.platform.base_url.name} is the API's address.",
        upstream=describe(call, reply),
    )


def make_too_large(call: Call, reply: Reply, answer_bytes: int) -> UpstreamError:
    """The error for a success whose body exceeds the cap."""
    done = "" if call.reads else " It accepted the call, so the change has most likely been made."
    ask = "Ask for fewer records at once, for example with limit." if call.reads else _LOOK_FIRST
    return TooLarge(
        f"{call.title}'s answer to {call.what} is larger than {answer_bytes} bytes and was not read.{done}",
        fix=ask,
        upstream=describe(call, reply),
    )


def _read_status(call: Call, reply: Reply) -> UpstreamError:
    status = reply.status
    said = read_message(call.platform, reply)
    upstream = describe(call, reply, said)
    if status in {400, 422} or (status == 401 and not call.platform.blames_credentials(said)):
        return Rejected(
            f"{call.title} refused the content of {call.what} (status {status}).",
            fix="Correct the arguments by what upstream says, then call again.",
            upstream=upstream,
        )
    if status == 401:
        return Unauthenticated(
            f"{call.title} refused the credentials of {call.what} (status 401).",
            fix=f"The operator should check {join_names(call.variables)}.",
            upstream=upstream,
        )
    if status == 403:
        granted = " The access token was granted less than was asked for." if call.lacks_scope else ""
        return Forbidden(
            f"The credentials for {call.title} lack the permission for {call.what} (status 403).{granted}",
            fix=f"The operator should grant it to the account of {join_names(call.variables)}.",
            upstream=upstream,
        )
    if status == 404:
        return _not_found(call, upstream)
    if status in {409, 412}:
        return Conflict(
            f"{call.title} refused {call.what}: it conflicts with the present state (status {status}).",
            fix="Read the target and what depends on it, then decide.",
            upstream=upstream,
        )
    if is_uncertain(reply) and not call.reads:
        return _unknown(call, f"a gateway answered with status {status} in its place", upstream)
    if call.uncertain:
        return _unknown(call, f"an attempt broke off and the last one got status {status}", upstream)
    if status == 429:
        return RateLimited(
            f"{call.title} takes no more calls for now (status 429); {call.what} was not carried out.",
            fix="Wait for retry_after seconds, or a minute where it is not given, then call again.",
            retry_after=reply.retry_after,
            upstream=upstream,
        )
    return _failed(call, reply, upstream)


def _not_found(call: Call, upstream: dict[str, Any]) -> UpstreamError:
    if call.uncertain:
        return NotFound(
            f"{call.title} has no such object for {call.what} (status 404). An earlier attempt of this very call "
            "broke off and may be what removed it.",
            fix="List the objects to see; if it is gone, nothing more is to be done.",
            upstream=upstream,
        )
    return NotFound(
        f"{call.title} has no such object for {call.what} (status 404).",
        fix="Check the ids in the arguments; the list tools show which exist.",
        upstream=upstream,
    )


def _failed(call: Call, reply: Reply, upstream: dict[str, Any]) -> UpstreamError:
    status = reply.status
    if 300 <= status < 400:
        return UpstreamFailed(
            f"{call.title} tried to redirect {call.what} elsewhere (status {status}); redirects are not followed.",
            fix=f"The operator should check that {call.platform.base_url.name} is the API's own address.",
            retryable=False,
            upstream=upstream,
        )
    if status == 503:
        return UpstreamFailed(
            f"{call.title} is not available (status 503); {call.what} was not carried out.",
            fix="Call again in a minute.",
            retry_after=reply.retry_after,
            upstream=upstream,
        )
    temporary = status >= 500 and status != 501
    if temporary and not call.reads:
        fix = "Part of the change may have been made. " + _LOOK_FIRST
    else:
        fix = "Call again in a moment." if temporary else "See what upstream says; the same call will not succeed."
    return UpstreamFailed(
        f"{call.title} failed to carry out {call.what} (status {status}).",
        fix=fix,
        retryable=temporary and (call.reads or call.repeats),
        upstream=upstream,
    )


def _never_sent(call: Call, error: wire_errors.WireError) -> UpstreamError:
    address = call.platform.base_url.name
    if has_bad_certificate(error):
        return Unreachable(
            f"The certificate of {call.title}'s address could not be verified; {call.what} was not sent.",
            fix=f"The operator should check {address}, or name the private authority's file in SSL_CERT_FILE.",
            retryable=False,
            upstream={"platform": call.platform.name},
        )
    return Unreachable(
        f"No connection to {call.title} could be made; {call.what} was not sent.",
        fix=f"Call again in a moment; if it keeps happening, the operator should check {address} and the network.",
        upstream={"platform": call.platform.name},
    )


def _unknown(call: Call, why: str, upstream: dict[str, Any] | None = None) -> UpstreamError:
    return OutcomeUnknown(
        f"{call.what} was sent to {call.title}, but {why}: it may or may not have taken effect.",
        fix=_LOOK_FIRST,
        upstream=upstream or {"platform": call.platform.name},
    )


def _is_timeout(outcome: Outcome) -> bool:
    return isinstance(outcome, wire_errors.TimedOut)


def _redact(text: str, call: Call) -> str:
    for secret in call.secrets():
        text = text.replace(secret, _REDACTED)
    return text


def _redact_value(value: Any, call: Call) -> Any:
    match value:
        case str():
            return _redact(value, call)
        case dict():
            members = cast(dict[str, Any], value).items()
            return {_redact(key, call): _redact_value(member, call) for key, member in members}
        case list():
            return [_redact_value(item, call) for item in cast(list[Any], value)]
        case _:
            return value


def join_names(names: Sequence[str]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
