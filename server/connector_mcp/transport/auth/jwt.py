"""OAuth 2.1 access tokens as JWTs: verified with the issuer's keys, then remembered for as long as they hold."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, cast

import jwt

from connector_mcp.errors import Misconfigured
from connector_mcp.transport.auth.jwks import KEY_KINDS, KeySet
from connector_mcp.transport.auth.principal import Principal
from connector_mcp.transport.auth.resource_metadata import ProtectedResource
from connector_mcp.transport.auth.static_tokens import SCOPES, digest_of

DEFAULT_ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
LONGEST_SUBJECT: Final = 255
REMEMBERED: Final = 4096
"""Verified tokens that are kept, the least recently used being forgotten first."""

_HEADER_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_OTHER_TOKENS: Final = frozenset({"id", "refresh", "offline"})
"""What issuers that write the kind of a token into its claims call those that are not for access."""


@dataclass(frozen=True)
class _Verified:
    principal: Principal
    until: float


class OAuth:
    """Verifies access tokens for one resource. `leeway` is in seconds; `clock` gives the seconds since 1970.

    A token counts when it is signed with a key of the issuer by an allowed algorithm, names issuer and audience
    exactly, has not expired, and has a subject. Its holder is called `issuer#subject`, as no static token can be.

    Raises:
        Misconfigured: An algorithm is not one of `KEY_KINDS`.
    """

    def __init__(
        self,
        resource: ProtectedResource,
        keys: KeySet,
        *,
        audiences: Collection[str] = (),
        algorithms: Collection[str] = DEFAULT_ALGORITHMS,
        leeway: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        for algorithm in algorithms:
            if algorithm not in KEY_KINDS:
                nearest = get_close_matches(algorithm, KEY_KINDS, n=1, cutoff=0.0)[0]
                raise Misconfigured(
                    f"CONNECTOR_MCP_OAUTH_ALGORITHMS names {algorithm!r}, which cannot be allowed; "
                    f"the nearest is {nearest}.",
                    fix=f"Use some of {', '.join(KEY_KINDS)}: signatures that only the issuer can make.",
                )
        self.resource = resource
        self._keys = keys
        self._audiences = tuple(audiences) or resource.identifiers
        self._algorithms = frozenset(algorithms)
        self._leeway = leeway
        self._clock = clock
        self._jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    async def principal(self, token: str) -> Principal | None:
        """The holder of the token, None where it is not good.

        Raises:
            CannotTell: The issuer's keys cannot be had.
        """
        digest = digest_of(token)
        known = self._verified.get(digest)
        if known is not None and self._clock() < known.until:
            self._verified.move_to_end(digest)
            return known.principal
        self._verified.pop(digest, None)
        try:
            claims = await self._claims(token)
        # Beside those of the library, what numbers and nesting beyond any measure raise out of it.
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError):
            return None
        if claims is None:
            return None
        principal = self._holder(claims)
        if principal is not None:
            until = min(float(claims["exp"]) + self._leeway, self._clock() + self._keys.usable_for())
            self._verified[digest] = _Verified(principal, until)
            if len(self._verified) > REMEMBERED:
                self._verified.popitem(last=False)
        return principal

    async def _claims(self, token: str) -> Mapping[str, Any] | None:
        header = jwt.get_unverified_header(token)
        algorithm, kind = header.get("alg"), header.get("typ", "JWT")
        if algorithm not in self._algorithms or not isinstance(kind, str) or kind.lower() not in _HEADER_TYPES:
            return None
        key = await self._keys.key(header.get("kid"), algorithm)
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

    def _holder(self, claims: Mapping[str, Any]) -> Principal | None:
        subject, kind = claims["sub"], claims.get("typ", claims.get("token_use"))
        if not subject or len(subject) > LONGEST_SUBJECT or not subject.isprintable():
            return None
        if isinstance(kind, str) and kind.lower() in _OTHER_TOKENS:
            return None
        client = claims.get("client_id", claims.get("azp"))
        issuer = self.resource.issuer
        return Principal(
            f"{issuer}#{subject}",
            granted_scopes(claims),
            client_id=client if isinstance(client, str) else "",
            issuer=issuer,
            subject=subject,
        )


def granted_scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """Those of our scopes that are in `scope`, `scp` or `permissions`, each a list or words in a text."""
    named: set[Any] = set()
    for claim in ("scope", "scp", "permissions"):
        value: Any = claims.get(claim)
        if isinstance(value, str):
            named |= set(value.split(" "))
        elif isinstance(value, list):
            named |= {each for each in cast("list[Any]", value) if isinstance(each, str)}
    return frozenset(SCOPES) & named
