"""Every secret field of every platform holds a marked value once, and no byte that leaves the process shows one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from connector_mcp.cli.assemble import assembled
from connector_mcp.operations.connector_types import connector_types
from connector_mcp.settings import Settings
from connector_mcp.transport.logs import logging_to_stderr
from connector_mcp.transport.server import build_server
from tests.end_to_end.planted import MARK, Garden, echo, leaks, marked, typed
from tests.end_to_end.recording import Recorded, RecordingServer, recording_server
from tests.end_to_end.test_wire_contract import VERSORI_NOW, environment

# How many there are, counted in the documents of the platforms: (connector type, member of its config).
IN_CONFIGS = {"vectorize": 27, "logto": 62, "conductorone": 171}
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

Call = tuple[str, dict[str, Any]]


class Platforms:
    """The four platforms, which hold what they were sent and tell it to everybody."""

    def __init__(self, garden: Garden, *, refuse: bool) -> None:
        self.garden = garden
        self.refuse = refuse
        self.kind: tuple[str, str] = ("", "")
        self.stored: Any = {}
        self.said: dict[str, Any] = {}

    def __call__(self, request: Recorded) -> tuple[int, Any, dict[str, str]]:
        if request.path.endswith("/oidc/token"):
            token = self.garden.plant("token", "logto").replace('"', "").replace("\\", "").replace("ü", "u")
            return 200, {"access_token": token, "expires_in": 3600, "token_type": "Bearer", "scope": "all"}, {}
        if request.method == "GET" and request.path.endswith("/api/connectors"):
            return 200, [], {}
        if request.method == "GET":
            return 200, self.record(request.path), self.headers()
        self.said = echo(request)
        if self.refuse:
            return 422, self.said, self.headers()
        self.stored = request.body.get("config", {})
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
                return {"id": "c", "connectorId": kind, "config": self.stored, "metadata": {}, **note}
            case "conductorone":
                wire = {"@type": "type.googleapis.com/c1.api.app.v1.EnvConfig", "configuration": {}}
                connector = {"id": "c", "appId": "a", "catalogId": kind, "displayName": "c", "config": wire, **note}
                return {"connectorView": {"connector": connector}}
            case _:
                return VERSORI_NOW | {"id": "c", "connections": connections(self.garden), **note}


def connections(garden: Garden) -> list[dict[str, Any]]:
    """A connection for each type of credential, with data that nobody blanked."""
    return [
        {
            "id": kind,
            "name": kind,
            "variables": [],
            "credentials": [
                {
                    "id": "c",
                    "authSchemeConfig": {
                        "id": "o",
                        "schemeType": "oauth2",
                        "grant": {
                            "grantType": "password",
                            "clientSecret": garden.plant("versori", "grant", "clientSecret"),
                        },
                    },
                    "credential": {
                        "id": "k",
                        "type": kind,
                        "data": {name: garden.plant("versori", kind, name) for name in names}
                        | {"json": json.dumps({name: garden.plant("versori", kind, name) for name in names})},
                    },
                }
            ],
        }
        for kind, names in OF_CREDENTIALS.items()
    ]


def calls(garden: Garden) -> Iterator[tuple[tuple[str, str], Call]]:
    """A write for each config, user and variable, and the reads that show what is stored."""
    for kind in typed():
        for config in garden.configs(kind):
            match kind.platform:
                case "vectorize":
                    call: Call = "vectorize_update_source_connector", {"source_connector_id": "c", "config": config}
                    read: Call = "vectorize_get_source_connector", {"source_connector_id": "c"}
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
        provider = "GOOGLE_DRIVE_OAUTH_MULTI" if argument == "refresh_token" else "NOTION_OAUTH_MULTI"
        yield (
            ("vectorize", provider),
            (
                f"vectorize_{operation}_source_connector",
                {
                    "source_connector_id": "c",
                    "user_id": "u",
                    "selected_files": {"f": {"name": "n", "mimeType": "m"}}
                    if argument == "refresh_token"
                    else {"pageIds": ["p"]},
                    argument: garden.plant("vectorize", operation, argument),
                },
            ),
        )
    variables = [{"name": "api_token", "value": garden.plant("versori", "variable", "api_token")}]
    yield ("versori", ""), ("versori_update_connector", {"connector_id": "c", "connection_variables": variables})
    yield ("versori", ""), ("versori_get_connector", {"connector_id": "c"})


def test_the_fields_that_are_planted_are_all_there_are() -> None:
    garden = Garden()
    list(calls(garden))
    fields = {(kind.platform, kind.type, path) for kind in typed() for path in kind.secret_paths}
    assert Counter(platform for platform, _, _ in fields) == IN_CONFIGS
    assert connector_types("versori")
    assert not any(kind.secret_paths for kind in connector_types("versori").values())
    missed = {field for field in fields if field not in garden.values}
    assert missed == set()


@pytest.mark.anyio
@pytest.mark.parametrize("refuse", [False, True], ids=["taken", "refused"])
async def test_no_byte_that_leaves_the_process_shows_a_credential(
    refuse: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    garden, left = Garden(), list[str]()
    async with recording_server() as recorder:
        platforms = Platforms(garden, refuse=refuse)
        recorder.respond = platforms
        environ = environment(recorder.origin)
        for name in ENVIRONMENT:
            environ[name] = garden.plant("environment", name).replace('"', "").replace("\\", "").replace("ü", "u")
        settings = Settings.load({}, state_dir=tmp_path, policy="destroy=allow", requests_per_second=10_000)
        async with assembled(settings, environ, "stdio") as engine:
            server = build_server(engine, request_state_key=await engine.request_state_key())
            with logging_to_stderr(engine.scrub, "DEBUG"):
                async with Client(server) as modern, Client(server, mode="legacy") as legacy:
                    for number, (kind, (tool, arguments)) in enumerate(calls(garden)):
                        platforms.kind = kind
                        client = legacy if number % 4 >= 2 else modern
                        result = await client.call_tool(tool, arguments)
                        left.append(result.model_dump_json())
                        if "get" not in tool:
                            expected = "error" if refuse else "data"
                            assert expected in (result.structured_content or {}), (tool, arguments, result)
    sent = sent_values(recorder)
    unsent = {where for where in garden.values if where[0] in IN_CONFIGS and garden.values[where] not in sent}
    assert unsent == set(), "each platform did get its values"
    files = state_files(tmp_path)
    out, err = capfd.readouterr()
    assert "DEBUG" in err
    assert len(files) >= 3
    found = [leak for text in (*left, *files, out, err) for leak in leaks(text)]
    assert found == [], f"{len(found)} of {len(left)} outputs hold {MARK}"


def state_files(folder: Path) -> list[str]:
    return [file.read_bytes().decode("latin-1") for file in folder.iterdir()]


def sent_values(recorder: RecordingServer) -> set[str]:
    """Every planted value that a platform was sent in a body."""
    return {
        value for request in recorder.requests if not request.path.endswith("/token") for value in marked(request.body)
    }
