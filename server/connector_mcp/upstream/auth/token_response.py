"""The answer of a token endpoint, read: a token, or an error that says what the operator should check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from connector_mcp.errors import Malformed, Unauthenticated, UpstreamError
from connector_mcp.operations.platform import ClientCredentials, UpstreamMessage
from connector_mcp.upstream.auth.credentials import HEADER_SAFE, Ask, strip_bearer
from connector_mcp.upstream.auth.tokens import Token
from connector_mcp.upstream.errors import Call, describe, join_names, make_error
from connector_mcp.upstream.exchange import Outcome, Reply

_DEFAULT_LIFETIME: Final = 300.0
"""Seconds to keep a token whose answer does not say how long it lives."""


def read_token(call: Call, ask: Ask, outcome: Outcome) -> Token:
    """The token in the outcome of `ask`.

    Raises:
        UpstreamError: There is none. Whatever the reason, the call that needed it has not been sent.
    """
    if not isinstance(outcome, Reply):
        raise make_error(call, outcome)
    if outcome.status != 200:
        raise _refuse(call, outcome)
    answer = _read_object(outcome)
    value = strip_bearer(str(answer.get("access_token") or ""))
    kind = str(answer.get("token_type") or "Bearer")
    if kind.lower() == "dpop":
        raise Unauthenticated(
            f"{call.title} binds the tokens of this account to a key (DPoP), which is not supported.",
            fix=f"The operator should use credentials in {join_names(call.variables)} that do not require DPoP.",
            upstream=describe(call, outcome),
        )
    if not HEADER_SAFE.fullmatch(value):
        raise Malformed(
            f"{call.title}'s token endpoint answered without a usable access token.",
            fix=f"The operator should check that {call.platform.base_url.name} is the API's own address.",
            upstream=describe(call, outcome),
        )
    granted = answer.get("scope")
    lacks = isinstance(granted, str) and ask.scope is not None and ask.scope not in granted.split()
    return Token(value, _read_lifetime(answer.get("expires_in")), lacks_scope=lacks)


def _refuse(call: Call, reply: Reply) -> UpstreamError:
    """Throttling and outages are what they are; any other status is about the credentials or the address."""
    if reply.status == 429 or reply.status >= 500 or 300 <= reply.status < 400:
        return make_error(call, reply)
    answer = _read_object(reply)
    code, message = answer.get("error"), answer.get("error_description")
    if isinstance(code, str):
        said = UpstreamMessage(code=code, message=message if isinstance(message, str) else None)
    else:
        said = call.platform.read_error(answer)
    check = join_names(call.variables)
    credentials = call.platform.credentials
    if said.code == "invalid_target" and isinstance(credentials, ClientCredentials):
        check = credentials.resource.name
    elif reply.status in {404, 405}:
        check = call.platform.base_url.name
    return Unauthenticated(
        f"{call.title} gave no access token (status {reply.status}).",
        fix=f"The operator should check {check}.",
        upstream=describe(call, reply, said),
    )


def _read_object(reply: Reply) -> Mapping[str, Any]:
    try:
        answer = reply.parse()
    except ValueError:
        return {}
    return cast(dict[str, Any], answer) if isinstance(answer, dict) else {}


def _read_lifetime(said: Any) -> float:
    try:
        lifetime = float(said)
    except (TypeError, ValueError, OverflowError):
        return _DEFAULT_LIFETIME
    return lifetime if 0 < lifetime < 1e9 else _DEFAULT_LIFETIME
