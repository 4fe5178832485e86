"""OAuth 2.1 access tokens as JWTs, verified with the public keys that their issuer publishes."""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import httpx
import jwt

from connector_mcp.errors import Misconfigured
from connector_mcp.json_values import JsonObject, is_object, items
from connector_mcp.suggest import did_you_mean
from connector_mcp.text import clean
from connector_mcp.transport.auth.authorization import ProtectedResource
from connector_mcp.transport.auth.principal import SCOPES, Principal, TokenRefused, VerificationUnavailable
from connector_mcp.transport.http.addresses import check_url
from connector_mcp.upstream.client import DEFAULT_LIMITS
from connector_mcp.upstream.proxy import find_proxy
from connector_mcp.upstream.transport import open_transport
from connector_mcp.upstream.urls import read_address

logger = logging.getLogger(__name__)

ALGORITHMS: Final[Mapping[str, tuple[str, str | None]]] = {
    **{f"{family}{bits}": ("RSA", None) for family in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""Each algorithm that can be allowed, with the type and curve of its keys. All sign with a private key."""

MAX_SUBJECT: Final = 255

FRESH_SECONDS: Final = 600.0
"""Age at which keys are fetched again before use, so that a withdrawn key is no longer accepted."""
STALE_SECONDS: Final = 3600.0
"""Age up to which keys stay in use while the issuer cannot be reached."""
UNKNOWN_KEY_SECONDS: Final = 10.0
"""Least time between two fetches because of an unknown key id: any caller can make one up."""
RETRY_SECONDS: Final = 5.0
"""Least time between two fetches after a failed one."""
FETCH_TIMEOUT: Final = 10.0
"""Time limit of one fetch in seconds, metadata included."""
MAX_DOCUMENT_BYTES: Final = 262_144

_HEADER_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_SCOPE_CLAIMS: Final = ("scope", "scp", "permissions")
_ROOT: Final = re.compile(r"https?://[^/?#]+/?")
_OTHER_TOKEN_TYPES: Final = frozenset({"id", "refresh", "offline"})
"""Values of the claim in which some issuers say that a token is not an access token."""


class JwtVerifier:
    """Verifies access tokens for one resource. `leeway` is in seconds.

    A token is valid if it is signed with a key of the issuer by an allowed algorithm, names issuer and audience
    exactly, has not expired, and has a subject. `https://host` and `https://host/` are the same audience. The principal
    is named `issuer#subject`, which no static token can be.

    Raises:
        Misconfigured: An algorithm is not one of `ALGORITHMS`.
    """

    def __init__(
        self,
        resource: ProtectedResource,
        keys: KeySet,
        *,
        audiences: Collection[str] = (),
        algorithms: Collection[str] = ("RS256", "ES256", "EdDSA"),
        leeway: float = 30.0,
        profiles_claim: str | None = None,
    ) -> None:
        for algorithm in algorithms:
            if algorithm not in ALGORITHMS:
                raise Misconfigured(
                    f"CONNECTOR_MCP_OAUTH_ALGORITHMS names {algorithm!r}, which cannot be allowed."
                    f"{did_you_mean(algorithm, ALGORITHMS)}",
                    fix=f"Use algorithms with which only the issuer can sign: {', '.join(ALGORITHMS)}.",
                )
        self.resource = resource
        self._keys = keys
        self._audiences = tuple(chain.from_iterable(map(_same_addresses, audiences or resource.identifiers)))
        self._algorithms = frozenset(algorithms)
        self._leeway = leeway
        self._profiles_claim = profiles_claim
        self._jws = jwt.PyJWS(options={"enforce_minimum_key_length": True})

    async def verify(self, token: str) -> Principal:
        """Return the holder of the token.

        Raises:
            TokenRefused: The token is not valid.
            VerificationUnavailable: The key that the token names cannot be looked up at the moment.
        """
        try:
            header = jwt.get_unverified_header(token)
            algorithm, kind = header.get("alg"), header.get("typ", "JWT")
            if algorithm not in self._algorithms:
                raise TokenRefused(f"its algorithm {_shown(algorithm)} is not allowed")
            if not isinstance(kind, str) or kind.lower() not in _HEADER_TYPES:
                raise TokenRefused(f"its type {_shown(kind)} is not that of an access token")
            # Before the key, so that a token that cannot be valid does not make the server look up a key.
            principal = self._principal(self._read_claims(token))
            self._jws.decode(token, await self._keys.find(header.get("kid"), algorithm), [algorithm])
            return principal
        # Besides its own errors, the library lets those of extreme numbers and nesting through.
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise TokenRefused(self._reason(error, token)) from None

    def _read_claims(self, token: str) -> Mapping[str, Any]:
        """Check all claims of a token, but not its signature."""
        return jwt.decode(
            token,
            audience=self._audiences,
            issuer=self.resource.issuer,
            leeway=self._leeway,
            options={
                "require": ["exp", "iss", "aud", "sub"],
                "verify_signature": False,
                "verify_exp": True,
                "verify_nbf": True,
                "verify_iat": True,
                "verify_iss": True,
                "verify_aud": True,
                "verify_sub": True,
                "verify_jti": True,
            },
        )

    def _reason(self, error: Exception, token: str) -> str:
        match error:
            case jwt.ExpiredSignatureError():
                return "it has expired"
            case jwt.ImmatureSignatureError():
                return "it is not valid yet"
            case jwt.MissingRequiredClaimError(claim=claim):
                return f"it has no {claim}"
            case jwt.InvalidAudienceError():
                return f"its audience {self._claim(token, 'aud')} is not one of {', '.join(self._audiences)}"
            case jwt.InvalidIssuerError():
                return f"its issuer {self._claim(token, 'iss')} is not {self.resource.issuer}"
            case jwt.InvalidSignatureError():
                return "its signature is not by the key that it names"
            case jwt.InvalidKeyError():
                return "the key that it names is too short or invalid"
            case _:
                return "it is not a well-formed JWT"

    def _claim(self, token: str, name: str) -> str:
        return _shown(jwt.decode(token, options={"verify_signature": False}).get(name))

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        subject, kind = claims["sub"], claims.get("typ", claims.get("token_use"))
        if not subject or len(subject) > MAX_SUBJECT or not subject.isprintable():
            raise TokenRefused(f"its subject is empty, not printable or longer than {MAX_SUBJECT} characters")
        if isinstance(kind, str) and kind.lower() in _OTHER_TOKEN_TYPES:
            raise TokenRefused(f"it is a token of the type {_shown(kind)}, not an access token")
        client, issuer = claims.get("client_id", claims.get("azp")), self.resource.issuer
        return Principal(
            f"{issuer}#{subject}",
            _granted_scopes(claims),
            profiles=self._profiles(claims),
            client_id=client if isinstance(client, str) else "",
            issuer=issuer,
            subject=subject,
        )

    def _profiles(self, claims: Mapping[str, Any]) -> frozenset[str] | None:
        """Return the profiles that the claim names; none if it is missing or is not a list or text of names."""
        if self._profiles_claim is None:
            return None
        value = claims.get(self._profiles_claim)
        names = value.split(" ") if isinstance(value, str) else items(value)
        return frozenset(name for name in names if isinstance(name, str))


def _shown(value: object) -> str:
    """Return a value of a token for the log. Anyone can make one up."""
    return repr(clean(str(value), 100))


def _same_addresses(audience: str) -> tuple[str, ...]:
    """Return the audience with and without a slash at the end if it is an address without a path, or else alone."""
    if not _ROOT.fullmatch(audience):
        return (audience,)
    return (audience.rstrip("/"), f"{audience.rstrip('/')}/")


def _granted_scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return our scopes in the claims `scope`, `scp` and `permissions`, each a list or a space-separated text.

    Only a token with none of them may name them in the list `roles`, as Entra ID does for applications: where a person
    let a client have some scopes, the person's roles give it no others.
    """
    values = [claims[claim] for claim in _SCOPE_CLAIMS if claim in claims] or [items(claims.get("roles"))]
    named = [value.split(" ") if isinstance(value, str) else items(value) for value in values]
    return frozenset(scope for scope in SCOPES if any(scope in names for names in named))


class KeysUnavailable(Exception):
    """The issuer's keys, or the metadata that lead to them, cannot be fetched or are not valid. The text says why."""


class KeySet:
    """The issuer's public keys, at `url` or where the issuer's metadata says. Fetched when needed, kept for a while.

    `transport` is for tests. `clock` is in seconds and never goes back.
    """

    def __init__(
        self,
        issuer: str,
        url: str | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if url is not None:
            check_url(url, "CONNECTOR_MCP_OAUTH_JWKS_URL")
        self._issuer = issuer
        self._url = url
        self._transport = transport
        self._clock = clock
        self._keys: Sequence[JsonObject] = ()
        self._fetched_at = float("-inf")
        self._next_fetch = float("-inf")
        self._withdrawn: frozenset[str] = frozenset()
        self._lock = anyio.Lock()

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK:
        """Return the key with this id for this algorithm; without an id, the only key that fits.

        Anyone can make up key ids, so only some of the unknown ones are looked up: one each `UNKNOWN_KEY_SECONDS`. The
        others are neither valid nor invalid until then. Known keys are never affected.

        Raises:
            TokenRefused: The issuer has no such key.
            VerificationUnavailable: The key is not known, and cannot be looked up at the moment.
        """
        is_current = False
        # While one caller fetches, the others go on with keys that are not stale.
        if self._age() > STALE_SECONDS or (self._age() > FRESH_SECONDS and not self._lock.locked()):
            is_current = await self._refresh()
        if not is_current and not self._is_decided(kid, algorithm):
            is_current = await self._refresh()
        if self._age() > STALE_SECONDS or not (is_current or self._is_decided(kid, algorithm)):
            wait = max(1, math.ceil(self._next_fetch - self._clock()))
            raise VerificationUnavailable("The issuer's keys cannot be fetched at the moment.", retry_after=wait)
        fitting = [key for key in self._keys if _fits(key, algorithm) and kid in (None, key.get("kid"))]
        if len(fitting) != 1:
            named = "no key" if kid is None else f"the key {_shown(kid)}"
            raise TokenRefused(f"it names {named}, and the issuer has {len(fitting)} such keys for {algorithm}")
        return jwt.PyJWK(fitting[0], algorithm)

    async def check(self) -> int:
        """Fetch the keys now and return how many there are.

        Raises:
            KeysUnavailable: They cannot be fetched.
        """
        return len(await self._fetch())

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _is_decided(self, kid: str | None, algorithm: str) -> bool:
        """Check that the keys in memory settle the key id: it is known, or the issuer has withdrawn it."""
        if kid is None:
            return any(_fits(key, algorithm) for key in self._keys)
        return kid in self._withdrawn or any(key.get("kid") == kid for key in self._keys)

    async def _refresh(self) -> bool:
        """Fetch the keys, unless the last attempt is too recent or another caller's fetch has just ended.

        Return whether this call fetched them.
        """
        is_under_way = self._lock.locked()
        async with self._lock:
            if is_under_way or self._clock() < self._next_fetch:
                return False
            # Stands if the caller is cancelled during the fetch.
            self._next_fetch = self._clock() + RETRY_SECONDS
            try:
                keys = await self._fetch()
            except KeysUnavailable as failure:
                logger.error("The keys of %s could not be fetched: %s", self._issuer, failure)
                return False
            before, now = ({str(key.get("kid")) for key in each} for each in (self._keys, keys))
            self._keys, self._withdrawn = keys, (self._withdrawn | before) - now
            self._fetched_at, self._next_fetch = self._clock(), self._clock() + UNKNOWN_KEY_SECONDS
            return True

    async def _fetch(self) -> Sequence[JsonObject]:
        try:
            with anyio.fail_after(FETCH_TIMEOUT):
                url = self._url or await self._discover()
                keys = [key for key in items((await self._get(url)).get("keys")) if is_object(key)]
        except Misconfigured as failure:
            raise KeysUnavailable(failure.message) from None
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as failure:
            # Text of the other side is not shown.
            raise KeysUnavailable(type(failure).__name__) from None
        if not keys:
            raise KeysUnavailable(f"{url} holds no keys")
        return keys

    async def _discover(self) -> str:
        """Find the keys' URL by RFC 8414 or, if there is no such document, by OpenID Connect Discovery."""
        parts = urlsplit(self._issuer)
        origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        try:
            metadata = await self._get(f"{origin}/.well-known/oauth-authorization-server{path}")
        except KeysUnavailable:
            metadata = await self._get(f"{origin}{path}/.well-known/openid-configuration")
        if metadata.get("issuer") != self._issuer:
            raise KeysUnavailable("its metadata names another issuer")
        url = metadata.get("jwks_uri")
        if not isinstance(url, str):
            raise KeysUnavailable("its metadata has no jwks_uri")
        check_url(url, "jwks_uri")
        return url

    async def _get(self, url: str) -> JsonObject:
        parts = urlsplit(url)
        address = read_address(f"{parts.scheme}://{parts.netloc}")
        transport = self._transport or open_transport(address, DEFAULT_LIMITS, find_proxy(address))
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with (
            httpx.AsyncClient(transport=transport, trust_env=False, timeout=FETCH_TIMEOUT) as client,
            client.stream("GET", url, headers=headers, follow_redirects=False) as response,
        ):
            if response.status_code != 200:
                raise KeysUnavailable(f"{url} answered {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise KeysUnavailable(f"{url} is compressed, although it was asked not to be")
            content = b""
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MAX_DOCUMENT_BYTES:
                    raise KeysUnavailable(f"{url} holds more than {MAX_DOCUMENT_BYTES} bytes")
        try:
            document: Any = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not is_object(document):
            raise KeysUnavailable(f"{url} holds no JSON object")
        return document


def _fits(key: JsonObject, algorithm: str) -> bool:
    kind, curve = ALGORITHMS[algorithm]
    return (
        key.get("kty") == kind
        and (curve is None or key.get("crv") == curve)
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
    )
