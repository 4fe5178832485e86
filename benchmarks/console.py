"""`python -m benchmarks.console`: how long each page of the console takes with 10,000 records, beside an empty one.

Pages of a console in this process, over SQLite. The audit log, the queue and the history are filled with copies of one
record each.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import sqlite3
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

import httpx
from starlette.applications import Starlette

from connector_mcp.audit.chain import Head, seal, seal_head
from connector_mcp.audit.record import utc_time
from connector_mcp.composition.engine import open_engine
from connector_mcp.composition.health import LocalCaller
from connector_mcp.composition.http_access import make_access, make_console_pages
from connector_mcp.config.settings import Settings
from connector_mcp.state.keys import secret_key

RECORDS: Final = 10_000
TRIES: Final = 30
TOKEN: Final = "operator-token"  # noqa: S105 - of a console in this process
BASE: Final = "http://127.0.0.1:8765"
PAGES: Final = (
    "/console",
    "/console/history",
    "/console/calls",
    "/console/calls?outcome=refused",
    "/console/calls?tool=logto_*&caller=nobody",
    "/console/calls?since=2020-01-01&until=2020-01-02",
    "/console/connectors?platform=logto",
    "/console/connector?platform=logto&id=github-signin",
)
"""The pages, the last ones with filters that match few records or none."""
_COPIES: Final = f"""
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {RECORDS})
INSERT INTO approvals (id, digest, status, is_open, principal, tool, call, created_at, expires_at, decided_at,
    decided_by)
SELECT 'ap-' || :status || n, :status || n, :status, :open, principal, tool, call, created_at - n, expires_at,
    CASE WHEN :open THEN NULL ELSE created_at - n END, CASE WHEN :open THEN NULL ELSE 'operator alice' END
FROM numbers CROSS JOIN (SELECT * FROM approvals LIMIT 1) AS template
"""


def _fill(path: Path, key: bytes) -> None:
    """Copy one record and one approval many times; the records are sealed, so that pages show them."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.row_factory = sqlite3.Row
        template = dict(connection.execute("SELECT * FROM audit WHERE phase = 'ended' ORDER BY seq DESC").fetchone())
        members = re.sub(r'^\{"seq":\d+,"time":"[^"]*",|,"prev":.*$', "", template["line"])
        seq, last = connection.execute("SELECT max(seq) FROM audit").fetchone()[0], "0" * 64
        for number in range(RECORDS):
            seq, call_id = seq + 1, f"{number:012x}{number:020x}"
            line, last = seal(
                f"{{{members.replace(template['call_id'], call_id)}}}".encode(),
                seq,
                utc_time(template["at"]),
                last,
                key,
            )
            row = template | {"seq": seq, "call_id": call_id, "line": line}
            connection.execute(f"INSERT INTO audit ({', '.join(row)}) VALUES (:{', :'.join(row)})", row)
        connection.execute("UPDATE audit_chain SET head = ?", (seal_head(Head(seq, last), key),))
        for status, is_open in (("pending", 1), ("used", 0)):
            connection.execute(_COPIES, {"status": status, "open": is_open})


def _environ(folder: Path) -> dict[str, str]:
    folder.mkdir()
    operators = folder / "operators.toml"
    operators.write_text(f'[[token]]\nname = "alice"\ndigest = "sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}"\n')
    operators.chmod(0o600)
    return {
        "CONNECTOR_MCP_SANDBOX": "true",
        "CONNECTOR_MCP_STATE_DIR": str(folder),
        "CONNECTOR_MCP_OPERATORS_FILE": str(operators),
    }


@asynccontextmanager
async def _console(folder: Path, *, filled: bool) -> AsyncGenerator[httpx.AsyncClient]:
    """A signed-in browser at a console over the sandbox."""
    environ = _environ(folder)
    async with open_engine(Settings.load(environ), environ, "http") as engine:
        if filled:
            await engine.call("logto_get_connector", {"id": "github-signin"}, LocalCaller())
            await engine.call("logto_delete_connector", {"id": "github-signin"}, LocalCaller("http"))
            key = await secret_key(engine.database, "audit")
            await asyncio.to_thread(_fill, folder / "sandbox-records.db", key)
        app = Starlette(routes=make_console_pages(engine, environ, make_access(engine.settings)))
        own = {"Origin": BASE, "Sec-Fetch-Site": "same-origin"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE, headers=own) as browser:
            await browser.post("/console/login", data={"token": TOKEN})
            yield browser


async def _seconds(browser: httpx.AsyncClient, path: str) -> float:
    begin = time.perf_counter()
    answer = await browser.get(path)
    answer.raise_for_status()
    return time.perf_counter() - begin


async def measure(folder: Path) -> dict[str, tuple[float, float]]:
    """Return the shortest time of each page in seconds, empty and filled, measured in turns."""
    figures: dict[str, tuple[float, float]] = {}
    async with _console(folder / "empty", filled=False) as empty, _console(folder / "filled", filled=True) as filled:
        for path in PAGES:
            taken: tuple[list[float], list[float]] = ([], [])
            for _ in range(TRIES + 1):
                for browser, times in zip((empty, filled), taken, strict=True):
                    times.append(await _seconds(browser, path))
            # The first page compiles its templates.
            figures[path] = (min(taken[0][1:]), min(taken[1][1:]))
    return figures


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(Path(folder)))
    print(f"| page | empty | {RECORDS:,} records | ratio |\n|---|---|---|---|")
    for path, (empty, filled) in figures.items():
        print(f"| `{path}` | {empty * 1e3:.1f} ms | {filled * 1e3:.1f} ms | {filled / empty:.2f} |")


if __name__ == "__main__":
    main()
