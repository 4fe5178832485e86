"""An identity provider as a test needs it: keys, the documents it publishes, and tokens of every kind."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from connector_mcp.transport.auth.authorization import ProtectedResource
from connector_mcp.transport.auth.jwt import JwtVerifier, KeySet
from connector_mcp.transport.http.addresses import PublicAddress

ISSUER = "https://login.example/tenant"
PUBLIC_URL = "https://mcp.example"
JWKS_URL = "https://login.example/keys"

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
"""Two for all tests: to make one takes longer than a test."""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class Memory:
    """What a client stores."""

    def __init__(self) -> None:
        self.tokens: Any = None
        self.client: Any = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        self.client = client_info


def public_jwk(key: PrivateKey, kid: str | None, **members: Any) -> dict[str, Any]:
    """The public half of a key as an issuer publishes it."""
    algorithm: Any = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
    }[next(kind for kind in PrivateKey.__args__ if isinstance(key, kind))]
    named = {} if kid is None else {"kid": kid}
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), **named, **members}


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def unsigned(header: Mapping[str, Any], claims: Mapping[str, Any], signature: str = "") -> str:
    """A token put together by hand, as the library refuses to."""

    def part(value: Mapping[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part(header)}.{part(claims)}.{signature}"


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Issuer:
    """What it publishes can be changed at any time; `asked` has the paths it was asked for."""

    keys: list[dict[str, Any]] = field(default_factory=lambda: [public_jwk(RSA, "one")])
    metadata: dict[str, Any] = field(default_factory=lambda: {"issuer": ISSUER, "jwks_uri": JWKS_URL})
    status: int = 200
    asked: list[str] = field(default_factory=list[str])

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if self.status != 200:
            return httpx.Response(self.status, headers={"Location": JWKS_URL})
        if request.url.path == "/keys":
            return httpx.Response(200, json={"keys": self.keys})
        if request.url.path == "/tenant/.well-known/openid-configuration":
            return httpx.Response(200, json=self.metadata)
        return httpx.Response(404)

    def key_set(self, url: str | None = JWKS_URL, **options: Any) -> KeySet:
        return KeySet(ISSUER, url, transport=httpx.MockTransport(self.answer), **options)

    def oauth(self, *, keys: KeySet | None = None, **options: Any) -> JwtVerifier:
        return JwtVerifier(ProtectedResource(PublicAddress.read(PUBLIC_URL), ISSUER), keys or self.key_set(), **options)


def claims(**changed: Any) -> dict[str, Any]:
    """Those of a good token; None takes one out."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": f"{PUBLIC_URL}/mcp", "sub": "alice", "client_id": "agent"}
    good |= {"scope": "openid connectors:read", "iat": now, "exp": now + 600}
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


def token(key: Any = RSA, algorithm: str = "RS256", *, header: Mapping[str, Any] | None = None, **changed: Any) -> str:
    """A token that this issuer signs, good unless something is changed; None takes a member of the header out."""
    headers = {name: value for name, value in {"kid": "one", **(header or {})}.items() if value is not None}
    return jwt.encode(claims(**changed), key, algorithm, headers=headers)
