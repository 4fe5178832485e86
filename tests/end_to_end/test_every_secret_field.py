"""Every secret field of every platform holds a marked value once, and no byte that leaves the process shows one."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.dispatcher import ProgressFnT
from mcp_types import CallToolResult
from prometheus_client import generate_latest

from connector_mcp.composition.engine import open_engine
from connector_mcp.config.settings import Settings
from connector_mcp.engine.approval import wording
from connector_mcp.engine.engine import Engine
from connector_mcp.operations.connector_types import connector_types
from connector_mcp.transport.mcp.server import build_server
from connector_mcp.transport.process import LogFormat, logging_to_stderr
from tests.end_to_end.leaving import Watching, all_pages, held_in, operator, operators_file
from tests.end_to_end.planted import MARK, Garden, echo, leaks, marked, typed
from tests.end_to_end.recording import Recorded, RecordingServer, environment, recording_server, wire_file
from tests.postgres_server import PostgresFixture

pytestmark = pytest.mark.anyio

VERSORI_NOW = wire_file("versori")[0]["connector"]
# How many there are, counted in the documents of the platforms: (connector type, member of its config).
IN_CONFIGS = {"vectorize": 50, "logto": 66, "conductorone": 171}
# The credential of a user that Vectorize is given, to add and to update one.
OF_USERS = [(tool, name) for tool in ("add_user_to", "update_user_in") for name in ("refresh_token", "access_token")]
# What the data of Versori's credentials hold, by type; they come back embedded in a connector.
OF_CREDENTIALS = {
    "string": ["value"],
    "binary": ["valueBase64"],
    "basic-auth": ["password"],
    "oauth2-password": ["password"],
    "oauth2-client": ["clientSecret"],
    "oauth2-token": ["accessToken", "refreshToken"],
    "oauth2-code": ["code", "state"],
    "certificate": ["key"],
}
ENVIRONMENT = ("VECTORIZE_API_KEY", "LOGTO_APP_SECRET", "VERSORI_API_KEY", "CONDUCTORONE_ACCESS_TOKEN")

HOOK = "/hook"

Call = tuple[str, dict[str, Any]]


class Platforms:
    """The four platforms. They store what they are sent and repeat it in every answer."""

    def __init__(self, garden: Garden, *, refuse: bool) -> None:
        self.garden = garden
        self.refuse = refuse
        self.kind: tuple[str, str] = ("", "")
        self.stored: Any = {}
        self.asked_for: Any = {}
        self.said: dict[str, Any] = {}

    def __call__(self, request: Recorded) -> tuple[int, Any, dict[str, str]]:
        if request.path == HOOK:
            return 204, None, {}
        if request.path.endswith("/oidc/token"):
            token = self.garden.plant("token", "logto").replace('"', "").replace("\\", "").replace("ü", "u")
            return 200, {"access_token": token, "expires_in": 3600, "token_type": "Bearer", "scope": "all"}, {}
        if request.method == "GET" and request.path.endswith("/api/connectors"):
            return 200, [], {}
        if request.method == "GET":
            return 200, self.record(request.path), self.headers()
        if request.path.endswith("/connectorcatalog"):
            return 200, {"schema": None, "formSchema": None}, {}
        self.said = echo(request)
        if self.refuse:
            return 422, self.said, self.headers()
        self.stored = request.body.get("config", {})
        if request.method == "PATCH" and self.kind[0] == "vectorize":
            return 200, self.said | {"data": {"updatedConnector": self.record(request.path)}}, self.headers()
        return 200, self.record(request.path) | self.said, self.headers()

    def headers(self) -> dict[str, str]:
        held = list(marked(self.said))
        return {"x-request-id": held[-1]} if held else {}

    def record(self, path: str) -> Any:
        platform, kind = self.kind
        note = {"note": self.said, "json": json.dumps(self.said)}
        match platform:
            case "vectorize":
                record = {"id": "c", "type": kind, "name": "c", "configDoc": self.stored, **note}
                return record if path.count("/") > 5 else {"message": "ok", "connector": record}
            case "logto":
                record = {"id": "c", "connectorId": kind, "config": self.stored, "metadata": {}, **note}
                sso = {"providerName": kind, "branding": {}, "providerConfig": self.stored}
                return record | (sso if "clientSecret" in self.stored and kind[0].isupper() else {})
            case "conductorone":
                wire = {"@type": "type.googleapis.com/c1.api.app.v1.EnvConfig", "configuration": {}}
                connector = {"id": "c", "appId": "a", "catalogId": kind, "displayName": "c", "config": wire, **note}
                return {"connectorView": {"connector": connector}}
            case _:
                return VERSORI_NOW | {"id": "c", "connections": connections(self.garden), **note}


def connections(garden: Garden) -> list[dict[str, Any]]:
    """A connection for each type of credential, with data that was not blanked."""
    grant = {"grantType": "password", "clientSecret": garden.plant("versori", "grant", "clientSecret")}
    scheme = {"id": "o", "schemeType": "oauth2", "grant": grant}
    made: list[dict[str, Any]] = []
    for kind, names in OF_CREDENTIALS.items():
        data = {name: garden.plant("versori", kind, name) for name in names}
        credential = {"id": "k", "type": kind, "data": data | {"json": json.dumps(data)}}
        held = [{"id": "c", "authSchemeConfig": scheme, "credential": credential}]
        made.append({"id": kind, "name": kind, "variables": [], "credentials": held})
    return made


def calls(garden: Garden) -> Iterator[tuple[tuple[str, str], Call]]:
    """A write for each config, user and variable, and the reads that show what is stored."""
    for kind in typed():
        for config in garden.configs(kind):
            match kind.platform:
                case "vectorize":
                    name = f"{kind.kind.lower().replace(' ', '_')}_connector"
                    call: Call = f"vectorize_update_{name}", {f"{name}_id": "c", "config": config}
                    read: Call = f"vectorize_get_{name}", {f"{name}_id": "c"}
                case "logto" if kind.kind == "SSO":
                    named = {"provider_name": kind.type, "connector_name": "c"}
                    call = "logto_create_sso_connector", {"config": config, **named}
                    read = "logto_get_sso_connector", {"id": "c"}
                case "logto":
                    named = {"metadata": {"target": "t", "name": {"en": "n"}}} if kind.traits["isStandard"] else {}
                    call = "logto_create_connector", {"connector_id": kind.type, "config": config, **named}
                    read = "logto_get_connector", {"id": "c"}
                case _:
                    call = "conductorone_update_connector", {"app_id": "a", "id": "c", "config": config}
                    read = "conductorone_get_connector", {"app_id": "a", "id": "c"}
            yield (kind.platform, kind.type), call
            yield (kind.platform, kind.type), read
    for operation, argument in OF_USERS:
        drive = argument == "refresh_token"
        files = {"f": {"name": "n", "mimeType": "m"}} if drive else {"pageIds": ["p"]}
        user = {"source_connector_id": "c", "user_id": "u", "selected_files": files}
        user[argument] = garden.plant("vectorize", operation, argument)
        provider = "GOOGLE_DRIVE_OAUTH_MULTI" if drive else "NOTION_OAUTH_MULTI"
        yield ("vectorize", provider), (f"vectorize_{operation}_source_connector", user)
    variables = [{"name": "api_token", "value": garden.plant("versori", "variable", "api_token")}]
    yield ("versori", ""), ("versori_update_connector", {"connector_id": "c", "connection_variables": variables})
    yield ("versori", ""), ("versori_get_connector", {"connector_id": "c"})


def test_every_secret_field_is_planted() -> None:
    garden = Garden()
    list(calls(garden))
    fields = {(kind.platform, kind.type, path) for kind in typed() for path in kind.secret_paths}
    assert Counter(platform for platform, _, _ in fields) == IN_CONFIGS
    assert connector_types("versori")
    # Those of the Platform API v2 are planted in test_secrets_versori.
    assert not any(kind.secret_paths for kind in connector_types("versori").values() if kind.kind == "protocol")
    assert fields - garden.values.keys() == set()


@pytest.mark.parametrize("refuse", [False, True], ids=["taken", "refused"])
async def test_no_byte_that_leaves_the_process_shows_a_credential(refuse: bool, tmp_path: Path, capfd: Any) -> None:
    garden, watching, left = Garden(), Watching(), list[str]()
    async with recording_server() as recorder:
        platforms = Platforms(garden, refuse=refuse)
        recorder.respond = platforms
        environ = environment(recorder.origin)
        for name in ENVIRONMENT:
            environ[name] = garden.plant("environment", name).replace('"', "").replace("\\", "").replace("ü", "u")
        settings = Settings.load(
            {}, state_dir=tmp_path, policy="destroy=allow", toolsets=("all",), requests_per_second=10_000
        )
        async with open_engine(settings, environ, "stdio", observer=watching.observer) as engine:
            # The reads are the same, whatever becomes of the writes.
            async for tool, result in session(engine, platforms, "text", reads=not refuse):
                left.append(result.model_dump_json())
                if "get" not in tool:
                    expected = "error" if refuse else "data"
                    assert expected in (result.structured_content or {}), (tool, result)
    sent = sent_values(recorder)
    unsent = {where for where in garden.values if where[0] in IN_CONFIGS and garden.values[where] not in sent}
    assert unsent == set(), "each platform did get its values"
    files = state_files(tmp_path)
    spans = watching.spans()
    out, err = capfd.readouterr()
    assert "DEBUG" in err
    assert any('"tool":"logto_create_connector"' in text for text in files), "the audit log is searched"
    assert len(spans) > len(left)
    assert_clean(*left, *files, *spans, generate_latest(watching.metrics.registry).decode(), out, err)


async def test_no_byte_that_leaves_while_calls_wait_shows_a_credential(
    postgres: PostgresFixture, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All of them wait at once, so that every page shows some.
    monkeypatch.setattr(wording, "MAX_PARKED", 10_000)
    garden, watching, left, told = Garden(), Watching(), list[str](), list[str]()
    async with recording_server() as recorder:
        platforms = Platforms(garden, refuse=False)
        recorder.respond = platforms
        settings = Settings.load(
            {}, state=postgres.url, state_dir=tmp_path, policy="create=approve,update=approve,destroy=approve",
            toolsets=("all",), requests_per_second=10_000, approval_wait=300, webhook_url=f"{recorder.origin}{HOOK}",
            webhook_secret=f"whsec_{b64encode(bytes(32)).decode()}", operators_file=operators_file(tmp_path),
        )  # fmt: skip
        environ = environment(recorder.origin)
        async with open_engine(settings, environ, "http", observer=watching.observer) as engine:

            async def progressed(_: float, __: float | None, message: str | None) -> None:
                told.append(message or "")
                # It has been said that the first call waits; none of the others is held.
                engine.end_waiting()

            async for tool, result in session(engine, platforms, "json", progressed, reads=False):
                left.append(result.model_dump_json())
                assert "approval_required" in left[-1], (tool, result)
                # What a person is shown of the target of the next change is what a platform would hold.
                platforms.stored = platforms.asked_for
            with logging_to_stderr(engine.scrub, "DEBUG", "json"):
                async with operator(engine, watching, environ) as browser:
                    pages = await all_pages(browser)
        kept = held_in(postgres)
    announced = [f"{made.headers} {made.content.decode()}" for made in recorder.requests if made.path == HOOK]
    assert sum("[redacted]" in page for page in pages.values()) > 100, "what is hidden there is shown as hidden"
    assert "connector_mcp_calls_total" in pages["/metrics"]
    assert any("Waiting for an operator" in message for message in told)
    assert any("approval.parked" in text for text in announced)
    assert any('"tool":"logto_create_connector"' in text for text in kept), "the audit log is searched"
    spans = watching.spans()
    assert len(spans) > len(left)
    out, err = capfd.readouterr()
    assert '"level": "DEBUG"' in err
    assert_clean(*left, *pages.values(), *kept, *state_files(tmp_path), *announced, *told, *spans, out, err)


def assert_clean(*texts: str) -> None:
    found = [leak for text in texts for leak in leaks(text)]
    assert found == [], f"{len(found)} of {len(texts)} outputs hold {MARK}"


async def session(
    engine: Engine,
    platforms: Platforms,
    log_format: LogFormat,
    progressed: ProgressFnT | None = None,
    *,
    reads: bool,
) -> AsyncIterator[tuple[str, CallToolResult]]:
    """All calls, or those that change something, in turn over both eras of the protocol."""
    server = build_server(engine, request_state_key=await engine.request_state_key())
    with logging_to_stderr(engine.scrub, "DEBUG", log_format):
        async with Client(server) as modern, Client(server, mode="legacy") as legacy:
            for number, (kind, (tool, arguments)) in enumerate(calls(platforms.garden)):
                if not reads and "get" in tool:
                    continue
                platforms.kind, platforms.asked_for = kind, arguments.get("config", {})
                # By value, secrets that a call gives are removed from what that call shows only.
                platforms.said = {}
                client = legacy if number % 4 >= 2 else modern
                yield tool, await client.call_tool(tool, arguments, progress_callback=progressed)


def state_files(folder: Path) -> list[str]:
    return [file.read_bytes().decode("latin-1") for file in folder.iterdir()]


def sent_values(recorder: RecordingServer) -> set[str]:
    """Every planted value that a platform was sent in a body."""
    sent = [request for request in recorder.requests if not request.path.endswith("/token")]
    return {value for request in sent for value in marked(request.body)}
