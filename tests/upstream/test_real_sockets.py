"""The client with its own transport against a server that misbehaves on a real socket."""

import asyncio
import contextlib
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from connector_mcp import errors
from connector_mcp.operations.platform import Request
from connector_mcp.operations.vectorize.platform import VECTORIZE
from connector_mcp.upstream.client import ClientLimits, UpstreamClient
from tests.passing_time import let_pass
from tests.upstream.conftest import CREATE, READ, no_pause

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
FINE = HEAD + b"Content-Length: 2\r\n\r\n{}"

READ_SECONDS = 30.0
DEADLINE = 600.0

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(behave: Behaviour) -> AsyncIterator[tuple[UpstreamClient, list[bytes]]]:
    """A client of a server that does `behave` once it has read each request's head."""
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                requests.append(await reader.readuntil(b"\r\n\r\n"))
                await behave(reader, writer)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    values = {"VECTORIZE_API_KEY": "k", "VECTORIZE_BASE_URL": f"http://127.0.0.1:{port}"}
    bounds = ClientLimits(requests_per_second=math.inf, read=READ_SECONDS, deadline=DEADLINE)
    async with server, UpstreamClient(VECTORIZE, values, limits=bounds, sleep=no_pause) as client:
        yield client, requests


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()
    raise ConnectionError


async def cut_short(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b'Content-Length: 100\r\n\r\n{"a":')
    await hang_up(_, writer)


async def truncate_json(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b'Content-Length: 5\r\n\r\n{"a":')


async def stay_silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    let_pass(READ_SECONDS)


async def send_fifty_megabytes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for _i in range(50):
        writer.write(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
        await writer.drain()
    writer.write(b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("behave", "read", "written", "reads"),
    [
        (hang_up, errors.UpstreamFailed, errors.OutcomeUnknown, 4),
        (cut_short, errors.UpstreamFailed, errors.OutcomeUnknown, 4),
        (stay_silent, errors.TimedOut, errors.OutcomeUnknown, 4),
        (truncate_json, errors.Malformed, errors.OutcomeUnknown, 1),
        (send_fifty_megabytes, errors.TooLarge, errors.OutcomeUnknown, 1),
    ],
)
async def test_each_way_to_misbehave_has_its_error_and_a_create_is_sent_once(
    behave: Behaviour, read: type[errors.ConnectorError], written: type[errors.ConnectorError], reads: int
) -> None:
    async with serving(behave) as (client, requests):
        with pytest.raises(errors.ConnectorError) as failure:
            await client.send(READ)
        assert type(failure.value) is read
        assert len(requests) == reads
        with pytest.raises(errors.ConnectorError) as failure:
            await client.send(CREATE)
        assert type(failure.value) is written
        assert sum(request.startswith(b"POST") for request in requests) == 1


async def test_after_a_body_was_given_up_the_next_call_works() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(requests) == 1:
            await send_fifty_megabytes(reader, writer)
        else:
            writer.write(FINE)

    async with serving(behave) as (client, requests):
        with pytest.raises(errors.TooLarge):
            await client.send(READ)
        assert (await client.send(READ)).body == {}


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_server_that_takes_no_more_bytes_ends_at_the_deadline_with_an_unknown_outcome() -> None:
    gone = asyncio.Event()

    async def take_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()
        let_pass(DEADLINE)
        await gone.wait()
        raise ConnectionError

    async with serving(take_nothing) as (client, requests):
        with pytest.raises(errors.OutcomeUnknown, match="within 600 s"):
            await client.send(Request("POST", "/things", body="x" * 16_000_000))
        gone.set()
        assert len(requests) == 1


@pytest.mark.parametrize("request_", [READ, CREATE])
async def test_a_refused_connection_is_unreachable_and_nothing_was_sent(request_: Request) -> None:
    with socket.socket() as taken:
        # Bound but not listening: no other process gets the port, and connections to it are refused.
        taken.bind(("127.0.0.1", 0))
        values = {"VECTORIZE_API_KEY": "k", "VECTORIZE_BASE_URL": f"http://127.0.0.1:{taken.getsockname()[1]}"}
        async with UpstreamClient(VECTORIZE, values, sleep=no_pause) as client:
            with pytest.raises(errors.Unreachable, match="was not sent"):
                await client.send(request_)
