"""ConductorOne's client assertion: a short-lived JWT, signed with the key inside the secret (facts: section 2)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from binascii import Error as BadBase64
from dataclasses import dataclass, field
from typing import Any, Final, cast

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
NONCE_BYTES: Final = 16

_LEEWAY: Final = 120
"""Seconds of validity before and after now; the platform accepts at most five minutes in all."""


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 private key, with the key id that goes into the header where the secret names one."""

    private: bytes = field(repr=False)
    key_id: str | None = None


def read_signing_key(secret: str) -> SigningKey:
    """The key inside `secret-token:<issuer>:v1:<base64url of a JWK>`.

    Raises:
        ValueError: The secret has another form. The message says which part is wrong and repeats nothing of it.
    """
    parts = secret.split(":")
    if len(parts) != 4 or parts[2] != "v1":
        raise ValueError("does not have the four parts of a version 1 secret")
    try:
        decoded: Any = json.loads(_decode(parts[3]))
    except (ValueError, BadBase64):
        raise ValueError("does not hold a base64url-encoded JWK in its last part") from None
    if not isinstance(decoded, dict):
        raise ValueError("does not hold a JWK in its last part")
    jwk = cast(dict[str, Any], decoded)
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
    """The client assertion for the token endpoint on `host` (no scheme, no port); `now` in seconds since the epoch."""
    # Imported here because only this way of signing in needs them: 75 ms of start-up are saved.
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
