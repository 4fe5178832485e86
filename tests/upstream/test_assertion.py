import json
from base64 import urlsafe_b64encode

import pytest

from connector_mcp.upstream.auth.client_assertion import read_signing_key, sign_assertion

# The vendor's published vector: a throw-away key made of the bytes 00 to 1f.
SECRET = (
    "secret-token:conductorone.com:v1:eyJrdHkiOiJPS1AiLCJjcnYiOiJFZDI1NTE5IiwieCI6IkE2RUh2X1BPRUw0ZGNOMFk1MHZBbVdmazFq"
    "Q2JwUTFmSGR5R1pCSlZNYmciLCJkIjoiQUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOCJ9"
)
ASSERTION = (
    "eyJhbGciOiJFZERTQSIsIm5vbmNlIjoiMDAwMTAyMDMwNDA1MDYwNzA4MDkwYTBiMGMwZDBlMGYifQ."
    "eyJpc3MiOiJ0ZXN0LWZveC0wMDAwMUBhY21lLmNvbmR1Y3Rvci5vbmUvcGNjIiwic3ViIjoidGVzdC1mb3gtMDAwMDFAYWNtZS5jb25kdWN0b3Iu"
    "b25lL3BjYyIsImF1ZCI6WyJhY21lLmNvbmR1Y3Rvci5vbmUiXSwiZXhwIjoxNzAwMDAwMTIwLCJpYXQiOjE3MDAwMDAwMDAsIm5iZiI6MTY5OTk5"
    "OTg4MH0."
    "IsdVKse-FRgWTuvTMq17OVERkmlxFTkBbtDR-U7mtW4dv7UFx1ZBL0yInXNzb7PnjMK-nsBXarVLp4hpmyHUBw"
)


def make_secret(jwk: object) -> str:
    part = urlsafe_b64encode(json.dumps(jwk).encode()).rstrip(b"=").decode()
    return f"secret-token:conductorone.com:v1:{part}"


def test_the_vendors_test_vector_is_reproduced_to_the_byte() -> None:
    signed = sign_assertion(
        read_signing_key(SECRET),
        client_id="test-fox-00001@acme.conductor.one/pcc",
        host="acme.conductor.one",
        now=1_700_000_000.9,
        nonce=bytes(range(16)),
    )
    assert signed == ASSERTION


def test_a_key_id_of_the_secret_goes_into_the_header() -> None:
    import jwt

    key = read_signing_key(make_secret({"kty": "OKP", "crv": "Ed25519", "d": "A" * 43, "kid": "k-7"}))
    signed = sign_assertion(key, client_id="c", host="h", now=0, nonce=bytes(16))
    assert jwt.get_unverified_header(signed) == {"alg": "EdDSA", "nonce": "0" * 32, "kid": "k-7"}


def test_the_private_key_is_not_in_the_representation() -> None:
    assert repr(read_signing_key(SECRET)) == "SigningKey(key_id=None)"


@pytest.mark.parametrize(
    "secret",
    [
        "secret-token:conductorone.com:v2:e30",
        "secret-token:conductorone.com:e30",
        "secret-token:conductorone.com:v1:e30:x",
        "secret-token:conductorone.com:v1:%%%",
        "secret-token:conductorone.com:v1:größe",
        "secret-token:conductorone.com:v1:",
        make_secret([]),
        make_secret({"kty": "RSA", "crv": "Ed25519", "d": "A" * 43}),
        make_secret({"kty": "OKP", "crv": "X25519", "d": "A" * 43}),
        make_secret({"kty": "OKP", "crv": "Ed25519"}),
        make_secret({"kty": "OKP", "crv": "Ed25519", "d": "AAAA"}),
        make_secret({"kty": "OKP", "crv": "Ed25519", "d": 7}),
    ],
)
def test_a_secret_of_another_form_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(ValueError) as failure:
        read_signing_key(secret)
    last = secret.rpartition(":")[2]
    assert not last or last not in str(failure.value)
    assert failure.value.__suppress_context__ or failure.value.__context__ is None
