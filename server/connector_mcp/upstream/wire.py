"""The wire to one platform's host, made once and when first needed."""

from __future__ import annotations

import importlib
import os
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

from connector_mcp.upstream.exchange import Wire
from connector_mcp.upstream.limits import Limits
from connector_mcp.upstream.urls import Address, is_local

if TYPE_CHECKING:
    import httpx


def open_wire(address: Address, limits: Limits, now: Callable[[], float]) -> Wire:
    """Pooled HTTP/1.1 connections that follow the machine's proxy and certificate settings, except to this machine."""
    # Imported here because no start needs it: a few milliseconds, which `warm_up` spends in the background.
    from connector_mcp.upstream.pool import PooledWire

    if address.scheme == "http":
        return PooledWire(address, limits, None, now)
    proxy = _find_proxy(address)
    return PooledWire(address, limits, _trust(), now) if proxy is None else _through(proxy, limits, now)


def over_httpx(transport: httpx.AsyncBaseTransport, limits: Limits, now: Callable[[], float]) -> Wire:
    """A wire over a given transport."""
    # Imported here because httpx takes 70 ms, and only sandboxes, tests and proxies need it.
    from connector_mcp.upstream.over_httpx import HttpxWire

    phases = {"connect": limits.connect, "read": limits.read, "write": limits.write, "pool": limits.connect}
    return HttpxWire(transport, answer_bytes=limits.answer_bytes, timeout=phases, now=now)


def warm_up() -> None:
    """Import what the first request would wait for; fit for a thread of its own."""
    importlib.import_module("connector_mcp.upstream.pool")


def _trust() -> ssl.SSLContext:
    """The authorities that SSL_CERT_FILE or SSL_CERT_DIR name, else those that browsers trust. Takes 80 ms."""
    if file := os.environ.get("SSL_CERT_FILE"):
        context = ssl.create_default_context(cafile=file)
    elif folder := os.environ.get("SSL_CERT_DIR"):
        context = ssl.create_default_context(capath=folder)
    else:
        import certifi

        context = ssl.create_default_context(cafile=certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


def _through(proxy: str, limits: Limits, now: Callable[[], float]) -> Wire:
    """By httpx's own pool: it knows more kinds of proxies, and the way is long beside what is saved on it."""
    import httpx

    pool = httpx.Limits(
        # Token requests do not wait for a slot among the calls, so they find a connection of their own.
        max_connections=limits.in_flight + 4,
        max_keepalive_connections=limits.in_flight,
        keepalive_expiry=limits.keep_alive,
    )
    return over_httpx(httpx.AsyncHTTPTransport(limits=pool, proxy=proxy), limits, now)


def _find_proxy(address: Address) -> str | None:
    if is_local(address.host) or proxy_bypass(address.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if not proxy:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
