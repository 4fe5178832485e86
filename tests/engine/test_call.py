"""Whole calls against the sandbox: their order, their results, and the audit records that each leaves."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest
from jsonschema import Draft202012Validator

from connector_mcp.audit.trail import AuditTrail, LockedChain
from connector_mcp.engine import call as call_module
from connector_mcp.engine import engine_call
from connector_mcp.engine.caller import AnswerDue, ElicitationReply, Resumed
from connector_mcp.engine.engine import UnknownTool
from connector_mcp.errors import StoreUnavailable
from connector_mcp.operations.catalog import catalog
from connector_mcp.operations.operation import Effect
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.faults import Fault
from connector_mcp.state.sqlite import SqliteDatabase
from connector_mcp.upstream.client import DEFAULT_LIMITS
from tests.engine.conftest import AsksByReturning, Bench, FakeCaller, yes

pytestmark = pytest.mark.anyio

SECRET = "planted-secret-Zq9xT7"
S3_CONFIG = {"access-key": f"{SECRET}-1", "secret-key": f"{SECRET}-2", "bucket-name": "b", "archiver": False}
DELETE = "vectorize_delete_source_connector"
CREATE = "vectorize_create_source_connector"
CRAWLER = {"source_connector_id": seed.VECTORIZE_WEB_CRAWLER}
OKTA = {"app_id": seed.CONDUCTORONE_APP_ID, "id": seed.CONDUCTORONE_OKTA}

SHOP = {"environment_id": seed.VERSORI_STOREFRONT_PRODUCTION}

READS: dict[str, dict[str, Any]] = {
    "vectorize_get_source_connectors": {},
    "vectorize_get_source_connector": {"source_connector_id": seed.VECTORIZE_S3},
    "vectorize_get_destination_connectors": {},
    "vectorize_get_destination_connector": {"destination_connector_id": seed.VECTORIZE_PINECONE},
    "vectorize_get_ai_platform_connectors": {},
    "vectorize_get_ai_platform_connector": {"ai_platform_connector_id": seed.VECTORIZE_OPENAI},
    "vectorize_get_pipelines": {},
    "vectorize_get_pipeline": {"pipeline_id": seed.VECTORIZE_PIPELINE},
    "vectorize_get_pipeline_events": {"pipeline_id": seed.VECTORIZE_PIPELINE},
    "vectorize_get_pipeline_metrics": {"pipeline_id": seed.VECTORIZE_PIPELINE},
    "vectorize_get_upload_files_from_connector": {"connector_id": seed.VECTORIZE_FILE_UPLOAD},
    "vectorize_get_workspaces": {},
    "logto_list_connectors": {},
    "logto_get_connector": {"id": seed.LOGTO_SMTP},
    "logto_create_connector_authorization_uri": {
        "connector_id": seed.LOGTO_GOOGLE, "state": "s", "redirect_uri": "https://app.example.com/callback"},
    "logto_list_connector_factories": {},
    "logto_get_connector_factory": {"id": "http-sms"},
    "versori_list_connectors": {},
    "versori_get_connector": {"connector_id": seed.VERSORI_CRM},
    "conductorone_list_apps": {},
    "conductorone_list_connectors": {"app_id": seed.CONDUCTORONE_APP_ID},
    "conductorone_get_connector": OKTA,
    "describe_connector_type": {"platform": "logto", "type": "oidc"},
    "logto_get_sign_in_exp": {},
    "logto_get_sign_in_experience_config": {},
    "logto_list_sso_connectors": {},
    "logto_get_sso_connector": {"id": seed.LOGTO_SSO},
    "logto_list_sso_connector_providers": {},
    "logto_list_email_templates": {},
    "logto_get_email_template": {"id": "template-en-signin"},
    "versori_v1_list_public_connectors": {},
    "versori_list_systems": {},
    "versori_get_system": {"system_id": seed.VERSORI_SYSTEM},
    "versori_list_project_connection_templates": {
        "project_id": seed.VERSORI_PROJECT, "environment_id": seed.VERSORI_PRODUCTION},
    "versori_list_connections": {},
    "versori_list_environment_connections": {
        "project_id": seed.VERSORI_PROJECT, "environment_id": seed.VERSORI_PRODUCTION},
    "versori_get_connection": {"connection_id": seed.VERSORI_CONNECTION},
    "versori_list_end_users": {},
    "versori_list_activations": SHOP,
    "versori_list_user_activations": {**SHOP, "external_user_id": "merchant-1"},
    "versori_get_activation": {**SHOP, "activation_id": seed.VERSORI_ACTIVATION},
    "versori_get_project_variables_schema": {"project_id": seed.VERSORI_STOREFRONT},
    "versori_list_projects": {},
    "versori_list_project_versions": {"project_id": seed.VERSORI_PROJECT},
    "versori_get_project_logs": {"project_id": seed.VERSORI_PROJECT, "project_env": "production"},
    "conductorone_validate_http_connector_config": {"text": 'version: "1"\n'},
    "conductorone_search_apps": {},
    "conductorone_get_app": {"id": seed.CONDUCTORONE_APP_ID},
    "conductorone_list_app_owner_ids": {"app_id": seed.CONDUCTORONE_APP_ID},
    "conductorone_search_connector_user_owners": {
        "app_id": seed.CONDUCTORONE_APP_ID, "connector_id": seed.CONDUCTORONE_OKTA},
    "find_connectors": {},
    "check_connector": {"platform": "vectorize", "id": seed.VECTORIZE_S3},
    "plan_connectors": {"manifest": {"name": "m", "sources": {"docs": {"name": "Docs", "type": "FILE_UPLOAD"}}}},
    "export_connectors": {"platform": "vectorize"},
}  # fmt: skip
AFTER_A_CHANGE = {"recent_changes", "conductorone_get_credentials", "logto_list_sso_connector_signing_keys"}
"""Reads of what the sandbox does not have before a call made it."""
ACROSS = {"find_connectors", "check_connector", "recent_changes", "plan_connectors", "export_connectors"}
"""Each of their reads is a call, with a record of its own."""
UPLOAD = {"connectors": [{"name": "f", "type": "FILE_UPLOAD"}]}
S3 = {"connectors": [{"name": "s3", "type": "AWS_S3", "config": S3_CONFIG}]}


def written(made: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in made.audit_lines]


def records(made: Any) -> list[dict[str, Any]]:
    """How the calls ended."""
    return [record for record in written(made) if record["phase"] == "ended"]


def confirming() -> FakeCaller:
    """A caller that confirms the deletion of the crawler."""
    return FakeCaller(yes("Docs site"))


def typing() -> FakeCaller:
    """A caller that types the name that the question shows."""
    return FakeCaller(lambda question: yes(question.message.rpartition(": ")[2]))


def before_sending(made: Bench, method: str, hook: Callable[[], Awaitable[Any]]) -> None:
    """Run the hook before each request of this method to Vectorize."""
    client = made.account("vectorize").client

    async def send(request: Any, *, tool: Any = None, sending: Any = None) -> Any:
        if request.method == method:
            if sending is not None:
                sending()
            await hook()
        return await type(client).send(client, request, tool=tool, sending=sending)

    client.send = send


async def run(made: Any, name: str, arguments: dict[str, Any], caller: Any = None) -> Any:
    """The content of a call, which must have left one record of its end, and one before it sent a change."""
    before, sent = len(made.audit_lines), len(made.requests())
    result = await made.engine.call(name, arguments, caller or FakeCaller())
    left = written(made)[before:]
    changes = {"POST", "PUT", "PATCH", "DELETE"} & {method for method, _ in made.requests()[sent:]}
    wrote = bool(changes) and made.engine.tool(name).operation.effect is not Effect.READ
    assert [record["phase"] for record in left][-1:] == ["ended"]
    assert [record["phase"] for record in left][:-1] == ["begun"] * wrote
    assert len({record["call_id"] for record in left}) == 1
    record = records(made)[-1]
    assert record["outcome"] == (result.content["error"]["code"] if result.is_error else "ok")
    assert (record["tool"], record["sandbox"]) == (name, True)
    assert SECRET not in made.audit_lines[-1]
    assert SECRET not in json.dumps(result.content)
    if not result.is_error:
        Draft202012Validator(made.engine.tool(name).output_schema).validate(result.content)
    return result.content


async def test_every_read_conforms_to_its_output_schema_and_shows_no_secret(made: Bench) -> None:
    assert set(READS) | AFTER_A_CHANGE == {
        tool.name for tool in made.engine.tools() if tool.operation.effect is Effect.READ
    }
    for name, arguments in READS.items():
        variants: list[dict[str, Any]] = [{}]
        properties = made.engine.tool(name).input_schema["properties"]
        every = [{"limit": 1}, {"detail": "full"}, {"fields": ["id", "config", "configDoc", "connections"]}]
        variants += [each for each in every if "detail" in properties and each.keys() <= properties.keys()]
        for variant in variants:
            if name in ACROSS:
                content = (await made.engine.call(name, {**arguments, **variant}, FakeCaller())).content
                Draft202012Validator(made.engine.tool(name).output_schema).validate(content)
            else:
                content = await run(made, name, {**arguments, **variant})
                assert content.get("meta", {}).get("sandbox"), (name, content)
            assert content.get("data"), (name, content)
            assert "unexpected" not in content["meta"], name
            assert "sandbox-secret" not in json.dumps(content), name


async def pages(made: Bench, name: str, arguments: dict[str, Any]) -> AsyncIterator[Any]:
    cursor: dict[str, Any] = {}
    while True:
        content = await run(made, name, {**arguments, **cursor})
        yield content
        if "cursor" not in content["meta"]:
            return
        cursor = {"cursor": content["meta"]["cursor"]}


LISTS = ["logto_list_connectors", "vectorize_get_source_connectors", "versori_list_connectors"]


@pytest.mark.parametrize("name", LISTS)
async def test_pages_of_a_list_add_up_to_the_whole(made: Bench, name: str) -> None:
    whole = await run(made, name, {"limit": 100})
    parts = [page async for page in pages(made, name, {"limit": 2})]
    assert all("partial" in page["meta"]["warnings"][0] for page in parts[:-1])
    assert [row for page in parts for row in page["data"]] == whole["data"]
    assert len(whole["data"]) > 2


async def test_a_result_over_the_cap_is_cut_and_its_cursor_leads_to_the_rest(bench: Any) -> None:
    seen: list[str] = []
    async for content in pages(bench(max_result_bytes=1_500), "logto_list_connector_factories", {}):
        assert len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()) <= 1_500
        seen += [row["id"] for row in content["data"]]
    assert len(seen) == len(set(seen)) >= 51


async def test_the_ids_of_calls_are_unique_and_begin_with_the_time(made: Bench) -> None:
    for _ in range(3):
        await run(made, "logto_list_connectors", {})
    ids = [record["call_id"] for record in records(made)]
    times = [int(each[:12], 16) / 1000 for each in ids]
    assert len(set(ids)) == 3
    assert {len(each) for each in ids} == {32}
    assert times == sorted(times)
    assert abs(times[0] - time.time()) < 600


async def test_a_wrong_cursor_sends_nothing(made: Bench) -> None:
    content = await run(made, "logto_list_connectors", {"cursor": "nonsense"})
    assert content["error"]["code"] == "invalid_arguments"
    assert made.requests() == []


async def test_an_unknown_tool_is_the_protocols_error(bench: Any) -> None:
    with pytest.raises(UnknownTool):
        await bench().engine.call("vectorize_drop_everything", {}, FakeCaller())


@pytest.mark.parametrize(
    ("options", "name", "why"),
    [
        ({"read_only": True}, "deleteLogtoConnector", "Blocked by --read-only"),
        ({"policy": "logto_delete_*=block"}, "deleteLogtoConnector", "the policy rule logto_delete_"),
        ({}, "deleteLogtoConnector", "needs the scope connectors:destroy"),
        ({"platforms": ("versori",)}, "logtoListConnectors", "does not serve Logto"),
        ({"platforms": ("versori",)}, "list_connectors", "Did you mean find_connectors?"),
        ({"platforms": ("versori",)}, "versoriListConnector", "Did you mean versori_list_connectors?"),
        (
            {"toolsets": ("versori.activations",)},
            "versori_get_system",
            "The toolset versori.systems is not served: the operator can add it with --toolsets",
        ),
    ],
)
async def test_a_name_that_means_a_tool_which_is_not_served_is_told_why(
    bench: Any, options: Any, name: str, why: str
) -> None:
    caller = FakeCaller(scopes=None if options else frozenset({"connectors:read"}))
    with pytest.raises(UnknownTool) as unknown:
        await bench(**options).engine.call(name, {}, caller)
    assert why in unknown.value.message


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (
            "conductorone_create_connector",
            {"app_id": seed.CONDUCTORONE_APP_ID, "catalog_id": "2kG3aTftCcAvWtHZt2Ywry0dPn7", "config": {}},
        ),
        ("check_connector", {"platform": "conductorone", "id": "absent", "kind": "connector"}),
        ("logto_create_connector", {"connector_id": "no-such-factory", "config": {}}),
        ("logto_create_connector", {"connector_id": "google-universal", "config": {"clientId": "a"}}),
    ],
)
async def test_what_a_call_says_names_no_tool_that_is_not_served(bench: Any, name: str, arguments: Any) -> None:
    for policy in ("", "*_delegated_*=block,*_list_*=block,describe_connector_type=block"):
        engine = bench(policy=policy).engine
        content = (await engine.call(name, arguments, FakeCaller())).content
        served = {tool.name for tool in engine.tools()}
        named = set(re.findall("|".join(catalog()), json.dumps(content)))
        assert named <= served
        assert policy or named - {name}
        assert "that is not served" not in content.get("error", {}).get("fix", "")


async def test_tools_that_policy_or_scopes_rule_out_are_not_listed(bench: Any) -> None:
    assert {tool.name for tool in bench(read_only=True).engine.tools()} == set(READS) | AFTER_A_CHANGE
    scoped = FakeCaller(scopes=frozenset({"connectors:read"}))
    assert {tool.name for tool in bench().engine.tools(scoped)} == set(READS) | AFTER_A_CHANGE


async def test_a_creation_is_verified_and_leaves_no_secret_anywhere(made: Bench) -> None:
    assert (await run(made, CREATE, S3))["meta"]["verified"] is True
    record = records(made)[-1]
    assert (record["decision"], record["decided_by"], record["effect"]) == ("allow", "policy", "create")
    hidden = {"access-key": "[redacted]", "secret-key": "[redacted]"}
    assert record["arguments"]["connectors"][0]["config"] == {**S3_CONFIG, **hidden}
    assert made.engine.scrub(f"x {SECRET}-1 y") == f"x {SECRET}-1 y", "what a call gives acts in no other"


async def test_what_is_not_secret_in_a_config_stays_readable_after_a_call(made: Bench) -> None:
    config = {"seed-urls": ["https://docs.acme.example", "https://new.acme.example"]}
    content = await run(made, "vectorize_update_source_connector", {**CRAWLER, "config": config})
    assert content["meta"]["verified"] is True
    assert content["meta"]["changes"][0]["after"] == config["seed-urls"]
    assert made.engine.scrub("https://new.acme.example") == "https://new.acme.example"
    assert records(made)[-1]["arguments"]["config"] == config


async def test_an_update_says_what_it_changed_with_secrets_hidden(made: Bench) -> None:
    config = {"clientSecret": f"{SECRET}-new", "scope": "openid"}
    content = await run(made, "logto_update_connector", {"id": seed.LOGTO_OIDC, "config": config})
    assert content["meta"]["changes"] == [
        {"field": "config.clientSecret", "before": "[redacted]", "after": "[redacted]"},
        {"field": "config.scope", "before": "openid profile email", "after": "openid"},
    ]
    assert content["data"]["config"]["clientSecret"] == "[redacted]"
    assert content["meta"]["verified"] is True


async def test_null_erases_an_optional_config_member_once_that_is_approved(made: Bench) -> None:
    arguments = {"id": seed.LOGTO_GOOGLE, "config": {"scope": None}}
    content = await run(made, "logto_update_connector", arguments, FakeCaller(yes()))
    assert "scope" not in content["data"]["config"]
    assert (records(made)[-1]["effect"], records(made)[-1]["decision"]) == ("destroy", "ask")


async def test_an_empty_secret_is_refused_where_it_erases_without_approval(made: Bench) -> None:
    arguments = {**OKTA, "config": {"okta_v2_api_token": ""}}
    content = await run(made, "conductorone_update_connector", arguments)
    assert content["error"]["code"] == "approval_required"
    assert "Erases the stored secret okta_v2_api_token" in content["error"]["effect"]
    assert made.requests("POST") == []


async def test_a_deletion_is_confirmed_by_name_and_verified(made: Bench) -> None:
    caller = confirming()
    assert (await run(made, DELETE, CRAWLER, caller))["meta"]["verified"] is True
    assert caller.questions[0].message.endswith("type the name: Docs site")
    assert records(made)[-1]["decided_by"] == "client test 1"
    # Before and after the person decides, the connector and the pipelines that use it are read.
    assert [method for method, _ in made.requests()] == ["GET"] * 4 + ["DELETE", "GET"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (ElicitationReply("decline", {}), "refused"),
        (ElicitationReply("cancel", {}), "approval_required"),
        (ElicitationReply("accept", {"confirm": "docs site"}), "confirmation_invalid"),
        (ElicitationReply("accept", {"confirm": True}), "confirmation_invalid"),
        (ElicitationReply("accept", {}), "confirmation_invalid"),
        (RuntimeError("the client broke"), "internal"),
        (None, "approval_required"),
    ],
    ids=["decline", "cancel", "other-case", "true", "nothing", "broken", "cannot"],
)
async def test_nothing_but_the_right_answer_deletes(made: Bench, answer: Any, code: str) -> None:
    assert (await run(made, DELETE, CRAWLER, FakeCaller(answer)))["error"]["code"] == code
    assert made.requests("DELETE") == []
    assert records(made)[-1]["decided_by"] == ("client test 1" if code in ("refused", "confirmation_invalid") else None)


async def test_a_target_that_changes_while_the_person_thinks_is_not_deleted(made: Bench) -> None:
    changed = {**CRAWLER, "config": {"seed-urls": ["https://elsewhere.example"]}}

    async def rename_and_confirm() -> ElicitationReply:
        result = await made.engine.call("vectorize_update_source_connector", changed, FakeCaller())
        assert not result.is_error
        return yes("Docs site")

    result = await made.engine.call(DELETE, CRAWLER, FakeCaller(lambda _: rename_and_confirm()))
    error = result.content["error"]
    assert error["code"] == "target_changed"
    assert error["differences"][0]["field"] == "configDoc.seed-urls[0]"
    assert made.requests("DELETE") == []
    assert [record["outcome"] for record in records(made)] == ["ok", "target_changed"]


async def test_a_creation_without_target_can_be_asked_for_inline(bench: Any) -> None:
    made = bench(policy="create=ask")
    assert (await run(made, CREATE, UPLOAD, FakeCaller(yes())))["data"][0]["name"] == "f"


async def test_a_returned_question_leaves_one_record_and_its_answer_another(made: Bench) -> None:
    with pytest.raises(AnswerDue) as due:
        await made.engine.call(DELETE, CRAWLER, AsksByReturning())
    assert [(r["outcome"], r["decision"]) for r in records(made)] == [("asked", "ask")]
    assert made.requests("DELETE") == []
    resumed = AsksByReturning(resumed=Resumed(due.value.ticket, yes("Docs site")))
    await run(made, DELETE, CRAWLER, resumed)
    again = AsksByReturning(resumed=Resumed(due.value.ticket, yes("Docs site")))
    content = await run(made, DELETE, {"source_connector_id": seed.VECTORIZE_S3}, again)
    assert content["error"]["code"] == "confirmation_invalid"
    assert len(made.requests("DELETE")) == 1


async def test_a_question_is_bound_to_the_arguments_and_the_principal(made: Bench) -> None:
    for arguments, principal in (({"source_connector_id": seed.VECTORIZE_S3}, "local"), (CRAWLER, "mallory")):
        with pytest.raises(AnswerDue) as due:
            await made.engine.call(DELETE, CRAWLER, AsksByReturning())
        names = {seed.VECTORIZE_S3: "Product documents", seed.VECTORIZE_WEB_CRAWLER: "Docs site"}
        reply = yes(names[arguments["source_connector_id"]])
        resumed = AsksByReturning(resumed=Resumed(due.value.ticket, reply), principal=principal)
        assert (await run(made, DELETE, arguments, resumed))["error"]["code"] == "confirmation_invalid"
    assert made.requests("DELETE") == []


async def test_an_approved_call_runs_once_for_the_one_who_asked(made: Bench) -> None:
    content = await run(made, DELETE, CRAWLER)
    approval = content["error"]["approval"]["id"]
    assert (records(made)[-1]["decision"], records(made)[-1]["decided_by"]) == ("approve", None)
    await made.engine.approvals.decide(approval, True, "ops")
    other = await run(made, DELETE, CRAWLER, FakeCaller(principal="mallory"))
    assert other["error"]["code"] == "approval_required"
    assert made.requests("DELETE") == []
    content = await run(made, DELETE, CRAWLER)
    assert content["meta"]["verified"] is True
    assert records(made)[-1]["decided_by"] == "ops"


async def test_a_denied_call_is_told_once_who_refused_it(made: Bench) -> None:
    content = await run(made, DELETE, CRAWLER)
    await made.engine.approvals.decide(content["error"]["approval"]["id"], False, "ops")
    content = await run(made, DELETE, CRAWLER)
    assert (content["error"]["code"], content["error"]["refused_by"]) == ("refused", "ops")
    assert records(made)[-1]["decided_by"] == "ops"
    assert (await run(made, DELETE, CRAWLER))["error"]["code"] == "approval_required"


async def test_what_policy_blocks_is_blocked_before_anything_is_sent(bench: Any) -> None:
    made = bench(read_only=True)
    content = await run(made, DELETE, CRAWLER, confirming())
    assert content["error"]["code"] == "blocked"
    assert records(made)[-1]["decision"] == "block"
    assert made.requests() == []


async def test_wrong_arguments_send_nothing_and_are_recorded(made: Bench) -> None:
    wrong = {"connectors": [{"name": "a", "type": "AWS_S3", "config": {**S3_CONFIG, "bucket": SECRET}}]}
    for arguments in (wrong, {}, {"connectors": SECRET}, {"connectors": [], SECRET: 1}):
        assert (await run(made, CREATE, arguments))["error"]["code"] == "invalid_arguments"
    assert made.requests() == []
    assert made.engine.scrub(SECRET) == SECRET


async def test_an_unknown_outcome_names_the_tool_to_look_with_and_warns_the_repeat(made: Bench) -> None:
    made.sandbox.inject(Fault(platform="vectorize", method="POST", kind="hang_up", applied=True))
    content = await run(made, CREATE, UPLOAD)
    assert content["error"]["code"] == "outcome_unknown"
    assert content["error"]["fix"].endswith("Check with vectorize_get_source_connectors.")
    assert len(made.requests("POST")) == 1
    again = await run(made, CREATE, UPLOAD)
    assert "outcome of the same call" in again["meta"]["warnings"][0]


ACTIVATION: dict[str, Any] = {**SHOP, "activation_id": seed.VERSORI_ACTIVATION}
SHOP_CONNECTION: dict[str, Any] = {
    "connection_template_id": seed.VERSORI_SHOP_TEMPLATE, "existing_connection_id": seed.VERSORI_SHOP_CONNECTION,
}  # fmt: skip
NEW_USER: dict[str, Any] = {**SHOP, "user_id": "merchant-2", "connections": [SHOP_CONNECTION]}


@pytest.mark.parametrize(
    ("tool", "arguments", "path", "got"),
    [
        ("activate_user", NEW_USER, "dynamic_variables.channel_id", "nothing"),
        ("activate_user", {**NEW_USER, "dynamic_variables": {"channel_id": 7}}, "dynamic_variables.channel_id", ""),
        ("set_dynamic_variables", {**ACTIVATION, "variables": {"other": "x"}}, "variables.other", ""),
        ("set_dynamic_variable", {**ACTIVATION, "variable_name": "other", "value": {"value": "x"}}, "value", ""),
        ("set_static_user_variables", {**SHOP, "variables": {"channel_id": 7}}, "variables.channel_id", ""),
    ],
)
async def test_a_variable_that_a_project_lacks_or_refuses_is_named_with_the_argument_for_it(
    bench: Any, tool: str, arguments: dict[str, Any], path: str, got: str
) -> None:
    made = bench()
    await run(made, "versori_create_end_user", {"external_id": "merchant-2"})
    error = (await run(made, f"versori_{tool}", arguments))["error"]
    assert error["code"] == "rejected"
    (issue,) = error["issues"]
    assert (issue["path"], issue["got"]) == (path, got or "a value that was refused")
    assert error["fix"] == (
        "Correct the arguments named in issues and call again. versori_get_project_variables_schema shows what the "
        "project declares."
    )


DRIVES: dict[str, Any] = {"source_connector_id": seed.VECTORIZE_DRIVE_MULTI_USER}
TEMPLATE: dict[str, Any] = {"project_id": seed.VERSORI_PROJECT, "template_id": seed.VERSORI_TEMPLATE}


@pytest.mark.parametrize("lost", [1, 4])
@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        (DELETE, CRAWLER, "not_found"),
        ("vectorize_delete_user_from_source_connector", {**DRIVES, "user_id": "user_alice"}, "not_found"),
        ("logto_delete_connector", {"id": seed.LOGTO_GITHUB}, "not_found"),
        ("versori_delete_connection_template", TEMPLATE, "invalid_arguments"),
        ("conductorone_delete_connector", OKTA, "invalid_arguments"),
    ],
)
async def test_a_deletion_whose_target_is_gone_says_how_the_same_call_ended_before(
    bench: Any, tool: str, arguments: dict[str, Any], code: str, lost: int
) -> None:
    made = bench(policy="destroy=allow")
    made.sandbox.inject(Fault(method="DELETE", kind="hang_up", applied=True, times=lost))
    first = await run(made, tool, arguments)
    # Where the first attempt was lost, the platform no longer had the target at the second, or confirmed it once more.
    assert lost == 1 or first["error"]["code"] == "outcome_unknown"
    ended = first["error"]["code"] if "error" in first else "succeeded"
    again = (await run(made, tool, arguments))["error"]
    assert again["code"] == code
    if "user_id" in arguments and ended == "not_found":
        # Whether there was such a user is not known: only the connector was read.
        assert "earlier call" not in again["message"]
        return
    said = re.search(r"An earlier call of the same deletion (.*); the target is gone now\.", again["message"])
    assert said is not None
    assert ended.removeprefix("outcome_") in said[1]
    assert again["fix"] == "Nothing is left to delete. If something else was meant, call again with its id."
    assert "candidates" not in again
    other = (await run(made, tool, {**arguments, next(reversed(arguments)): "another"}))["error"]
    assert "earlier call" not in other["message"]


async def test_an_update_of_unknown_outcome_names_the_read_of_its_target(made: Bench) -> None:
    made.sandbox.inject(Fault(platform="conductorone", method="POST", path_glob="*/connectors/*", kind="hang_up"))
    content = await run(made, "conductorone_update_connector", {**OKTA, "display_name": "New"})
    assert content["error"]["code"] in ("outcome_unknown", "upstream_failed")
    assert "conductorone_get_connector" in content["error"]["fix"]


async def test_what_a_platform_echoes_of_a_secret_is_scrubbed_from_the_error(made: Bench) -> None:
    body = {"error": f"bad key {SECRET}-1", "details": json.dumps({"sent": S3_CONFIG})}
    made.sandbox.inject(Fault(platform="vectorize", method="POST", status=400, body=body))
    content = await run(made, CREATE, S3)
    assert content["error"]["code"] == "rejected"
    assert "bad key [redacted]" in content["error"]["upstream"]["message"]


async def test_a_config_of_an_unknown_type_leaves_no_trace_in_errors_or_the_record(made: Bench) -> None:
    made.sandbox.inject(Fault(platform="logto", method="POST", path_glob="*/api/connectors", status=422, body={
        "code": "x", "message": f"odd {SECRET}-host"}))  # fmt: skip
    own: dict[str, Any] = {"id": "own-factory", "type": "Sms"}
    made.sandbox.inject(Fault(platform="logto", method="GET", path_glob="*-factories/*", status=200, times=9, body=own))
    arguments = {"connector_id": "own-factory", "config": {"host": f"{SECRET}-host"}}
    content = await run(made, "logto_create_connector", arguments, typing())
    assert content["error"]["code"] == "rejected"
    assert "odd [redacted]" in content["error"]["upstream"]["message"]


async def test_an_update_that_writes_back_a_cleaned_text_is_decided_by_a_person(made: Bench) -> None:
    scope = {"id": seed.LOGTO_GITHUB, "config": {"scope": "read\u200b user"}}
    assert "error" not in await run(made, "logto_update_connector", scope)
    read = await run(made, "logto_get_connector", {"id": seed.LOGTO_GITHUB})
    assert "taken out of config" in read["meta"]["warnings"][0]
    back = {"id": seed.LOGTO_GITHUB, "config": {"scope": read["data"]["config"]["scope"]}}
    refused = await run(made, "logto_update_connector", back)
    assert "Takes invisible characters out of config.scope" in refused["error"]["message"]
    assert "error" not in await run(made, "logto_update_connector", scope)


async def test_a_read_back_that_fails_leaves_a_success(made: Bench) -> None:
    made.sandbox.inject(Fault(platform="vectorize", method="GET", status=403, times=9))
    content = await run(made, CREATE, UPLOAD)
    assert "verified" not in content["meta"]
    assert content["meta"]["warnings"] == ["Reading back failed (forbidden); the write itself was accepted."]


async def test_without_verification_nothing_is_read_back(bench: Any) -> None:
    made = bench(verify_writes=False)
    content = await run(made, CREATE, UPLOAD)
    assert "verified" not in content["meta"]
    assert content["meta"]["unproven"] == "Not read back: CONNECTOR_MCP_VERIFY_WRITES is off."
    assert made.requests("GET") == []


async def test_without_a_store_nothing_is_written_and_reads_still_work(bench: Any, tmp_path: Any) -> None:
    (tmp_path / "broken.db").mkdir()
    made = bench(database=SqliteDatabase(tmp_path / "broken.db"), policy="destroy=allow")
    for name, arguments in ((DELETE, CRAWLER), (CREATE, UPLOAD)):
        assert (await made.engine.call(name, arguments, FakeCaller())).content["error"]["code"] == "store_unavailable"
    assert {method for method, _ in made.requests()} == {"GET"}
    assert not (await made.engine.call("logto_list_connectors", {}, FakeCaller())).is_error


@pytest.mark.parametrize("decided", ["approved", "asked"])
async def test_a_change_that_cannot_be_recorded_is_not_sent_and_uses_nothing_up(
    made: Bench, monkeypatch: pytest.MonkeyPatch, decided: str
) -> None:
    append = LockedChain.append

    def refuse_beginnings(chain: LockedChain, records: Any) -> None:
        if any(record.columns["phase"] == "begun" for record in records):
            raise StoreUnavailable("the log is gone", fix="")
        append(chain, records)

    if decided == "approved":
        approval = (await run(made, DELETE, CRAWLER))["error"]["approval"]["id"]
        await made.engine.approvals.decide(approval, True, "ops")
    caller = confirming() if decided == "asked" else FakeCaller()
    with monkeypatch.context() as patched:
        patched.setattr(LockedChain, "append", refuse_beginnings)
        assert (await run(made, DELETE, CRAWLER, caller))["error"]["code"] == "store_unavailable"
    assert made.requests("DELETE") == []
    await run(made, DELETE, CRAWLER, caller)
    assert len(made.requests("DELETE")) == 1


async def test_the_beginning_is_recorded_before_the_change_is_sent(made: Bench) -> None:
    at_sending: list[Any] = []

    async def look() -> None:
        at_sending.extend(written(made))

    before_sending(made, "DELETE", look)
    await run(made, DELETE, CRAWLER, confirming())
    (begun,) = at_sending
    assert (begun["phase"], begun["outcome"], begun["decision"]) == ("begun", "begun", "ask")
    assert (begun["decided_by"], begun["channel"]) == ("client test 1", "elicitation")
    assert begun["fingerprint_before"] == records(made)[-1]["fingerprint_before"]
    assert records(made)[-1]["fingerprint_after"] == "gone"


async def test_an_update_leaves_the_target_s_fingerprint_before_and_after(made: Bench) -> None:
    for _ in range(2):
        await run(made, "conductorone_update_connector", {**OKTA, "display_name": "Okta 2"})
    first, again = records(made)
    assert first["fingerprint_before"] != first["fingerprint_after"]
    assert again["fingerprint_before"] == first["fingerprint_after"] == again["fingerprint_after"]
    assert {first["channel"], first["tenant"] is None} == {"policy", True}


async def test_the_record_names_the_channel_of_a_decision(made: Bench) -> None:
    parked = await run(made, DELETE, CRAWLER)
    await made.engine.approvals.decide(parked["error"]["approval"]["id"], False, "operator ops")
    await run(made, DELETE, CRAWLER)
    await run(made, DELETE, CRAWLER, FakeCaller(ElicitationReply("decline", {})))
    await run(made, DELETE, CRAWLER, FakeCaller(ElicitationReply("decline", {}), transport="cli"))
    await run(made, DELETE, {})
    assert [(record["outcome"], record["channel"], record["decided_by"]) for record in records(made)] == [
        ("approval_required", "approvals", None),
        ("refused", "approvals", "operator ops"),
        ("refused", "elicitation", "client test 1"),
        ("refused", "terminal", "client test 1"),
        ("invalid_arguments", "policy", None),
    ]


async def test_a_record_that_cannot_be_written_is_logged_and_the_answer_stands(
    made: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    async def refuse(*_: Any) -> None:
        raise StoreUnavailable("the log is gone", fix="")

    monkeypatch.setattr(AuditTrail, "write", refuse)
    assert not (await made.engine.call("logto_list_connectors", {}, FakeCaller())).is_error
    assert "the log is gone" in caplog.text


async def test_a_fault_inside_shows_nothing_of_itself_to_the_agent_and_no_secret_to_the_log(
    made: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    def break_down(*_: Any) -> None:
        try:
            raise KeyError(f"{SECRET}-1")
        except KeyError as error:
            raise ValueError(f'inner text {SECRET}-2 "quoted"') from error

    monkeypatch.setattr(engine_call, "parse_arguments", break_down)
    with caplog.at_level(logging.DEBUG):
        await run(made, CREATE, {"connectors": json.dumps(S3["connectors"])})
        content = await run(made, CREATE, S3)
    assert content["error"]["code"] == "internal"
    assert "inner text" not in json.dumps(content)
    assert "inner text [redacted]" in caplog.text
    assert "break_down" in caplog.text
    assert SECRET not in caplog.text
    assert all(record.exc_info is None for record in caplog.records)


async def test_a_fault_after_the_change_says_so(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:

    async def break_down(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(call_module, "verify", break_down)
    content = await run(made, DELETE, CRAWLER, confirming())
    assert "The change had been sent and may have been made." in content["error"]["message"]
    assert "vectorize_get_source_connector" in content["error"]["fix"]
    assert content["error"]["retryable"] is False


async def test_a_cancelled_call_cancels_its_request_and_leaves_one_record(bench: Any) -> None:
    made = bench(limits=replace(DEFAULT_LIMITS, read=30.0))
    started, ended = anyio.Event(), anyio.Event()

    async def hang() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    before_sending(made, "POST", hang)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.engine.call, CREATE, UPLOAD, FakeCaller())
        with anyio.fail_after(60):
            await started.wait()
        tasks.cancel_scope.cancel()
    assert ended.is_set()
    assert [(r["outcome"], r["effect"]) for r in records(made)] == [("cancelled", "create")]
    del made.account("vectorize").client.send
    again = await run(made, CREATE, UPLOAD)
    assert "outcome of the same call" in again["meta"]["warnings"][0]


async def test_of_two_identical_writes_at_once_one_is_sent(made: Bench) -> None:
    codes: list[str] = []
    both = anyio.Event()
    before_sending(made, "POST", both.wait)

    async def create() -> None:
        result = await made.engine.call(CREATE, UPLOAD, FakeCaller())
        codes.append(result.content["error"]["code"] if result.is_error else "ok")
        both.set()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(create)
            tasks.start_soon(create)
    assert sorted(codes) == ["in_progress", "ok"]
    assert len(made.requests("POST")) == 1


async def test_parts_that_fail_are_reported_beside_those_that_succeed(made: Bench) -> None:
    made.sandbox.inject(Fault(platform="vectorize", method="POST", status=400, body={"error": "no"}))
    arguments = {"connectors": [{"name": name, "type": "FILE_UPLOAD"} for name in "ab"]}
    caller = FakeCaller()
    content = await run(made, CREATE, arguments, caller)
    assert content["data"][0] == {"index": 0, "error": content["data"][0]["error"]}
    assert content["data"][0]["error"]["code"] == "rejected"
    assert content["data"][1]["name"] == "b"
    assert caller.told == ["0 of 2 sent", "1 of 2 sent"]


@pytest.mark.parametrize("other", ["sandbox", "address", "tenant"])
async def test_an_approval_for_one_world_releases_nothing_in_another(
    made: Bench, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    async def delete() -> Any:
        return (await made.engine.call(DELETE, CRAWLER, FakeCaller())).content

    approval = (await delete())["error"]["approval"]["id"]
    await made.engine.approvals.decide(approval, True, "ops")
    account = made.account("vectorize")
    with monkeypatch.context() as patched:
        if other == "sandbox":
            patched.setitem(vars(account), "sandbox", False)
        elif other == "address":
            patched.setattr(type(account.client), "base_url", "https://elsewhere.example")
        else:
            patched.setattr(type(account), "tenant_of", lambda *_: "another")
        again = (await delete())["error"]
        assert (again["code"], made.requests("DELETE")) == ("approval_required", [])
        assert again["approval"]["id"] != approval
        kept = await made.engine.approvals.get(again["approval"]["id"])
        shown = (kept.sandbox, kept.address, kept.tenant)
    assert "error" not in await delete()
    first = await made.engine.approvals.get(approval)
    assert shown != (first.sandbox, first.address, first.tenant)


@pytest.mark.parametrize("decision", ["ask", "approve"])
async def test_a_creation_without_a_target_is_shown_before_it_is_decided(bench: Any, decision: str) -> None:
    made, caller = bench(policy=f"create={decision}"), FakeCaller(ElicitationReply("decline", {}))
    content = await run(made, CREATE, S3, caller)
    if decision == "ask":
        told = caller.questions[0].message
    else:
        told = (await made.engine.approvals.get(content["error"]["approval"]["id"])).model_dump_json()
    for part in ("s3", "AWS_S3", "bucket-name", "org_sandbox", "sandbox"):
        assert part in told
    assert SECRET not in told
    assert made.requests("POST") == []


async def test_a_read_that_must_be_decided_is_decided(bench: Any) -> None:
    made = bench(policy="read=approve")
    content = await run(made, "logto_get_connector", {"id": seed.LOGTO_SMTP})
    assert (content["error"]["code"], made.requests()) == ("approval_required", [])
    await made.engine.approvals.decide(content["error"]["approval"]["id"], True, "ops")
    answer = (await made.engine.call("logto_get_connector", {"id": seed.LOGTO_SMTP}, FakeCaller())).content
    assert answer["data"]["id"] == seed.LOGTO_SMTP
    begun, ended = written(made)[-2:]
    assert [(each["phase"], each["decided_by"]) for each in (begun, ended)] == [("begun", "ops"), ("ended", "ops")]
