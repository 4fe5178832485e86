"""The wire over TLS: whom it trusts, and what is never sent to others."""

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from connector_mcp.upstream import wire_errors
from connector_mcp.upstream.exchange import Reply
from connector_mcp.upstream.retries import has_bad_certificate
from tests.upstream.raw_server import FINE, failed, fetch, says, serving, wire_to

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return file


@pytest.fixture
def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


async def test_a_server_that_speaks_no_tls_was_never_sent_the_request() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(FINE)
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    origin = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, contextlib.aclosing(wire_to(origin)) as wire:
        assert failed(await fetch(wire, origin + "/", "POST")) is wire_errors.ConnectError


async def test_a_tls_handshake_that_never_ends_is_a_connect_timeout() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    origin = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, contextlib.aclosing(wire_to(origin, connect=0.05)) as wire:
        assert failed(await fetch(wire, origin + "/", "POST")) is wire_errors.ConnectTimeout


async def test_tls_is_spoken_to_who_is_trusted_and_the_connection_is_kept(
    server_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    writers: set[Any] = set()
    sent = bytes(range(256)) * 4096

    async def answer(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        assert await reader.readexactly(len(sent)) == sent
        writer.write(FINE)

    async with serving(answer, server_context, trusting) as (wire, origin, _):
        for _i in range(3):
            assert await fetch(wire, origin + "/", "POST", sent) == Reply(200, b"{}")
        assert len(writers) == 1


async def test_a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent(
    server_context: ssl.SSLContext,
) -> None:
    async with serving(says(FINE), server_context) as (wire, origin, heads):
        outcome = await fetch(wire, origin + "/", "POST")
        assert failed(outcome) is wire_errors.ConnectError
        assert isinstance(outcome, wire_errors.WireError)
        assert has_bad_certificate(outcome)
        assert heads == []


async def test_a_certificate_of_another_name_is_refused_before_anything_is_sent(
    server_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with serving(says(FINE), server_context) as (_, origin, heads):
        elsewhere = origin.replace("127.0.0.1", "localhost")
        async with contextlib.aclosing(wire_to(elsewhere, trusting)) as wire:
            outcome = await fetch(wire, elsewhere + "/", "POST")
        assert isinstance(outcome, wire_errors.ConnectError)
        assert has_bad_certificate(outcome)
        assert heads == []


@pytest.mark.parametrize("proper", [True, False])
async def test_a_body_that_ends_with_the_tls_connection_needs_a_proper_end(
    server_context: ssl.SSLContext, trusting: ssl.SSLContext, proper: bool
) -> None:
    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n{}")
        await writer.drain()
        if proper:
            writer.close()
            await writer.wait_closed()
        # Without the word of TLS that says that this is all: anybody on the way can do that.
        raise ConnectionError

    async with serving(answer, server_context, trusting) as (wire, origin, _):
        outcome = await fetch(wire, origin + "/")
        if proper:
            assert outcome == Reply(200, b"{}")
        else:
            assert failed(outcome) is wire_errors.RemoteProtocolError
