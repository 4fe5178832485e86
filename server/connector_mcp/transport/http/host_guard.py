"""Host and Origin, checked on every route against exact lists.

A page in somebody's browser can reach a server on their machine: by name when DNS is made to lie, across origins
otherwise. The names a server answers to are few and known, so everything else is refused, health checks included.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from connector_mcp.errors import Misconfigured
from connector_mcp.transport.http.headers import values_of

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class Reach:
    """The values of Host (`name:port`) and Origin (`scheme://name:port`) that are let in, compared as they are."""

    hosts: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def of(cls, host: str, port: int, *, hosts: Collection[str] = (), origins: Collection[str] = ()) -> Self:
        """What a server bound to an address answers to: loopback names, its own address, and what is added.

        Raises:
            Misconfigured: An addition is a pattern. Patterns match by prefix elsewhere, and so let strangers in.
        """
        for value in (*hosts, *origins):
            if "*" in value or not value:
                raise Misconfigured(
                    f"{value!r} is not an exact host or origin.",
                    fix="Name each host as name:port and each origin as scheme://name:port.",
                )
        names = dict.fromkeys((*LOOPBACK_NAMES, f"[{host}]" if ":" in host else host))
        # Clients leave the port out where it is the scheme's own.
        own = [f"{name}:{port}" for name in names] + (list(names) if port == 80 else [])
        return cls(frozenset((*own, *hosts)), frozenset((*(f"http://{name}" for name in own), *origins)))

    def as_sdk_settings(self) -> TransportSecuritySettings:
        """The same lists for the SDK's transports, whose own check is off unless it is given them."""
        return TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=sorted(self.hosts),
            allowed_origins=sorted(self.origins),
        )


class HostAndOriginGuard:
    """ASGI middleware: 421 for a Host that is not ours, 403 for an Origin that may not ask, before anything else."""

    def __init__(self, app: ASGIApp, reach: Reach) -> None:
        self._app = app
        self._reach = reach

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        hosts, origins = values_of(scope, b"host"), values_of(scope, b"origin")
        if len(hosts) != 1 or hosts[0] not in self._reach.hosts:
            await PlainTextResponse("Invalid Host header", 421)(scope, receive, send)
        elif any(origin not in self._reach.origins for origin in origins):
            await PlainTextResponse("Invalid Origin header", 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Whether binding to this host keeps the server on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
