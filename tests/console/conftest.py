"""A console in process, a browser of a kind, and calls that wait."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import jinja2
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from connector_mcp.audit.record import AuditRecord
from connector_mcp.console import rendering
from connector_mcp.console.pages import Console, Operators, console_pages
from connector_mcp.engine.approval.parked_call import Approval, ParkedCall
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.engine.engine import Engine
from connector_mcp.engine.preview import Change
from connector_mcp.json_values import JsonObject
from connector_mcp.state.sqlite import SqliteDatabase
from connector_mcp.transport.http.host_guard import HostAndOriginGuard, Reach
from tests.records import Clock, a_record, append

TOKEN = "operator-token-of-alice"
HERE = "http://127.0.0.1:8765"
PUBLIC = "https://mcp.example.com"


@pytest.fixture(scope="package", autouse=True)
def compiled_templates(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile each template once for all tests of a worker, which takes longer than most of them."""
    cache = jinja2.FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))
    rendering.Environment = partial(jinja2.Environment, bytecode_cache=cache)


@dataclass
class House:
    """The console's dependencies, as far as a test turns them."""

    database: SqliteDatabase
    clock: Clock
    tokens: dict[str, str] = field(default_factory=lambda: {TOKEN: "alice"})
    engine: Engine | None = None
    platforms: Sequence[JsonObject] = ()
    checks: int = 0

    def __post_init__(self) -> None:
        self.approvals = Approvals(self.database, ttl=3_600.0)
        self._recorded = 0

    def holds(self, digest: bytes) -> bool:
        return digest in {hashlib.sha256(token.encode()).digest() for token in self.tokens}

    async def record(self, *calls: JsonObject) -> None:
        """Write the audit records of calls, each with an id that begins with its time."""
        given = {"principal": "agent-7", "transport": "http", "tool": "logto_get_connector", "channel": "policy"}
        records: list[AuditRecord] = []
        for members in calls:
            self._recorded += 1
            own = {"call_id": f"{int(self.clock.now * 1000):012x}{self._recorded:020x}", "duration_ms": 12.0}
            records.append(a_record(**(own | given | members)))
        append(self.database, *records)

    async def check(self) -> Sequence[JsonObject]:
        self.checks += 1
        return self.platforms

    def app(self, *, operators: bool = True) -> Starlette:
        """The console behind the guard that the servers put before it."""
        known = Operators(self.tokens.get, self.holds) if operators else None
        console = Console(
            self.approvals, self.database, known, lambda: nullcontext(self.engine), self.check, clock=self.clock
        )
        origins = [PUBLIC, "https://app.example.com"]
        reach = Reach.for_address("127.0.0.1", 8765, hosts=["mcp.example.com"], origins=origins)
        return Starlette(routes=console_pages(console), middleware=[Middleware(HostAndOriginGuard, reach=reach)])

    def browser(self, base: str = HERE, *, operators: bool = True, address: str = "127.0.0.1") -> Browser:
        return Browser(self.app(operators=operators), base, address)

    async def park(self, **members: Any) -> Approval:
        """A deletion that waits."""
        call: dict[str, Any] = {
            "digest": f"digest {members}", "tool": "logto_delete_connector", "platform": "logto",
            "profile": "default", "principal": "agent-7", "client": "assistant 1.2",
            "effect": "Deletes connector “GitHub” with its credentials.", "target": "GitHub", "deletes": True,
            "arguments": {"id": "github-signin", "api_key": "[redacted]"},
            "snapshot": {"name": "GitHub", "config.clientId": "Iv1", "config.clientSecret": "[redacted]"},
            "fingerprint": "f1",
        }  # fmt: skip
        return await self.approvals.park(ParkedCall.model_validate(call | members))

    async def park_update(self) -> Approval:
        """An update that waits."""
        name = Change(field="name", before="Acme CRM", after="Acme")
        image = Change(field="imageURL", before="x.png", after=None)
        effect, losses = "Changes connector “Acme CRM”. Unsets imageURL.", ("Unsets imageURL (now x.png)",)
        call = {"tool": "versori_update_connector", "target": "Acme CRM", "deletes": False}
        return await self.park(**call, effect=effect, losses=losses, diff=(name, image))

    async def status(self, approval: Approval) -> str:
        return (await self.approvals.get(approval.id)).status


class Browser(httpx.AsyncClient):
    """Keeps cookies, and sends the headers that a browser sends with forms of its own pages."""

    def __init__(self, app: Starlette, base: str, address: str) -> None:
        super().__init__(transport=httpx.ASGITransport(app, client=(address, 50_000)), base_url=base)
        self.base = base

    async def submit(self, path: str, *, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
        """Send a form, as one of this console's own pages would."""
        own = {"Origin": self.base, "Sec-Fetch-Site": "same-origin"} if headers is None else headers
        return await self.post(path, data=fields, headers=own)

    async def decide(self, approval: Approval, verb: str, **fields: str) -> httpx.Response:
        """Send the form that approves or denies a call."""
        fields = {"form_token": await self.form_token(), **fields}
        return await self.submit(f"/console/approvals/{approval.id}/{verb}", **fields)

    async def log_in(self, token: str = TOKEN) -> httpx.Response:
        return await self.submit("/console/login", token=token)

    async def form_token(self) -> str:
        """What the forms of this session carry."""
        return re.findall(r'name="form_token" value="(\w+)"', (await self.get("/console")).text)[0]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncGenerator[House]:
    clock = Clock(1_800_000_000.0)
    database = SqliteDatabase(tmp_path / "records.db", wall_clock=clock)
    yield House(database, clock)
    await database.aclose()


@pytest.fixture
async def browser(house: House) -> AsyncGenerator[Browser]:
    """A browser that is not signed in."""
    async with house.browser() as browser:
        yield browser


@pytest.fixture
async def operator(browser: Browser) -> Browser:
    """A browser that is signed in as alice."""
    assert (await browser.log_in()).status_code == 303
    return browser
