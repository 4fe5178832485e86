"""The transport to one platform's host, made once and when first needed."""

from __future__ import annotations

import ssl
from urllib.request import getproxies, proxy_bypass

import httpx

from connector_mcp.upstream.addresses import is_local
from connector_mcp.upstream.limits import Limits


def open_transport(base_url: httpx.URL, limits: Limits) -> httpx.AsyncBaseTransport:
    """A pooled HTTP/1.1 transport that follows the machine's proxy and certificate settings, except to this machine."""
    pool = httpx.Limits(
        # Token requests do not wait for a slot among the calls, so they find a connection of their own.
        max_connections=limits.in_flight + 4,
        max_keepalive_connections=limits.in_flight,
        keepalive_expiry=limits.keep_alive,
    )
    if base_url.scheme == "http":
        # Loading the certificate authorities takes 80 ms; an empty context trusts none.
        return httpx.AsyncHTTPTransport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), limits=pool)
    return httpx.AsyncHTTPTransport(limits=pool, proxy=_find_proxy(base_url))


def _find_proxy(base_url: httpx.URL) -> str | None:
    if is_local(base_url.host) or proxy_bypass(base_url.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(base_url.scheme) or proxies.get("all")
    if not proxy:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
