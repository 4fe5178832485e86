"""The pages on which secrets are entered: what they show, and what they take."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from connector_mcp.console.secret_pages import secret_pages
from connector_mcp.engine.secret_refs.secret_requests import MOST_TRIES, TTL, SecretRequest, SecretRequests
from connector_mcp.secrets.encrypted import EncryptedFile, KeyFile
from connector_mcp.transport.auth.principal import VerificationUnavailable
from connector_mcp.transport.http.host_guard import HostAndOriginGuard, Reach
from tests.console.conftest import HERE, PUBLIC, Browser, House

pytestmark = pytest.mark.anyio

VALUE = "marked-secret"
PEM = "-----BEGIN KEY-----\nmarked\n-----END KEY-----"


class Pages:
    """The pages, a browser, and the request of `agent-a`."""

    def __init__(self, house: House, path: Path) -> None:
        self.clock = house.clock
        self.stored = EncryptedFile(path / "secrets.enc", KeyFile(path / "secrets.key"))
        self.requests = SecretRequests(house.database, self.stored)
        routes = secret_pages(self.requests, identify=self._identify, anonymous="anonymous")
        reach = Reach.for_address("127.0.0.1", 8765, hosts=["mcp.example.com"], origins=[PUBLIC])
        self.app = Starlette(routes=routes, middleware=[Middleware(HostAndOriginGuard, reach=reach)])
        self.browser = Browser(self.app, HERE, "127.0.0.1")

    async def _identify(self, token: str) -> str | None:
        if token == "unknowable":
            raise VerificationUnavailable("the issuer is away", retry_after=7)
        return {"token-a": "agent-a", "token-b": "agent-b"}.get(token)

    async def opened(self) -> SecretRequest:
        call = {"tool": "logto_create_connector", "platform": "logto", "profile": "<b>default</b>", "digest": "d"}
        request = await self.requests.open(
            SecretRequest(name="GITHUB", principal="agent-a", fields=("config.clientSecret",), **call)
        )
        assert request is not None
        return request

    async def submit(self, request: SecretRequest, *, headers: Any = None, **fields: str) -> httpx.Response:
        path = f"/secrets/{request.id}"
        shown = re.findall(r'name="form_token" value="(\w+)"', (await self.browser.get(path)).text)
        right = {"form_token": "".join(shown), "token": "token-a", "code": await self.requests.code(request)}
        return await self.browser.submit(path, headers=headers, **(right | fields))


@pytest.fixture
async def pages(house: House, tmp_path: Path) -> AsyncGenerator[Pages]:
    made = Pages(house, tmp_path)
    yield made
    await made.browser.aclose()


async def test_the_page_shows_the_purpose_but_no_code_and_no_foreign_markup(pages: Pages) -> None:
    request = await pages.opened()
    shown = await pages.browser.get(f"/secrets/{request.id}")
    for told in ("GITHUB", "logto_create_connector", "config.clientSecret", "&lt;b&gt;default"):
        assert told in shown.text
    code = await pages.requests.code(request)
    assert code not in shown.text
    assert code.replace("-", "") not in str(shown.url)
    assert "frame-ancestors 'none'" in shown.headers["content-security-policy"]
    assert shown.headers["cache-control"] == "no-store"
    assert shown.headers["x-frame-options"] == "DENY"
    cookie = shown.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    for asset in re.findall(r'(?:href|src)="(/secrets/static/[^"]+)"', shown.text):
        assert (await pages.browser.get(asset)).status_code == 200


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"value": VALUE}, VALUE),
        ({"value": f" {VALUE}"}, f" {VALUE}"),
        ({"lines": PEM.replace("\n", "\r\n") + "\r\n"}, PEM),
        ({"value": "é" * 32_768}, "é" * 32_768),
    ],
)
async def test_a_value_is_stored_as_entered(pages: Pages, fields: dict[str, str], kept: str) -> None:
    request = await pages.opened()
    done = await pages.submit(request, **fields)
    assert done.status_code == 200
    assert "You can close this page" in done.text
    assert kept not in done.text
    assert pages.stored.read("GITHUB") == kept


async def test_used_late_unknown_and_void_pages_look_the_same(pages: Pages) -> None:
    used = await pages.opened()
    await pages.submit(used, value=VALUE)
    pages.stored.remove("GITHUB")
    late = await pages.opened()
    pages.clock.now += TTL
    void = await pages.opened()
    await pages.requests.withdraw(void.id)
    bodies = set[str]()
    for request_id, status in ((used.id, 404), (late.id, 404), (void.id, 410), ("x" * 32, 404), ("x" * 9_999, 404)):
        shown = await pages.browser.get(f"/secrets/{request_id}")
        sent = await pages.browser.submit(f"/secrets/{request_id}", value=VALUE, code="a", token="token-a")
        assert (shown.status_code, sent.status_code) == (status, status)
        bodies |= {shown.text, sent.text}
    assert len(bodies) == 1
    assert pages.stored.names() == []


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "https://evil.example"}, {"Origin": HERE, "Sec-Fetch-Site": "cross-site"}, {"Origin": PUBLIC}],
)
async def test_a_form_from_another_site_is_refused(pages: Pages, headers: dict[str, str]) -> None:
    request = await pages.opened()
    assert (await pages.submit(request, headers=headers, value=VALUE)).status_code == 403
    assert await pages.requests.get(request.id) == request


async def test_a_form_of_another_browser_or_request_is_refused(pages: Pages) -> None:
    request = await pages.opened()
    assert (await pages.submit(request, value=VALUE, form_token="0" * 64)).status_code == 403
    async with Browser(pages.app, HERE, "127.0.0.1") as other:
        shown = re.findall(r'name="form_token" value="(\w+)"', (await other.get(f"/secrets/{request.id}")).text)
    assert (await pages.submit(request, value=VALUE, form_token=shown[0])).status_code == 403
    assert await pages.requests.get(request.id) == request


@pytest.mark.parametrize(
    "wrong", [{"code": "aaaa-aaaa"}, {"code": "é"}, {"token": "token-b"}, {"token": "unknown"}, {"token": ""}]
)
async def test_a_wrong_code_or_principal_is_refused_and_the_page_closed(pages: Pages, wrong: dict[str, str]) -> None:
    request = await pages.opened()
    for _ in range(MOST_TRIES - 1):
        refused = await pages.submit(request, value=VALUE, **wrong)
        assert refused.status_code == 403
        assert "not the right code or token" in refused.text
        assert VALUE not in refused.text
    assert (await pages.submit(request, value=VALUE, **wrong)).status_code == 410
    assert (await pages.submit(request, value=VALUE)).status_code == 410
    assert pages.stored.names() == []


async def test_guessing_across_requests_is_throttled(pages: Pages) -> None:
    statuses: list[int] = []
    for number in range(3):
        request = await pages.opened()
        statuses += [(await pages.submit(request, value=VALUE, code=f"{number}")).status_code for _ in range(5)]
    assert statuses[-1] == 429


@pytest.mark.parametrize("fields", [{"value": " "}, {}, {"value": "x" * 65_537}, {"value": "x", "lines": "y"}])
async def test_an_invalid_value_can_be_entered_again(pages: Pages, fields: dict[str, str]) -> None:
    request = await pages.opened()
    assert (await pages.submit(request, **fields)).status_code == 400
    assert (await pages.submit(request, value=VALUE)).status_code == 200


async def test_nothing_is_accepted_while_tokens_cannot_be_checked(pages: Pages) -> None:
    request = await pages.opened()
    refused = await pages.submit(request, value=VALUE, token="unknowable")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "7")
    assert await pages.requests.get(request.id) == request


async def test_a_store_that_cannot_be_written_leaves_the_request_open(pages: Pages) -> None:
    request = await pages.opened()
    pages.stored.path.write_bytes(b"not ours")
    refused = await pages.submit(request, value=VALUE)
    assert refused.status_code == 503
    assert VALUE not in refused.text
    pages.stored.path.unlink()
    assert (await pages.submit(request, value=VALUE)).status_code == 200
