"""The issuer's public keys: found by its metadata, fetched when they are needed, kept for a bounded time."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import urlsplit

import anyio
import httpx
import jwt

from connector_mcp.errors import Misconfigured
from connector_mcp.transport.auth.resource_metadata import check_url
from connector_mcp.transport.auth.static_tokens import CannotTell
from connector_mcp.transport.http.host_guard import is_loopback

logger = logging.getLogger(__name__)

KEY_KINDS: Final[Mapping[str, tuple[str, str | None]]] = {
    **{f"{family}{bits}": ("RSA", None) for family in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""Each algorithm that can be allowed, with the type and curve of its keys. All are signatures by a private key."""

FRESH: Final = 600.0
"""Seconds after which keys are fetched again before they are used, so that one that was withdrawn stops counting."""
STALE: Final = 3600.0
"""Seconds for which keys count while they cannot be fetched again."""
PAUSE: Final = 30.0
"""Least seconds between two fetches for the sake of a key that is not there: anybody can name one."""
RETRY: Final = 5.0
"""Least seconds between two fetches after one that failed."""
DEADLINE: Final = 10.0
"""Seconds that a fetch may take, metadata included."""
LARGEST: Final = 262_144
"""Bytes of a document of the issuer."""


class _Unusable(Exception):
    """What the issuer answered is no set of keys."""


class KeySet:
    """The keys at `url`, or where the issuer's metadata says that they are.

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
        self._issuer = issuer
        self._url = url
        if url is not None:
            check_url(url, "CONNECTOR_MCP_OAUTH_JWKS_URL")
        self._transport = transport
        self._clock = clock
        self._keys: Sequence[Mapping[str, Any]] = ()
        self._fetched: float | None = None
        self._tried: float | None = None
        self._failed = False
        self._tries = 0
        """Fetches that are over."""
        self._lock = anyio.Lock()

    async def key(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key with this id for this algorithm; the only one that fits where no id is given. None: there is none.

        Raises:
            CannotTell: The keys cannot be had, or the one in question may be among those that cannot.
        """
        age, on_its_way = self._age(self._fetched), self._lock.locked()
        # While somebody fetches, old keys do for the others; without any, they wait for the same answer.
        if age > STALE if on_its_way else age > FRESH and self._may_try():
            await self._fetch_after(self._tries)
        if self._age(self._fetched) > STALE:
            raise self._cannot_tell()
        found = self._find(kid, algorithm)
        if found is None and (self._lock.locked() or self._age(self._tried) >= (RETRY if self._failed else PAUSE)):
            await self._fetch_after(self._tries)
            found = self._find(kid, algorithm)
        if found is None and self._failed:
            raise self._cannot_tell()
        return found

    def usable_for(self) -> float:
        """Seconds for which what these keys verified may be taken without asking them again."""
        return max(0.0, FRESH - self._age(self._fetched))

    def _age(self, moment: float | None) -> float:
        return float("inf") if moment is None else self._clock() - moment

    def _may_try(self) -> bool:
        return not self._failed or self._age(self._tried) >= RETRY

    def _cannot_tell(self) -> CannotTell:
        return CannotTell("The issuer's keys cannot be had.", retry_after=int(RETRY))

    def _find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        fitting = [key for key in self._keys if _fits(key, algorithm) and kid in (None, key.get("kid"))]
        if len(fitting) != 1:
            return None
        try:
            return jwt.PyJWK(dict(fitting[0]), algorithm)
        except jwt.PyJWTError:
            return None

    async def _fetch_after(self, seen: int) -> None:
        """Fetch the keys, unless somebody else did since as many tries as were `seen`."""
        async with self._lock:
            if self._tries != seen:
                return
            self._tried, failed = self._clock(), True
            try:
                with anyio.fail_after(DEADLINE):
                    self._keys = await self._fetch()
                self._fetched, failed = self._clock(), False
            except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, Misconfigured, _Unusable) as failure:
                logger.error("The keys of %s could not be fetched: %s", self._issuer, _reason(failure))
            finally:
                # A fetch whose caller went away has failed, too.
                self._failed = failed
                self._tries += 1

    async def _fetch(self) -> Sequence[Mapping[str, Any]]:
        url = self._url or await self._discovered()
        held = (await self._get(url)).get("keys")
        listed = cast("list[Any]", held) if isinstance(held, list) else []
        keys = [cast("Mapping[str, Any]", key) for key in listed if isinstance(key, dict)]
        if not keys:
            raise _Unusable(f"{url} holds no keys")
        return keys

    async def _discovered(self) -> str:
        """Where the keys are, by RFC 8414 or, where there is no such document, OpenID Connect Discovery."""
        parts = urlsplit(self._issuer)
        path = parts.path.rstrip("/")
        origin = f"{parts.scheme}://{parts.netloc}"
        documents = (
            f"{origin}/.well-known/oauth-authorization-server{path}",
            f"{origin}{path}/.well-known/openid-configuration",
        )
        try:
            metadata = await self._get(documents[0])
        except _Unusable:
            metadata = await self._get(documents[1])
        if metadata.get("issuer") != self._issuer:
            raise _Unusable("its metadata names another issuer")
        url = metadata.get("jwks_uri")
        if not isinstance(url, str):
            raise _Unusable("its metadata has no jwks_uri")
        check_url(url, "jwks_uri")
        return url

    async def _get(self, url: str) -> Mapping[str, Any]:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        # What is on this machine is not asked for through a proxy.
        outside = not is_loopback(httpx.URL(url).host)
        async with (
            httpx.AsyncClient(transport=self._transport, trust_env=outside, timeout=DEADLINE) as client,
            client.stream("GET", url, headers=headers, follow_redirects=False) as answer,
        ):
            if answer.status_code != 200:
                raise _Unusable(f"{url} answered {answer.status_code}")
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise _Unusable(f"{url} is compressed, though it was asked not to be")
            content = bytearray()
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > LARGEST:
                    raise _Unusable(f"{url} holds more than {LARGEST} bytes")
        try:
            held: Any = json.loads(content)
        except (ValueError, RecursionError):
            raise _Unusable(f"{url} holds no JSON") from None
        if not isinstance(held, dict):
            raise _Unusable(f"{url} holds no JSON object")
        return cast("dict[str, Any]", held)


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    kind, curve = KEY_KINDS[algorithm]
    return (
        key.get("kty") == kind
        and (curve is None or key.get("crv") == curve)
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
    )


def _reason(failure: Exception) -> str:
    """Without text of the other side."""
    return str(failure) if isinstance(failure, _Unusable) else type(failure).__name__
