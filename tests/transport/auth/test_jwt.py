"""Access tokens of an issuer: which are valid, what they grant, and how others are refused."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import certifi
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from connector_mcp.errors import Misconfigured
from connector_mcp.transport.auth import jwt
from connector_mcp.transport.auth.authorization import REFUSALS_LOGGED, Callers, ProtectedResource, RefusalLog
from connector_mcp.transport.auth.principal import SCOPES, TokenRefused, VerificationUnavailable
from connector_mcp.transport.auth.static_tokens import StaticToken
from connector_mcp.transport.http.addresses import PublicAddress
from tests.end_to_end.faces import INITIALIZE, META, message, modern, served
from tests.test_deploy import certify
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
from tests.transport.conftest import FakeEngine, app_client

pytestmark = pytest.mark.anyio

TOOL = "vectorize_get_source_connectors"
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
CALL = message("tools/call", name=TOOL, arguments={}, _meta=META)


def asking(engine: Any, callers: Callers | None = None) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    """A client of an application that by default accepts tokens of the issuer."""
    return app_client(engine, PUBLIC_URL, headers=HEADERS, callers=callers or Callers(oauth=Issuer().oauth()))


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def call(client: httpx.AsyncClient, *headers: tuple[str, str], **query: str) -> httpx.Response:
    return await client.post("/mcp", json=CALL, headers=[*modern(TOOL).items(), *headers], params=query)


async def accepts(oauth: jwt.JwtVerifier, secret: str) -> bool:
    try:
        await oauth.verify(secret)
    except TokenRefused:
        return False
    return True


def with_public_key_as_secret() -> str:
    head = unsigned({"alg": "HS256", "kid": "one", "typ": "JWT"}, claims()).rstrip(".")
    signature = hmac.new(public_pem(RSA), head.encode(), hashlib.sha256).digest()
    return f"{head}.{jwt.jwt.utils.base64url_encode(signature).decode()}"


BAD: dict[str, tuple[str, Callable[[], str]]] = {
    "it has expired": ("it has expired", lambda: token(exp=int(time.time()) - 60)),
    "it never expires": ("it has no exp", lambda: token(exp=None)),
    "it expires beyond any number": ("not a well-formed JWT", lambda: token(exp=float("inf"))),
    "it is not valid yet": ("it is not valid yet", lambda: token(nbf=int(time.time()) + 600)),
    "it was issued in the future": ("it is not valid yet", lambda: token(iat=int(time.time()) + 600)),
    "it is for another audience": (
        "its audience 'https://other.example' is not one of https://mcp.example, https://mcp.example/",
        lambda: token(aud="https://other.example"),
    ),
    "its audience only begins like ours": ("its audience", lambda: token(aud=f"{PUBLIC_URL}.evil.example")),
    "its audience ends with two slashes": ("its audience", lambda: token(aud=f"{PUBLIC_URL}//")),
    "its audience is an endpoint with a slash": ("its audience", lambda: token(aud=f"{PUBLIC_URL}/mcp/")),
    "its audience tries to forge a line": ("its audience 'a b'", lambda: token(aud="a\nb")),
    "it has no audience": ("it has no aud", lambda: token(aud=None)),
    "it is of another issuer": ("/other' is not https", lambda: token(iss="https://login.example/other")),
    "its issuer is written otherwise": (f"its issuer '{ISSUER}/' is not {ISSUER}", lambda: token(iss=f"{ISSUER}/")),
    "it is of no issuer": ("it has no iss", lambda: token(iss=None)),
    "it has no subject": ("it has no sub", lambda: token(sub=None)),
    "its subject is empty": ("its subject is empty", lambda: token(sub="")),
    "its subject has a control character": ("not printable", lambda: token(sub="a\nb")),
    "its subject is without end": ("longer than 255", lambda: token(sub="a" * 300)),
    "it is an id token": ("the type 'ID'", lambda: token(typ="ID")),
    "it is a refresh token": ("the type 'Refresh'", lambda: token(typ="Refresh")),
    "its header says it is a logout token": ("its type 'logout+jwt'", lambda: token(header={"typ": "logout+jwt"})),
    "its algorithm is none": ("its algorithm 'none'", lambda: unsigned({"alg": "none", "kid": "one"}, claims())),
    "its algorithm is None in capitals": ("'NONE'", lambda: unsigned({"alg": "NONE", "kid": "one"}, claims())),
    "its signature was taken off": ("its signature", lambda: token().rpartition(".")[0] + "."),
    "the public key served as a shared secret": ("its algorithm 'HS256'", with_public_key_as_secret),
    "its algorithm is not allowed": ("its algorithm 'RS512'", lambda: token(algorithm="RS512")),
    "another key signed it": ("its signature is not by the key", lambda: token(OTHER_RSA)),
    "its key is not known": ("it names the key 'two'", lambda: token(header={"kid": "two"})),
    "its key id is a path": ("'../../dev/null'", lambda: token(header={"kid": "../../dev/null"})),
    "its key id is an address": ("it names the key", lambda: token(header={"kid": "https://evil.example/keys"})),
    "its header brings a key": (
        "it names the key 'two', and the issuer has 0 such keys",
        lambda: token(OTHER_RSA, header={"kid": "two", "jwk": public_jwk(OTHER_RSA, "two")}),
    ),
    "its header names where keys are": (
        "it names the key",
        lambda: token(header={"kid": "two", "jku": "https://evil.example/keys"}),
    ),
    "its header has something critical": ("not a well-formed JWT", lambda: token(header={"crit": ["exp"]})),
    "its claims were changed": (
        "its signature",
        lambda: ".".join(
            (token().split(".")[0], unsigned({}, claims(sub="root")).split(".")[1], token().split(".")[2])
        ),
    ),
    "its header is nested without end": (
        "not a well-formed JWT",
        lambda: unsigned({}, {}).replace("e30", jwt.jwt.utils.base64url_encode(b"[" * 6000).decode(), 1),
    ),
    "it is no token": ("not a well-formed JWT", lambda: "a.b.c"),
    "it is empty between the dots": ("not a well-formed JWT", lambda: ".."),
}


@pytest.mark.parametrize(("reason", "make"), BAD.values(), ids=BAD.keys())
async def test_an_invalid_token_is_refused_nothing_is_done_and_the_log_says_why(
    reason: str, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    engine, secret = FakeEngine(), make()
    async with asking(engine) as client:
        answer = await call(client, *bearer(secret).items())
    challenge = answer.headers["www-authenticate"]
    assert (answer.status_code, answer.json()["error"], engine.calls) == (401, "invalid_token", [])
    assert challenge.startswith("Bearer ")
    assert 'error="invalid_token"' in challenge
    assert f'resource_metadata="{PUBLIC_URL}/.well-known/oauth-protected-resource/mcp"' in challenge
    assert 'scope="connectors:read"' in challenge
    (line,) = [record.getMessage() for record in caplog.records if record.name.endswith("authorization")]
    assert line.startswith("A token was refused: ")
    assert reason in line
    assert not [part for part in secret.split(".") if len(part) > 8 and part in caplog.text]


def test_refused_tokens_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = RefusalLog(clock)
    for _ in range(3 * REFUSALS_LOGGED):
        log.log("it has expired")
    assert len(caplog.records) == REFUSALS_LOGGED + 1
    assert "not logged" in caplog.text
    clock.now += 60
    log.log("another reason")
    assert "another reason" in caplog.text


async def test_a_request_without_a_token_is_referred_to_the_issuer() -> None:
    async with asking(FakeEngine()) as client:
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
async def test_each_endpoint_has_its_own_metadata(path: str, metadata: str) -> None:
    async with asking(FakeEngine()) as client:
        refused = await client.get(path)
    wanted = f'resource_metadata="{PUBLIC_URL}/.well-known/oauth-protected-resource{metadata}"'
    assert (refused.status_code, wanted in refused.headers["www-authenticate"]) == (401, True)


async def test_the_metadata_checks_host_and_origin() -> None:
    path = "/.well-known/oauth-protected-resource/mcp"
    async with asking(FakeEngine()) as client:
        host = await client.get(path, headers={"Host": "evil.example"})
        origin = await client.get(path, headers={"Origin": "https://evil.example"})
    assert (host.status_code, origin.status_code) == (421, 403)


@pytest.mark.parametrize(
    "granted",
    [
        {"scope": "openid"},
        {"scope": ""},
        {"scope": None},
        {"scp": ["connectors:*"]},
        {"roles": ["connectors:*", "connectors:admin", 7]},
        {"roles": "connectors:read"},
        {"roles": {"connectors:read": True}},
        # Where a client was given scopes, the roles of its person give it no others.
        {"scope": "", "roles": ["connectors:read"]},
        {"scp": "openid", "roles": ["connectors:destroy"]},
        {"permissions": [], "roles": ["connectors:read"]},
    ],
)
async def test_a_token_without_a_known_scope_is_told_the_first_one(
    granted: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine()
    async with asking(engine) as client:
        answer = await call(client, *bearer(token(**{"scope": None, **granted})).items())
    challenge = answer.headers["www-authenticate"]
    assert (answer.status_code, answer.json()["error"], engine.calls) == (403, "insufficient_scope", [])
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="connectors:read"' in challenge
    assert "no scope of this server" in caplog.text


@pytest.mark.parametrize(
    "granted",
    [
        {"scope": "openid connectors:read connectors:write"},
        {"scope": None, "scp": ["connectors:read", "connectors:write", 7]},
        {"scope": None, "scp": "connectors:write connectors:read"},
        {"scope": "connectors:read", "permissions": ["connectors:write", "connectors:other"]},
        {"scope": None, "roles": ["connectors:write", "connectors:read", "Reader", 7]},
        {"scope": None, "scp": ["connectors:read", "connectors:write"], "roles": ["connectors:destroy"]},
    ],
)
async def test_a_caller_has_the_name_and_scopes_of_its_token(granted: dict[str, Any]) -> None:
    async with asking(FakeEngine()) as client:
        answer = await call(client, *bearer(token(**granted)).items())
    told = answer.json()["result"]["structuredContent"]
    assert (told["principal"], told["scopes"]) == (f"{ISSUER}#alice", ["connectors:read", "connectors:write"])


@pytest.mark.parametrize(
    ("claim", "profiles"),
    [(["a", "b", 7], {"a", "b"}), ("a b", {"a", "b"}), ("", {""}), ({"a": "b"}, set()), (None, set())],
)
async def test_a_caller_may_act_under_the_profiles_that_the_claim_names_and_without_it_under_none(
    claim: Any, profiles: set[str]
) -> None:
    signed = token(teams=claim)
    principal = await Issuer().oauth(profiles_claim="teams").verify(signed)
    assert principal.profiles == profiles
    assert (await Issuer().oauth().verify(signed)).profiles is None


@pytest.mark.parametrize("query", ["access_token", "token", "ACCESS_TOKEN", "q"])
@pytest.mark.parametrize("beside", [True, False])
async def test_a_token_in_the_query_is_always_refused(query: str, beside: bool) -> None:
    engine, secret = FakeEngine(), token()
    async with asking(engine) as client:
        answer = await call(client, *(bearer(secret).items() if beside else ()), **{query: secret})
    assert (answer.status_code, answer.json()["error"], engine.calls) == (400, "invalid_request", [])
    assert 'error="invalid_request"' in answer.headers["www-authenticate"]
    assert secret not in answer.text


async def test_a_token_in_the_query_is_refused_even_if_none_is_required() -> None:
    engine = FakeEngine()
    async with asking(engine, Callers()) as client:
        answer = await call(client, x="cmcp_something")
    assert (answer.status_code, engine.calls) == (400, [])


async def test_two_authorization_headers_are_refused() -> None:
    engine, good = FakeEngine(), ("Authorization", f"Bearer {token()}")
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
    assert await accepts(oauth, token(key, algorithm, header={"typ": kind}))


@pytest.mark.parametrize(
    "members", [{"use": "enc"}, {"alg": "RS512"}, {"alg": "none"}, {"kty": "oct", "k": "c2VjcmV0"}, {"n": "!"}]
)
async def test_a_key_is_used_only_for_its_published_purpose(members: dict[str, Any]) -> None:
    oauth = Issuer(keys=[public_jwk(RSA, "one", **members)]).oauth()
    assert not await accepts(oauth, token())


async def test_a_key_that_is_too_short_is_not_used() -> None:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - what is refused
    with pytest.warns(match="1024"):
        signed = token(weak)
    assert not await accepts(Issuer(keys=[public_jwk(weak, "one")]).oauth(), signed)


async def test_a_token_without_a_key_id_is_checked_with_the_only_key_that_fits() -> None:
    anonymous, other = token(header={"kid": None}), OTHER_RSA
    elliptic = public_jwk(ec.generate_private_key(ec.SECP256R1()), "two")
    alone = Issuer(keys=[public_jwk(RSA, None), elliptic])
    several = Issuer(keys=[public_jwk(RSA, None), public_jwk(other, "two")])
    assert await accepts(alone.oauth(), anonymous)
    assert not await accepts(several.oauth(), anonymous)


@pytest.mark.parametrize("configured", [(), (PUBLIC_URL,), (f"{PUBLIC_URL}/",)])
async def test_an_audience_with_the_slash_of_the_root_is_the_same(configured: tuple[str, ...]) -> None:
    oauth = Issuer().oauth(audiences=configured)
    assert await accepts(oauth, token(aud=PUBLIC_URL))
    assert await accepts(oauth, token(aud=f"{PUBLIC_URL}/"))
    for other in (f"{PUBLIC_URL}//", f"{PUBLIC_URL}/mcp/", f"{PUBLIC_URL}/?", PUBLIC_URL.upper(), "mcp.example/"):
        assert not await accepts(oauth, token(aud=other))
    assert not await accepts(Issuer().oauth(audiences=["api://connectors"]), token(aud="api://connectors/"))
    assert not await accepts(Issuer().oauth(audiences=["https://a.example/b"]), token(aud="https://a.example/b/"))


async def test_configured_audiences_replace_the_public_url() -> None:
    oauth = Issuer().oauth(audiences=["api://connectors"])
    assert await accepts(oauth, token(aud=["api://other", "api://connectors"]))
    assert not await accepts(oauth, token())


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS255"])
def test_only_known_private_key_algorithms_can_be_allowed(algorithm: str) -> None:
    with pytest.raises(Misconfigured, match="cannot be allowed") as caught:
        Issuer().oauth(algorithms=["RS256", algorithm])
    assert algorithm in caught.value.message


async def test_a_new_key_is_fetched_when_a_token_names_it() -> None:
    issuer, clock = Issuer(), Clock()
    oauth = issuer.oauth(keys=issuer.key_set(clock=clock))
    assert await accepts(oauth, token())
    issuer.keys.append(public_jwk(OTHER_RSA, "two"))
    rotated = token(OTHER_RSA, header={"kid": "two"})
    clock.now += jwt.UNKNOWN_KEY_SECONDS - 1
    with pytest.raises(VerificationUnavailable) as caught:
        await oauth.verify(rotated)
    clock.now += caught.value.retry_after
    assert await accepts(oauth, rotated)
    assert len(issuer.asked) == 2


async def test_made_up_key_ids_delay_a_new_key_by_seconds_and_known_keys_not_at_all() -> None:
    issuer, clock = Issuer(), Clock()
    oauth = issuer.oauth(keys=issuer.key_set(clock=clock))
    rotated, numbers = bearer(token(OTHER_RSA, header={"kid": "next"})), count()
    async with asking(FakeEngine(), Callers(oauth=oauth)) as client:

        async def made_up() -> list[int]:
            secrets = [token(OTHER_RSA, header={"kid": f"made-up-{next(numbers)}"}) for _ in range(5)]
            return [(await call(client, *bearer(secret).items())).status_code for secret in secrets]

        await made_up()
        clock.now += jwt.UNKNOWN_KEY_SECONDS
        assert await made_up() == [401, 503, 503, 503, 503], "one of them is looked up"
        issuer.keys.append(public_jwk(OTHER_RSA, "next"))
        early = await call(client, *rotated.items())
        assert (early.status_code, early.headers["retry-after"]) == (503, "10")
        assert (await call(client, *bearer(token()).items())).status_code == 200
        clock.now += int(early.headers["retry-after"])
        await made_up()
        assert (await call(client, *rotated.items())).status_code == 200
        assert set(await made_up()) == {503}
        assert (await call(client, *rotated.items())).status_code == 200
    assert len(issuer.asked) == 3


async def test_a_token_that_cannot_be_valid_causes_no_fetch() -> None:
    issuer = Issuer()
    oauth = issuer.oauth(keys=issuer.key_set(clock=Clock()))
    for wrong in ({"exp": 1}, {"aud": "https://other.example"}, {"iss": "https://other.example"}, {"sub": ""}):
        assert not await accepts(oauth, token(header={"kid": "made-up"}, **wrong))
    assert issuer.asked == []


async def test_unknown_key_ids_do_not_cause_a_fetch_each() -> None:
    issuer = Issuer()
    keys = issuer.key_set(clock=Clock())
    with pytest.raises(TokenRefused):
        await keys.find("made-up", "RS256")
    for number in range(20):
        with pytest.raises(VerificationUnavailable):
            await keys.find(f"made-up-{number}", "RS256")
    assert len(issuer.asked) == 1


async def test_a_withdrawn_key_is_refused_after_a_while() -> None:
    issuer, clock = Issuer(), Clock()
    oauth = issuer.oauth(keys=issuer.key_set(clock=clock))
    secret = token()
    assert await accepts(oauth, secret)
    issuer.keys[:] = [public_jwk(OTHER_RSA, "two")]
    assert await accepts(oauth, secret)
    clock.now += jwt.FRESH_SECONDS + 1
    for _ in range(3):
        assert not await accepts(oauth, secret), "its holder is sent to the issuer, not told to wait"
    assert len(issuer.asked) == 2


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
async def test_unavailable_keys_refuse_tokens_of_the_issuer_with_retry_after(status: int) -> None:
    engine = FakeEngine()
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
    assert await accepts(issuer.oauth(keys=issuer.key_set(None)), token())
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


@pytest.mark.parametrize("trusted", [True, False])
async def test_an_issuer_on_loopback_may_have_a_certificate_of_a_private_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    folder = tmp_path / "certificates"
    certify(folder)
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "tls.crt") if trusted else certifi.where())
    documents = [Route("/keys", lambda _: JSONResponse({"keys": [public_jwk(RSA, "one")]}))]
    options = {"ssl_certfile": folder / "tls.crt", "ssl_keyfile": folder / "tls.key"}
    async with served(Starlette(routes=documents), **options) as origin:
        for host in ("127.0.0.1", "localhost"):
            address = origin.replace("http://127.0.0.1", f"https://{host}")
            keys = jwt.KeySet(address, f"{address}/keys")
            if trusted:
                assert await keys.check() == 1
            else:
                with pytest.raises(jwt.KeysUnavailable):
                    await keys.check()


@pytest.mark.parametrize(
    "address", ["http://login.example", "ftp://login.example", "login.example", "https://", "https://u:p@login.example"]
)
def test_an_unsafe_url_is_a_configuration_error(address: str) -> None:
    for public, issuer, keys in ((address, ISSUER, None), (PUBLIC_URL, address, None), (PUBLIC_URL, ISSUER, address)):
        with pytest.raises(Misconfigured) as caught:
            jwt.KeySet(ProtectedResource(PublicAddress.read(public), issuer).issuer, keys)
        assert "u:p" not in caught.value.message


async def test_a_session_belongs_to_its_subject_and_outlasts_its_token() -> None:
    ping = message("ping", 2)
    callers = Callers([StaticToken.from_secret("static", name="alice")], oauth=Issuer().oauth())
    async with asking(FakeEngine(), callers) as client:
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
