"""The wire to one platform's host, made once and when first needed."""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Callable
from urllib.request import getproxies, proxy_bypass

import httpx

from connector_mcp.upstream.addresses import is_local
from connector_mcp.upstream.exchange import HttpxWire, Wire
from connector_mcp.upstream.limits import Limits


def open_wire(base_url: httpx.URL, limits: Limits, now: Callable[[], float]) -> Wire:
    """Pooled HTTP/1.1 connections that follow the machine's proxy and certificate settings, except to this machine."""
    if base_url.scheme == "http":
        # Loading the certificate authorities takes 80 ms; an empty context trusts none.
        return _open_direct(limits, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), now)
    proxy = _find_proxy(base_url)
    if proxy is None:
        context = httpx.create_ssl_context()
        context.set_alpn_protocols(["http/1.1"])
        return _open_direct(limits, context, now)
    # Through a proxy httpx's own: it knows more kinds of them, and the way is long beside what is saved on it.
    pool = httpx.Limits(
        # Token requests do not wait for a slot among the calls, so they find a connection of their own.
        max_connections=limits.in_flight + 4,
        max_keepalive_connections=limits.in_flight,
        keepalive_expiry=limits.keep_alive,
    )
    return over_httpx(httpx.AsyncHTTPTransport(limits=pool, proxy=proxy), limits, now)


def over_httpx(transport: httpx.AsyncBaseTransport, limits: Limits, now: Callable[[], float]) -> Wire:
    """A wire over a given transport."""
    phases = {"connect": limits.connect, "read": limits.read, "write": limits.write, "pool": limits.connect}
    return HttpxWire(transport, answer_bytes=limits.answer_bytes, timeout=phases, now=now)


def warm_up() -> None:
    """Import what the first request would wait for. Takes up to half a second; fit for a thread of its own."""
    importlib.import_module("connector_mcp.upstream.aiohttp_transport")


def _open_direct(limits: Limits, verify: ssl.SSLContext, now: Callable[[], float]) -> Wire:
    # aiohttp takes 0.25 s to import, which no start waits for.
    from connector_mcp.upstream.aiohttp_transport import AiohttpTransport

    return AiohttpTransport(limits, verify, now=now)


def _find_proxy(base_url: httpx.URL) -> str | None:
    if is_local(base_url.host) or proxy_bypass(base_url.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(base_url.scheme) or proxies.get("all")
    if not proxy:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
