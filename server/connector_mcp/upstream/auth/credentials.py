"""How an account signs in: a platform's credential declaration and the values of its variables, as a header."""

from __future__ import annotations

import json
import math
import re
import secrets
import time
from base64 import urlsafe_b64decode
from binascii import Error as BadBase64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import anyio

from connector_mcp.errors import ConnectorError, Misconfigured
from connector_mcp.json_values import is_object
from connector_mcp.operations.platform import ApiKey, ClientCredentials, Platform, SignedAssertion, Variable
from connector_mcp.upstream.auth.tokens import HEADER_SAFE, Token, TokenRequest, strip_bearer
from connector_mcp.upstream.urls import Address

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

RENEW_BEFORE_EXPIRY: Final = 60.0
"""Seconds before its expiry at which a token is renewed, so that none expires on the way."""

_LEEWAY: Final = 120
"""Seconds for which a client assertion is valid before and after now; the platform accepts five minutes in all."""

_SCHEME_WORD: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

Clock = Callable[[], float]
Fetch = Callable[[TokenRequest], Awaitable[Token]]
"""Posts to the token endpoint, and raises a ConnectorError unless it gets a token."""


class Authorizer:
    """One account's way of signing in: a `key` that never changes, or tokens that are asked for with `make_request`.

    A token is fetched once however many callers wait for it. `hidden` are the secrets that it is asked for with,
    `variables` the settings to check when the credentials are refused. `clock` is monotonic.
    """

    def __init__(
        self,
        variables: tuple[str, ...],
        *,
        key: Token | None = None,
        make_request: Callable[[], TokenRequest] | None = None,
        hidden: tuple[str, ...] = (),
        clock: Clock = time.monotonic,
    ) -> None:
        self.variables = variables
        self._make_request = make_request
        self._hidden = hidden
        self._clock = clock
        self._lock = anyio.Lock(fast_acquire=True)
        self._token = key
        """The token fetched last, whether it is still valid or not."""
        self._renew_at = math.inf
        self._fetches: int = 0
        self._failure: ConnectorError | None = None

    def secrets(self) -> tuple[str, ...]:
        """Return every value that must not be shown, the current token included."""
        return self._hidden if self._token is None else (*self._hidden, self._token.value)

    async def get_token(self, fetch: Fetch, refused: Token | None = None) -> Token:
        """Return a valid token, other than the one that the platform `refused` before its time. A key stays the same.

        Raises what `fetch` raised to this caller or to the one it waited for.
        """
        token, make_request = self._token, self._make_request
        if token is not None and (make_request is None or (token is not refused and self._clock() < self._renew_at)):
            return token
        assert make_request is not None  # noqa: S101 - there is a key without it
        fetches = self._fetches
        async with self._lock:
            if self._fetches != fetches:
                # Another caller has fetched while this one waited, and its result serves both.
                if self._failure is not None:
                    raise self._failure.with_traceback(None)
                if self._token is not None and self._token is not refused:
                    return self._token
            asked_at = self._clock()
            try:
                token = await fetch(make_request())
            except ConnectorError as failure:
                self._failure = failure
                self._fetches += 1
                raise
            self._token, self._failure = token, None
            self._renew_at = asked_at + token.lifetime - min(RENEW_BEFORE_EXPIRY, token.lifetime / 2)
            self._fetches += 1
            return token


def make_authorizer(
    platform: Platform, values: Mapping[str, str], address: Address, clock: Clock, now: Clock
) -> Authorizer:
    """Make the authorizer that the platform declares and the values allow.

    `clock` is monotonic, `now` is seconds since the epoch.

    Raises:
        Misconfigured: A variable is missing or invalid. The message names it and does not repeat its value.
    """
    match platform.credentials:
        case ApiKey() as declared:
            return _use_key(platform, declared, values)
        case ClientCredentials() as declared:
            return _use_client_credentials(platform, declared, values, str(address), clock)
        case SignedAssertion() as declared:
            return _use_assertion(platform, declared, values, address.host, clock, now)


def _use_key(platform: Platform, declared: ApiKey, values: Mapping[str, str]) -> Authorizer:
    key = _require(platform, declared.key, values)
    variables, word = (declared.key.name,), "Bearer"
    if declared.prefix is not None:
        word = values.get(declared.prefix.name) or declared.prefix.default or word
        variables = (declared.key.name, declared.prefix.name)
        if not _SCHEME_WORD.fullmatch(word):
            raise _unusable(platform, declared.prefix, "is not a single word such as Bearer")
    return Authorizer(variables, key=Token(key, scheme=word))


def _use_client_credentials(
    platform: Platform, declared: ClientCredentials, values: Mapping[str, str], base_url: str, clock: Clock
) -> Authorizer:
    client_id = _require(platform, declared.client_id, values)
    client_secret = _require(platform, declared.client_secret, values)
    resource = values.get(declared.resource.name) or declared.default_resource(base_url)
    form = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": client_secret,
        "resource": resource,
        "scope": declared.scope,
    }
    request = TokenRequest(declared.token_path, form, declared.scope)
    variables = (declared.client_id.name, declared.client_secret.name, declared.resource.name)
    return Authorizer(variables, make_request=lambda: request, hidden=(client_secret,), clock=clock)


def _use_assertion(
    platform: Platform, declared: SignedAssertion, values: Mapping[str, str], host: str, clock: Clock, now: Clock
) -> Authorizer:
    if values.get(declared.access_token.name):
        ready = strip_bearer(_require(platform, declared.access_token, values, spaces=True))
        if not HEADER_SAFE.fullmatch(ready):
            raise _unusable(platform, declared.access_token, "holds characters that no token has")
        return Authorizer((declared.access_token.name,), key=Token(ready))

    client_id = _require(platform, declared.client_id, values, instead=declared.access_token)
    client_secret = _require(platform, declared.client_secret, values, instead=declared.access_token)
    variables = (declared.client_id.name, declared.client_secret.name)
    form = {"grant_type": "client_credentials", "client_id": client_id}
    if not client_secret.startswith(declared.secret_prefix):
        plain = TokenRequest(declared.token_path, {**form, "client_secret": client_secret})
        return Authorizer(variables, make_request=lambda: plain, hidden=(client_secret,), clock=clock)
    try:
        key = read_signing_key(client_secret)
    except ValueError as fault:
        raise _unusable(platform, declared.client_secret, str(fault)) from None

    def make_request() -> TokenRequest:
        nonce = secrets.token_bytes(16)
        assertion = sign_assertion(key, client_id=client_id, host=host, now=now(), nonce=nonce)
        proof = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        return TokenRequest(declared.token_path, {**form, **proof})

    # The last part of the secret is the private key.
    hidden = (client_secret, client_secret.rpartition(":")[2])
    return Authorizer(variables, make_request=make_request, hidden=hidden, clock=clock)


def _require(
    platform: Platform,
    variable: Variable,
    values: Mapping[str, str],
    *,
    instead: Variable | None = None,
    spaces: bool = False,
) -> str:
    value = values.get(variable.name)
    if not value:
        other = f", or {instead.name} instead" if instead else ""
        raise Misconfigured(
            f"{platform.title}: {variable.name} is not set.", fix=f"Set {variable.name}{other}. {variable.help}"
        )
    if not HEADER_SAFE.fullmatch(value.replace(" ", "") if spaces else value):
        raise _unusable(platform, variable, "holds spaces, control or non-ASCII characters")
    return value


def _unusable(platform: Platform, variable: Variable, wrong: str) -> Misconfigured:
    return Misconfigured(
        f"{platform.title}: {variable.name} {wrong}.", fix=f"Copy {variable.name} again. {variable.help}"
    )


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 private key, and the key id for the assertion's header if the secret names one."""

    private: bytes = field(repr=False)
    key_id: str | None = None


def read_signing_key(secret: str) -> SigningKey:
    """Read the key inside `secret-token:<issuer>:v1:<base64url of a JWK>`.

    Raises:
        ValueError: The secret has another form. The message says which part is wrong and does not repeat it.
    """
    parts = secret.split(":")
    if len(parts) != 4 or parts[2] != "v1":
        raise ValueError("does not have the four parts of a version 1 secret")
    try:
        jwk: Any = json.loads(_decode(parts[3]))
    except (ValueError, BadBase64):
        raise ValueError("does not hold a base64url-encoded JWK in its last part") from None
    if not is_object(jwk):
        raise ValueError("does not hold a JWK in its last part")
    if jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519":
        raise ValueError("holds a key of another type than Ed25519")
    try:
        private = _decode(jwk["d"])
    except (KeyError, TypeError, AttributeError, ValueError, BadBase64):
        private = b""
    if len(private) != 32:
        raise ValueError("holds no private key")
    key_id = jwk.get("kid")
    return SigningKey(private, key_id if isinstance(key_id, str) and key_id else None)


def sign_assertion(key: SigningKey, *, client_id: str, host: str, now: float, nonce: bytes) -> str:
    """Sign ConductorOne's client assertion, a short-lived JWT, for the token endpoint on `host` (no scheme, no port).

    `now` is in seconds since the epoch.
    """
    # Imported here to save start-up time: only this way of signing in needs them.
    import jwt
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    at = int(now)
    headers: dict[str, Any] = {"typ": None, "alg": "EdDSA", "nonce": nonce.hex()}
    if key.key_id is not None:
        headers["kid"] = key.key_id
    claims: dict[str, Any] = {
        "iss": client_id,
        "sub": client_id,
        "aud": [host],
        "exp": at + _LEEWAY,
        "iat": at,
        "nbf": at - _LEEWAY,
    }
    private = Ed25519PrivateKey.from_private_bytes(key.private)
    return jwt.encode(claims, private, algorithm="EdDSA", headers=headers)


def _decode(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))
