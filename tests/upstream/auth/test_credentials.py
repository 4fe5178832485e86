import json
from base64 import urlsafe_b64encode
from urllib.parse import parse_qs

import httpx
import pytest

from connector_mcp.errors import Misconfigured, Unauthenticated
from connector_mcp.operations.conductorone.platform import CONDUCTORONE
from connector_mcp.operations.platform import Platform
from connector_mcp.operations.vectorize.platform import VECTORIZE
from connector_mcp.upstream.auth.credentials import read_signing_key, sign_assertion
from connector_mcp.upstream.client import UpstreamClient
from tests.upstream.conftest import READ, Rig, Token, ok

pytestmark = pytest.mark.anyio

# The vendor's published vector: a throw-away key made of the bytes 00 to 1f.
SECRET = (
    "secret-token:conductorone.com:v1:eyJrdHkiOiJPS1AiLCJjcnYiOiJFZDI1NTE5IiwieCI6IkE2RUh2X1BPRUw0ZGNOMFk1MHZBbVdmazFq"
    "Q2JwUTFmSGR5R1pCSlZNYmciLCJkIjoiQUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOCJ9"
)
CLIENT_ID = "test-fox-00001@acme.conductor.one/pcc"


def form(request: httpx.Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(request.content.decode(), strict_parsing=True).items()}


async def test_a_key_is_sent_as_bearer(rig: Rig) -> None:
    r = rig("vectorize", ok())
    await r.client.send(READ)
    assert r.sent[0].headers["authorization"] == "Bearer vec-key-1"


async def test_the_scheme_word_of_versori_can_be_set(rig: Rig) -> None:
    r = rig("versori", ok(), values={"VERSORI_API_KEY": "jwt.a.b", "VERSORI_AUTH_PREFIX": "JWT"})
    await r.client.send(READ)
    assert r.sent[0].headers["authorization"] == "JWT jwt.a.b"
    assert r.client.secrets() == ("jwt.a.b",)


async def test_client_credentials_go_into_the_form_and_the_token_into_the_header(rig: Rig, token: Token) -> None:
    r = rig("logto", token("tok-9"), ok())
    await r.client.send(READ)
    asked, called = r.sent
    assert (asked.method, str(asked.url)) == ("POST", "https://acme.logto.app/oidc/token")
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in asked.headers
    assert form(asked) == {
        "grant_type": "client_credentials",
        "client_id": "app-1",
        "client_secret": "app-secret-1",
        "resource": "https://acme.logto.app/api",
        "scope": "all",
    }
    assert called.headers["authorization"] == "Bearer tok-9"
    assert r.client.secrets() == ("app-secret-1", "tok-9")


async def test_the_resource_indicator_can_be_set_and_the_address_may_have_a_path(rig: Rig, token: Token) -> None:
    resource, endpoint = "https://t1.logto.app/api", "https://auth.example/t1/"
    values = {"LOGTO_ENDPOINT": endpoint, "LOGTO_APP_ID": "a", "LOGTO_APP_SECRET": "s", "LOGTO_RESOURCE": resource}
    r = rig("logto", token(), ok(), values=values)
    await r.client.send(READ)
    assert [str(request.url) for request in r.sent] == [f"{endpoint}oidc/token", f"{endpoint}things"]
    assert form(r.sent[0])["resource"] == resource


async def test_a_signed_assertion_proves_the_client_without_sending_its_secret(rig: Rig, token: Token) -> None:
    import jwt
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    values = {"CONDUCTORONE_CLIENT_ID": CLIENT_ID, "CONDUCTORONE_CLIENT_SECRET": SECRET}
    r = rig("conductorone", token("c1-token", 600), ok(), values=values)
    await r.client.send(READ)
    asked = r.sent[0]
    sent = form(asked)
    assert str(asked.url) == "https://acme.conductor.one/auth/v1/token"
    assert set(sent) == {"grant_type", "client_id", "client_assertion_type", "client_assertion"}
    assert sent["client_id"] == CLIENT_ID
    assert sent["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    public = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key()
    assertion = sent["client_assertion"]
    claims = jwt.decode(assertion, public, ["EdDSA"], audience="acme.conductor.one", options={"verify_exp": False})
    assert claims["aud"] == ["acme.conductor.one"]
    assert (claims["exp"], claims["iat"], claims["nbf"]) == (1_700_000_120, 1_700_000_000, 1_699_999_880)
    assert len(jwt.get_unverified_header(assertion)["nonce"]) == 32
    assert SECRET.rpartition(":")[2] not in asked.content.decode()
    assert set(r.client.secrets()) == {SECRET, SECRET.rpartition(":")[2], "c1-token"}


async def test_the_audience_has_no_port(rig: Rig, token: Token) -> None:
    import jwt

    values = {
        "CONDUCTORONE_CLIENT_ID": CLIENT_ID,
        "CONDUCTORONE_CLIENT_SECRET": SECRET,
        "CONDUCTORONE_BASE_URL": "http://localhost:8123",
    }
    r = rig("conductorone", token(), ok(), values=values)
    await r.client.send(READ)
    claims = jwt.decode(form(r.sent[0])["client_assertion"], options={"verify_signature": False})
    assert claims["aud"] == ["localhost"]


async def test_a_plain_secret_is_sent_as_it_is(rig: Rig, token: Token) -> None:
    r = rig("conductorone", token(), ok())
    await r.client.send(READ)
    assert form(r.sent[0]) == {
        "grant_type": "client_credentials",
        "client_id": "fox-1@acme.conductor.one/pcc",
        "client_secret": "plain-secret-1",
    }


@pytest.mark.parametrize("given", ["ready-1", "Bearer ready-1", "bearer:ready-1"])
async def test_a_ready_token_is_used_and_nothing_is_asked_for(rig: Rig, given: str) -> None:
    values = {"CONDUCTORONE_ACCESS_TOKEN": given, "CONDUCTORONE_BASE_URL": "https://acme.conductor.one"}
    r = rig("conductorone", httpx.Response(401), values=values)
    failure = await r.fails(Unauthenticated, READ, match="refused the credentials")
    assert [request.headers["authorization"] for request in r.sent] == ["Bearer ready-1"]
    assert "CONDUCTORONE_ACCESS_TOKEN" in failure.fix
    assert r.client.secrets() == ("ready-1",)


@pytest.mark.parametrize(
    ("platform", "missing"),
    [
        ("vectorize", "VECTORIZE_API_KEY"),
        ("logto", "LOGTO_APP_ID"),
        ("logto", "LOGTO_APP_SECRET"),
        ("versori", "VERSORI_API_KEY"),
        ("conductorone", "CONDUCTORONE_CLIENT_SECRET"),
    ],
)
@pytest.mark.parametrize("blank", [None, "", "  "])
def test_a_missing_variable_is_named(rig: Rig, platform: str, missing: str, blank: str | None) -> None:
    complete = rig(platform).client
    values = dict.fromkeys((v.name for v in complete.platform.variables), "x@acme.conductor.one/p")
    values |= {"LOGTO_ENDPOINT": "https://acme.logto.app", "VERSORI_AUTH_PREFIX": "Bearer"}
    values |= {complete.platform.base_url.name: "https://acme.example", "CONDUCTORONE_ACCESS_TOKEN": ""}
    values |= {api.address.name: "https://acme.example/v2" for api in complete.platform.other_apis}
    if blank is None:
        del values[missing]
    else:
        values[missing] = blank
    with pytest.raises(Misconfigured, match=f"{missing} is not set") as failure:
        rig(platform, values=values)
    assert missing in failure.value.fix


@pytest.mark.parametrize(
    ("platform", "name", "value"),
    [
        (VECTORIZE, "VECTORIZE_API_KEY", "s3cr3t\nX-Evil: 1"),
        (VECTORIZE, "VECTORIZE_API_KEY", "s3cr3tß"),
        (CONDUCTORONE, "CONDUCTORONE_CLIENT_SECRET", "secret-token:conductorone.com:v1:s3cr3t"),
        (CONDUCTORONE, "CONDUCTORONE_ACCESS_TOKEN", "Bearer s3cr3t and more"),
    ],
)
def test_an_invalid_credential_is_refused_without_repeating_it(platform: Platform, name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=name) as failure:
        UpstreamClient(platform, {"CONDUCTORONE_CLIENT_ID": CLIENT_ID, name: value})
    assert "s3cr3t" not in str(failure.value.as_dict())


def test_a_scheme_word_of_two_words_is_refused(rig: Rig) -> None:
    with pytest.raises(Misconfigured, match="VERSORI_AUTH_PREFIX"):
        rig("versori", values={"VERSORI_API_KEY": "k", "VERSORI_AUTH_PREFIX": "To ken"})


async def test_no_representation_shows_a_secret(rig: Rig, token: Token) -> None:
    r = rig("logto", token("tok-secret"), ok())
    await r.client.send(READ)
    seen = [repr(r.client)]
    todo, known = [r.client], set[int]()
    while todo:
        thing = todo.pop()
        if id(thing) in known or not type(thing).__module__.startswith("connector_mcp"):
            continue
        known.add(id(thing))
        seen.append(repr(thing))
        todo.extend(vars(thing).values() if hasattr(thing, "__dict__") else [])
    assert len(seen) > 3
    assert not any(secret in text for text in seen for secret in ("app-secret-1", "tok-secret"))


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
    given = {"client_id": CLIENT_ID, "host": "acme.conductor.one", "now": 1_700_000_000.9, "nonce": bytes(range(16))}
    assert sign_assertion(read_signing_key(SECRET), **given) == ASSERTION


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
        "secret-token:conductorone.com:v2:e30", "secret-token:conductorone.com:e30",
        "secret-token:conductorone.com:v1:e30:x", "secret-token:conductorone.com:v1:%%%",
        "secret-token:conductorone.com:v1:größe", "secret-token:conductorone.com:v1:", make_secret([]),
        make_secret({"kty": "RSA", "crv": "Ed25519", "d": "A" * 43}),
        make_secret({"kty": "OKP", "crv": "X25519", "d": "A" * 43}), make_secret({"kty": "OKP", "crv": "Ed25519"}),
        make_secret({"kty": "OKP", "crv": "Ed25519", "d": "AAAA"}),
        make_secret({"kty": "OKP", "crv": "Ed25519", "d": 7}),
    ],
)  # fmt: skip
def test_a_secret_of_another_form_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(ValueError) as failure:
        read_signing_key(secret)
    last = secret.rpartition(":")[2]
    assert not last or last not in str(failure.value)
    assert failure.value.__suppress_context__ or failure.value.__context__ is None
