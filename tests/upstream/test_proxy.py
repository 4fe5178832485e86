"""The machine's settings on the way to a platform: which are used or refused, and what is blamed on the proxy."""

import asyncio
import codecs
import contextlib
import math
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import certifi
import httpx
import pytest

from connector_mcp import errors
from connector_mcp.errors import Misconfigured
from connector_mcp.operations.logto.platform import LOGTO
from connector_mcp.operations.platform import Platform
from connector_mcp.operations.vectorize.platform import VECTORIZE
from connector_mcp.upstream.client import ClientLimits, UpstreamClient
from connector_mcp.upstream.proxy import ProxyRefusal, bypasses_proxy, check_way, find_proxy, make_ssl_context
from connector_mcp.upstream.urls import read_address
from tests.upstream.conftest import CREATE, PUT, READ, VALUES, Rig, no_pause

API = read_address("https://api.example")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment without any setting of the way."""
    for name in ("https_proxy", "http_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def used(address: str) -> str | None:
    proxy = find_proxy(read_address(address))
    return proxy.url if proxy else None


def test_the_machines_proxy_is_used_but_not_for_this_machine(machine: pytest.MonkeyPatch) -> None:
    assert used("https://api.example") is None
    machine.setenv("all_proxy", "http://other.example:1")
    assert used("https://api.example") == "http://other.example:1"
    machine.setenv("https_proxy", "\ufeff proxy.example:3128 ")
    machine.setenv("no_proxy", "direct.example")
    assert used("https://api.example") == "http://proxy.example:3128"
    for direct in ("https://direct.example", "https://localhost", "http://127.0.0.1:1", "http://x.sandbox.invalid"):
        assert used(direct) is None, direct


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    "proxy",
    [
        "socks5://u:pa55@p.example", "socks5h://p.example", "SOCKS4://p.example", "http://", "http://[p", "ftp://p",
        "http://p:pa55", "http://p:0", "http://p:65536", "://p", "http:///p", "http://a b", '"http://p:3128"',
        "${PROXY}", "http://${PROXY}:3128", "http://u:{{PA55}}@p", "'http://p'", "<proxy>", "http://p..example",
    ],
)  # fmt: skip
def test_a_proxy_that_cannot_be_used_is_named_without_repeating_it(
    machine: pytest.MonkeyPatch, name: str, proxy: str
) -> None:
    machine.setenv(name, proxy)
    with pytest.raises(Misconfigured, match=name) as failure:
        find_proxy(API)
    assert "pa55" not in f"{failure.value.message} {failure.value.fix}".lower()
    assert [problem.message for problem in check_way(API)] == [failure.value.message]


@pytest.mark.parametrize(
    ("no_proxy", "direct", "proxied"),
    [
        ("api.example", "api.example:443 v1.api.example:8443", "example:443 xapi.example:443"),
        ("example", "api.example:443 example:443", "example.org:443 notexample:443"),
        (".example", "api.example:443 a.b.example:1 example:443", "notexample:443"),
        ("*.example", "api.example:443 a.b.example:1", "notexample:443 example.org:443"),
        ("api.example:8443", "api.example:8443 v1.api.example:8443", "api.example:443"),
        (".example:8443", "api.example:8443", "api.example:443"),
        ("*.example:8443", "api.example:8443", "api.example:443"),
        ("API.Example., other", "api.example:443 api.example.:443 other:1", "api.example.org:443"),
        ("10.1.2.3", "10.1.2.3:443", "10.1.2.4:443 110.1.2.3:443"),
        ("10.1.2.3:8443", "10.1.2.3:8443", "10.1.2.3:443"),
        ("10.0.0.0/8", "10.1.2.3:443 10.255.0.1:8443", "11.0.0.1:443 api.example:443"),
        ("10.1.2.3/8", "10.9.9.9:443", "11.0.0.1:443"),
        ("2001:db8::/32", "[2001:db8::1]:443", "[2001:db9::1]:443 10.0.0.1:443"),
        ("2001:db8::1", "[2001:db8::1]:443", "[2001:db8::2]:443"),
        ("[2001:db8::1]", "[2001:db8::1]:443", "[2001:db8::2]:443"),
        ("[2001:db8::1]:8443", "[2001:db8::1]:8443", "[2001:db8::1]:443"),
        ("localhost, 127.0.0.1 ,10.0.0.0/8,api.example", "api.example:443 10.1.1.1:443", "b.example:443"),
        ("a.example b.example", "a.example:443 b.example:443", "c.example:443"),
        ('"api.example,b.example"', "api.example:443 b.example:443", "c.example:443"),
        ("*", "api.example:443 10.1.2.3:8443", ""),
        ("api.*.example", "api.eu.example:443", "api.example:443"),
        ("", "", "api.example:443"),
        (" , ,., ", "", "api.example:443"),
    ],
)
def test_no_proxy_is_read_in_its_usual_forms(
    machine: pytest.MonkeyPatch, no_proxy: str, direct: str, proxied: str
) -> None:
    machine.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    machine.setenv("NO_PROXY", no_proxy)
    assert [used(f"https://{host}") for host in direct.split()] == [None] * len(direct.split())
    assert all(used(f"https://{host}") for host in proxied.split())


def test_no_proxy_never_raises_whatever_it_holds() -> None:
    for odd in (
        "[",
        "]:1",
        ":",
        "::",
        "/",
        "10.0.0.0/99",
        "[::1",
        "*:*",
        "a:99999999999999999999",
        "\ufeff",
        "é.example",
    ):
        assert bypasses_proxy(odd, "api.example", 443) is False


@pytest.mark.parametrize(
    "content",
    [None, b"", b"no certificates", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
     b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"0\x82\x01\x0a\xff\xfe", b"\xff\xfe", b"\xef"],
)  # fmt: skip
def test_a_ca_file_that_holds_no_certificate_is_named(
    tmp_path: Path, machine: pytest.MonkeyPatch, content: bytes | None
) -> None:
    file = tmp_path / "authority.pem"
    if content is not None:
        file.write_bytes(content)
    machine.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(Misconfigured, match="SSL_CERT_FILE") as failure:
        make_ssl_context()
    assert [problem.message for problem in check_way(API)] == [failure.value.message]


def test_a_path_to_certificates_is_used_as_it_is_meant_or_refused(tmp_path: Path, machine: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    for name, value in [
        ("SSL_CERT_FILE", f'"{certifi.where()}"'), ("SSL_CERT_FILE", f"'{certifi.where()}'"),
        ("SSL_CERT_FILE", "${CA}"), ("SSL_CERT_FILE", str(tmp_path)), ("SSL_CERT_DIR", str(tmp_path / "none")),
        ("SSL_CERT_DIR", str(tmp_path / "empty")), ("SSL_CERT_DIR", certifi.where()), ("SSL_CERT_DIR", '"/etc"'),
    ]:  # fmt: skip
        with machine.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(Misconfigured, match=name):
                make_ssl_context()
    machine.setenv("SSL_CERT_FILE", f"\ufeff{certifi.where()} ")
    assert make_ssl_context().verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_does_not_hide_the_first_certificate(
    tmp_path: Path, machine: pytest.MonkeyPatch, encoding: str
) -> None:
    text = Path(certifi.where()).read_text("utf-8")
    text = "é\n" + text[text.index("-----BEGIN") :] if encoding == "utf-16" else text[text.index("-----BEGIN") :]
    file = tmp_path / "authority.pem"
    file.write_text(text, encoding)
    assert file.read_bytes()[:2] in (codecs.BOM_UTF8[:2], codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    machine.setenv("SSL_CERT_FILE", str(file))
    assert make_ssl_context().cert_store_stats()["x509"] == text.count("-----BEGIN CERTIFICATE")


@contextlib.asynccontextmanager
async def behind_proxy(
    machine: pytest.MonkeyPatch, answer: bytes, platform: Platform
) -> AsyncIterator[tuple[UpstreamClient, list[bytes]]]:
    """A client whose proxy gives this answer to CONNECT and hangs up, and the heads that the proxy got."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        machine.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        limits = ClientLimits(requests_per_second=math.inf)
        async with UpstreamClient(platform, VALUES[platform.name], limits=limits, sleep=no_pause) as client:
            yield client, heads


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "kind", "attempts"),
    [
        (b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n", Misconfigured, 1),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", errors.Unreachable, 1),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", errors.Unreachable, 1),
        (b"HTTP/1.1 502 Away\r\nContent-Length: 0\r\n\r\n", errors.Unreachable, 4),
        (b"", errors.Unreachable, 4),
        (b"220 mail.example ESMTP\r\n\r\n", errors.Unreachable, 4),
    ],
)
async def test_a_failure_of_the_proxy_is_blamed_on_the_proxy_and_nothing_counts_as_sent(
    machine: pytest.MonkeyPatch, answer: bytes, kind: type[errors.ConnectorError], attempts: int
) -> None:
    cases = [(VECTORIZE, "api.vectorize.io", each) for each in (READ, CREATE, PUT)]
    # The request for a token is on the same way.
    for platform, host, request in [*cases, (LOGTO, "acme.logto.app", READ)]:
        async with behind_proxy(machine, answer, platform) as (client, heads):
            with pytest.raises(errors.ConnectorError, match="sent") as failure:
                await client.send(request)
            assert type(failure.value) is kind
            assert "HTTPS_PROXY" in failure.value.message
            assert failure.value.retryable is (attempts > 1)
            assert len(heads) == attempts
            assert all(head.startswith(f"CONNECT {host}:443 ".encode()) for head in heads)


@pytest.mark.anyio
async def test_a_refusing_proxy_does_not_make_a_broken_attempt_known(rig: Rig) -> None:
    r = rig("vectorize", httpx.ReadError("reset"), ProxyRefusal(407))
    await r.fails(errors.OutcomeUnknown, PUT)


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "value"), [("ALL_PROXY", "socks5://p.example"), ("SSL_CERT_FILE", "/no/such/ca.pem")])
async def test_a_wrong_setting_ends_a_call_before_anything_opens(
    machine: pytest.MonkeyPatch, name: str, value: str
) -> None:
    machine.setenv(name, value)
    async with UpstreamClient(VECTORIZE, {"VECTORIZE_API_KEY": "k"}) as client:
        for request in (READ, CREATE):
            with pytest.raises(Misconfigured, match=rf"{name}.*nothing was sent"):
                await client.send(request)
