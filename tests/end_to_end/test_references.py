"""An agent provisions connectors by references alone: only the platforms get the values."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pytest
from mcp.client import Client

from connector_mcp.composition.engine import open_engine
from connector_mcp.composition.storage import open_database
from connector_mcp.config.settings import Settings
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.secrets.encrypted import EncryptedFile, KeyFile
from connector_mcp.secrets.reference import SecretLimits
from connector_mcp.transport.mcp.server import build_server
from connector_mcp.transport.process import logging_to_stderr
from tests.end_to_end.faces import decide, stdio
from tests.end_to_end.recording import RecordingServer, environment, recording_server, wire_file
from tests.end_to_end.test_nothing_is_destroyed_undecided import SMTP_CONFIG
from tests.records import audited

pytestmark = pytest.mark.anyio

C1_NOW = wire_file("conductorone")[0]["okta"]
LOGTO_NOW = wire_file("logto")[0]["connector"]
VERSORI_NOW = wire_file("versori")[0]["connector"]
SOURCES = "/v1/org/org%2F1/connectors/sources"
MARK = "marked-value"
ACCOUNT = json.dumps({"type": "service_account", "private_key": f'{MARK}-"private"\nkey', "client_email": "a@b.c"})
IN_ENVIRONMENT = {"S3_ACCESS": f"{MARK}-access", "S3_SECRET": f"{MARK}-secret", "CRM_TOKEN": f"{MARK}-crm"}
IN_ENVIRONMENT["GOOGLE"] = ACCOUNT
IN_DIRECTORY = {"smtp.pass": f"{MARK}-smtp", "okta-token": f"{MARK}-okta"}
IN_STORE = {"drive-refresh": f"{MARK}-refresh", "GITHUB": f"{MARK}-github"}

CREATE = "vectorize_create_source_connector"
SMTP_FACTORY = "simple-mail-transfer-protocol"
SMTP_PASS = "secret://smtp.pass"
SMTP = SMTP_CONFIG | {"auth": {"type": "login", "user": "u", "pass": SMTP_PASS}}
S3 = {"access-key": "secret://S3_ACCESS", "secret-key": "secret://S3_SECRET", "bucket-name": "docs", "archiver": False}
REGION = {"name": "region", "value": "eu"}
CRM = "/api/connect/v1/o/org%202/connectors/v1"
OKTA = "/api/v1/apps/app%201/connectors/c1"

SESSION: list[tuple[str, dict[str, Any]]] = [
    (CREATE, {"connectors": [
        {"name": "s3", "type": "AWS_S3", "config": S3},
        {"name": "gcs", "type": "GCS", "config": {"service-account-json": "secret://GOOGLE", "bucket-name": "b"}},
    ]}),
    ("vectorize_add_user_to_source_connector", {
        "source_connector_id": "drive", "user_id": "user_new", "selected_files": {"f": {"name": "n", "mimeType": "m"}},
        "refresh_token": "secret://drive-refresh",
    }),
    ("logto_create_connector", {"connector_id": SMTP_FACTORY, "config": SMTP}),
    ("logto_create_connector_test", {"factory_id": SMTP_FACTORY, "email": "a@example.com", "config": SMTP}),
    ("logto_update_connector", {"id": "gh", "config": {"clientSecret": "secret://GITHUB"}}),
    ("versori_update_connector", {
        "connector_id": "v1", "connection_variables": [REGION, {"name": "crm_token", "value": "secret://CRM_TOKEN"}],
    }),
    ("conductorone_update_connector", {
        "app_id": "app 1", "id": "c1", "config": {"okta_v2_api_token": "secret://okta-token"},
    }),
]  # fmt: skip


def s3(**changed: Any) -> dict[str, Any]:
    return {"connectors": [{"name": "n", "type": "AWS_S3", "config": S3} | changed]}


def github(secret: str, client: str = "i") -> dict[str, Any]:
    return {"connector_id": "github-universal", "config": {"clientId": client, "clientSecret": secret}}


S3_SECRET_KEY = "connectors[0].config.secret-key"
WRONG: list[tuple[str, dict[str, Any], str]] = [
    # Limited to another platform; and to another field.
    (CREATE, s3(config=S3 | {"secret-key": "secret://GITHUB"}), S3_SECRET_KEY),
    ("logto_create_connector", github("secret://FIELD"), "config.clientSecret"),
    # Not stored, malformed, with text around it, a key that was pasted as a name.
    ("logto_create_connector", github("secret://GITHUP"), "config.clientSecret"),
    ("logto_create_connector", github("secret://../../etc/passwd"), "config.clientSecret"),
    ("logto_create_connector", github("Bearer secret://GITHUB"), "config.clientSecret"),
    ("logto_create_connector", github("secret://AKIAABCDEFGHIJKLMNOP"), "config.clientSecret"),
    # In a field that is not secret, a name, a path, a query, and an argument of a read.
    ("logto_create_connector", github("secret://GITHUB", client="secret://GITHUB"), "config.clientId"),
    (CREATE, s3(name="secret://S3_SECRET"), "connectors[0].name"),
    ("vectorize_delete_source_connector", {"source_connector_id": "secret://S3_SECRET"}, "source_connector_id"),
    ("logto_get_connector", {"id": "secret://GITHUB"}, "id"),
    ("logto_list_connectors", {"target": "secret://GITHUB"}, "target"),
    ("describe_connector_type", {"platform": "logto", "type": "secret://GITHUB"}, "type"),
    # As a key, and in place of an object.
    ("logto_create_connector", {"connector_id": SMTP_FACTORY, "config": {"secret://GITHUB": "x"}}, "config"),
    ("logto_create_connector", {"connector_id": SMTP_FACTORY, "config": SMTP | {"auth": SMTP_PASS}}, "config.auth"),
    # A value that its field does not take: white space around it.
    (CREATE, s3(config=S3 | {"secret-key": "secret://SPACED"}), S3_SECRET_KEY),
]


MISPLACED: list[tuple[str, dict[str, Any]]] = [
    # A secret under a wrong key, beside the list, in place of an id, for an unknown target, and by value.
    (CREATE, {"connectors": [{"name": "s3", "type": "AWS_S3", "config": {"secretkey": f"{MARK}-misspelt"}}]}),
    (CREATE, {"connectors": [], "secret-key": f"{MARK}-misplaced"}),
    ("vectorize_get_source_connector", {"source_connector_id": {"token": f"{MARK}-object"}}),
    ("conductorone_update_connector", {"app_id": "a", "id": "b", "config": {"api_token": f"{MARK}-unknown-target"}}),
    ("logto_create_connector_test", {
        "factory_id": "http-sms", "email": "a@example.com",
        "config": {"endpoint": "https://sms.example", "authorization": f"Bearer {MARK}-sms"},
    }),
]  # fmt: skip


@dataclass
class Place:
    """A server over the recording one, and what has left it."""

    recorder: RecordingServer
    folder: Path
    client: Client
    store: EncryptedFile
    results: list[str]

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        result = await self.client.call_tool(tool, dict(arguments))
        self.results.append(result.model_dump_json())
        assert isinstance(result.structured_content, dict)
        return result.structured_content

    @property
    def sent(self) -> list[Any]:
        """The bodies of the requests that change something."""
        reads = ("/token", "/connectorcatalog")
        return [r.body for r in self.recorder.requests if r.method != "GET" and not r.path.endswith(reads)]

    @property
    def audit(self) -> list[dict[str, Any]]:
        return audited(self.folder / "state")


@asynccontextmanager
async def place(folder: Path, era: str = "auto", *, process: bool = False, **variables: str) -> AsyncIterator[Place]:
    """A server over stdio, by default in this process with no transport between."""
    (folder / "secrets").mkdir()
    for name, value in IN_DIRECTORY.items():
        (folder / "secrets" / name).write_text(value + "\n")
    store = EncryptedFile(folder / "state" / "secrets.enc", KeyFile(folder / "state" / "secrets.key"))
    for name, value in IN_STORE.items():
        limits = SecretLimits(platforms=("logto",)) if name == "GITHUB" else SecretLimits()
        store.put(name, value, limits)
    store.put("FIELD", f"{MARK}-field", SecretLimits(fields=("config.refresh-token",)))
    store.put("SPACED", f" {MARK}-spaced ", SecretLimits())
    async with recording_server() as recorder:
        token = {"access_token": "t-logto", "expires_in": 3600, "token_type": "Bearer", "scope": "all"}
        smtp = {"id": "new", "config": {"auth": {"pass": f"{MARK}-smtp"}}, "note": f"{MARK}-smtp"}
        # The platform stores text that looks like a reference; it is not one that the caller made.
        stored = {"clientId": "secret://S3_SECRET", "clientSecret": "old-secret"}
        okta = C1_NOW["connectorView"]["connector"] | {"id": "c1"}
        recorder.answers |= {
            ("POST", "/oidc/token"): (200, token),
            ("POST", SOURCES): (200, {"message": "ok", "connector": {"name": "n", "id": "1"}}),
            ("GET", f"{SOURCES}/drive"): (200, {"id": "drive", "type": "GOOGLE_DRIVE_OAUTH_MULTI", "name": "d"}),
            # A platform that echoes what it was sent.
            ("POST", f"{SOURCES}/drive/users"): (200, {"message": f"token {MARK}-refresh taken"}),
            ("GET", "/api/connectors"): (200, []),
            ("POST", "/api/connectors"): (201, smtp),
            ("POST", f"/api/connectors/{SMTP_FACTORY}/test"): (204, None),
            ("GET", "/api/connectors/gh"): (200, LOGTO_NOW | {"id": "gh", "config": stored}),
            ("PATCH", "/api/connectors/gh"): (200, LOGTO_NOW | {"id": "gh", "name": {"en": f"{MARK}-github"}}),
            ("GET", CRM): (200, VERSORI_NOW | {"id": "v1"}),
            ("PUT", CRM): (200, VERSORI_NOW | {"id": "v1"}),
            ("GET", OKTA): (200, {"connectorView": {"connector": okta}}),
            ("POST", OKTA): (200, {"connectorView": {"connector": okta}}),
        }
        environ = {
            **environment(recorder.origin),
            **{f"CONNECTOR_MCP_SECRET_{name}": value for name, value in IN_ENVIRONMENT.items()},
            "CONNECTOR_MCP_SECRETS_DIR": str(folder / "secrets"),
            "CONNECTOR_MCP_STATE_DIR": str(folder / "state"),
            "CONNECTOR_MCP_LOG_LEVEL": "DEBUG",
            "CONNECTOR_MCP_POLICY": "destroy=allow,disclose=allow",
            **variables,
        }
        with (folder / "stderr.log").open("w") as errors:
            server = Client(stdio(environ, errlog=errors), mode=era) if process else in_process(environ, errors, era)
            async with server as client:
                yield Place(recorder, folder, client, store, [])


@asynccontextmanager
async def in_process(environ: Mapping[str, str], errors: TextIO, era: str) -> AsyncIterator[Client]:
    async with open_engine(Settings.load(environ), environ, "stdio") as engine:
        server = build_server(engine, request_state_key=await engine.request_state_key())
        with redirect_stderr(errors), logging_to_stderr(engine.scrub, "DEBUG"):
            async with Client(server, mode=era) as client:
                yield client


def assert_nothing_left(here: Place) -> None:
    """No value stands in a result, the debug log, the audit log, or any file of the state directory."""
    log = (here.folder / "stderr.log").read_text()
    files = [file.read_bytes().decode("latin-1") for file in (here.folder / "state").iterdir()]
    for text in (*here.results, log, *files):
        assert MARK not in text, text[max(0, text.find(MARK) - 300) :][:600]


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_script_provisions_by_references_alone_and_the_values_go_nowhere_else(era: str, tmp_path: Path) -> None:
    async with place(tmp_path, era, process=True) as here:
        for tool, arguments in SESSION:
            content = await here.call(tool, arguments)
            assert "error" not in content, content
            assert "clear text" not in json.dumps(content)
        bodies, audit = here.sent, here.audit
        for tool, arguments in MISPLACED:
            assert "error" in await here.call(tool, arguments), tool
    assert bodies[0]["config"]["access-key"] == f"{MARK}-access"
    assert bodies[0]["config"]["secret-key"] == f"{MARK}-secret"
    assert bodies[1]["config"]["service-account-json"] == ACCOUNT
    assert bodies[2]["refreshToken"] == f"{MARK}-refresh"
    assert bodies[3]["config"]["auth"]["pass"] == f"{MARK}-smtp"
    assert bodies[4]["config"]["auth"]["pass"] == f"{MARK}-smtp"
    assert bodies[5]["config"] == {"clientId": "secret://S3_SECRET", "clientSecret": f"{MARK}-github"}, (
        "what the platform itself stores is no reference of the caller's"
    )
    assert bodies[6]["connectionVariables"] == [REGION, {"name": "crm_token", "value": f"{MARK}-crm"}]
    assert bodies[7]["connector"]["config"]["configuration"]["okta_v2_api_token"] == {"stringValue": f"{MARK}-okta"}
    assert_nothing_left(here)
    assert "DEBUG connector_mcp" in (tmp_path / "stderr.log").read_text()
    arguments = audit[0]["arguments"]
    assert arguments["connectors"][0]["config"]["secret-key"] == "secret://S3_SECRET"
    assert all(record["outcome"] == "ok" for record in audit if record["phase"] == "ended")


async def test_a_forbidden_reference_is_refused_before_anything_is_changed_and_audited(tmp_path: Path) -> None:
    errors: list[dict[str, Any]] = []
    async with place(tmp_path) as here:
        for tool, arguments, path in WRONG:
            error = (await here.call(tool, arguments))["error"]
            assert error["code"] == "invalid_arguments", error
            assert path in [issue["path"] for issue in error["issues"]], error
            errors.append(error)
        assert here.recorder.requests == []
    assert "such as secret://GITHUB" in errors[2]["message"]
    assert "connector-mcp secrets set GITHUP" in errors[2]["fix"]
    assert [record["outcome"] for record in here.audit] == ["invalid_arguments"] * len(WRONG)
    assert "AKIA" not in "".join(here.results) + json.dumps(here.audit)
    assert "passwd" not in "".join(here.results) + json.dumps(here.audit)
    assert_nothing_left(here)


async def test_an_approval_of_a_reference_survives_a_change_of_its_value(tmp_path: Path) -> None:
    tool, arguments = "logto_update_connector", {"id": "gh", "config": {"clientSecret": "secret://GITHUB"}}
    async with place(tmp_path, CONNECTOR_MCP_POLICY="update=approve") as here:
        parked = (await here.call(tool, arguments))["error"]
        assert parked["code"] == "approval_required"
        here.store.put("GITHUB", f"{MARK}-rotated", SecretLimits(platforms=("logto",)))
        settings = Settings.load({}, state_dir=tmp_path / "state")
        async with aclosing(open_database(settings)) as database:
            waiting = await Approvals(database, ttl=3600.0).get(parked["approval"]["id"])
        assert waiting.arguments["config"] == {"clientSecret": "secret://GITHUB"}
        await decide(settings, waiting.id)
        done = await here.call(tool, arguments)
        assert "error" not in done
        assert here.sent[-1]["config"]["clientSecret"] == f"{MARK}-rotated"
    digests = {record["digest"] for record in here.audit}
    assert len(digests) == 1
    assert_nothing_left(here)


async def test_the_secrets_are_listed_by_name_and_limit(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        listed = await here.call("list_secrets", {})
        names = {tool.name for tool in (await here.client.list_tools()).tools}
    assert "list_secrets" in names
    rows = {row["reference"]: row for row in listed["data"]}
    assert rows["secret://GITHUB"]["platforms"] == ["logto"]
    assert rows["secret://GITHUB"]["source"] == "store"
    assert rows["secret://S3_SECRET"] == {"reference": "secret://S3_SECRET", "source": "environment"}
    assert rows["secret://smtp.pass"]["changed"].endswith("Z")
    assert_nothing_left(here)
