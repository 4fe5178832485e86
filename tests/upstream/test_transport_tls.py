"""The transport over TLS and through a proxy: which servers it trusts, and what is never sent to others."""

import asyncio
import contextlib
import datetime
import gzip
import ipaddress
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from connector_mcp.upstream.client import ClientLimits
from connector_mcp.upstream.proxy import ProxyRefusal, make_ssl_context
from connector_mcp.upstream.responses import RawResponse
from connector_mcp.upstream.retries import has_bad_certificate
from connector_mcp.upstream.transport import AiohttpTransport
from tests.upstream.raw_server import FINE, fetch, never_sent, says, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


def make_certificate(file: Path, common_name: str, *names: x509.GeneralName) -> Path:
    """A certificate that signs itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) + private)
    return file


def serve_with(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return make_certificate(tmp_path_factory.mktemp("tls") / "certificate.pem", "somebody", address)


@pytest.fixture
def trusting(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return make_ssl_context()


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


@pytest.fixture
def tls(certificate: Path, trusting: ssl.SSLContext) -> Contexts:
    """A server with a certificate, and a client that trusts it."""
    return serve_with(certificate), trusting


def refused_certificate(result: object) -> bool:
    return type(result) is httpx.ConnectError and has_bad_certificate(result)


async def test_a_server_that_speaks_no_tls_was_never_sent_the_request() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(FINE)
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    origin = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, contextlib.aclosing(AiohttpTransport(ClientLimits())) as transport:
        result = await fetch(transport, origin + "/", "POST")
        assert never_sent(result) is httpx.ConnectError


async def test_a_tls_handshake_that_never_ends_was_never_sent() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    origin = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, contextlib.aclosing(AiohttpTransport(ClientLimits(connect=0.05))) as transport:
        result = await fetch(transport, origin + "/", "POST")
        assert never_sent(result) is httpx.ConnectTimeout


async def test_a_trusted_tls_connection_is_kept(tls: Contexts) -> None:
    writers: set[Any] = set()
    body = bytes(range(256)) * 2048

    async def answer(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        assert await reader.readexactly(len(body)) == body
        writer.write(FINE)

    async with serving(answer, *tls) as (transport, origin, _):
        for _i in range(3):
            assert await fetch(transport, origin + "/", "POST", body) == RawResponse(200, b"{}")
        assert len(writers) == 1


async def test_an_untrusted_certificate_is_refused_before_anything_is_sent(certificate: Path) -> None:
    async with serving(says(FINE), serve_with(certificate), make_ssl_context()) as (transport, origin, heads):
        result = await fetch(transport, origin + "/", "POST")
        assert refused_certificate(result)
        assert heads == []


async def test_a_certificate_for_another_name_is_refused(tls: Contexts) -> None:
    async with serving(says(FINE), *tls) as (transport, origin, heads):
        result = await fetch(transport, origin.replace("127.0.0.1", "localhost") + "/", "POST")
        assert refused_certificate(result)
        assert heads == []


async def test_a_common_name_only_certificate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = make_certificate(tmp_path / "common-name.pem", "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serving(says(FINE), serve_with(certificate), make_ssl_context()) as (transport, origin, heads):
        result = await fetch(transport, origin.replace("127.0.0.1", "localhost") + "/", "POST")
        assert refused_certificate(result)
        assert heads == []


@contextlib.asynccontextmanager
async def proxying(answer: bytes | None = None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A proxy's URL, and the heads of the requests it got. It connects, or answers CONNECT with `answer`."""
    heads: list[bytes] = []
    tasks: list[asyncio.Task[None] | None] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is not None:
            writer.write(answer)
            writer.close()
            return
        host, _, port = heads[-1].split(b" ")[1].decode().rpartition(":")
        there_in, there_out = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(copy(reader, there_out), copy(there_in, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://user:pass@127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
        await asyncio.gather(*filter(None, tasks))


async def test_a_proxied_request_checks_the_certificate(tls: Contexts) -> None:
    async with (
        proxying() as (proxy, connects),
        serving(says(FINE), *tls, proxy) as (transport, origin, heads),
    ):
        for _ in range(2):
            assert await fetch(transport, origin + "/x", "POST", Authorization="k") == RawResponse(200, b"{}")
        assert [head.split(b"\r\n")[0] for head in heads] == [b"POST /x HTTP/1.1"] * 2
        authority = origin.removeprefix("https://").encode()
        assert [head.split(b"\r\n")[0] for head in connects] == [b"CONNECT %b HTTP/1.1" % authority]
        assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in connects[0]
        assert b"Authorization: k" not in connects[0]
        result = await fetch(transport, origin.replace("127.0.0.1", "localhost") + "/", "POST")
        assert refused_certificate(result)
        assert len(heads) == 2


@pytest.mark.parametrize("status", [b"403 No", b"407 Who", b"502 Away"])
async def test_a_refusing_proxy_gets_no_request(tls: Contexts, status: bytes) -> None:
    async with (
        proxying(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n") as (proxy, _),
        serving(says(FINE), *tls, proxy) as (transport, origin, heads),
    ):
        result = await fetch(transport, origin + "/", "POST")
        assert never_sent(result) is ProxyRefusal
        assert heads == []


async def test_a_proxy_that_cannot_be_reached_was_never_sent_the_request(trusting: ssl.SSLContext) -> None:
    transport = AiohttpTransport(ClientLimits(), trusting, "http://127.0.0.1:1")
    async with contextlib.aclosing(transport):
        result = await fetch(transport, "https://api.example/", "POST")
        assert never_sent(result) is httpx.ProxyError


async def test_a_doubly_compressed_answer_through_a_proxy_is_refused_before_it_is_decompressed(tls: Contexts) -> None:
    packed = gzip.compress(gzip.compress(bytes(10_000_000)) * 20)
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    async with (
        proxying() as (proxy, _),
        serving(says(answer), *tls, proxy) as (transport, origin, _),
    ):
        tracemalloc.start()
        try:
            assert await fetch(transport, origin + "/") == RawResponse(200, unreadable=True)
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
        finally:
            tracemalloc.stop()
