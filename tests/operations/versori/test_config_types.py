"""What holds for every config of Versori: auth schemes of both APIs, credentials, declarations of variables."""

from __future__ import annotations

from connector_mcp.operations.connector_types import connector_types

KINDS = [kind for kind in connector_types("versori").values() if kind.creatable]


def test_every_documented_type_with_a_shape_is_there() -> None:
    shapes = {"none", "api-key", "basic-auth", "oauth2", "oauth1", "hmac", "certificate"}
    credentials = {
        "none", "string", "binary", "basic-auth", "oauth2-client", "oauth2-code", "oauth2-password", "oauth2-token",
        "oauth1", "oauth1-token", "certificate",
    }  # fmt: skip
    wanted = {f"auth-scheme-{name}" for name in shapes} | {f"credential-{name}" for name in credentials}
    wanted |= {f"v1-auth-scheme-{name}" for name in shapes - {"oauth1"}} | {"variables-schema"}
    assert {kind.type for kind in KINDS} == wanted


def test_the_secrets_of_each_type_are_marked() -> None:
    secrets = {
        kind.type: {path.rpartition(".")[2] for path in kind.secret_paths} for kind in KINDS if kind.secret_paths
    }
    app = {"clientSecret", "additionalTokenParams"}
    assert secrets == {
        "auth-scheme-oauth1": {"consumerSecret"}, "auth-scheme-oauth2": app, "v1-auth-scheme-oauth2": app,
        "credential-string": {"value"}, "credential-binary": {"valueBase64"}, "credential-basic-auth": {"password"},
        "credential-oauth2-password": {"password"}, "credential-oauth2-client": {"clientSecret"},
        "credential-oauth2-token": {"refreshToken", "accessToken"}, "credential-oauth2-code": {"code", "state"},
        "credential-oauth1": {"oauthToken", "oauthVerifier", "state"},
        "credential-oauth1-token": {"token", "tokenSecret"}, "credential-certificate": {"key"},
    }  # fmt: skip
