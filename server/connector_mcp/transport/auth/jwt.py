"""OAuth 2.1 access tokens as JWTs, verified with the public keys that their issuer publishes."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import httpx
import jwt

from connector_mcp.errors import Misconfigured
from connector_mcp.json_values import JsonObject, is_object, items
from connector_mcp.suggest import did_you_mean
from connector_mcp.transport.auth.principal import SCOPES, Principal, VerificationUnavailable
from connector_mcp.transport.auth.resource_metadata import ProtectedResource, check_url
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
UNKNOWN_KEY_SECONDS: Final = 30.0
"""Least time between two fetches because of an unknown key id: any caller can make one up."""
RETRY_SECONDS: Final = 5.0
"""Least time between two fetches after a failed one."""
FETCH_TIMEOUT: Final = 10.0
"""Time limit of one fetch in seconds, metadata included."""
MAX_DOCUMENT_BYTES: Final = 262_144

_HEADER_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_OTHER_TOKEN_TYPES: Final = frozenset({"id", "refresh", "offline"})
"""Values of the claim in which some issuers say that a token is not an access token."""


class JwtVerifier:
    """Verifies access tokens for one resource. `leeway` is in seconds.

    A token is valid if it is signed with a key of the issuer by an allowed algorithm, names issuer and audience
    exactly, has not expired, and has a subject. The principal is named `issuer#subject`, which no static token can be.

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
        self._audiences = tuple(audiences) or resource.identifiers
        self._algorithms = frozenset(algorithms)
        self._leeway = leeway
        self._jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})

    async def verify(self, token: str) -> Principal | None:
        """Return the holder of the token, or None if it is not valid.

        Raises:
            VerificationUnavailable: The issuer's keys cannot be fetched.
        """
        try:
            claims = await self._claims(token)
        # Besides its own errors, the library lets those of extreme numbers and nesting through.
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError):
            return None
        return None if claims is None else self._principal(claims)

    async def _claims(self, token: str) -> Mapping[str, Any] | None:
        header = jwt.get_unverified_header(token)
        algorithm, kind = header.get("alg"), header.get("typ", "JWT")
        if algorithm not in self._algorithms or not isinstance(kind, str) or kind.lower() not in _HEADER_TYPES:
            return None
        key = await self._keys.find(header.get("kid"), algorithm)
        if key is None:
            return None
        return self._jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=self._audiences,
            issuer=self.resource.issuer,
            leeway=self._leeway,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )

    def _principal(self, claims: Mapping[str, Any]) -> Principal | None:
        subject, kind = claims["sub"], claims.get("typ", claims.get("token_use"))
        if not subject or len(subject) > MAX_SUBJECT or not subject.isprintable():
            return None
        if isinstance(kind, str) and kind.lower() in _OTHER_TOKEN_TYPES:
            return None
        client, issuer = claims.get("client_id", claims.get("azp")), self.resource.issuer
        return Principal(
            f"{issuer}#{subject}",
            _granted_scopes(claims),
            client_id=client if isinstance(client, str) else "",
            issuer=issuer,
            subject=subject,
        )


def _granted_scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """Our scopes among the claims `scope`, `scp` and `permissions`, each a list or a space-separated text."""
    values = [claims.get(claim) for claim in ("scope", "scp", "permissions")]
    named = [value.split(" ") if isinstance(value, str) else items(value) for value in values]
    return frozenset(scope for scope in SCOPES if any(scope in names for names in named))


class _InvalidDocument(Exception):
    """A document of the issuer that is not what it should be."""


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
        self._failed = False
        self._lock = anyio.Lock()

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key with this id for this algorithm; without an id, the only key that fits.

        Raises:
            VerificationUnavailable: The keys cannot be fetched, and the one in question is not among those known.
        """
        # While one caller fetches, the others go on with keys that are not stale.
        if self._age() > STALE_SECONDS or (self._age() > FRESH_SECONDS and not self._lock.locked()):
            await self._refresh()
        found = self._find(kid, algorithm)
        if found is None:
            await self._refresh()
            found = self._find(kid, algorithm)
        if self._age() > STALE_SECONDS or (found is None and self._failed):
            raise VerificationUnavailable("The issuer's keys cannot be fetched.", retry_after=int(RETRY_SECONDS))
        return found

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        fitting = [key for key in self._keys if _fits(key, algorithm) and kid in (None, key.get("kid"))]
        try:
            return jwt.PyJWK(fitting[0], algorithm) if len(fitting) == 1 else None
        except jwt.PyJWTError:
            return None

    async def _refresh(self) -> None:
        """Fetch the keys, unless the last attempt is too recent or another caller's fetch has just ended."""
        is_under_way = self._lock.locked()
        async with self._lock:
            if is_under_way or self._clock() < self._next_fetch:
                return
            # Stands if the caller is cancelled during the fetch.
            self._failed, self._next_fetch = True, self._clock() + RETRY_SECONDS
            try:
                with anyio.fail_after(FETCH_TIMEOUT):
                    self._keys = await self._fetch()
            except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, Misconfigured, _InvalidDocument) as failure:
                # Text of the other side is not logged.
                is_own = isinstance(failure, _InvalidDocument | Misconfigured)
                reason = str(failure) if is_own else type(failure).__name__
                logger.error("The keys of %s could not be fetched: %s", self._issuer, reason)
            else:
                self._failed, self._fetched_at = False, self._clock()
                self._next_fetch = self._clock() + UNKNOWN_KEY_SECONDS

    async def _fetch(self) -> Sequence[JsonObject]:
        url = self._url or await self._discover()
        keys = [key for key in items((await self._get(url)).get("keys")) if is_object(key)]
        if not keys:
            raise _InvalidDocument(f"{url} holds no keys")
        return keys

    async def _discover(self) -> str:
        """Find the keys' URL by RFC 8414 or, if there is no such document, by OpenID Connect Discovery."""
        parts = urlsplit(self._issuer)
        origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        try:
            metadata = await self._get(f"{origin}/.well-known/oauth-authorization-server{path}")
        except _InvalidDocument:
            metadata = await self._get(f"{origin}{path}/.well-known/openid-configuration")
        if metadata.get("issuer") != self._issuer:
            raise _InvalidDocument("its metadata names another issuer")
        url = metadata.get("jwks_uri")
        if not isinstance(url, str):
            raise _InvalidDocument("its metadata has no jwks_uri")
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
                raise _InvalidDocument(f"{url} answered {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise _InvalidDocument(f"{url} is compressed, although it was asked not to be")
            content = b""
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MAX_DOCUMENT_BYTES:
                    raise _InvalidDocument(f"{url} holds more than {MAX_DOCUMENT_BYTES} bytes")
        try:
            document: Any = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not is_object(document):
            raise _InvalidDocument(f"{url} holds no JSON object")
        return document


def _fits(key: JsonObject, algorithm: str) -> bool:
    kind, curve = ALGORITHMS[algorithm]
    return (
        key.get("kty") == kind
        and (curve is None or key.get("crv") == curve)
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
    )
