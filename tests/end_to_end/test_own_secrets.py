"""Whatever a platform answers with, no secret of the server's own leaves the process, used or not."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from prometheus_client import generate_latest

from connector_mcp.composition.engine import open_engine
from connector_mcp.composition.storage import open_secret_store
from connector_mcp.config.settings import Settings
from connector_mcp.secrets.reference import SecretLimits
from connector_mcp.transport.mcp.server import build_server
from connector_mcp.transport.process import logging_to_stderr
from tests.end_to_end.leaving import Watching, all_pages, operator, operators_file
from tests.end_to_end.planted import MARK, echo, leaks
from tests.end_to_end.recording import Recorded, environment, recording_server, wire_file
from tests.secrets.test_sources import fake_keyring

pytestmark = pytest.mark.anyio

VERSORI_NOW = wire_file("versori")[0]["connector"]
SOURCES = (
    *("environment", "directory", "keyring", "store", "inner"),
    *("VECTORIZE_API_KEY", "LOGTO_APP_SECRET", "VERSORI_API_KEY", "CONDUCTORONE_ACCESS_TOKEN", "token"),
    *("webhook_secret", "webhook_url", "http_token"),
)
PLANTED = {source: f"{MARK}{number:04d}-Zq9/+=xT7" for number, source in enumerate(SOURCES)}
PLANTED["webhook_secret"] = f"whsec_{b64encode(b'planted-'.ljust(32, b'x')).decode()}"
HOOK = "/hook?key=planted-0099-Zq9xT7"
# The access token is known from the first answer of Logto on.
READS: list[tuple[str, dict[str, Any]]] = [
    ("logto_list_connectors", {"detail": "full"}),
    ("vectorize_get_source_connectors", {"detail": "full"}),
    ("vectorize_get_source_connector", {"source_connector_id": "c"}),
    ("logto_get_connector", {"id": "c"}),
    ("logto_list_connector_factories", {"detail": "full"}),
    ("versori_list_connectors", {"detail": "full"}),
    ("versori_get_connector", {"connector_id": "c"}),
    ("conductorone_list_connectors", {"app_id": "a", "detail": "full"}),
    ("conductorone_get_connector", {"app_id": "a", "id": "c"}),
]
S3 = {"access-key": "given-access", "secret-key": "given-secret", "bucket-name": "b", "archiver": False}
WRITES: list[tuple[str, dict[str, Any]]] = [
    ("vectorize_update_source_connector", {"source_connector_id": "c", "config": S3}),
    ("vectorize_delete_source_connector", {"source_connector_id": "c"}),
    ("logto_update_connector", {"id": "c", "config": {"scope": "s"}}),
    ("logto_delete_connector", {"id": "c"}),
    ("versori_update_connector", {"connector_id": "c", "name": "n"}),
    ("conductorone_update_connector", {"app_id": "a", "id": "c", "display_name": "n"}),
]


def platform(request: Recorded) -> tuple[int, Any, dict[str, str]]:
    """Answer with every planted value, in every place that text can be in."""
    if request.path.startswith("/hook"):
        return 204, None, {}
    if request.path.endswith("/oidc/token"):
        return 200, {"access_token": PLANTED["token"], "expires_in": 3600, "token_type": "Bearer", "scope": "all"}, {}
    said = echo(Recorded("GET", request.path, "", {}, json.dumps(list(PLANTED.values())).encode()))
    headers = {"x-request-id": PLANTED["store"]}
    if request.path.endswith("refused"):
        return 422, said, headers
    words = " and ".join(PLANTED.values())
    config = {"bucket-name": words, "scope": words, "clientId": PLANTED["directory"], words: words}
    record: dict[str, Any] = {"id": "c", "name": f"name {words}", "displayName": words, "errorMessage": words, **said}
    record |= {"description": words, "note": json.dumps(said), "status": {"lastError": words}, words: [words]}
    if "/v1/org/" in request.path:
        record |= {"type": "AWS_S3", "configDoc": config}
        return 200, record if request.path.endswith("/c") else {"sourceConnectors": [record]}, headers
    if request.path.startswith("/api/connect/"):
        record = (
            VERSORI_NOW | record | {"tags": {words: [words]}, "connectionVariables": [{"name": "a", "value": words}]}
        )
        return 200, record if request.path.endswith("/c") else {"connectors": [record], "totalCount": 1}, headers
    if request.path.startswith("/api/v1/apps"):
        record |= {"appId": "a", "catalogId": "unlisted", "config": {"@type": "t", "configuration": config}}
        view = {"connector": record}
        return 200, {"connectorView": view} if request.path.endswith("/c") else {"list": [view]}, headers
    record |= {"connectorId": "github-universal", "name": {"en": words}, "config": config, "metadata": {"name": words}}
    return 200, record if request.path.endswith("/c") else [record], headers


async def test_no_secret_of_any_source_leaves_the_process_before_it_was_ever_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    fake_keyring(monkeypatch, {"K": PLANTED["keyring"]})
    (tmp_path / "limits.toml").write_text('[K]\nplatforms = ["logto"]\n')
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted" / "D").write_text(PLANTED["directory"])
    (tmp_path / "mounted" / "J").write_text(json.dumps({"type": "service_account", "private_key": PLANTED["inner"]}))
    watching, left = Watching(), list[str]()
    async with recording_server() as recorder:
        recorder.respond = platform
        PLANTED["webhook_url"] = f"{recorder.origin}{HOOK}"
        environ = environment(recorder.origin) | {"CONNECTOR_MCP_SECRET_E": PLANTED["environment"]}
        environ |= {name: PLANTED[name] for name in SOURCES if name.isupper()}
        settings = Settings.load(
            {}, state_dir=tmp_path / "state", secrets_dir=tmp_path / "mounted", secrets_keyring=True,
            secrets_limits=tmp_path / "limits.toml", secrets_key_file=tmp_path / "key",
            http_token=PLANTED["http_token"], policy="update=approve,destroy=approve",
            webhook_url=PLANTED["webhook_url"], webhook_secret=PLANTED["webhook_secret"],
            operators_file=operators_file(tmp_path),
        )  # fmt: skip
        async with open_engine(settings, environ, "http", observer=watching.observer) as engine:
            # Stored while the server runs, as an operator does it in a terminal.
            open_secret_store(settings).put("S", PLANTED["store"], SecretLimits())
            server = build_server(engine, request_state_key=await engine.request_state_key())
            with logging_to_stderr(engine.scrub, "DEBUG", "json"):
                async with Client(server) as client:
                    for tool, arguments in READS:
                        result = await client.call_tool(tool, arguments)
                        assert not result.is_error, result
                        assert "[redacted]" in result.model_dump_json()
                        left.append(result.model_dump_json())
                    refused = await client.call_tool("logto_get_connector", {"id": "refused"})
                    assert "[redacted]" in refused.model_dump_json()
                    left.append(refused.model_dump_json())
                    for tool, arguments in WRITES:
                        result = await client.call_tool(tool, arguments)
                        assert "approval_required" in result.model_dump_json(), result
                        left.append(result.model_dump_json())
                logging.getLogger("connector_mcp.engine").warning("told %s", " ".join(PLANTED.values()))
                async with operator(engine, watching, environ) as browser:
                    pages = await all_pages(browser)
        announced = [made.content.decode() for made in recorder.requests if made.path.startswith("/hook")]
    assert len(announced) == len(WRITES)
    files = [file.read_bytes().decode("latin-1") for file in (tmp_path / "state").iterdir()]
    out, err = capfd.readouterr()
    assert "told [redacted]" in err
    metrics = generate_latest(watching.metrics.registry).decode()
    texts = (*left, *pages.values(), *files, *announced, *watching.spans(), metrics, out, err)
    assert [leak[150:300] for text in texts for leak in leaks(text)] == []
