"""The platforms' own SDKs make their connector calls against `connector-mcp sandbox`; their models fit the answers."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from connector_mcp.sandbox import seed
from tests.clients.conftest import ROOT, SECONDS, process_environment
from tests.clients.node import HERE, node

ORGANIZATION, USER = seed.VECTORIZE_ORGANIZATION_ID, "user_carol"
APP, (ALICE, BRUNO) = seed.CONDUCTORONE_APP_ID, (each["id"] for each in seed.CONDUCTORONE_USERS)
OKTA, SELF_HOSTED = "2kG3aTftCcAvWtHZt2Ywry0dPn7", "2HErg7BRmNdHgX8sTCWVq4E1fyh"
FILES = {"1AbC": {"name": "Plan.docx", "mimeType": "application/vnd.google-apps.document"}}


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables that a served sandbox prints."""
    command = (sys.executable, "-m", "connector_mcp", "sandbox", "--port", "0")
    own = process_environment(tmp_path_factory.mktemp("sandbox"))
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=own, **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stderr.readline().startswith("Sandbox at http://")
            printed = [process.stdout.readline() for _ in range(13)]
            yield dict(shlex.split(line)[1].split("=", 1) for line in printed)
            process.send_signal(signal.SIGTERM)
            assert process.communicate(timeout=SECONDS) == ("", "")
        finally:
            process.kill()


def without_nulls(value: Any) -> Any:
    """The value as the SDKs keep it: without nulls, and with times in one form."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [without_nulls(each) for each in value]
    is_time = isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value)
    return datetime.fromisoformat(value).isoformat() if is_time else value


def assert_arrived(parsed: Any, sent: Any, at: str = "$") -> None:
    """What the SDK's model holds is what was sent, though a model may not know every key yet."""
    if isinstance(parsed, dict) and isinstance(sent, dict):
        for key, each in parsed.items():
            assert_arrived(each, sent.get(key), f"{at}.{key}")
    elif isinstance(parsed, list) and isinstance(sent, list) and len(parsed) == len(sent):
        for index, (each, other) in enumerate(zip(parsed, sent, strict=True)):
            assert_arrived(each, other, f"{at}[{index}]")
    else:
        assert (type(parsed), parsed) == (type(sent), sent), at


# Vectorize -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vectorize() -> Any:
    """Vectorize's SDK. Its import takes a second, and not every process that collects this module runs it."""
    return importlib.import_module("vectorize_client")


@pytest.fixture(scope="module")
def client(vectorize: Any, variables: dict[str, str]) -> Iterator[Any]:
    own = vectorize.Configuration(host=variables["VECTORIZE_BASE_URL"], access_token=variables["VECTORIZE_API_KEY"])
    with vectorize.ApiClient(own) as opened:
        yield opened


def called(method: Callable[..., Any], *arguments: Any, **query: Any) -> Any:
    """What a call of Vectorize's client returns. Its model holds all of the answer."""
    api: Any = getattr(method, "__self__")  # noqa: B009
    answer = getattr(api, f"{method.__name__}_with_http_info")(ORGANIZATION, *arguments, **query)
    assert without_nulls(answer.data.to_dict()) == without_nulls(json.loads(answer.raw_data))
    return answer.data


def test_vectorizes_client_takes_a_source_with_its_users_through_its_life(vectorize: Any, client: Any) -> None:
    sources = vectorize.SourceConnectorsApi(client)
    config = vectorize.WEBCRAWLERAuthConfig(seed_urls=["https://a.example"])
    wanted = vectorize.WebCrawler(name="Docs", type="WEB_CRAWLER", config=config)
    new = called(sources.create_source_connector, vectorize.CreateSourceConnectorRequest(wanted)).connector
    assert called(sources.get_source_connector, new.id).config_doc == {"seed-urls": ["https://a.example"]}
    config = vectorize.WEBCRAWLERAuthConfig(seed_urls=["https://b.example"])
    change = vectorize.UpdateSourceConnectorRequest(vectorize.WebCrawler1(config=config))
    updated = called(sources.update_source_connector, new.id, change).data.updated_connector
    assert (updated.id, updated.config_doc) == (new.id, {"seed-urls": ["https://b.example"]})
    listed = called(sources.get_source_connectors, workspace_id="ws_default").source_connectors
    assert new.id in [each.id for each in listed]
    called(sources.delete_source_connector, new.id)
    with pytest.raises(vectorize.exceptions.ApiException) as refused:
        sources.get_source_connector(ORGANIZATION, new.id)
    assert (refused.value.status, refused.value.data.error) == (404, "Connector not found")

    drive = seed.VECTORIZE_DRIVE_MULTI_USER
    user = {"userId": USER, "selectedFiles": FILES, "refreshToken": "sandbox-secret-refresh"}
    called(sources.add_user_to_source_connector, drive, vectorize.AddUserToSourceConnectorRequest.from_dict(user))
    assert USER in called(sources.get_source_connector, drive).config_doc["authorized-users"]
    change = vectorize.UpdateUserInSourceConnectorRequest.from_dict(user)
    called(sources.update_user_in_source_connector, drive, change)
    gone = vectorize.RemoveUserFromSourceConnectorRequest(user_id=USER)
    called(sources.delete_user_from_source_connector, drive, gone)
    assert USER not in called(sources.get_source_connector, drive).config_doc["authorized-users"]


def test_vectorizes_client_takes_destinations_and_ai_platforms_through_their_life(vectorize: Any, client: Any) -> None:
    destinations, platforms = vectorize.DestinationConnectorsApi(client), vectorize.AIPlatformConnectorsApi(client)
    key = vectorize.PINECONEAuthConfig(api_key="sandbox-secret-key")
    wanted = vectorize.Pinecone(name="Vectors", type="PINECONE", config=key)
    new = called(destinations.create_destination_connector, vectorize.CreateDestinationConnectorRequest(wanted))
    called(destinations.get_destination_connector, new.connector.id)
    change = vectorize.UpdateDestinationConnectorRequest(vectorize.Pinecone1(config=key))
    called(destinations.update_destination_connector, new.connector.id, change)
    listed = called(destinations.get_destination_connectors).destination_connectors
    assert [each.name for each in listed if each.id == new.connector.id] == ["Vectors"]
    called(destinations.delete_destination_connector, new.connector.id)

    key = vectorize.OPENAIAuthConfig(key="invalid-key")
    wanted = vectorize.Openai(name="OpenAI", type="OPENAI", config=key)
    new = called(platforms.create_ai_platform_connector, vectorize.CreateAIPlatformConnectorRequest(wanted))
    assert called(platforms.get_ai_platform_connector, new.connector.id).verification_status == "failed"
    change = vectorize.UpdateAIPlatformConnectorRequest(vectorize.Openai1(config={"key": "sandbox-secret-key"}))
    mended = called(platforms.update_ai_platform_connector, new.connector.id, change).data.updated_connector
    assert mended.verification_status == "verified"
    called(platforms.get_ai_platform_connectors)
    called(platforms.delete_ai_platform_connector, new.connector.id)


def test_vectorizes_client_uploads_a_file_and_runs_a_pipeline_on_it(vectorize: Any, client: Any) -> None:
    uploads, pipelines = vectorize.UploadsApi(client), vectorize.PipelinesApi(client)
    source = seed.VECTORIZE_FILE_UPLOAD
    start = vectorize.StartFileUploadToConnectorRequest(name="a b.pdf", content_type="application/pdf", metadata="{}")
    address = called(uploads.start_file_upload_to_connector, source, start).upload_url
    assert httpx.put(address, content=b"%PDF-1", headers={"content-type": "application/pdf"}).status_code == 200
    files = called(uploads.get_upload_files_from_connector, source).files
    assert [each.size for each in files if each.name == "a b.pdf"] == [6]
    pipeline = vectorize.PipelineConfigurationSchema.from_dict({
        "pipelineName": "Uploads",
        "sourceConnectors": [{"id": source, "type": "FILE_UPLOAD", "config": {}}],
        "destinationConnector": {"id": seed.VECTORIZE_BUILT_IN_DESTINATION, "type": "VECTORIZE", "config": {}},
        "aiPlatformConnector": {"id": seed.VECTORIZE_BUILT_IN_AI_PLATFORM, "type": "VECTORIZE", "config": {}},
        "schedule": {"type": "realtime"},
    })  # fmt: skip
    new = called(pipelines.create_pipeline, pipeline).data.id
    states = [called(pipelines.get_pipeline, new).data.status for _ in range(4)]
    assert states == ["DEPLOYING", "DEPLOYED", "BACKFILLING", "LISTENING"]
    assert [each.document_count for each in called(pipelines.get_pipelines).data if each.id == new] == [len(files)]
    assert "documents-ingested" in [each.type for each in called(pipelines.get_pipeline_events, new).data]
    assert called(pipelines.get_pipeline_metrics, new).data[0].new_objects == len(files)
    called(pipelines.stop_pipeline, new)
    assert called(pipelines.get_pipeline, new).data.status == "SHUTDOWN"
    called(pipelines.start_pipeline, new)
    called(pipelines.delete_pipeline, new)
    called(uploads.delete_file_from_connector, source, "a b.pdf")
    workspaces = vectorize.WorkspacesApi(client)
    first, *_ = called(workspaces.get_workspaces).workspaces
    assert called(workspaces.get_workspace_by_id, first.id).name == first.name


# ConductorOne --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def conductorone() -> Any:
    """ConductorOne's SDK, which takes long to import too."""
    return importlib.import_module("conductorone_sdk")


@pytest.fixture(scope="module")
def sdk(conductorone: Any, variables: dict[str, str]) -> Iterator[Any]:
    address = variables["CONDUCTORONE_BASE_URL"]
    form = {"grant_type": "client_credentials", "client_id": variables["CONDUCTORONE_CLIENT_ID"]}
    form["client_secret"] = variables["CONDUCTORONE_CLIENT_SECRET"]
    token = httpx.post(f"{address}/auth/v1/token", data=form).json()["access_token"]
    with httpx.Client() as sync:
        security = conductorone.models.shared.Security(bearer_auth=token, oauth=token)
        yield conductorone.SDK(security=security, server_url=address, client=sync)


def answered(method: Callable[..., Any], **request: Any) -> Any:
    """What a call of ConductorOne's SDK returns."""
    answer: Any = method(request=request)
    assert answer.status_code == 200
    (body,) = [each for name, each in answer if name not in ("status_code", "content_type", "raw_response", "next")]
    held = body.model_dump(mode="json", by_alias=True)
    assert_arrived(without_nulls(held), without_nulls(answer.raw_response.json()))
    return body


def test_conductorones_sdk_takes_a_connector_through_its_life(conductorone: Any, sdk: Any) -> None:
    connectors, kind = sdk.connector, "type.googleapis.com/c1.api.app.v1.EnvConfig"

    def config(domain: str) -> Any:
        values = {"okta_v2_domain": domain, "okta_v2_api_token": "sandbox-secret-token"}
        return {"@type": kind, "configuration": {key: {"stringValue": each} for key, each in values.items()}}

    shown = answered(sdk.connector_catalog.configuration_schema, catalog_id=OKTA).config_schema
    assert {field.name for field in shown.fields} >= {"okta_v2_domain", "okta_v2_api_token"}
    new = answered(
        connectors.create,
        app_id=APP,
        connector_service_create_request={
            "catalog_id": OKTA, "config": config("a.okta.com"), "description": "Ü",
            "connector_expand_mask": {"paths": ["*"]},
        },
    )  # fmt: skip
    ids: dict[str, Any] = {"app_id": APP, "connector_id": new.connector_view.connector.id}
    own = {"app_id": APP, "id": ids["connector_id"]}
    assert [each.at_type.rpartition(".")[2] for each in new.expanded] == ["App", "User"]
    change = {"connector": {**own, "config": config("b.okta.com")}, "update_mask": "config"}
    answered(connectors.update, **own, connector_service_update_request=change)
    change = {
        "connector": {**own, "display_name": "Okta EU", "user_ids": [BRUNO]},
        "update_mask": "displayName,userIds",
    }
    place = {"connector_app_id": APP, "connector_id": ids["connector_id"]}
    answered(connectors.update_delegated, **place, connector_service_update_delegated_request=change)
    read = answered(connectors.get, **own).connector_view.connector
    assert (read.display_name, read.user_ids, read.description) == ("Okta EU", [BRUNO], "Ü")
    assert read.config.configuration == {"okta_v2_domain": {"stringValue": "b.okta.com"}}
    for method in (connectors.force_sync, connectors.pause_sync, connectors.resume_sync):
        answered(method, **ids)
    assert answered(connectors.get, **own).connector_view.connector.connector_status.last_error == ""
    answered(connectors.delete, **own)
    assert answered(connectors.get, **own).connector_view.connector.deleted_at
    listed = answered(connectors.list, app_id=APP, page_size=100).list
    assert own["id"] in [each.connector.id for each in listed]
    with pytest.raises(conductorone.models.errors.SDKError) as refused:
        connectors.get(request={"app_id": APP, "id": "gone"})
    assert (refused.value.status_code, json.loads(refused.value.body)["code"]) == (404, 5)


def test_conductorones_sdk_makes_and_revokes_a_credential(conductorone: Any, sdk: Any) -> None:
    wanted = {"catalog_id": SELF_HOSTED, "display_name": "Mainframe", "user_ids": [BRUNO]}
    new = answered(sdk.connector.create_delegated, app_id=APP, connector_service_create_delegated_request=wanted)
    ids = {"app_id": APP, "connector_id": new.connector_view.connector.id}
    made = answered(sdk.connector.rotate_credential, **ids).connector_credential
    assert made.client_secret
    read = answered(sdk.connector.get_credentials, **ids, id=made.id).connector_credential
    assert (read.client_id, read.client_secret) == (made.client_id, "")
    answered(sdk.connector.revoke_credential, **ids, id=made.id)
    with pytest.raises(conductorone.models.errors.SDKError):
        sdk.connector.get_credentials(request={**ids, "id": made.id})
    (marker,) = answered(sdk.connector.validate_http_connector_config, text="version: '1'\nunheard_of: 1\n").markers
    assert (marker.severity, marker.start_line_number) == ("ERROR", 2)


def test_conductorones_sdk_takes_an_app_through_its_life(sdk: Any) -> None:
    new = answered(sdk.apps.create, display_name="CRM", monthly_cost_usd=3, owners=[ALICE]).app
    change = {"app": {"description": "Customers"}, "update_mask": "description"}
    assert answered(sdk.apps.update, id=new.id, update_app_request=change).app.description == "Customers"
    answered(sdk.app_owners.add, app_id=new.id, user_id=BRUNO)
    assert answered(sdk.app_owners.list_owner_i_ds, app_id=new.id).user_ids == [ALICE]
    read = answered(sdk.apps.get, id=new.id).app
    assert (read.display_name, read.monthly_cost_usd, read.user_count) == ("CRM", 3, 0)
    assert new.id in [each.id for each in answered(sdk.apps.list, page_size=100).list]
    assert [each.id for each in answered(sdk.app_search.search, display_name="crm").list] == [new.id]


# Logto ---------------------------------------------------------------------------------------------------------------


def test_logtos_client_takes_connectors_sign_in_and_sso_through_their_life(variables: dict[str, str]) -> None:
    script = [node(), str(HERE / "logto.mjs")]
    run = subprocess.run(script, env=variables, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    told = json.loads(run.stdout)
    assert told["refused"] == {"status": 404, "code": "entity.not_found"}
