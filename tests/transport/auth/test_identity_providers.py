"""Tokens of pipelines and of employees: the grants by which clients get them, with the code that the page shows."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import jwt
import pytest
from mcp.client import Client
from mcp.client.auth import OAuthTokenError
from mcp.client.streamable_http import streamable_http_client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from connector_mcp.transport.auth.authorization import Callers, ProtectedResource
from connector_mcp.transport.auth.jwt import JwtVerifier, KeySet
from connector_mcp.transport.http.addresses import PublicAddress
from tests.documents import BY_NAME
from tests.end_to_end.faces import served
from tests.nginx import free_port
from tests.transport.auth.issuer import OTHER_RSA, RSA, Memory, public_jwk
from tests.transport.conftest import FakeEngine, serving

pytestmark = pytest.mark.anyio

READ = "vectorize_get_source_connectors"
SECRET = "secret-of-the-client"
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass
class Issuer:
    """An issuer on loopback; `grant` answers a request for a token. `asked` has the requests that it granted."""

    key: Any
    grant: Callable[[Issuer, dict[str, str]], dict[str, Any]]
    url: str = ""
    trusts: Issuer | None = None
    asked: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def app(self) -> Starlette:
        async def metadata(_: Request) -> JSONResponse:
            return JSONResponse(
                {
                    "issuer": self.url,
                    "authorization_endpoint": f"{self.url}/authorize",
                    "token_endpoint": f"{self.url}/token",
                    "jwks_uri": f"{self.url}/keys",
                    "response_types_supported": ["code"],
                    "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
                }
            )

        async def keys(_: Request) -> JSONResponse:
            return JSONResponse({"keys": [public_jwk(self.key, "one")]})

        async def token(request: Request) -> JSONResponse:
            asked = {name: str(value) for name, value in (await request.form()).items()}
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            if scheme == "Basic":
                name, _, secret = base64.b64decode(given).decode().partition(":")
                asked |= {"client_id": name, "client_secret": secret}
            try:
                answer = self.grant(self, asked)
            except (PermissionError, jwt.PyJWTError) as refusal:
                return JSONResponse({"error": "invalid_grant", "error_description": str(refusal)}, 400)
            self.asked.append(asked)
            return JSONResponse(answer)

        return Starlette(
            routes=[
                Route("/.well-known/oauth-authorization-server", metadata),
                Route("/keys", keys),
                Route("/token", token, methods=["POST"]),
            ]
        )

    def sign(self, typ: str = "at+jwt", **claims: Any) -> str:
        now = int(time.time())
        every = {"iss": self.url, "iat": now, "exp": now + 300, "jti": str(now), **claims}
        return jwt.encode(every, self.key, "RS256", headers={"kid": "one", "typ": typ})

    def read(self, signed: str, audience: str, typ: str) -> dict[str, Any]:
        """The claims of a token that this issuer signed."""
        if jwt.get_unverified_header(signed).get("typ") != typ:
            raise PermissionError("the token is of another type")
        return jwt.decode(signed, self.key.public_key(), ["RS256"], audience=audience, issuer=self.url)


@asynccontextmanager
async def running(issuer: Issuer) -> AsyncGenerator[Issuer]:
    async with served(issuer.app()) as issuer.url:
        yield issuer


@asynccontextmanager
async def resource_server(issuer: Issuer, engine: Any) -> AsyncGenerator[str]:
    """The address of a server that takes tokens of the issuer, and no others."""
    port = free_port()
    resource = ProtectedResource(PublicAddress(f"http://127.0.0.1:{port}"), issuer.url)
    callers = Callers(oauth=JwtVerifier(resource, KeySet(issuer.url)))
    async with serving(engine, port=port, callers=callers) as address:
        yield f"{address}/mcp"


def shown() -> dict[str, Any]:
    """The functions that the page shows."""
    names: dict[str, Any] = {}
    for block in BY_NAME["docs/identity-providers.md"].blocks("python"):
        exec(compile(block.text, "docs/identity-providers.md", "exec"), names)  # noqa: S102
    return names


async def call(server: str, auth: Any, tool: str = READ) -> dict[str, Any]:
    """What the engine was told of a call."""
    async with (
        httpx2.AsyncClient(auth=auth, timeout=30) as http,
        Client(streamable_http_client(server, http_client=http)) as client,
    ):
        answer = await client.call_tool(tool, {})
    assert answer.structured_content is not None
    return answer.structured_content


async def status_with(server: str, token: str) -> int:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient(timeout=30) as http:
        return (await http.post(server, json=ping, headers=headers)).status_code


# Pipelines -----------------------------------------------------------------------------------------------------------


def grant_to_pipeline(issuer: Issuer, asked: dict[str, str]) -> dict[str, Any]:
    if asked["grant_type"] != "client_credentials" or asked.get("client_secret") != SECRET:
        raise PermissionError("not the secret of this client")
    allowed = {"connectors:read", "connectors:write"}
    scope = " ".join(sorted(set(asked["scope"].split()) & allowed))
    token = issuer.sign(sub=asked["client_id"], client_id=asked["client_id"], aud=asked["resource"], scope=scope)
    return {"access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": scope}


async def test_a_pipeline_gets_a_token_with_client_credentials_and_calls_as_itself() -> None:
    engine, memory = FakeEngine(), Memory()
    async with running(Issuer(RSA, grant_to_pipeline)) as issuer, resource_server(issuer, engine) as server:
        auth = shown()["credentials_of_the_pipeline"](server, memory, SECRET, issuer.url)
        told = await call(server, auth)
        wrong = shown()["credentials_of_the_pipeline"](server, Memory(), "another secret", issuer.url)
        with pytest.raises(BaseExceptionGroup) as refused:
            await call(server, wrong)
    assert (told["principal"], told["scopes"]) == (f"{issuer.url}#pipeline", ["connectors:read"])
    assert refused.group_contains(OAuthTokenError)
    assert engine.calls == [READ]


# Employees -----------------------------------------------------------------------------------------------------------


def grant_id_jag(provider: Issuer, asked: dict[str, str]) -> dict[str, Any]:
    """The company's identity provider: exchanges an ID token of an employee who may use the server for an ID-JAG."""
    kinds = asked["grant_type"], asked["requested_token_type"], asked["subject_token_type"]
    if kinds != (TOKEN_EXCHANGE, ID_JAG, ID_TOKEN):
        raise PermissionError("not the exchange of an ID token")
    person = provider.read(asked["subject_token"], asked["client_id"], "JWT")["sub"]
    if person != "alice":
        raise PermissionError("the policy does not let this person use the server")
    claims = {"aud": asked["audience"], "resource": asked["resource"], "client_id": asked["client_id"]}
    token = provider.sign("oauth-id-jag+jwt", sub=person, scope=asked["scope"], **claims)
    return {"issued_token_type": ID_JAG, "access_token": token, "token_type": "N_A", "expires_in": 300}


def grant_for_id_jag(server: Issuer, asked: dict[str, str]) -> dict[str, Any]:
    """The authorization server of connector-mcp: exchanges an ID-JAG of the provider it trusts for an access token."""
    if asked["grant_type"] != JWT_BEARER or asked.get("client_secret") != SECRET or server.trusts is None:
        raise PermissionError("not the exchange of an ID-JAG")
    granted = server.trusts.read(asked["assertion"], server.url, "oauth-id-jag+jwt")
    if (granted["client_id"], granted["resource"]) != (asked["client_id"], asked["resource"]):
        raise PermissionError("the ID-JAG is for another client or resource")
    claims = {"client_id": granted["client_id"], "aud": granted["resource"], "scope": granted["scope"]}
    token = server.sign(sub=granted["sub"], **claims)
    return {"access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": granted["scope"]}


async def test_an_employee_calls_by_the_policy_of_the_companys_identity_provider() -> None:
    engine, scope = FakeEngine(), "connectors:read connectors:write"
    provider, issuer = Issuer(OTHER_RSA, grant_id_jag), Issuer(RSA, grant_for_id_jag)
    issuer.trusts = provider
    assertions: list[str] = []

    def employee(name: str) -> Any:
        id_token = provider.sign("JWT", sub=name, aud="assistant")

        async def id_jag(audience: str, resource: str) -> str:
            exchange = {"grant_type": TOKEN_EXCHANGE, "requested_token_type": ID_JAG, "subject_token_type": ID_TOKEN}
            exchange |= {"subject_token": id_token, "client_id": "assistant", "scope": scope}
            exchange |= {"audience": audience, "resource": resource}
            async with httpx2.AsyncClient() as http:
                answer = await http.post(f"{provider.url}/token", data=exchange)
            assertions.append(id_token)
            assertions.append(assertion := answer.raise_for_status().json()["access_token"])
            return assertion

        make = shown()["credentials_of_the_employee"]
        return make(server, Memory(), "assistant", SECRET, issuer.url, id_jag, scope)

    async with running(provider), running(issuer), resource_server(issuer, engine) as server:
        told = await call(server, employee("alice"))
        with pytest.raises(BaseExceptionGroup) as refused:
            await call(server, employee("mallory"))
        # Also where one issuer is both, neither an ID token nor an assertion is an access token.
        assertions.append(issuer.sign("JWT", sub="alice", aud="assistant", scope=scope))
        assertions.append(issuer.sign("oauth-id-jag+jwt", sub="alice", aud=server, client_id="assistant", scope=scope))
        statuses = [await status_with(server, assertion) for assertion in assertions]
        accepted = await status_with(server, issuer.sign(sub="alice", aud=server, client_id="assistant", scope=scope))
    assert (told["principal"], told["scopes"]) == (f"{issuer.url}#alice", scope.split())
    assert refused.group_contains(httpx2.HTTPStatusError)
    assert (engine.calls, len(provider.asked), len(issuer.asked)) == ([READ], 1, 1)
    # 400: let in, and then told that it has no session.
    assert (statuses, accepted) == ([401] * len(assertions), 400)
