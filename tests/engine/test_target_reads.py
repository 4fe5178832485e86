"""What a write finds out before it: about its target, what depends on it, and the connector type; and what a success
does not prove."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connector_mcp.json_values import JsonObject
from connector_mcp.operations.platform import Request
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.conductorone.emulator import CATALOG
from connector_mcp.sandbox.conductorone.emulator import CONNECTORS as C1_CONNECTORS
from connector_mcp.sandbox.faults import Fault
from connector_mcp.sandbox.logto.emulator import CONNECTORS
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.sources import Directory, EnvironmentSource
from connector_mcp.upstream.client import UpstreamClient, UpstreamResponse
from tests.engine.conftest import Bench, BenchMaker, FakeCaller, yes
from tests.operations.configs import KEY_FILE

pytestmark = pytest.mark.anyio

DEMO: JsonObject = {
    "id": "demo1", "connectorId": "logto-social-demo", "config": {"provider": "discord"}, "metadata": {},
    "syncProfile": False, "enableTokenStorage": False,
}  # fmt: skip
PATH = "/api/connectors/demo1"
HTTP_SMS = {"endpoint": "https://sms.example.com"}
SITE: JsonObject = {"name": "Site", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}
GCS = {"name": "G", "type": "GCS", "config": {"bucket-name": "b", "service-account-json": "secret://KEY"}}


async def call(made: Bench, tool: str, caller: FakeCaller | None = None, **arguments: Any) -> JsonObject:
    tenant = {} if tool.startswith("describe") else made.account(tool.partition("_")[0]).fixed
    return (await made.engine.call(tool, {**tenant, **arguments}, caller or FakeCaller())).content


async def test_a_demo_connector_is_taken_from_the_list_and_can_be_deleted(made: Bench) -> None:
    made.sandbox.world.put(CONNECTORS, "demo1", DEMO)
    rows = (await call(made, "logto_list_connectors"))["data"]
    assert [row["id"] for row in rows if row["isDemo"]] == ["demo1"]
    caller = FakeCaller(yes("Logto Social Demo"))
    deleted = await call(made, "logto_delete_connector", caller, id="demo1")
    assert deleted["data"]["deleted"]
    assert deleted["meta"]["verified"]
    assert "demo connector “Logto Social Demo”" in caller.questions[0].message
    assert made.requests("DELETE") == [("DELETE", PATH)]


async def test_a_demo_connector_cannot_be_changed_and_another_refused_read_stays_a_failure(made: Bench) -> None:
    made.sandbox.world.put(CONNECTORS, "demo1", DEMO)
    changed = await call(made, "logto_update_connector", id="demo1", sync_profile=True)
    assert changed["error"]["issues"][0]["got"] == "a demo connector"
    made.sandbox.inject(Fault(platform="logto", path_glob="*/absent", status=400, times=9))
    refused = await call(made, "logto_delete_connector", FakeCaller(yes()), id="absent")
    assert refused["error"]["code"] == "rejected"
    assert made.requests("PATCH") + made.requests("DELETE") == []


@pytest.mark.parametrize(
    ("given", "likely"),
    [
        ("google", "google-universal"),
        ("Google-Universal", "google-universal"),
        ("gogle-universal", "google-universal"),
        ("twilio", "twilio-short-message-service"),
        ("SMTP", "simple-mail-transfer-protocol"),
        ("wechat", "one of wechat-native (WeChat), wechat-web (WeChat)"),
        ("sendgrid", "sendgrid-email-service"),
        ("no-such-thing-at-all", ""),
        ("..", ""),
        ("", ""),
    ],
)
async def test_an_unknown_factory_is_refused_with_the_likely_ones_before_anybody_is_asked(
    made: Bench, given: str, likely: str
) -> None:
    caller = FakeCaller(yes())
    created = await call(made, "logto_create_connector", caller, connector_id=given, config={"clientId": "a"})
    tested = await call(made, "logto_create_connector_test", caller, factory_id=given, config=HTTP_SMS, phone="49")
    for argument, content in (("connector_id", created), ("factory_id", tested)):
        (issue,) = content["error"]["issues"]
        assert issue["path"] == argument
        assert likely in issue["wanted"]
    assert caller.questions == []
    assert {method for method, _ in made.requests()} <= {"GET"}


@pytest.mark.parametrize("answer", [{}, [], "x", 1, {"id": "other", "type": "Sms"}, {"data": {"id": "our-sms"}}])
async def test_a_factory_that_was_read_but_not_recognized_stops_the_call(made: Bench, answer: Any) -> None:
    made.sandbox.inject(Fault(platform="logto", path_glob="*-factories/our-sms", status=200, body=answer, times=9))
    created = await call(made, "logto_create_connector", FakeCaller(yes()), connector_id="our-sms", config=HTTP_SMS)
    assert created["error"]["code"] == "malformed_answer"
    assert "logto_get_connector_factory" in created["error"]["message"]
    assert made.requests("POST") == []


async def test_only_what_a_factory_of_the_servers_own_replaces_is_in_danger(made: Bench) -> None:
    form = [{"key": "endpoint", "type": "Text", "label": "Endpoint", "required": True}]
    own = {"id": "our-sms", "type": "Sms", "name": {"en": "Our SMS"}, "formItems": form}
    made.sandbox.inject(Fault(platform="logto", path_glob="*-factories/our-sms", status=200, body=own, times=9))
    created = await call(made, "logto_create_connector", connector_id="our-sms", config=HTTP_SMS)
    assert created["error"]["code"] == "approval_required"
    assert "Deletes Sms connector" in created["error"]["message"]
    assert "Email" not in created["error"]["message"]
    wrong = await call(made, "logto_create_connector", connector_id="our-sms", config={"endpont": "https://a.example"})
    issues = {issue["path"]: issue["wanted"] for issue in wrong["error"]["issues"]}
    assert set(issues) == {"config.endpont", "config.endpoint"}
    assert issues["config.endpont"].startswith("endpoint (closest match)")
    mail = await call(made, "logto_create_connector_test", factory_id="our-sms", config=HTTP_SMS, email="a@example.com")
    assert [issue["path"] for issue in mail["error"]["issues"]] == ["phone"]


@pytest.mark.parametrize(
    "mask", ["********", "\u2022\u2022\u2022\u2022\u2022\u2022", "****1234", "[redacted]", "<secret-key>"]
)
@pytest.mark.parametrize(
    ("factory", "path", "change"),
    [
        ("github-universal", "clientSecret", {"clientId": "new"}),
        ("simple-mail-transfer-protocol", "auth.pass", {"host": "h.example.com"}),
        ("our-own", "apiSecret", {"host": "h.example.com"}),
    ],
)
async def test_a_mask_that_logto_shows_is_never_written_back(
    made: Bench, mask: str, factory: str, path: str, change: JsonObject
) -> None:
    secret: Any = mask
    for key in reversed(path.split(".")):
        secret = {key: secret}
    kind = "Social" if factory == "github-universal" else "Email"
    record = {"id": "c1", "connectorId": factory, "type": kind, "config": {"clientId": "old"} | secret, "metadata": {}}
    made.sandbox.inject(
        Fault(platform="logto", method="GET", path_glob="*/connectors/c1", status=200, body=record, times=9)
    )
    error = (await call(made, "logto_update_connector", id="c1", config=change))["error"]
    assert f"config.{path}" in [issue["path"] for issue in error["issues"]]
    assert "mask" in next(issue["wanted"] for issue in error["issues"] if issue["path"] == f"config.{path}")
    assert made.requests("PATCH") == []


@pytest.mark.parametrize("status", ["failed", "verified", None])
async def test_a_creation_on_vectorize_returns_the_verdict_of_the_platform(
    made: Bench, monkeypatch: pytest.MonkeyPatch, status: str | None
) -> None:
    send = UpstreamClient.send

    async def verdict(client: UpstreamClient, request: Request, **options: Any) -> UpstreamResponse:
        answer = await send(client, request, **options)
        verdicts = {"verificationStatus": status, "errorMessage": "why"}
        return replace(answer, body=answer.body | verdicts) if request.method == "GET" else answer

    monkeypatch.setattr(UpstreamClient, "send", verdict)
    created = await call(made, "vectorize_create_source_connector", connectors=[SITE, SITE])
    for row in created["data"]:
        assert (row.get("verificationStatus"), row["errorMessage"]) == (status, "why")
    assert ("unproven" in created["meta"]) == (status is None)


async def test_a_verdict_that_cannot_be_read_is_said_to_be_missing(made: Bench) -> None:
    made.sandbox.inject(Fault(platform="vectorize", method="GET", status=403, times=9))
    created = await call(made, "vectorize_create_source_connector", connectors=[SITE])
    assert created["data"][0]["name"] == "Site"
    assert "verificationStatus" in created["meta"]["unproven"]


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("update", {"id": "github-signin", "config": {"clientId": "i"}}, "only a sign-in shows"),
        ("update", {"id": "smtp-main", "config": {"host": "h.example.com"}}, "logto_create_connector_test"),
        ("update", {"id": "github-signin", "sync_profile": True}, None),
        ("create", {"connector_id": "slack-universal", "config": {"clientId": "i", "clientSecret": "s"}}, "sign-in"),
    ],
)
async def test_a_success_on_logto_says_that_the_config_was_not_tried(
    made: Bench, tool: str, arguments: JsonObject, told: str | None
) -> None:
    meta = (await call(made, f"logto_{tool}_connector", **arguments))["meta"]
    assert told in meta["unproven"] if told else "unproven" not in meta


MISHAPS = {
    "/home/me/key.json": "path",
    "~/key.json": "path",
    "C:\\keys\\key.json": "path",
    "key.json": "path",
    f"\ufeff{KEY_FILE}": "without the byte order mark",
    "AIzaSyExample": "not its path or another text",
    KEY_FILE.replace("\\n", "\n"): "unescaped on the way",
    KEY_FILE[:-20]: "cut or altered",
    json.dumps(KEY_FILE): "encoded once",
    "{}": "with type service_account and client_email and private_key",
    "[]": "with type service_account",
    "1": "with type service_account",
    json.dumps({**json.loads(KEY_FILE), "type": "authorized_user"}): "with type service_account",
    json.dumps({**json.loads(KEY_FILE), "private_key": None}): "private_key",
    KEY_FILE.replace("\\n", "\\\\n"): "escaped twice",
}


@pytest.mark.parametrize("referenced", [False, True], ids=["given", "stored"])
async def test_a_key_file_is_checked_as_what_it_is_also_where_a_secret_holds_it(
    bench: BenchMaker, referenced: bool, tmp_path: Path
) -> None:
    for key, told in {**MISHAPS, KEY_FILE: None}.items():
        (tmp_path / "KEY").write_text(key)
        made = bench(secrets=Secrets([Directory(tmp_path)]))
        config = GCS["config"] if referenced else {"bucket-name": "b", "service-account-json": key}
        created = await call(made, "vectorize_create_source_connector", connectors=[{**GCS, "config": config}])
        # A byte order mark never becomes part of a stored secret.
        if told is None or (referenced and key.startswith("\ufeff")):
            assert created["data"][0]["verificationStatus"] == "verified"
            continue
        (issue,) = created["error"]["issues"]
        assert issue["path"] == "connectors[0].config.service-account-json"
        assert told in issue["wanted"], (key, issue)
        assert key not in json.dumps(created) or len(key) < 4
        assert made.requests() == []


OWN, OKTA_TYPE = "2ownConnectorType0000000001", "2kG3aTftCcAvWtHZt2Ywry0dPn7"
OKTA = {"app_id": seed.CONDUCTORONE_APP_ID, "id": seed.CONDUCTORONE_OKTA}
FIELDS = [
    {"name": name, "displayName": f"{name}\u202e", "str": {"secret": name == "own_key"}}
    for name in ("own_url", "own_key")
]


async def test_a_type_that_only_the_platform_knows_is_described_and_checked_by_it(made: Bench) -> None:
    world = made.sandbox.world
    world.put(CATALOG, OWN, {"displayName": "Own", "fields": FIELDS, "fieldGroups": []})
    stored = world.get(C1_CONNECTORS, OKTA["id"])
    world.put(C1_CONNECTORS, OKTA["id"], {**stored, "catalogId": OWN, "config": None})
    described = (await call(made, "describe_connector_type", platform="conductorone", type=OWN))["data"]
    assert (described["secret_keys"], described["described_by"]) == (["own_key"], "the platform")
    assert "\u202e" not in json.dumps(described, ensure_ascii=False)
    wrong = await call(made, "conductorone_update_connector", **OKTA, config={"own_urll": "x"})
    assert wrong["error"]["issues"][0]["wanted"].startswith("own_url (closest match)")
    right = await call(made, "conductorone_update_connector", **OKTA, config={"own_url": "x", "own_key": "y"})
    assert "error" not in right
    assert len(made.requests("POST")) == 1


@pytest.mark.parametrize("status", [404, 500, 403])
async def test_a_platform_that_does_not_describe_a_type_leaves_it_to_what_is_shipped(made: Bench, status: int) -> None:
    made.sandbox.inject(Fault(platform="conductorone", path_glob="*/connectorcatalog", status=status, times=99))
    described = await call(made, "describe_connector_type", platform="conductorone", type=OKTA_TYPE)
    assert described["data"]["described_by"] == "this server"
    assert bool(described["meta"].get("warnings")) == (status != 404)
    changed = await call(made, "conductorone_update_connector", **OKTA, config={"okta_v2_domain": "b.okta.com"})
    assert ("error" in changed) == (status != 404)


async def test_policy_that_holds_reads_back_keeps_the_platform_from_being_asked(bench: BenchMaker) -> None:
    made = bench(policy="conductorone_*=block")
    described = await call(made, "describe_connector_type", platform="conductorone", type=OKTA_TYPE)
    assert described["data"]["described_by"] == "this server"
    assert list(made.sandbox.requests) == []


DELETION = {"destination_connector_id": seed.VECTORIZE_PINECONE}


async def told(bench: Bench) -> str:
    """The sentence with which a deletion is parked for an operator."""
    result = await bench.engine.call("vectorize_delete_destination_connector", DELETION, FakeCaller())
    assert result.is_error
    return str(result.content["error"])


async def test_the_pipelines_that_a_deletion_breaks_are_named_whatever_page_they_are_on(bench: BenchMaker) -> None:
    made = bench(policy="destroy=approve")
    world = made.sandbox.world
    stored: Any = world.get("vectorize.pipelines", seed.VECTORIZE_PIPELINE)
    for number in range(150):
        other = stored["destinationConnector"] | {"id": "other"}
        world.put("vectorize.pipelines", f"p{number}", stored | {"id": f"p{number}", "destinationConnector": other})
    world.put("vectorize.pipelines", "last", stored | {"id": "last", "name": "Last {one}"})
    sentence = await told(made)
    assert "pipelines that write to it fail: “Product search”, “Last {one}”." in sentence
    assert sum(path.endswith("/pipelines") for _, path in made.requests("GET")) == 2


async def test_without_a_list_of_pipelines_a_deletion_says_what_it_says_of_any_target(bench: BenchMaker) -> None:
    made = bench(policy="destroy=approve")
    made.sandbox.inject(Fault("vectorize", "GET", "*/pipelines", 9, status=403))
    sentence = await told(made)
    assert "pipelines that write to it fail." in sentence
    assert "no pipeline" not in sentence


async def test_that_nothing_depends_on_it_is_said_only_of_a_list_that_was_read(bench: BenchMaker) -> None:
    made = bench(policy="destroy=approve")
    for pipeline in made.sandbox.world.all("vectorize.pipelines"):
        made.sandbox.world.delete("vectorize.pipelines", pipeline["id"])
    assert "no pipeline that uses it is listed" in await told(made)


async def test_the_size_of_a_page_is_no_argument_where_the_platform_decides_it(bench: BenchMaker) -> None:
    arguments = {"pipeline_id": seed.VECTORIZE_PIPELINE, "limit": 5}
    result = await bench().engine.call("vectorize_get_pipeline_events", arguments, FakeCaller())
    assert [issue["path"] for issue in result.content["error"]["issues"]] == ["limit"]


CALLS: dict[str, tuple[str, JsonObject, str]] = {
    "key": (
        "vectorize_create_source_connector",
        {"connectors": [SITE | {"config": SITE["config"] | {"new": 1}}]},
        "connectors[0].config.new",
    ),
    "type": (
        "vectorize_create_source_connector",
        {"connectors": [{"name": "a", "type": "NEW_SOURCE", "config": {"a": "b"}}]},
        "connectors[0].type",
    ),
    "update": ("conductorone_update_connector", OKTA | {"config": {"okta_v2_new": "x"}}, "config.okta_v2_new"),
}


@pytest.mark.parametrize(("tool", "arguments", "path"), CALLS.values(), ids=CALLS)
async def test_what_is_unknown_is_refused_or_sent_with_a_warning(
    bench: BenchMaker, tool: str, arguments: Any, path: str
) -> None:
    refused = await bench().engine.call(tool, arguments, FakeCaller())
    error = refused.content["error"]
    assert (error["code"], [issue["path"] for issue in error["issues"]]) == ("invalid_arguments", [path])
    assert "CONNECTOR_MCP_UNKNOWN_CONFIG=warn" in error["fix"]
    made = bench(unknown_config="warn")
    result = await made.engine.call(tool, arguments, FakeCaller())
    assert result.content.get("error", {}).get("code") != "invalid_arguments"
    assert [method for method, _ in made.requests() if method != "GET"] == ["POST"]
    warnings = result.content.get("meta", {}).get("warnings", [])
    assert result.is_error or any(warning.startswith(f"Not checked: {path} is an unknown") for warning in warnings)


async def test_a_wrong_value_of_a_known_key_is_refused_whatever_the_setting_says(bench: BenchMaker) -> None:
    arguments = {"connectors": [SITE | {"config": {"seed-urls": "no list"}}]}
    made = bench(unknown_config="warn")
    error = (await made.engine.call("vectorize_create_source_connector", arguments, FakeCaller())).content["error"]
    assert [issue["path"] for issue in error["issues"]] == ["connectors[0].config.seed-urls"]
    assert "UNKNOWN_CONFIG" not in error["fix"]


async def test_a_creation_takes_the_keys_that_the_description_of_its_type_names(bench: BenchMaker) -> None:
    """The platform describes a type otherwise than this server knows it: one key is new, and one is now secret."""
    stored = EnvironmentSource({"CONNECTOR_MCP_SECRET_key": "s3cr3t-of-the-app"})
    made, okta = bench(secrets=Secrets([stored])), "2kG3aTftCcAvWtHZt2Ywry0dPn7"
    fields: list[JsonObject] = [
        {"name": "address", "displayName": "Address", "required": True, "stringField": {}},
        {"name": "seed", "displayName": "Seed", "stringField": {"passwordField": {}}},
    ]
    described: JsonObject = {"schema": {"displayName": "Okta", "fields": fields}, "formSchema": None}
    made.sandbox.inject(Fault("conductorone", "POST", "*/connectorcatalog", status=200, times=9, body=described))
    known = await made.engine.call("describe_connector_type", {"platform": "conductorone", "type": okta}, FakeCaller())
    assert set(known.content["data"]["config_schema"]["properties"]) == {"address", "seed"}
    cases: list[tuple[JsonObject, str]] = [
        # An operator is asked, because the secret goes to an address of the caller's choice.
        ({"address": "acme.example", "seed": "secret://key"}, "approval_required"),
        ({"address": "acme.example", "okta_v2_domain": "acme.okta.com"}, "invalid_arguments"),
    ]
    for config, code in cases:
        arguments: JsonObject = {"app_id": OKTA["app_id"], "catalog_id": okta, "config": config}
        error = (await made.engine.call("conductorone_create_connector", arguments, FakeCaller())).content["error"]
        assert error["code"] == code, error
