"""Access tokens of an issuer: which are valid, what they grant, and how others are refused."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from connector_mcp.errors import Misconfigured
from connector_mcp.transport.auth import jwt
from connector_mcp.transport.auth.authorization import Callers
from connector_mcp.transport.auth.principal import SCOPES, VerificationUnavailable
from connector_mcp.transport.auth.resource_metadata import ProtectedResource, public_hosts
from connector_mcp.transport.auth.static_tokens import StaticToken
from connector_mcp.transport.http.app import http_app
from connector_mcp.transport.http.host_guard import Reach
from tests.end_to_end.faces import INITIALIZE, META, message, modern
from tests.transport.auth.issuer import (
    ISSUER,
    JWKS_URL,
    OTHER_RSA,
    PUBLIC_URL,
    RSA,
    Clock,
    Issuer,
    claims,
    public_jwk,
    public_pem,
    token,
    unsigned,
)

pytestmark = pytest.mark.anyio

TOOL = "vectorize_get_source_connectors"
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
CALL = message("tools/call", name=TOOL, arguments={}, _meta=META)


@asynccontextmanager
async def asking(engine: Any, callers: Callers | None = None) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the application, without a socket. By default the application accepts tokens of the issuer."""
    reach = Reach.for_address("127.0.0.1", 8765, hosts=public_hosts(PUBLIC_URL))
    callers = callers or Callers(oauth=Issuer().oauth())
    app = http_app(engine, request_state_key=b"k" * 32, reach=reach, callers=callers)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=PUBLIC_URL, headers=HEADERS)
    async with app.router.lifespan_context(app), client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def call(client: httpx.AsyncClient, *headers: tuple[str, str], **query: str) -> httpx.Response:
    return await client.post("/mcp", json=CALL, headers=[*modern(TOOL).items(), *headers], params=query)


def with_public_key_as_secret() -> str:
    head = unsigned({"alg": "HS256", "kid": "one", "typ": "JWT"}, claims()).rstrip(".")
    signature = hmac.new(public_pem(RSA), head.encode(), hashlib.sha256).digest()
    return f"{head}.{jwt.jwt.utils.base64url_encode(signature).decode()}"


BAD: dict[str, Callable[[], str]] = {
    "it has expired": lambda: token(exp=int(time.time()) - 60),
    "it never expires": lambda: token(exp=None),
    "it expires beyond any number": lambda: token(exp=float("inf")),
    "it is not valid yet": lambda: token(nbf=int(time.time()) + 600),
    "it was issued in the future": lambda: token(iat=int(time.time()) + 600),
    "it is for another audience": lambda: token(aud="https://other.example"),
    "its audience only begins like ours": lambda: token(aud=f"{PUBLIC_URL}.evil.example"),
    "it has no audience": lambda: token(aud=None),
    "it is of another issuer": lambda: token(iss="https://login.example/other"),
    "its issuer is written otherwise": lambda: token(iss=f"{ISSUER}/"),
    "it is of no issuer": lambda: token(iss=None),
    "it has no subject": lambda: token(sub=None),
    "its subject is empty": lambda: token(sub=""),
    "its subject has a control character": lambda: token(sub="a\nb"),
    "its subject is without end": lambda: token(sub="a" * 300),
    "it is an id token": lambda: token(typ="ID"),
    "it is a refresh token": lambda: token(typ="Refresh"),
    "its header says it is a logout token": lambda: token(header={"typ": "logout+jwt"}),
    "its algorithm is none": lambda: unsigned({"alg": "none", "kid": "one"}, claims()),
    "its algorithm is None in capitals": lambda: unsigned({"alg": "NONE", "kid": "one"}, claims()),
    "its signature was taken off": lambda: token().rpartition(".")[0] + ".",
    "the public key served as a shared secret": with_public_key_as_secret,
    "its algorithm is not allowed": lambda: token(algorithm="RS512"),
    "another key signed it": lambda: token(OTHER_RSA),
    "its key is not known": lambda: token(header={"kid": "two"}),
    "its key id is a path": lambda: token(header={"kid": "../../dev/null"}),
    "its key id is an address": lambda: token(header={"kid": "https://evil.example/keys"}),
    "its header brings a key": lambda: token(OTHER_RSA, header={"kid": "two", "jwk": public_jwk(OTHER_RSA, "two")}),
    "its header names where keys are": lambda: token(header={"kid": "two", "jku": "https://evil.example/keys"}),
    "its header has something critical": lambda: token(header={"crit": ["exp"]}),
    "its claims were changed": lambda: ".".join(
        (token().split(".")[0], unsigned({}, claims(sub="root")).split(".")[1], token().split(".")[2])
    ),
    "its header is nested without end": lambda: unsigned({}, {}).replace(
        "e30", jwt.jwt.utils.base64url_encode(b"[" * 6000).decode(), 1
    ),
    "it is no token": lambda: "a.b.c",
    "it is empty between the dots": lambda: "..",
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD.keys())
async def test_an_invalid_token_is_refused_and_nothing_is_done(make_engine: Any, make: Any) -> None:
    engine = make_engine()
    async with asking(engine) as client:
        answer = await call(client, *bearer(make()).items())
    challenge = answer.headers["www-authenticate"]
    assert (answer.status_code, answer.json()["error"], engine.calls) == (401, "invalid_token", [])
    assert challenge.startswith("Bearer ")
    assert 'error="invalid_token"' in challenge
    assert f'resource_metadata="{PUBLIC_URL}/.well-known/oauth-protected-resource/mcp"' in challenge
    assert f'scope="{" ".join(SCOPES)}"' in challenge


async def test_a_request_without_a_token_is_referred_to_the_issuer(make_engine: Any) -> None:
    async with asking(make_engine()) as client:
        refused = await call(client)
        where = refused.headers["www-authenticate"].partition('resource_metadata="')[2].partition('"')[0]
        found = await client.get(where)
        others = {path: (await client.get(f"/.well-known/oauth-protected-resource{path}")) for path in ("", "/sse")}
    assert refused.status_code == 401
    assert "error=" not in refused.headers["www-authenticate"]
    assert found.json() == {
        "resource": f"{PUBLIC_URL}/mcp",
        "authorization_servers": [ISSUER],
        "scopes_supported": list(SCOPES),
        "bearer_methods_supported": ["header"],
        "resource_name": "connector-mcp",
    }
    assert others[""].json()["resource"] == PUBLIC_URL
    assert others["/sse"].json()["resource"] == f"{PUBLIC_URL}/sse"


@pytest.mark.parametrize(("path", "metadata"), [("/sse", "/sse"), ("/messages/", "/sse"), ("/mcp", "/mcp"), ("/x", "")])
async def test_each_endpoint_has_its_own_metadata(make_engine: Any, path: str, metadata: str) -> None:
    async with asking(make_engine()) as client:
        refused = await client.get(path)
    wanted = f'resource_metadata="{PUBLIC_URL}/.well-known/oauth-protected-resource{metadata}"'
    assert (refused.status_code, wanted in refused.headers["www-authenticate"]) == (401, True)


async def test_the_metadata_checks_host_and_origin(make_engine: Any) -> None:
    path = "/.well-known/oauth-protected-resource/mcp"
    async with asking(make_engine()) as client:
        host = await client.get(path, headers={"Host": "evil.example"})
        origin = await client.get(path, headers={"Origin": "https://evil.example"})
    assert (host.status_code, origin.status_code) == (421, 403)


@pytest.mark.parametrize("granted", [{"scope": "openid"}, {"scope": ""}, {"scope": None}, {"scp": ["connectors:*"]}])
async def test_a_token_without_a_known_scope_is_told_the_scopes(make_engine: Any, granted: dict[str, Any]) -> None:
    engine = make_engine()
    async with asking(engine) as client:
        answer = await call(client, *bearer(token(**{"scope": None, **granted})).items())
    challenge = answer.headers["www-authenticate"]
    assert (answer.status_code, answer.json()["error"], engine.calls) == (403, "insufficient_scope", [])
    assert 'error="insufficient_scope"' in challenge
    assert f'scope="{" ".join(SCOPES)}"' in challenge


@pytest.mark.parametrize(
    "granted",
    [
        {"scope": "openid connectors:read connectors:write"},
        {"scope": None, "scp": ["connectors:read", "connectors:write", 7]},
        {"scope": None, "scp": "connectors:write connectors:read"},
        {"scope": "connectors:read", "permissions": ["connectors:write", "connectors:other"]},
    ],
)
async def test_a_caller_has_the_name_and_scopes_of_its_token(make_engine: Any, granted: dict[str, Any]) -> None:
    async with asking(make_engine()) as client:
        answer = await call(client, *bearer(token(**granted)).items())
    told = answer.json()["result"]["structuredContent"]
    assert (told["principal"], told["scopes"]) == (f"{ISSUER}#alice", ["connectors:read", "connectors:write"])


@pytest.mark.parametrize("query", ["access_token", "token", "ACCESS_TOKEN", "q"])
@pytest.mark.parametrize("beside", [True, False])
async def test_a_token_in_the_query_is_always_refused(make_engine: Any, query: str, beside: bool) -> None:
    engine, secret = make_engine(), token()
    async with asking(engine) as client:
        answer = await call(client, *(bearer(secret).items() if beside else ()), **{query: secret})
    assert (answer.status_code, answer.json()["error"], engine.calls) == (400, "invalid_request", [])
    assert 'error="invalid_request"' in answer.headers["www-authenticate"]
    assert secret not in answer.text


async def test_a_token_in_the_query_is_refused_even_if_none_is_required(make_engine: Any) -> None:
    engine = make_engine()
    async with asking(engine, Callers()) as client:
        answer = await call(client, x="cmcp_something")
    assert (answer.status_code, engine.calls) == (400, [])


async def test_two_authorization_headers_are_refused(make_engine: Any) -> None:
    engine, good = make_engine(), ("Authorization", f"Bearer {token()}")
    async with asking(engine) as client:
        answers = [await call(client, good, good), await call(client, good, ("authorization", "Basic eDp5"))]
    assert ([answer.status_code for answer in answers], engine.calls) == ([401, 401], [])


@pytest.mark.parametrize(
    ("key", "algorithm", "members"),
    [
        (RSA, "RS256", {"alg": "RS256", "use": "sig"}),
        (RSA, "PS512", {}),
        (ec.generate_private_key(ec.SECP256R1()), "ES256", {}),
        (ec.generate_private_key(ec.SECP384R1()), "ES384", {}),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA", {}),
    ],
    ids=["RS256", "PS512", "ES256", "ES384", "EdDSA"],
)
@pytest.mark.parametrize("kind", ["JWT", "at+jwt", "application/at+jwt"])
async def test_an_allowed_algorithm_is_accepted(key: Any, algorithm: str, members: dict[str, Any], kind: str) -> None:
    oauth = Issuer(keys=[public_jwk(key, "one", **members)]).oauth(algorithms=[algorithm])
    assert await oauth.verify(token(key, algorithm, header={"typ": kind})) is not None


@pytest.mark.parametrize(
    "members", [{"use": "enc"}, {"alg": "RS512"}, {"alg": "none"}, {"kty": "oct", "k": "c2VjcmV0"}, {"n": "!"}]
)
async def test_a_key_is_used_only_for_its_published_purpose(members: dict[str, Any]) -> None:
    oauth = Issuer(keys=[public_jwk(RSA, "one", **members)]).oauth()
    assert await oauth.verify(token()) is None


async def test_a_key_that_is_too_short_is_not_used() -> None:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - what is refused
    with pytest.warns(match="1024"):
        signed = token(weak)
    assert await Issuer(keys=[public_jwk(weak, "one")]).oauth().verify(signed) is None


async def test_a_token_without_a_key_id_is_checked_with_the_only_key_that_fits() -> None:
    anonymous, other = token(header={"kid": None}), OTHER_RSA
    elliptic = public_jwk(ec.generate_private_key(ec.SECP256R1()), "two")
    alone = Issuer(keys=[public_jwk(RSA, None), elliptic])
    several = Issuer(keys=[public_jwk(RSA, None), public_jwk(other, "two")])
    assert await alone.oauth().verify(anonymous) is not None
    assert await several.oauth().verify(anonymous) is None


async def test_configured_audiences_replace_the_public_url() -> None:
    oauth = Issuer().oauth(audiences=["api://connectors"])
    assert await oauth.verify(token(aud=["api://other", "api://connectors"])) is not None
    assert await oauth.verify(token()) is None


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS255"])
def test_only_known_private_key_algorithms_can_be_allowed(algorithm: str) -> None:
    with pytest.raises(Misconfigured, match="cannot be allowed") as caught:
        Issuer().oauth(algorithms=["RS256", algorithm])
    assert algorithm in caught.value.message


async def test_a_new_key_is_fetched_when_a_token_names_it() -> None:
    issuer, clock = Issuer(), Clock()
    oauth = issuer.oauth(keys=issuer.key_set(clock=clock))
    assert await oauth.verify(token()) is not None
    issuer.keys.append(public_jwk(OTHER_RSA, "two"))
    rotated = token(OTHER_RSA, header={"kid": "two"})
    clock.now += jwt.UNKNOWN_KEY_SECONDS - 1
    assert await oauth.verify(rotated) is None
    clock.now += 1
    assert await oauth.verify(rotated) is not None
    assert len(issuer.asked) == 2


async def test_unknown_key_ids_do_not_cause_a_fetch_each() -> None:
    issuer = Issuer()
    oauth = issuer.oauth(keys=issuer.key_set(clock=Clock()))
    assert [await oauth.verify(token(header={"kid": f"k{number}"})) for number in range(20)] == [None] * 20
    assert len(issuer.asked) == 1


async def test_a_withdrawn_key_is_refused_after_a_while() -> None:
    issuer, clock = Issuer(), Clock()
    oauth = issuer.oauth(keys=issuer.key_set(clock=clock))
    secret = token()
    assert await oauth.verify(secret) is not None
    issuer.keys[:] = [public_jwk(OTHER_RSA, "two")]
    assert await oauth.verify(secret) is not None
    clock.now += jwt.FRESH_SECONDS + 1
    assert await oauth.verify(secret) is None


async def test_concurrent_callers_cause_one_fetch() -> None:
    issuer = Issuer()
    verify = issuer.oauth().verify
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(verify, token(sub=f"s{number}"))
    assert issuer.asked == ["/keys"]


@pytest.mark.parametrize("rotated", [False, True], ids=["first", "rotated"])
async def test_callers_wait_for_a_fetch_that_is_under_way(rotated: bool) -> None:
    issuer, clock, asked, answered = Issuer(), Clock(), anyio.Event(), anyio.Event()

    async def slowly(request: httpx.Request) -> httpx.Response:
        if answered.is_set():
            return issuer.answer(request)
        asked.set()
        await answered.wait()
        return issuer.answer(request)

    keys = jwt.KeySet(ISSUER, JWKS_URL, transport=httpx.MockTransport(slowly), clock=clock)
    if rotated:
        answered.set()
        assert await keys.find("one", "RS256")
        answered = anyio.Event()
        issuer.keys = [public_jwk(OTHER_RSA, "two")]
        clock.now += jwt.UNKNOWN_KEY_SECONDS
    found: list[object] = []

    async def look() -> None:
        found.append(await keys.find("two" if rotated else "one", "RS256"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        await asked.wait()
        for _ in range(20):
            tasks.start_soon(look)
        await anyio.wait_all_tasks_blocked()
        answered.set()
    assert len(found) == 21
    assert all(found)
    assert issuer.asked == ["/keys"] * (2 if rotated else 1)


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_unavailable_keys_refuse_tokens_of_the_issuer_with_retry_after(make_engine: Any, status: int) -> None:
    engine = make_engine()
    static = StaticToken.from_secret("static", name="ci")
    async with asking(engine, Callers([static], oauth=Issuer(status=status).oauth())) as client:
        answer = await call(client, *bearer(token()).items())
        own = await call(client, *bearer("static").items())
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert (own.status_code, engine.calls) == (200, [TOOL])


async def test_keys_stay_valid_for_a_limited_time_while_the_issuer_fails() -> None:
    issuer, clock = Issuer(), Clock()
    keys = issuer.key_set(clock=clock)
    assert await keys.find("one", "RS256") is not None
    issuer.status = 500
    clock.now += jwt.FRESH_SECONDS + 1
    assert await keys.find("one", "RS256") is not None
    with pytest.raises(VerificationUnavailable):
        await keys.find("two", "RS256")
    clock.now += jwt.STALE_SECONDS
    with pytest.raises(VerificationUnavailable):
        await keys.find("one", "RS256")
    asked = len(issuer.asked)
    with pytest.raises(VerificationUnavailable):
        await keys.find("one", "RS256")
    assert len(issuer.asked) == asked
    issuer.status = 200
    clock.now += jwt.RETRY_SECONDS
    assert await keys.find("one", "RS256") is not None


async def test_the_keys_are_found_by_the_metadata_of_the_issuer() -> None:
    issuer = Issuer()
    assert await issuer.oauth(keys=issuer.key_set(None)).verify(token()) is not None
    *metadata, keys = issuer.asked
    assert metadata == ["/.well-known/oauth-authorization-server/tenant", "/tenant/.well-known/openid-configuration"]
    assert keys == "/keys"


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example", "jwks_uri": "https://login.example/keys"},
        {"issuer": ISSUER, "jwks_uri": "http://login.example/keys"},
        {"issuer": ISSUER, "jwks_uri": "file:///keys"},
        {"issuer": ISSUER, "jwks_uri": 7},
        {"issuer": ISSUER},
    ],
)
async def test_metadata_of_another_issuer_or_an_unsafe_url_gives_no_keys(metadata: dict[str, Any]) -> None:
    issuer = Issuer(metadata=metadata)
    with pytest.raises(VerificationUnavailable):
        await issuer.oauth(keys=issuer.key_set(None)).verify(token())
    assert "/keys" not in issuer.asked


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"keys": []}', b'{"keys": [7]}', b"[" * 5000, b" " * (jwt.MAX_DOCUMENT_BYTES + 1)]
)
async def test_an_invalid_key_document_refuses_every_token(content: bytes) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=content))
    keys = jwt.KeySet(ISSUER, JWKS_URL, transport=transport)
    with pytest.raises(VerificationUnavailable):
        await keys.find("one", "RS256")


@pytest.mark.parametrize(
    ("name", "value"), [("HTTPS_PROXY", "socks5://proxy.example"), ("SSL_CERT_FILE", "/no/such/ca.pem")]
)
async def test_a_wrong_setting_of_the_machine_refuses_every_token_and_is_named_in_the_log(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(VerificationUnavailable):
        await jwt.KeySet(ISSUER, JWKS_URL).find("one", "RS256")
    assert name in caplog.text


@pytest.mark.parametrize(
    "address", ["http://login.example", "ftp://login.example", "login.example", "https://", "https://u:p@login.example"]
)
def test_an_unsafe_url_is_a_configuration_error(address: str) -> None:
    for public, issuer, keys in ((address, ISSUER, None), (PUBLIC_URL, address, None), (PUBLIC_URL, ISSUER, address)):
        with pytest.raises(Misconfigured) as caught:
            jwt.KeySet(ProtectedResource.from_urls(public, issuer).issuer, keys)
        assert "u:p" not in caught.value.message
    with pytest.raises(Misconfigured, match="path"):
        ProtectedResource.from_urls(f"{PUBLIC_URL}/mcp", ISSUER)


def test_http_is_allowed_on_loopback() -> None:
    resource = ProtectedResource.from_urls("http://127.0.0.1:8765/", "http://localhost:9000")
    assert resource.public_url == "http://127.0.0.1:8765"


async def test_a_session_belongs_to_its_subject_and_outlasts_its_token(make_engine: Any) -> None:
    ping = message("ping", 2)
    callers = Callers([StaticToken.from_secret("static", name="alice")], oauth=Issuer().oauth())
    async with asking(make_engine(), callers) as client:
        opened = await client.post("/mcp", json=message("initialize", **INITIALIZE), headers=bearer(token()))
        session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
        statuses = {
            who: (await client.post("/mcp", json=ping, headers={**session, **bearer(secret)})).status_code
            for who, secret in {
                "renewed": token(exp=int(time.time()) + 900),
                "another subject": token(sub="bob"),
                "another client": token(client_id="other"),
                "a static token": "static",
            }.items()
        }
        unsessioned = await client.post("/mcp", json=ping, headers=bearer(token()))
    assert statuses == {"renewed": 200, "another subject": 404, "another client": 404, "a static token": 404}
    assert unsessioned.status_code == 400
