import asyncio
import math

import httpx
import pytest

from connector_mcp.errors import Internal, InvalidArguments, Misconfigured
from connector_mcp.operations.conductorone.platform import CONDUCTORONE
from connector_mcp.operations.logto.platform import LOGTO
from connector_mcp.operations.platform import Request
from connector_mcp.operations.vectorize.platform import VECTORIZE
from connector_mcp.operations.versori.platform import PLATFORM_V2, VERSORI
from connector_mcp.upstream.client import ClientLimits, UpstreamClient
from connector_mcp.upstream.urls import build_target, is_local, read_address, read_base_url, read_roots

PATH = "/org/{organization_id}/connectors/{id}"


def make(value: str, **query: str | list[str]) -> Request:
    return Request("GET", "/connectors/{id}", {"id": value}, query)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("plain-1_~.x", "plain-1_~.x"),
        ("a/b", "a%2Fb"),
        ("50%", "50%25"),
        ("a%2Fb", "a%252Fb"),
        ("with space", "with%20space"),
        ("größe", "gr%C3%B6%C3%9Fe"),
        ("東京", "%E6%9D%B1%E4%BA%AC"),
        ("a?b#c&d=e+f", "a%3Fb%23c%26d%3De%2Bf"),
        ("{id}", "%7Bid%7D"),
        ("...", "..."),
        ("v1..2", "v1..2"),
        ("a:b@c", "a%3Ab%40c"),
    ],
)
def test_a_path_value_is_percent_encoded_whole(value: str, encoded: str) -> None:
    assert build_target(make(value), "tool") == f"/connectors/{encoded}"


@pytest.mark.parametrize(
    "value",
    ["", " ", ".", "..", "../x", "a/..", "a/./b", "..\\x", "%2e%2e", "%2E", "a%2F..%2Fb", "%2e%2e%5Cx", "a\ud800"],
)
def test_a_path_value_that_could_change_the_route_is_refused(value: str) -> None:
    with pytest.raises(InvalidArguments) as failure:
        build_target(make(value), "vectorize_get_source_connector")
    assert failure.value.issues[0].path == "id"
    assert failure.value.message.startswith("vectorize_get_source_connector: at id")


def test_query_values_are_encoded_and_lists_repeat_the_name() -> None:
    assert build_target(make("1", q="a b&c", tag=["x", "ü/"]), "t") == "/connectors/1?q=a%20b%26c&tag=x&tag=%C3%BC%2F"
    assert build_target(make("1", tag=[]), "t") == "/connectors/1"


def test_a_placeholder_without_a_value_is_an_internal_error_and_is_never_sent() -> None:
    with pytest.raises(Internal, match=r"no value for \{id\}"):
        build_target(Request("GET", "/connectors/{id}"), "tool")


def test_half_a_surrogate_in_the_query_is_refused() -> None:
    with pytest.raises(InvalidArguments):
        build_target(make("1", q="\udcff"), "t")


@pytest.mark.parametrize(
    "address",
    [
        "http://api.example",
        "ftp://api.example",
        "api.example",
        "https://",
        "https://user:pa55word@api.example",
        "https://api.example/?x=1",
        "https://api.example/#top",
        "https://api.example?",
        "http://127.0.0.1.example",
        "http://sandbox.invalid.example",
        "http://localhost.example",
        "http://10.0.0.1",
        "http://[2001:db8::1]",
        "https://api.example:notaport",
        "nonsense\n",
    ],
)
def test_an_address_that_is_not_safe_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(Misconfigured) as failure:
        read_base_url(LOGTO, {"LOGTO_ENDPOINT": address})
    assert "LOGTO_ENDPOINT" in failure.value.message
    assert "LOGTO_ENDPOINT" in failure.value.fix
    assert "pa55word" not in f"{failure.value.message} {failure.value.fix}"


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("https://Auth.Example/", "https://auth.example"),
        ("https://auth.example/tenant-1//", "https://auth.example/tenant-1"),
        ("https://auth.example:8443", "https://auth.example:8443"),
        ("http://127.0.0.1:3001", "http://127.0.0.1:3001"),
        ("http://127.8.9.1", "http://127.8.9.1"),
        ("http://[::1]:3001/", "http://[::1]:3001"),
        ("http://localhost:3001", "http://localhost:3001"),
        ("http://logto.sandbox.invalid", "http://logto.sandbox.invalid"),
    ],
)
def test_a_safe_address_is_kept_without_its_trailing_slash(address: str, base: str) -> None:
    assert str(read_base_url(LOGTO, {"LOGTO_ENDPOINT": address})) == base


@pytest.mark.parametrize(
    "address",
    [
        "HTTPS://A.Example/", "https://a.example:443/v1", "https://a.example:/v1", "http://127.0.0.1:80",
        "http://[::1]:3001/v1/", "https://größe.example/pfad/ü", "https://日本.example", "https://xn--gre-6ka8i.example",
        "https://a.example./x//y", "https://a_b.example/a%2Fb/~t/(x)!$&'*+,;=:@-._", 'https://a.example/a"<>`{}',
    ],
)  # fmt: skip
def test_an_address_is_read_as_httpx_does(address: str) -> None:
    assert str(read_address(address)) == str(httpx.URL(address)).rstrip("/")


@pytest.mark.parametrize(
    "address",
    [
        "https://1.2.3.999", "https://a.example:65536", "https://a.example:0", "https://a.example/../b",
        "https://a.example/a/%2e%2E/b", "https://a.example/a\\..\\b", "https://a.example\\@b.example",
        "https://a example", "https://a.example/a b", "https://a%2eexample", "https://[fe80::1%25eth0]",
        "https://[::1", "https://☃.example", f"https://{'x' * 64}.example", "https://a..example",
        "https://a.example/\ud800", "https://a.example/\t",
    ],
)  # fmt: skip
def test_an_address_that_could_be_read_in_two_ways_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(ValueError) as failure:
        read_address(address)
    assert "example" not in str(failure.value)
    assert "1" not in str(failure.value)


def test_the_default_address_serves_where_none_is_set() -> None:
    assert str(read_base_url(VECTORIZE, {})) == "https://api.vectorize.io/v1"


def test_an_address_can_be_derived_from_the_client_id() -> None:
    values = {"CONDUCTORONE_CLIENT_ID": "fox-1@acme.conductor.one/pcc"}
    assert str(read_base_url(CONDUCTORONE, values)) == "https://acme.conductor.one"


def test_a_missing_address_is_named() -> None:
    with pytest.raises(Misconfigured, match="LOGTO_ENDPOINT is not set"):
        read_base_url(LOGTO, {})
    with pytest.raises(Misconfigured, match="CONDUCTORONE_BASE_URL is not set"):
        read_base_url(CONDUCTORONE, {"CONDUCTORONE_CLIENT_ID": "bare"})


def test_only_this_machine_is_local() -> None:
    assert is_local("127.0.0.2")
    assert is_local("::1")
    assert not is_local("sandbox.invalid")
    assert not is_local("0.0.0.0")  # noqa: S104 - an address to judge, not to bind


@pytest.mark.anyio
async def test_the_encoded_path_reaches_a_real_socket_unchanged() -> None:
    lines: list[bytes] = []
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while head := await reader.readline():
            lines.append(head)
            while (await reader.readline()).strip():
                pass
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        values = {"VECTORIZE_API_KEY": "k", "VECTORIZE_BASE_URL": f"http://127.0.0.1:{port}/v1/"}
        async with UpstreamClient(VECTORIZE, values, limits=ClientLimits(requests_per_second=math.inf)) as client:
            values = {"organization_id": "o%2E%2F/ö", "id": "a b/..x%25"}
            for _ in range(2):
                assert (await client.send(Request("GET", PATH, values, {"q": "a/b c%"}))).body == {}
    expected = b"GET /v1/org/o%252E%252F%2F%C3%B6/connectors/a%20b%2F..x%2525?q=a%2Fb%20c%25 HTTP/1.1\r\n"
    assert lines == [expected, expected]
    assert connections == 1


DERIVED = ("https://versori.example/gate/api/connect/v1", "https://versori.example/gate/api/v2")


@pytest.mark.parametrize(
    ("base", "given", "root"),
    [
        (None, None, "https://platform.versori.com/api/v2"),
        (DERIVED[0], None, DERIVED[1]),
        (f"{DERIVED[0]}/", None, DERIVED[1]),
        ("http://127.0.0.1:8800/versori/api/connect/v1", None, "http://127.0.0.1:8800/versori/api/v2"),
        (DERIVED[0], "https://VERSORI.example:443/other/", "https://versori.example/other"),
        ("https://versori.example/v1", "https://versori.example/v2", "https://versori.example/v2"),
    ],
)
def test_the_root_of_a_further_api_follows_from_the_base_url_or_is_set(base: str, given: str, root: str) -> None:
    named = {"VERSORI_BASE_URL": base, "VERSORI_PLATFORM_URL": given}
    roots = read_roots(VERSORI, {name: value for name, value in named.items() if value is not None})
    assert str(roots[PLATFORM_V2]) == root
    assert str(roots[None]) == (base or "https://platform.versori.com/api/connect/v1").rstrip("/")


@pytest.mark.parametrize(
    ("base", "given"),
    [
        ("https://versori.example/v1", None),
        ("https://versori.example/xapi/connect/v1x", None),
        (DERIVED[0], "https://elsewhere.example/api/v2"),
        (DERIVED[0], "https://versori.example:8443/api/v2"),
        (DERIVED[0], "http://versori.example/api/v2"),
        (DERIVED[0], "https://versori.example/api/../v2"),
        (DERIVED[0], "https://me:pa55word@versori.example/api/v2"),
        (DERIVED[0], "nonsense"),
    ],
)
def test_a_root_that_is_missing_unsafe_or_at_another_origin_is_refused(base: str, given: str | None) -> None:
    values = {"VERSORI_BASE_URL": base} | ({"VERSORI_PLATFORM_URL": given} if given else {})
    with pytest.raises(Misconfigured) as failure:
        read_roots(VERSORI, values)
    assert "VERSORI_PLATFORM_URL" in failure.value.message
    assert "VERSORI_PLATFORM_URL" in failure.value.fix
    assert "pa55word" not in f"{failure.value.message} {failure.value.fix}"


def test_a_platform_with_one_api_has_one_root() -> None:
    assert list(read_roots(VECTORIZE, {})) == [None]
