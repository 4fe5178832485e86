"""The machine's settings on the way to a platform: its proxy and its certificate authorities.

Read from the environment (and, where Python does so, from the settings of macOS and Windows), when the first request of
an account is sent and when `config check` asks.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import certifi
import httpx

from connector_mcp.errors import Misconfigured
from connector_mcp.input_text import check_expanded, decode, trim
from connector_mcp.upstream.urls import Address, is_local, read_host

_HASHED_NAME: Final = re.compile(r"[0-9a-f]{8}\.\d+")


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy. `setting` names the variable that it comes from."""

    url: str = field(repr=False)
    setting: str


class ProxyRefusal(httpx.ProxyError):
    """The proxy answered CONNECT with another status than 200, so nothing was sent."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def find_proxy(address: Address) -> Proxy | None:
    """Return the proxy that the machine's settings name for `address`. Requests to this machine use none.

    Raises:
        Misconfigured: The setting is not the address of an HTTP proxy.
    """
    # Imported here to save start-up time: it brings the standard library's HTTP client.
    from urllib.request import getproxies, proxy_bypass

    host = address.host
    if is_local(host) or bypasses_proxy(_variable("no")[1], host, address.effective_port) or proxy_bypass(host):
        return None
    proxies = getproxies()
    scheme = address.scheme if trim(proxies.get(address.scheme, "")) else "all"
    given = trim(proxies.get(scheme, ""))
    if not given:
        return None
    setting = _variable(scheme)[0] or "the system's proxy setting"
    check_expanded(setting, given)
    url = given if "://" in given else f"http://{given}"
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(read_host(parts.hostname or "")) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        is_socks = url.lower().startswith("socks")
        wrong = "names a SOCKS proxy, which is not supported" if is_socks else "is not the address of an HTTP proxy"
        raise Misconfigured(
            f"{setting} {wrong}; nothing was sent.",
            fix=f"Set {setting} to an address such as http://proxy.example:3128, or add {host} to NO_PROXY.",
        )
    return Proxy(url, setting)


def bypasses_proxy(no_proxy: str, host: str, port: int) -> bool:
    """Check whether NO_PROXY names the host: as host, `.domain`, `*.domain`, IP or CIDR, also with a port, or `*`."""
    host = host.rstrip(".")
    for given in re.split(r"[,\s]+", no_proxy.lower()):
        name, its_port = _split_port(given.strip("\"'"))
        if its_port not in (None, port) or not name:
            continue
        domain = name.removeprefix("*").strip(".")
        if name == "*" or host == domain or (domain and host.endswith(f".{domain}")) or _is_in_network(host, name):
            return True
        if "*" in domain and fnmatchcase(host, name):
            return True
    return False


def make_ssl_context() -> ssl.SSLContext:
    """Make a context that trusts the authorities in SSL_CERT_FILE or SSL_CERT_DIR, otherwise those of browsers.

    Raises:
        Misconfigured: The file or the directory is missing or holds no certificate.
    """
    file, folder = trim(os.environ.get("SSL_CERT_FILE", "")), trim(os.environ.get("SSL_CERT_DIR", ""))
    if file:
        context = _trust_file(file)
    elif folder:
        context = _trust_folder(folder)
    else:
        context = ssl.create_default_context(cafile=certifi.where())
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return context


def check_way(address: Address) -> list[Misconfigured]:
    """Return what is wrong with the machine's settings for requests to `address`."""
    problems: list[Misconfigured] = []
    checks: tuple[Callable[[], object], ...] = (lambda: find_proxy(address), make_ssl_context)
    for check in checks if address.scheme == "https" else ():
        try:
            check()
        except Misconfigured as problem:
            problems.append(problem)
    return problems


def _trust_file(file: str) -> ssl.SSLContext:
    check_expanded("SSL_CERT_FILE", file)
    wanted = "a file of certificates in PEM format"
    try:
        content = Path(file).read_bytes()
    except OSError as failure:
        raise _untrusted("SSL_CERT_FILE names a file", f"cannot be read: {failure.strerror}", wanted) from None
    try:
        # OpenSSL overlooks a certificate behind a byte order mark.
        text = decode(content).encode("ascii", "ignore").decode() if content[:1] in b"\xef\xff\xfe" else None
        return ssl.create_default_context(cadata=text) if text else ssl.create_default_context(cafile=file)
    except (OSError, ValueError):
        raise _untrusted("SSL_CERT_FILE names a file", "holds no certificate in PEM format", wanted) from None


def _trust_folder(folder: str) -> ssl.SSLContext:
    check_expanded("SSL_CERT_DIR", folder)
    try:
        # OpenSSL ignores a directory that is missing, and files under other names.
        if any(_HASHED_NAME.fullmatch(file.name) for each in folder.split(os.pathsep) for file in Path(each).iterdir()):
            return ssl.create_default_context(capath=folder)
        reason = "holds no certificate under a hashed name"
    except OSError as failure:
        reason = f"cannot be read: {failure.strerror or type(failure).__name__}"
    raise _untrusted("SSL_CERT_DIR names a directory", reason, "a directory that `openssl rehash` prepared")


def _untrusted(what: str, reason: str, wanted: str) -> Misconfigured:
    setting = what.partition(" ")[0]
    return Misconfigured(f"{what} that {reason}; nothing was sent.", fix=f"Set {setting} to {wanted}, or unset it.")


def _variable(scheme: str) -> tuple[str, str]:
    """Return name and value of a proxy variable; lower case comes first, as in other programs."""
    found = {name: value for name, value in os.environ.items() if name.lower() == f"{scheme}_proxy"}
    name = f"{scheme}_proxy" if f"{scheme}_proxy" in found else next(iter(found), "")
    return name, trim(found.get(name, ""))


def _split_port(name: str) -> tuple[str, int | None]:
    host, colon, port = name.rpartition(":")
    if colon and port.isdecimal() and (":" not in host or host.startswith("[")):
        return host.strip("[]"), int(port)
    return name.strip("[]"), None


def _is_in_network(host: str, name: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False
