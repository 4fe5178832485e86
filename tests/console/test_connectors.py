"""Connectors that operators look at: across platforms, one of them, and whether platforms can be reached."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import anyio
import pytest

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.console import connectors
from connector_mcp.engine.caller import CallResult
from connector_mcp.engine.engine import Engine, UnknownTool
from connector_mcp.errors import Unreachable
from tests.console.conftest import Browser, House
from tests.engine.conftest import FakeCaller
from tests.passing_time import let_pass
from tests.records import audited

pytestmark = pytest.mark.anyio

LOGTO = "/console/connector?platform=logto&profile=default&id=github-signin&kind=connector"


def names(text: str) -> list[str]:
    return [unescape(name) for name in re.findall(r'<th scope="row"><a href="[^"]+"><bdi>(.*?)</bdi>', text)]


def headings(text: str) -> dict[str, str]:
    """What the page says of each account."""
    found = re.findall(r'<h2 id="account-\d+">(\w+).*?<span class="tag [\w-]+">(\w+)</span>', text)
    return dict(found)


@pytest.fixture
async def engine(house: House, tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine over the sandbox that shares the console's database."""
    environ = {"CONNECTOR_MCP_SANDBOX": "true", "CONNECTOR_MCP_STATE_DIR": str(tmp_path / "state")}
    environ["CONNECTOR_MCP_POLICY"] = "create=allow,update=allow,destroy=allow"
    async with open_engine(Settings.load(environ), environ, "http") as engine:
        house.engine, house.database = engine, engine.database
        yield engine


@pytest.fixture
async def signed_in(house: House, engine: Engine) -> AsyncIterator[Browser]:
    async with house.browser() as browser:
        await browser.log_in()
        yield browser


async def answer(engine: Engine, tool: str, **arguments: Any) -> CallResult:
    result = await engine.call(tool, arguments, FakeCaller())
    assert not result.is_error, result.content
    return result


async def test_connectors_of_all_platforms_are_listed_with_status_error_and_last_change(
    signed_in: Browser, engine: Engine
) -> None:
    listed = (await answer(engine, "find_connectors")).content["data"]
    text = (await signed_in.get("/console/connectors")).text
    assert sorted(names(text)) == sorted(row.get("name") or row["id"] for row in listed)
    assert headings(text) == dict.fromkeys(("Vectorize", "Logto", "Versori", "ConductorOne"), "answers")
    for row in listed:
        assert row.get("error", "") in unescape(text)
        assert f'status-{row["status"]}"' in text
    assert 'href="/console/calls/' not in text

    await answer(engine, "logto_get_connector", id="github-signin")
    await answer(engine, "logto_update_connector", id="github-signin", sync_profile=True)
    source = {"name": "New", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://docs.example.com"]}}
    await answer(engine, "vectorize_create_source_connector", connectors=[source])
    text = (await signed_in.get("/console/connectors")).text
    changed = re.findall(r'<a href="(/console/calls/\w+)">', text)
    assert len(changed) == 2
    shown = [(await signed_in.get(path)).text for path in changed]
    assert sum("<h1><code>logto_update_connector" in each for each in shown) == 1
    assert sum("<h1><code>vectorize_create_source_connector" in each for each in shown) == 1


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("platform=logto", {"GitHub", "Google"}),
        ("platform=logto&name=git", {"GitHub"}),
        ("platform=logto&name=git&status=failing", set[str]()),
        ("platform=nothing", set[str]()),
    ],
)
async def test_connectors_are_filtered(signed_in: Browser, query: str, shown: set[str]) -> None:
    text = (await signed_in.get(f"/console/connectors?{query}")).text
    assert shown <= set(names(text))
    assert bool(names(text)) == bool(shown)
    assert set(headings(text)) == ({"Logto"} if "logto" in query else set())
    for status in re.findall(r"status=(\w+)", query):
        assert set(re.findall(r'class="tag status-(\w+)"', text)) <= {status}


async def test_a_platform_that_fails_or_hangs_is_shown_as_failing_and_the_rest_is_shown(
    signed_in: Browser, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = {account.platform.name: account.client for account in engine.accounts}
    call, ended, others_ended = engine.call, list[Any](), anyio.Event()

    async def counted(*arguments: Any) -> Any:
        ended.append(await call(*arguments))
        if len(ended) == len(clients) - 1:
            others_ended.set()
        return ended[-1]

    async def hang(*_: Any, **__: Any) -> Any:
        # The others are not to run out of time.
        await others_ended.wait()
        let_pass(connectors.CHECK_SECONDS)
        await anyio.sleep_forever()

    async def fail(*_: Any, **__: Any) -> Any:
        raise Unreachable("Logto cannot be reached <now>.", fix="Wait.")

    monkeypatch.setattr(engine, "call", counted)
    monkeypatch.setattr(clients["versori"], "send", hang)
    monkeypatch.setattr(clients["logto"], "send", fail)
    text = (await signed_in.get("/console/connectors")).text
    states = {"Vectorize": "answers", "Logto": "failing", "Versori": "failing", "ConductorOne": "answers"}
    assert headings(text) == states
    assert "cannot be reached &lt;now&gt;" in text
    assert "did not answer within 10 seconds" in text
    assert names(text)
    check = await submit(signed_in, platform="versori", id="01J0SANDB0X", kind="system")
    assert "It is not known whether it works." in check
    assert "works.</strong> The platform did not answer within 10 seconds" in check, check


async def submit(signed_in: Browser, **address: str) -> str:
    answered = await signed_in.submit("/console/connector", form_token=await signed_in.form_token(), **address)
    assert answered.status_code == 200
    return answered.text


@pytest.mark.parametrize(
    ("address", "verdict", "reason"),
    [
        ({"platform": "logto", "id": "github-signin", "kind": "connector"}, "It works.", "sign-in"),
        ({"platform": "logto", "id": "nothing", "kind": "connector"}, "It does not work.", "nothing"),
        ({"platform": "logto", "id": "github-signin", "kind": "spaceship"}, "It is not known", "unknown kind"),
        ({"platform": "mailchimp", "id": "1"}, "It is not known", "platform"),
        ({"platform": "logto", "id": "github-signin", "profile": "other"}, "It is not known", "profile"),
    ],
)
async def test_a_connector_is_checked_on_request_and_unknown_is_said(
    signed_in: Browser, address: dict[str, str], verdict: str, reason: str
) -> None:
    text = await submit(signed_in, **address)
    assert verdict in text
    assert reason in text


async def test_every_connector_that_is_listed_can_be_checked(signed_in: Browser, engine: Engine) -> None:
    for row in (await answer(engine, "find_connectors")).content["data"]:
        address = {name: row[name] for name in ("platform", "kind", "id", "within") if name in row}
        text = await submit(signed_in, **address)
        assert "Nothing was sent" not in text, row


async def test_without_a_platform_nothing_is_claimed(operator: Browser) -> None:
    assert "No platform is configured." in (await operator.get("/console/connectors")).text
    assert "It is not known whether it works." in await submit(operator, platform="logto", id="github-signin")


async def test_a_tool_that_is_not_served_is_named(
    signed_in: Browser, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(name: str, *_: Any) -> Any:
        raise UnknownTool(name)

    monkeypatch.setattr(engine, "call", refuse)
    text = (await signed_in.get("/console/connectors?platform=logto")).text
    assert headings(text) == {"Logto": "failing"}
    assert "Serve find_connectors" in text


async def test_one_connector_shows_its_history_and_reads_nothing(
    signed_in: Browser, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await answer(engine, "logto_get_connector", id="github-signin")
    await answer(engine, "logto_get_connector", id="google-signin")
    await answer(engine, "logto_update_connector", id="github-signin", sync_profile=True)
    await signed_in.get("/console/connectors")

    async def forbidden(*_: Any) -> Any:
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(engine, "call", forbidden)
        text = (await signed_in.get(LOGTO)).text
    assert "<h1><bdi>GitHub</bdi></h1>" in text
    shown = re.findall(r'/console/calls/\w+"><code>(\w+)</code>', text)
    assert shown == ["logto_update_connector", "logto_get_connector"]


async def test_what_the_console_reads_is_recorded_as_checks_of_the_operator(
    signed_in: Browser, engine: Engine, tmp_path: Path
) -> None:
    await signed_in.get("/console/connectors")
    await submit(signed_in, platform="logto", id="github-signin", kind="connector")
    records = audited(tmp_path / "state")
    assert len(records) > 8
    assert {(each["principal"], each["transport"], each["effect"]) for each in records} == {
        ("operator alice", "probe", "read")
    }
    assert "No calls yet" in (await signed_in.get("/console/calls")).text
    assert "find_connectors" in (await signed_in.get("/console/calls?checks=shown&tool=find")).text


@pytest.mark.parametrize("address", [{}, {"platform": "logto"}, {"id": "github-signin"}])
async def test_an_address_without_a_connector_is_not_found(operator: Browser, address: dict[str, str]) -> None:
    assert (await operator.get("/console/connector", params=address)).status_code == 404


@pytest.mark.parametrize("path", ["/console/connector", "/console/platforms/check"])
async def test_a_check_requires_a_form_of_the_session(operator: Browser, house: House, path: str) -> None:
    assert (await operator.submit(path, form_token="", platform="logto", id="x")).status_code == 403
    assert house.checks == 0


async def test_platforms_are_checked_on_request_and_not_when_the_page_opens(operator: Browser, house: House) -> None:
    house.platforms = [
        {"title": "Logto", "state": "fine", "detail": "It was answered.", "fix": "", "set": [], "missing": []},
        {"title": "Versori", "state": "failed", "detail": "unreachable", "fix": "Wait.", "set": [], "missing": []},
    ]
    assert "Not checked yet" in (await operator.get("/console/platforms")).text
    assert house.checks == 0

    token = await operator.form_token()
    await operator.submit("/console/platforms/check", form_token=token)
    await operator.submit("/console/platforms/check", form_token=token)
    text = (await operator.get("/console/platforms")).text

    assert house.checks == 1
    for shown in ("Logto", "It was answered.", "Versori", "unreachable", "Wait."):
        assert shown in text
