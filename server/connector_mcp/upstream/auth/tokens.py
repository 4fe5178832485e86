"""Access tokens: what a token endpoint is asked for, and how its answer is read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from connector_mcp.errors import ConnectorError, Malformed, Unauthenticated
from connector_mcp.json_values import JsonObject, members
from connector_mcp.operations.platform import ClientCredentials, UpstreamMessage
from connector_mcp.upstream.errors import CallContext, describe, join_names, make_error, make_malformed
from connector_mcp.upstream.responses import AttemptResult, RawResponse

HEADER_SAFE: Final = re.compile(r"[\x21-\x7e]+")

_DEFAULT_LIFETIME: Final = 300.0
"""Seconds to keep a token if the answer does not say how long it lives."""

_BEARER: Final = re.compile(r"^bearer[ :]\s*", re.IGNORECASE)


@dataclass(frozen=True)
class TokenRequest:
    """The form to post to a token endpoint."""

    path: str
    form: Mapping[str, str] = field(repr=False)
    scope: str | None = None

    def secrets(self) -> tuple[str, ...]:
        """Return the values of the form that must not be shown."""
        return tuple(value for name, value in self.form.items() if name in {"client_secret", "client_assertion"})


@dataclass(frozen=True, eq=False)
class Token:
    """An access token, or a key that is used like one. `lifetime` is in seconds from when it was asked for."""

    value: str = field(repr=False)
    lifetime: float = math.inf
    lacks_scope: bool = False
    """The platform granted less than was asked for."""
    scheme: str = "Bearer"

    @property
    def header(self) -> str:
        """The value of the Authorization header."""
        return f"{self.scheme} {self.value}"


def strip_bearer(token: str) -> str:
    """Return `token` without the scheme word that some tools write in front of it."""
    return _BEARER.sub("", token)


def read_token(call: CallContext, request: TokenRequest, result: AttemptResult) -> Token:
    """Read the token out of the result of `request`.

    Raises:
        UpstreamError: There is none. Whatever the reason, the call that needed it has not been sent.
    """
    if not isinstance(result, RawResponse):
        raise make_error(call, result)
    if result.status != 200:
        raise _make_refusal(call, result)
    if result.is_foreign:
        raise make_malformed(call, result)
    answer = _read_object(result)
    value = strip_bearer(str(answer.get("access_token") or ""))
    if str(answer.get("token_type")).lower() == "dpop":
        raise Unauthenticated(
            f"{call.title} binds the tokens of this account to a key (DPoP), which is not supported.",
            fix=f"The operator should use credentials in {join_names(call.variables)} that do not require DPoP.",
            upstream=describe(call, result),
        )
    if not HEADER_SAFE.fullmatch(value):
        raise Malformed(
            f"{call.title}'s token endpoint answered without a usable access token.",
            fix=f"The operator should check that {call.platform.base_url.name} is the API's own address.",
            upstream=describe(call, result),
        )
    granted = answer.get("scope")
    lacks_scope = isinstance(granted, str) and request.scope is not None and request.scope not in granted.split()
    return Token(value, _read_lifetime(answer.get("expires_in")), lacks_scope=lacks_scope)


def _make_refusal(call: CallContext, response: RawResponse) -> ConnectorError:
    """Make the error for a status other than 200: about the credentials or the address unless it is an outage."""
    if response.status in {408, 425, 429} or response.status >= 500 or response.status < 400 or response.is_foreign:
        return make_error(call, response)
    answer = _read_object(response)
    code, text = answer.get("error"), answer.get("error_description")
    if isinstance(code, str):
        message = UpstreamMessage(code=code, message=text if isinstance(text, str) else None)
    else:
        message = call.platform.read_error(answer)
    check = join_names(call.variables)
    if message.code == "invalid_target" and isinstance(call.platform.credentials, ClientCredentials):
        check = call.platform.credentials.resource.name
    elif response.status in {404, 405}:
        check = call.platform.base_url.name
    return Unauthenticated(
        f"{call.title} gave no access token (status {response.status}).",
        fix=f"The operator should check {check}.",
        upstream=describe(call, response, message),
    )


def _read_object(response: RawResponse) -> JsonObject:
    try:
        return members(response.parse())
    except ValueError:
        return {}


def _read_lifetime(expires_in: Any) -> float:
    try:
        lifetime = float(expires_in)
    except (TypeError, ValueError, OverflowError):
        return _DEFAULT_LIFETIME
    return lifetime if 0 < lifetime < 1e9 else _DEFAULT_LIFETIME
