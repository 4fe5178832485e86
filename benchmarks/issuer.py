"""An identity provider that has issued one token: its keys over loopback HTTP, and the token."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

AUDIENCE: Final = "benchmark"


@dataclass(frozen=True)
class Issued:
    """The token, and what a server needs to be told to take it."""

    token: str
    variables: dict[str, str]


@contextmanager
def issuer() -> Generator[Issued]:
    """An issuer for as long as the context is open."""
    key = rsa.generate_private_key(65537, 2048)
    published = {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "one", "alg": "RS256"}
    body = json.dumps({"keys": [published]}).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the standard library's
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        claims = {
            "iss": address,
            "aud": AUDIENCE,
            "sub": "benchmark",
            "iat": int(time.time()),
            "exp": int(time.time()) + 3600,
            "scope": "connectors:read connectors:write",
        }
        yield Issued(
            jwt.encode(claims, key, "RS256", {"kid": "one"}),
            {
                "CONNECTOR_MCP_OAUTH_ISSUER": address,
                "CONNECTOR_MCP_OAUTH_JWKS_URL": f"{address}/keys",
                "CONNECTOR_MCP_OAUTH_AUDIENCE": AUDIENCE,
                "CONNECTOR_MCP_PUBLIC_URL": "http://127.0.0.1:1",
            },
        )
        server.shutdown()
