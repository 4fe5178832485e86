"""Output other than results, logs and files: the operator's pages, metrics, spans, rows in PostgreSQL."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette

from connector_mcp.composition.http_access import make_access, make_console_pages
from connector_mcp.engine.engine import Engine
from connector_mcp.telemetry.export import Spans
from connector_mcp.telemetry.metrics import Metrics
from connector_mcp.telemetry.observer import Observer
from connector_mcp.transport.http.health import observability_pages
from connector_mcp.transport.http.shutdown import Drain
from tests.postgres_server import PostgresFixture

OPERATOR = "operator-token-of-alice"


class Watching:
    """Everything that can watch calls, and what it saw."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.metrics = Metrics("0.test")
        self.observer = Observer(self.metrics, Spans(provider))

    def spans(self) -> list[str]:
        """Name, attributes, events and status of every span."""
        # Without an indent Python's fast encoder is used.
        return [span.to_json(indent=None) for span in self.exporter.get_finished_spans()]


def operators_file(folder: Path) -> Path:
    """A file with one operator, alice."""
    path = folder / "operators.toml"
    digest = hashlib.sha256(OPERATOR.encode()).hexdigest()
    path.write_text(f'[[token]]\nname = "alice"\ndigest = "sha256:{digest}"\n')
    path.chmod(0o600)
    return path


@asynccontextmanager
async def operator(engine: Engine, watching: Watching, environ: Mapping[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A browser in which alice is signed in, at all pages of a server over HTTP that are for people."""
    pages = observability_pages(engine, Drain(engine.end_waiting), watching.metrics)
    app = Starlette(routes=[*make_console_pages(engine, environ, make_access(engine.settings)), *pages])
    base = "http://127.0.0.1:8765"
    own = {"Origin": base, "Sec-Fetch-Site": "same-origin"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base, headers=own) as browser:
        assert (await browser.post("/console/login", data={"token": OPERATOR})).status_code == 303
        yield browser


async def all_pages(browser: httpx.AsyncClient) -> dict[str, str]:
    """Every page, by path: the queue, each waiting call, decisions of two of them, and what is shown afterwards."""
    pages: dict[str, str] = {}

    async def show(path: str) -> str:
        answer = await browser.get(path)
        assert answer.status_code == 200, path
        pages[path] = answer.text
        return answer.text

    async def show_all(path: str) -> str:
        """Show a list, which is paged, from where it begins to both ends."""
        shown, links = dict[str, str](), [path]
        while links:
            if (link := links.pop()) not in shown:
                shown[link] = await show(link)
                links += map(html.unescape, re.findall(r'rel="(?:next|prev)" href="([^"]+)"', shown[link]))
        return "".join(shown.values())

    queue = await show_all("/console")
    waiting = sorted(set(re.findall(r'"(/console/approvals/[\w-]+)"', queue)))
    for path in waiting:
        await show(path)
    token = re.findall(r'name="form_token" value="(\w+)"', queue)[0]
    for path, decision in zip(waiting, ("approve", "deny"), strict=False):
        typed = re.findall(r'class="to-type"><bdi>(.*?)</bdi>', pages[path])
        form = {"form_token": token, "name": "".join(typed), "reason": "as discussed"}
        answer = await browser.post(f"{path}/{decision}", data=form)
        assert answer.status_code == 303, answer.text
        await show(path)
    await browser.post("/console/platforms/check", data={"form_token": token})
    for path in ("/console", "/console/history", "/console/calls"):
        await show_all(path)
    for path in ("/console/platforms", "/metrics", "/readyz"):
        await show(path)
    listed = await show("/console/connectors")
    links = [
        *re.findall(r'"(/console/calls/[0-9a-f]+)"', pages["/console/calls"]),
        "/console/calls/export?checks=shown",
    ]
    links += re.findall(r'"(/console/connector\?[^"]+)"', listed)[:4]
    for path in links:
        await show(html.unescape(path))
    return pages


def held_in(postgres: PostgresFixture) -> list[str]:
    """Every row of a database, with the name of its table."""
    tables = postgres.execute("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'connector_mcp'")
    return [
        f"{table['name']} {row}"
        for table in tables
        for row in postgres.execute(f"SELECT * FROM connector_mcp.{table['name']}")
    ]
