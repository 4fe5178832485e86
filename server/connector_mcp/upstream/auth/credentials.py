"""How an account signs in: a platform's credential declaration and the values of its variables, as a header."""

from __future__ import annotations

import json
import re
import secrets
from base64 import urlsafe_b64decode
from binascii import Error as BadBase64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from connector_mcp.errors import Misconfigured
from connector_mcp.json_values import is_object
from connector_mcp.operations.platform import ApiKey, ClientCredentials, Platform, SignedAssertion, Variable
from connector_mcp.upstream.auth.tokens import HEADER_SAFE, Token, TokenCache, TokenRequest, strip_bearer

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

_LEEWAY: Final = 120
"""Seconds for which a client assertion is valid before and after now; the platform accepts five minutes in all."""

_SCHEME_WORD: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True)
class AuthHeader:
    """The value of the Authorization header, and the access token in it unless the credential is static."""

    value: str = field(repr=False)
    token: Token | None = None


@dataclass(frozen=True)
class TokenEnvironment:
    """What fetching a token needs from the client. `clock` is monotonic, `now` is seconds since the epoch.

    `fetch` posts to the token endpoint and raises a ConnectorError unless it gets a token.
    """

    base_url: str
    host: str
    fetch: Callable[[TokenRequest], Awaitable[Token]]
    clock: Callable[[], float]
    now: Callable[[], float]


class StaticCredential:
    """A key or a ready token that never changes. `variables` are to be checked when it is refused."""

    def __init__(self, header: str, secret: str, variables: tuple[str, ...]) -> None:
        self._header = AuthHeader(header)
        self._secret = secret
        self.variables = variables

    def secrets(self) -> tuple[str, ...]:
        """Return every value that must not be shown."""
        return (self._secret,)

    async def get_header(self) -> AuthHeader:
        """Return the header to send."""
        return self._header

    async def renew(self, refused: AuthHeader) -> AuthHeader | None:
        """Return another header after a 401. There is none."""
        return None


class TokenCredential:
    """Bearer tokens from the platform's token endpoint. `hidden` are the secrets that it is asked with."""

    def __init__(
        self,
        make_request: Callable[[], TokenRequest],
        environment: TokenEnvironment,
        hidden: tuple[str, ...],
        variables: tuple[str, ...],
    ) -> None:
        async def fetch() -> Token:
            return await environment.fetch(make_request())

        self._cache = TokenCache(fetch, environment.clock)
        self._hidden = hidden
        self.variables = variables

    def secrets(self) -> tuple[str, ...]:
        """Return every value that must not be shown, the current token included."""
        token = self._cache.token
        return self._hidden if token is None else (*self._hidden, token.value)

    async def get_header(self) -> AuthHeader:
        """Return the header to send. Raises a ConnectorError if no token can be fetched."""
        token = await self._cache.get()
        return AuthHeader(f"Bearer {token.value}", token)

    async def renew(self, refused: AuthHeader) -> AuthHeader | None:
        """Return another header after a 401. Raises a ConnectorError if no token can be fetched."""
        token = await self._cache.get(refused.token)
        return AuthHeader(f"Bearer {token.value}", token)


Authorizer = StaticCredential | TokenCredential
"""One account's way of signing in."""


def make_authorizer(platform: Platform, values: Mapping[str, str], environment: TokenEnvironment) -> Authorizer:
    """Make the authorizer that the platform declares and the values allow.

    Raises:
        Misconfigured: A variable is missing or invalid. The message names it and does not repeat its value.
    """
    match platform.credentials:
        case ApiKey() as declared:
            return _use_key(platform, declared, values)
        case ClientCredentials() as declared:
            return _use_client_credentials(platform, declared, values, environment)
        case SignedAssertion() as declared:
            return _use_assertion(platform, declared, values, environment)


def _use_key(platform: Platform, declared: ApiKey, values: Mapping[str, str]) -> Authorizer:
    key = _require(platform, declared.key, values)
    variables, word = (declared.key.name,), "Bearer"
    if declared.prefix is not None:
        word = values.get(declared.prefix.name) or declared.prefix.default or word
        variables = (declared.key.name, declared.prefix.name)
        if not _SCHEME_WORD.fullmatch(word):
            raise _unusable(platform, declared.prefix, "is not a single word such as Bearer")
    return StaticCredential(f"{word} {key}", key, variables)


def _use_client_credentials(
    platform: Platform, declared: ClientCredentials, values: Mapping[str, str], environment: TokenEnvironment
) -> Authorizer:
    client_id = _require(platform, declared.client_id, values)
    client_secret = _require(platform, declared.client_secret, values)
    resource = values.get(declared.resource.name) or declared.default_resource(environment.base_url)
    form = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": client_secret,
        "resource": resource,
        "scope": declared.scope,
    }
    request = TokenRequest(declared.token_path, form, declared.scope)
    variables = (declared.client_id.name, declared.client_secret.name, declared.resource.name)
    return TokenCredential(lambda: request, environment, (client_secret,), variables)


def _use_assertion(
    platform: Platform, declared: SignedAssertion, values: Mapping[str, str], environment: TokenEnvironment
) -> Authorizer:
    if values.get(declared.access_token.name):
        ready = strip_bearer(_require(platform, declared.access_token, values, spaces=True))
        if not HEADER_SAFE.fullmatch(ready):
            raise _unusable(platform, declared.access_token, "holds characters that no token has")
        return StaticCredential(f"Bearer {ready}", ready, (declared.access_token.name,))

    client_id = _require(platform, declared.client_id, values, instead=declared.access_token)
    client_secret = _require(platform, declared.client_secret, values, instead=declared.access_token)
    variables = (declared.client_id.name, declared.client_secret.name)
    form = {"grant_type": "client_credentials", "client_id": client_id}
    if not client_secret.startswith(declared.secret_prefix):
        plain = TokenRequest(declared.token_path, {**form, "client_secret": client_secret})
        return TokenCredential(lambda: plain, environment, (client_secret,), variables)
    try:
        key = read_signing_key(client_secret)
    except ValueError as fault:
        raise _unusable(platform, declared.client_secret, str(fault)) from None

    def make_request() -> TokenRequest:
        now, nonce = environment.now(), secrets.token_bytes(16)
        assertion = sign_assertion(key, client_id=client_id, host=environment.host, now=now, nonce=nonce)
        proof = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        return TokenRequest(declared.token_path, {**form, **proof})

    # The last part of the secret is the private key.
    return TokenCredential(make_request, environment, (client_secret, client_secret.rpartition(":")[2]), variables)


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
