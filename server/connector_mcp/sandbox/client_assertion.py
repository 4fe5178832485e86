"""Checks what a client of the emulated ConductorOne shows at the token endpoint (facts: section 2)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import datetime
from secrets import compare_digest
from typing import Any

import jwt
from jwt.types import Options

from connector_mcp.json_values import is_strings
from connector_mcp.sandbox.seed import CONDUCTORONE_CLIENT_ID, CONDUCTORONE_CLIENT_SECRET, CONDUCTORONE_PLAIN_SECRET

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LONGEST = 300
_LEEWAY = 60
# The times are checked here, against the sandbox's clock, and not by the library, which only knows the real one.
_UNCHECKED: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
_NONCE = re.compile(r"^[0-9a-f]{32}$")


def is_proved(form: Mapping[str, str], host: str, now: datetime) -> bool:
    """Whether the form proves the sandbox's client, by a signed assertion for `host` or by a plain secret.

    The audience may also be the host that the client id names, because that is the tenant's own.
    """
    if form.get("client_id") != CONDUCTORONE_CLIENT_ID:
        return False
    if "client_assertion" in form:
        hosts = {host, CONDUCTORONE_CLIENT_ID.partition("@")[2].partition("/")[0]}
        return form.get("client_assertion_type") == _ASSERTION_TYPE and _is_signed(form["client_assertion"], hosts, now)
    given = form.get("client_secret", "").encode()
    return any(compare_digest(given, each.encode()) for each in (CONDUCTORONE_CLIENT_SECRET, CONDUCTORONE_PLAIN_SECRET))


def _is_signed(assertion: str, hosts: set[str], now: datetime) -> bool:
    try:
        header = jwt.get_unverified_header(assertion)
        claims: dict[str, Any] = jwt.decode(assertion, _public_key(), algorithms=["EdDSA"], options=_UNCHECKED)
    except jwt.PyJWTError:
        return False
    audience = claims.get("aud")
    named = {audience} if isinstance(audience, str) else set(audience if is_strings(audience) else ())
    return (
        claims.get("iss") == claims.get("sub") == CONDUCTORONE_CLIENT_ID
        and bool(named & hosts)
        and _is_timely(claims, now.timestamp())
        # The header is where today's clients put the nonce; the older Python one put it into the claims.
        and (_NONCE.match(str(header.get("nonce", ""))) is not None or bool(claims.get("nonce")))
    )


def _is_timely(claims: Mapping[str, Any], now: float) -> bool:
    times = [claims.get(name) for name in ("nbf", "iat", "exp")]
    if not all(isinstance(each, int) for each in times):
        return False
    not_before, issued, expires = (int(each or 0) for each in times)
    return not_before - _LEEWAY <= now and issued - _LEEWAY <= now < expires <= now + _LONGEST + _LEEWAY


def _public_key() -> jwt.PyJWK:
    encoded = CONDUCTORONE_CLIENT_SECRET.rpartition(":")[2]
    key: dict[str, str] = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    return jwt.PyJWK({name: value for name, value in key.items() if name != "d"}, algorithm="EdDSA")
