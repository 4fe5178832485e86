"""Turns the result of a call into an error: the platform's statuses and the connection's failures.

A call that may have changed something while its outcome is unknown never fails with a plain error. It raises
`OutcomeUnknown`; its fix is to read the target first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from connector_mcp.errors import (
    Conflict,
    Forbidden,
    Malformed,
    Misconfigured,
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
from connector_mcp.json_values import is_array, is_object
from connector_mcp.operations.platform import Platform, UpstreamMessage
from connector_mcp.text import clean, clean_value
from connector_mcp.upstream.responses import (
    NOT_CARRIED_OUT,
    PASSED_ON,
    TURNED_AWAY,
    AttemptResult,
    RawResponse,
    has_foreign_error,
    is_open,
    read_message,
)
from connector_mcp.upstream.retries import deserves_another, has_bad_certificate, is_timeout, was_never_sent

if TYPE_CHECKING:
    import httpx

_IDENTIFIER_LIMIT: Final = 128
_REDACTED: Final = "[redacted]"
_READ_FIRST: Final = (
    "Read the target first to see whether the change is there. Only if it is not, decide whether to call again."
)
_ASK_FOR_LESS: Final = (
    "Ask for fewer rows where the tool takes limit; otherwise the operator can set CONNECTOR_MCP_MAX_ANSWER_BYTES."
)
_Verdict = tuple[type[UpstreamError], str, str]
"""The class of an error, its message and its fix."""
_REJECTED: Final[_Verdict] = (
    Rejected,
    "{title} refused the content of {what} (status {status}).",
    "Correct the arguments by what upstream says, then call again.",
)
_CONFLICT: Final[_Verdict] = (
    Conflict,
    "{title} refused {what}: it conflicts with the present state (status {status}).",
    "Read the target and what depends on it, then decide.",
)
_VERDICTS: Final[Mapping[int, _Verdict]] = {
    400: _REJECTED,
    401: (
        Unauthenticated,
        "{title} refused the credentials of {what} (status {status}).",
        "The operator should check {variables}.",
    ),
    403: (
        Forbidden,
        "The credentials for {title} lack the permission for {what} (status {status}).",
        "The operator should grant it to the account of {variables}.",
    ),
    404: (NotFound, "{title} has no such object for {what} (status {status}).", "Check the ids in the arguments."),
    409: _CONFLICT,
    412: _CONFLICT,
    422: _REJECTED,
}
"""What the platform's own error with such a status says."""


@dataclass(kw_only=True)
class CallContext:
    """What an error says about the call that failed."""

    platform: Platform
    what: str
    """The tool, or method and path template."""
    reads: bool
    """The call cannot change anything."""
    repeats: bool
    """Calling again does no more than calling once."""
    variables: Sequence[str]
    """The settings to check when the credentials are refused."""
    secrets: Callable[[], tuple[str, ...]]
    lacks_scope: bool = False
    """The access token was granted less than was asked for."""
    uncertain: bool = False
    """An earlier attempt of this call may have taken effect."""
    proxy: str = ""
    """The setting with the proxy that the requests go through, if they do."""

    @property
    def title(self) -> str:
        return self.platform.title


def describe(call: CallContext, response: RawResponse, message: UpstreamMessage | None = None) -> dict[str, Any]:
    """Make the error's `upstream` member: cleaned, cut to size and without any secret of the account."""
    message = message or UpstreamMessage()
    members: dict[str, Any] = {"platform": call.platform.name, "status": response.status}
    if message.code:
        members["code"] = clean(_redact(message.code, call), _IDENTIFIER_LIMIT)
    if message.message:
        members["message"] = clean(_redact(message.message, call))
    if message.details:
        members["details"] = clean_value(_redact_value(dict(message.details), call))
    if response.request_id:
        members["request_id"] = clean(response.request_id, _IDENTIFIER_LIMIT)
    if response.is_foreign:
        members["page"] = clean_value(_redact_value(response.page(), call))
    return members


def make_error(call: CallContext, result: AttemptResult) -> UpstreamError | Misconfigured:
    """Make the error for a result that is not a success."""
    if isinstance(result, RawResponse):
        return _read_status(call, result)
    if was_never_sent(result) and not call.uncertain:
        return _never_sent(call, result)
    if not call.reads:
        return _unknown(call, "the connection broke" if not is_timeout(result) else "no answer came in time")
    upstream = {"platform": call.platform.name}
    if is_timeout(result):
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


def make_deadline_error(call: CallContext, seconds: float, *, in_flight: bool, sent: bool) -> UpstreamError:
    """Make the error for a call that ran out of time. `in_flight` says that an attempt was under way at that moment."""
    if not call.reads and (in_flight or call.uncertain):
        return _unknown(call, f"no answer came within {seconds:g} s")
    nothing = "" if sent else " Nothing was sent: it waited for its turn or for an access token."
    return TimedOut(
        f"{call.what} on {call.title} did not end within {seconds:g} s.{nothing}",
        fix="Call again; if it keeps happening, make fewer calls at once.",
        upstream={"platform": call.platform.name},
    )


def make_malformed(call: CallContext, response: RawResponse) -> UpstreamError:
    """Make the error for a success with a body that is not JSON."""
    if response.is_foreign and not call.reads:
        return _unknown(call, f"it got status {response.status} with {_what_came(call, response)}", response)
    if response.is_foreign:
        return _make_foreign(call, response)
    said = f"{call.title} answered {call.what} with status {response.status} and something that cannot be read as JSON."
    if not call.reads:
        return _accepted(call, response, said)
    fix = f"Check that {call.platform.base_url.name} is the API's address."
    return Malformed(said, fix=fix, upstream=describe(call, response))


def make_too_large(call: CallContext, response: RawResponse, answer_bytes: int) -> UpstreamError:
    """Make the error for a success with a body that exceeds the cap."""
    said = f"{call.title}'s answer to {call.what} is larger than {answer_bytes} bytes and was not read."
    if not call.reads:
        return _accepted(call, response, said)
    return TooLarge(said, fix=_ASK_FOR_LESS, upstream=describe(call, response))


def _accepted(call: CallContext, response: RawResponse, said: str) -> UpstreamError:
    """Make the error for a change that was accepted, with an answer that cannot be read."""
    return OutcomeUnknown(
        f"{said} It accepted the call, so the change has most likely been made.",
        fix=_READ_FIRST,
        upstream=describe(call, response),
    )


def _read_status(call: CallContext, response: RawResponse) -> UpstreamError:
    status = response.status
    is_foreign = has_foreign_error(call.platform, response)
    if is_open(call.platform, response) and not call.reads:
        came = f" with {_what_came(call, response)}" if is_foreign else " from a gateway in its place"
        return _unknown(call, f"it got status {status}{came}", response)
    if call.uncertain and (is_foreign or status not in _VERDICTS):
        return _unknown(call, f"an attempt broke off and the last one got status {status}", response)
    message = read_message(call.platform, response)
    upstream = describe(call, response, message)
    if status == 429:
        return RateLimited(
            f"{call.title} takes no more calls for now (status 429); {call.what} was not carried out.",
            fix="Wait for retry_after seconds, or a minute where it is not given, then call again.",
            retry_after=response.retry_after,
            upstream=upstream,
        )
    if status in PASSED_ON | TURNED_AWAY or 300 <= status < 400:
        return _not_answered(call, response, upstream)
    if is_foreign:
        return _make_foreign(call, response)
    verdict = _REJECTED if status == 401 and not call.platform.blames_credentials(message) else _VERDICTS.get(status)
    if verdict is None:
        return _failed(call, response, upstream)
    kind, said, fix = verdict
    if status == 403 and call.lacks_scope:
        said += " The access token was granted less than was asked for."
    if status == 404 and call.uncertain:
        said += " An earlier attempt of this call broke off and may have removed it."
        fix = "If the list does not show it any more, nothing more is to be done."
    return kind(
        said.format(title=call.title, what=call.what, status=status),
        fix=fix.format(variables=join_names(call.variables)),
        upstream=upstream,
    )


def _not_answered(call: CallContext, response: RawResponse, upstream: dict[str, Any]) -> UpstreamError:
    """Make the error for a request that did not reach the platform, or for a read that a gateway did not answer."""
    status, retryable, fix = response.status, True, f"Call again in a minute; if it keeps happening, {_way(call)}"
    if status < 400:
        message = f"{call.title} tried to redirect {call.what} elsewhere (status {status}); redirects are not followed."
        retryable, fix = False, f"A sign-in page may stand in front of the API: {_way(call)}"
    elif status in PASSED_ON:
        message = f"A gateway in front of {call.title} got no answer for {call.what} (status {status})."
    elif status == 503:
        message = f"{call.title} is not available (status 503); {call.what} was not carried out."
    elif status in {408, 425}:
        message = f"The request of {call.what} was not taken in time (status {status}); it was not carried out."
    else:
        message = f"A gateway did not reach {call.title} (status {status}); {call.what} was not carried out."
    return UpstreamFailed(
        message,
        fix=fix,
        retryable=retryable,
        retry_after=response.retry_after if retryable else None,
        upstream=upstream,
    )


def _make_foreign(call: CallContext, response: RawResponse) -> UpstreamError:
    """Make the error for an answer that is not the platform's, so that its status is no verdict of the platform."""
    kind = UpstreamFailed if response.status >= 500 else Malformed
    temporary = response.status >= 500 and response.status not in NOT_CARRIED_OUT and call.reads
    first = "Call again in a moment; if it keeps happening, " if temporary else "" if call.reads else f"{_READ_FIRST} "
    fix = f"{first}{_way(call)}"
    return kind(
        f"{call.what} got status {response.status} with {_what_came(call, response)}.",
        fix=fix if temporary else fix.replace("the operator", "The operator", 1),
        retryable=temporary,
        upstream=describe(call, response),
    )


def _what_came(call: CallContext, response: RawResponse) -> str:
    if response.is_web_page:
        return f"a web page, as a gateway, firewall or sign-in page in front of {call.title} sends it"
    if response.is_foreign:
        return f"a body that is not JSON, so that something in front of {call.title} may have sent it"
    return f"a body that is not {call.title}'s documented error, so that something in front of it may have sent it"


def _way(call: CallContext) -> str:
    """Say what lies between this server and the platform, as the end of a fix."""
    proxy = f", the proxy in {call.proxy}" if call.proxy else ", the proxy"
    return f"the operator should check {call.platform.base_url.name}{proxy} and the firewall on the way."


def _failed(call: CallContext, response: RawResponse, upstream: dict[str, Any]) -> UpstreamError:
    status = response.status
    temporary = status >= 500 and status != 501
    if temporary and not (call.reads or call.repeats):
        fix = "Part of the change may have been made. " + _READ_FIRST
    else:
        fix = "Call again in a moment." if temporary else "See what upstream says; the same call will not succeed."
    return UpstreamFailed(
        f"{call.title} failed to carry out {call.what} (status {status}).",
        fix=fix,
        retryable=temporary and (call.reads or call.repeats),
        upstream=upstream,
    )


def _never_sent(call: CallContext, error: httpx.RequestError) -> UpstreamError | Misconfigured:
    """Make the error for a request of which no byte reached the platform."""
    import httpx

    if isinstance(error, httpx.ProxyError):
        return _proxy_failed(call, error)
    address, upstream = call.platform.base_url.name, {"platform": call.platform.name}
    proxy = f" through the proxy in {call.proxy}" if call.proxy else ""
    if has_bad_certificate(error):
        opens = " A proxy that opens TLS connections needs its own authority there." if call.proxy else ""
        return Unreachable(
            f"The certificate of {call.title}'s address could not be verified{proxy}; {call.what} was not sent.",
            fix=f"The operator should check {address}, or name the private authority's file in SSL_CERT_FILE.{opens}",
            retryable=False,
            upstream=upstream,
        )
    checked = f"{address}, {call.proxy}" if call.proxy else address
    return Unreachable(
        f"No connection to {call.title}{proxy} could be made; {call.what} was not sent.",
        fix=f"Call again in a moment; if it keeps happening, the operator should check {checked} and the network.",
        upstream=upstream,
    )


def _proxy_failed(call: CallContext, error: httpx.RequestError) -> UpstreamError | Misconfigured:
    from connector_mcp.upstream.proxy import ProxyRefusal

    status = error.status if isinstance(error, ProxyRefusal) else None
    setting, retryable = call.proxy or "the proxy setting", deserves_another(error, repeats=False)
    around = f"or add {call.title}'s host to NO_PROXY."
    if status == 407:
        return Misconfigured(
            f"The proxy in {setting} asks for a sign-in, or refuses the one it got (status 407); nothing was sent.",
            fix=f"Write {setting} as http://user:password@host:port, percent-encoded, {around}",
        )
    if has_bad_certificate(error):
        wrong, fix = "has a certificate that could not be verified", f"check {setting} and SSL_CERT_FILE, {around}"
    elif status is not None and retryable:
        wrong, fix = (
            f"did not reach {call.title} (status {status})",
            f"check {call.platform.base_url.name} and the proxy.",
        )
    elif status is not None:
        wrong, fix = f"does not allow connections to {call.title} (status {status})", f"allow them there, {around}"
    else:
        wrong, fix = "cannot be reached, or broke the connection", f"check {setting}, {around}"
    return Unreachable(
        f"The proxy in {setting} {wrong}; {call.what} was not sent.",
        fix=f"{'Call again in a moment; if it keeps happening, the' if retryable else 'The'} operator should {fix}",
        retryable=retryable,
        upstream={"platform": call.platform.name},
    )


def _unknown(call: CallContext, why: str, response: RawResponse | None = None) -> UpstreamError:
    upstream = {"platform": call.platform.name}
    if response is not None:
        upstream = describe(call, response, read_message(call.platform, response))
    is_foreign = response is not None and response.is_foreign
    return OutcomeUnknown(
        f"{call.what} was sent to {call.title}, but {why}: it may or may not have taken effect.",
        fix=f"{_READ_FIRST} If it keeps happening, {_way(call)}" if is_foreign else _READ_FIRST,
        upstream=upstream,
    )


def _redact(text: str, call: CallContext) -> str:
    for secret in call.secrets():
        text = text.replace(secret, _REDACTED)
    return text


def _redact_value(value: Any, call: CallContext) -> Any:
    if is_object(value):
        return {_redact(key, call): _redact_value(member, call) for key, member in value.items()}
    if is_array(value):
        return [_redact_value(item, call) for item in value]
    return _redact(value, call) if isinstance(value, str) else value


def join_names(names: Sequence[str]) -> str:
    """Return `A`, `A and B` or `A, B and C`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
