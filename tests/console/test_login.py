"""Who gets in, and for how long."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from connector_mcp.console.access import FAILURES_PER_NETWORK, IDLE_SECONDS, MAX_SECONDS
from connector_mcp.console.rendering import HEADERS
from connector_mcp.errors import Misconfigured
from tests.console.conftest import HERE, PUBLIC, TOKEN, Browser, House
from tests.records import rows

pytestmark = pytest.mark.anyio

PAGES = ["/console", "/console/history", "/console/calls", "/console/platforms", "/console/approvals/ap-222222",
         "/console/calls/019a", "/console/calls/export", "/console/connectors", "/console/connector"]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_requires_signing_in(browser: Browser, path: str) -> None:
    answer = await browser.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/console/login")


async def test_the_login_leads_back_to_the_requested_page(browser: Browser) -> None:
    asked = await browser.get("/console/approvals/ap-222222")
    login = await browser.get(asked.headers["location"])
    assert 'name="next" value="/console/approvals/ap-222222"' in login.text
    answer = await browser.submit("/console/login", token=TOKEN, next="/console/approvals/ap-222222")
    assert answer.headers["location"] == "/console/approvals/ap-222222"


@pytest.mark.parametrize("path", ["https://evil.example", "//evil.example", "/console/../mcp", "/console/logout", ""])
async def test_the_login_leads_to_no_other_site(browser: Browser, path: str) -> None:
    answer = await browser.submit("/console/login", token=TOKEN, next=path)
    assert answer.headers["location"] == "/console"


@pytest.mark.parametrize("token", ["", "mistaken", TOKEN[:-1], f"{TOKEN}x", "\udcff", "ünïcode"])
async def test_a_wrong_token_is_refused_and_not_repeated(browser: Browser, house: House, token: str) -> None:
    answer = await browser.submit("/console/login", token=token.encode("utf-8", "replace").decode())
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert rows(house.database, "SELECT * FROM console_sessions") == []
    assert not token or token not in answer.text


@pytest.mark.parametrize(
    ("base", "prefix", "expected"), [(HERE, "", {"path=/console"}), (PUBLIC, "__Host-", {"path=/", "secure"})]
)
async def test_the_cookie_is_out_of_reach_of_scripts_other_sites_and_hosts(
    house: House, base: str, prefix: str, expected: set[str]
) -> None:
    async with house.browser(base) as browser:
        cookie = (await browser.log_in()).headers["set-cookie"]
        assert (await browser.get("/console")).status_code == 200
    name, *flags = cookie.split("; ")
    assert name.startswith(f"{prefix}connector-mcp-console=")
    assert {flag.lower() for flag in flags} == {"httponly", "samesite=strict", *expected}


async def test_signing_in_over_http_from_another_machine_is_refused(house: House) -> None:
    async with house.browser("http://mcp.example.com") as browser:
        own = {"Sec-Fetch-Site": "same-origin"}
        answer = await browser.submit("/console/login", token=TOKEN, headers=own)
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert "https is required" in answer.text


async def has_session(house: House, key: str) -> bool:
    """Whether a browser with this key is signed in, at any replica."""
    async with house.browser() as other:
        other.cookies.set("connector-mcp-console", key, domain="127.0.0.1", path="/console")
        return "alice" in (await other.get("/console")).text


async def test_a_session_lasts_from_its_login_to_the_next_or_to_the_logout(browser: Browser, house: House) -> None:
    browser.cookies.set("connector-mcp-console", "fixed-by-somebody", domain="127.0.0.1", path="/console")
    keys = [(await browser.log_in()).cookies["connector-mcp-console"] for _ in range(2)]
    assert [await has_session(house, key) for key in ("fixed-by-somebody", *keys)] == [False, False, True]
    answer = await browser.submit("/console/logout", form_token=await browser.form_token())
    assert (answer.headers["location"], "Max-Age=0" in answer.headers["set-cookie"]) == ("/console/login", True)
    assert not await has_session(house, keys[1])


async def test_the_store_holds_neither_key_nor_token(operator: Browser, house: House) -> None:
    (session,) = rows(house.database, "SELECT * FROM console_sessions")
    key = operator.cookies["connector-mcp-console"]
    assert session["id"] == hashlib.sha256(key.encode()).hexdigest()
    assert not any(secret in str(value) for secret in (key, TOKEN) for value in session.values())


async def test_an_unused_session_ends(operator: Browser, house: House) -> None:
    house.clock.now += IDLE_SECONDS - 1
    assert (await operator.get("/console")).status_code == 200
    house.clock.now += IDLE_SECONDS - 1
    assert (await operator.get("/console")).status_code == 200
    house.clock.now += IDLE_SECONDS + 1
    assert (await operator.get("/console")).status_code == 303


async def test_a_session_in_use_ends_after_its_maximum_time(operator: Browser, house: House) -> None:
    ends = house.clock.now + MAX_SECONDS
    while house.clock.now + IDLE_SECONDS / 2 < ends:
        house.clock.now += IDLE_SECONDS / 2
        assert (await operator.get("/console")).status_code == 200
    house.clock.now = ends
    assert (await operator.get("/console")).status_code == 303


async def test_a_session_ends_with_its_token(operator: Browser, house: House) -> None:
    house.tokens.clear()
    house.tokens["another token"] = "alice"
    assert (await operator.get("/console")).status_code == 303


async def test_ten_wrong_tokens_lock_a_network_out(browser: Browser, house: House) -> None:
    for _ in range(FAILURES_PER_NETWORK):
        assert (await browser.log_in("wrong")).status_code == 403
    refused = await browser.log_in()
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert "set-cookie" not in refused.headers


async def test_one_network_does_not_lock_out_another(house: House) -> None:
    app = house.app()
    async with Browser(app, HERE, "2001:db8::1") as guesser:
        for _ in range(FAILURES_PER_NETWORK):
            await guesser.log_in("wrong")
    neighbor, stranger = (Browser(app, HERE, address) for address in ("2001:db8::2", "2001:db8:0:1::1"))
    async with neighbor, stranger:
        assert (await neighbor.log_in()).status_code == 429
        assert (await stranger.log_in()).status_code == 303


async def test_without_operators_the_console_is_closed_and_names_the_setting(house: House) -> None:
    await house.park()
    async with house.browser(operators=False) as browser:
        for path in ("/console", "/console/login", "/console/approvals/ap-222222"):
            answer = await browser.get(path)
            assert answer.status_code == 404
            assert "CONNECTOR_MCP_OPERATORS_FILE" in answer.text
            assert "GitHub" not in answer.text
        assert (await browser.log_in()).status_code in (404, 405)


class Unreadable(dict[str, str]):
    def get(self, *_: object) -> Any:
        raise Misconfigured("/etc/secret-place/operators.toml: entry 1 has no digest.", fix="Correct it.")


async def test_a_file_of_operators_that_cannot_be_read_closes_the_login_and_is_not_named(house: House) -> None:
    house.tokens = Unreadable()
    async with house.browser() as browser:
        answer = await browser.log_in()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "secret-place" not in answer.text


@pytest.mark.parametrize("path", [*PAGES, "/console/login", "/console/nowhere", "/console/static/console.css"])
async def test_every_response_has_the_security_headers(operator: Browser, house: House, path: str) -> None:
    answer = await operator.get(path)
    for name, value in HEADERS.items():
        if name != "Cache-Control" or "/static/" not in path:
            assert answer.headers[name] == value
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_pages_comply_with_their_content_security_policy(operator: Browser, house: House) -> None:
    approval = await house.park_update()
    for path in ("/console", f"/console/approvals/{approval.id}", "/console/login", "/console/calls"):
        text = (await operator.get(path)).text
        assert "style=" not in text
        assert "<style" not in text
        assert "onclick" not in text
        assert text.count("<script") == 1
        assert 'src="/console/static/console.js' in text


async def test_an_unknown_host_gets_no_page(browser: Browser) -> None:
    assert (await browser.get("/console/login", headers={"Host": "rebound.example:8765"})).status_code == 421
