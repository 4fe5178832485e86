"""What an answer says about an id that the platform does not have, and about what can exist only once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connector_mcp.engine.lookup import id_paths
from connector_mcp.operations.catalog import PLATFORMS, platform_folder
from connector_mcp.operations.operation import Effect, ListOperation, Operation, at
from connector_mcp.operations.platform import path_shape
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.faults import Fault
from connector_mcp.upstream.client import ClientLimits
from tests.engine.conftest import Bench, BenchMaker, FakeCaller, yes

pytestmark = pytest.mark.anyio

S3, GITHUB = "vectorize_get_source_connector", {"id": "github-signin"}
LISTS = {
    platform: {each.http.shape: each for each in folder.operations if issubclass(each, ListOperation)}
    for platform in PLATFORMS
    if (folder := platform_folder(platform))
}
BY_ID = [
    (operation, argument, LISTS[platform][path_shape(path)])
    for platform in PLATFORMS
    for operation in platform_folder(platform).operations
    for argument, path in id_paths(operation.model_construct(**operation.example))
    if path_shape(path) in LISTS[platform]
]
NAMED = [each for each in BY_ID if each[2].known_by]
"""Those with lists that show names."""
PLACES: dict[str, dict[str, str]] = {
    "vectorize": {"connector_id": seed.VECTORIZE_FILE_UPLOAD, "pipeline_id": seed.VECTORIZE_PIPELINE},
    "logto": {"id": seed.LOGTO_SSO},
    "versori": {"project_id": seed.VERSORI_PROJECT, "environment_id": seed.VERSORI_STOREFRONT_PRODUCTION},
    "conductorone": {"app_id": seed.CONDUCTORONE_APP_ID, "connector_id": seed.CONDUCTORONE_OKTA},
}
"""What the sandbox has of the arguments that places of lists have."""


async def run(made: Bench, tool: str, caller: Any = None, **arguments: Any) -> Any:
    return (await made.engine.call(tool, arguments, caller or FakeCaller(yes()))).content


async def example_of(made: Bench, operation: type[Operation], listed: type[ListOperation]) -> dict[str, Any]:
    """Arguments that are valid, with a place of the list that exists."""
    tool = made.engine.tool(operation.tool_name())
    assert tool is not None
    tenant = {name: value for account in made.engine.accounts for name, value in account.fixed.items()}
    assert operation.on is not None
    places = {k: v for k, v in PLACES[operation.on.name].items() if k in listed.http.placeholders}
    return {k: v for k, v in {**tenant, **operation.example, **places}.items() if k in tool.input_schema["properties"]}


@pytest.mark.parametrize(
    ("operation", "argument", "listed"), NAMED, ids=lambda value: getattr(value, "__name__", value)
)
async def test_a_name_is_resolved_by_reads_and_told_with_its_id_by_everything_else(
    made: Bench, operation: type[Operation], argument: str, listed: type[ListOperation]
) -> None:
    arguments = await example_of(made, operation, listed)
    place = {name: value for name, value in arguments.items() if name in listed.http.placeholders}
    rows = (await run(made, listed.tool_name(), **place, detail="full"))["data"]
    known_by = listed.known_by[0]
    if isinstance(at(rows[0], known_by), dict):
        known_by += ".en"
    names = [str(at(row, known_by)) for row in rows]
    name = next(each for each in names if names.count(each) == 1)
    row = rows[names.index(name)]
    caller, sent = FakeCaller(yes()), len(made.requests())
    told = await run(made, operation.tool_name(), caller, **{**arguments, argument: name.upper()})
    methods = {method for method, _ in made.requests()[sent:]}
    if operation.effect is Effect.READ:
        # The other ids of some examples do not exist.
        assert told["error"].get("argument") != argument if "error" in told else told["meta"]["resolved"][argument]
        return
    is_read_before = operation.acts_on is not None and argument in {
        operation.acts_on.arguments.get(each, each) for each in operation.acts_on.read.model_fields
    }
    if not is_read_before:
        # The platform itself refuses the request.
        assert methods <= {"GET", operation.http.method}
        assert "error" in told
        return
    assert caller.questions == []
    assert methods <= {"GET"}
    if told["error"]["code"] == "not_found":
        assert [each[listed.id_member] for each in told["error"]["candidates"]] == [row[listed.id_member]]
        assert (told["error"]["argument"], told["error"]["list_tool"]) == (argument, listed.tool_name())
        assert name not in told["error"]["message"] + told["error"]["fix"]


@pytest.mark.parametrize(
    ("tool", "arguments", "argument", "listed"),
    [
        ("logto_get_email_template", {}, "id", "logto_list_email_templates"),
        ("versori_create_connection_template", {"project_id": "Orders"}, "project_id", "versori_list_projects"),
    ],
)
async def test_the_list_is_named_where_no_name_is_resolved(
    made: Bench, tool: str, arguments: dict[str, Any], argument: str, listed: str
) -> None:
    known = made.engine.tool(tool)
    assert known is not None
    tenant = made.account(tool.partition("_")[0]).fixed
    error = (await run(made, tool, **{**tenant, **known.operation.example, **arguments}))["error"]
    assert (error["code"], error["argument"], error["list_tool"]) == ("not_found", argument, listed)
    assert listed in error["fix"]


@pytest.mark.parametrize(
    ("tool", "given", "resolved"),
    [
        ("logto_get_connector", "github-universal", "github-signin"),
        ("logto_get_connector", "github", "github-signin"),
        ("logto_get_connector_factory", "github-signin", "github-universal"),
        ("logto_get_connector_factory", "twilio-main", "twilio-short-message-service"),
    ],
)
async def test_the_other_kind_of_id_is_resolved(made: Bench, tool: str, given: str, resolved: str) -> None:
    content = await run(made, tool, id=given)
    assert (content["data"]["id"], content["meta"]["resolved"]) == (resolved, {"id": resolved})
    assert "meta.resolved" in content["meta"]["warnings"][0]
    assert json.loads(made.audit_lines[-1])["arguments"] == {"id": given}


async def test_a_name_that_several_have_lists_them_and_reads_none(made: Bench) -> None:
    site = {"name": "Twin", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}
    made_ids = [
        row["id"] for row in (await run(made, "vectorize_create_source_connector", connectors=[site, site]))["data"]
    ]
    error = (await run(made, S3, source_connector_id="twin"))["error"]
    assert [each["id"] for each in error["candidates"]] == made_ids
    assert error["list_tool"] == "vectorize_get_source_connectors"


async def test_what_is_like_no_name_names_the_list_and_what_there_is(made: Bench) -> None:
    error = (await run(made, "logto_get_connector", id="nothing-like-it"))["error"]
    assert len(error["candidates"]) == 5
    assert "logto_list_connectors" in error["fix"]
    wrong_app = (await run(made, "conductorone_get_connector", app_id="none", id="x"))["error"]
    assert "app_id" in wrong_app["fix"]
    user = {"source_connector_id": seed.VECTORIZE_DRIVE_MULTI_USER, "user_id": "none"}
    error = (await run(made, "vectorize_delete_user_from_source_connector", **user))["error"]
    assert "user_id" in error["fix"] or error["code"] != "not_found"


@pytest.mark.parametrize(
    "given", ["sk-live-0123456789abcdef", "secret://S3", "x" * 70, "ghp_16C7e42F292c6912E7710c838347"]
)
async def test_nothing_is_looked_up_for_what_looks_like_a_secret(made: Bench, given: str) -> None:
    content = await run(made, "logto_get_connector", id=given)
    assert "candidates" not in content["error"]
    assert given not in json.dumps(content["error"]) or given.startswith("secret://")
    assert ("GET", "/api/connectors") not in made.requests()


@pytest.mark.parametrize(
    "policy",
    ["logto_list_connectors=block", "logto_list_connectors=ask", "logto_get_connector=approve"],
)
async def test_policy_decides_about_the_lookup_too(bench: BenchMaker, policy: str) -> None:
    made = bench(policy=policy)
    content = await run(made, "logto_get_connector", FakeCaller(), id="GitHub")
    assert "data" not in content
    if "list" in policy:
        assert "list_tool" not in content["error"]
        assert ("GET", "/api/connectors") not in made.requests()


async def test_an_approved_read_reads_only_what_was_approved(bench: BenchMaker) -> None:
    made = bench(policy="logto_get_connector=approve")
    parked = await run(made, "logto_get_connector", FakeCaller(), id="GitHub")
    await made.engine.approvals.decide(parked["error"]["approval"]["id"], True, "ops")
    content = await run(made, "logto_get_connector", FakeCaller(), id="GitHub")
    assert content["error"]["code"] == "not_found"
    assert [each["id"] for each in content["error"]["candidates"]] == ["github-signin"]


async def test_a_lookup_that_fails_or_takes_too_long_leaves_the_answer_as_it_is(bench: BenchMaker) -> None:
    for fault in (Fault("logto", "GET", "/api/connectors", 9, kind="html", status=200),
                  Fault("logto", "GET", "/api/connectors", 9, kind="timeout")):  # fmt: skip
        made = bench(limits=ClientLimits(attempts=1))
        made.sandbox.inject(fault)
        error = (await run(made, "logto_get_connector", id="GitHub"))["error"]
        assert (error["code"], "candidates" in error, error["list_tool"]) == (
            "not_found",
            False,
            "logto_list_connectors",
        )


async def test_what_can_exist_only_once_is_named_with_the_tool_that_changes_it(bench: BenchMaker) -> None:
    config = {"clientId": "Iv1.a", "clientSecret": "b12345678901"}
    create = {"connector_id": "github-universal", "config": config}
    for policy, named in (("", True), ("logto_list_connectors=block", False)):
        error = (await run(bench(policy=policy), "logto_create_connector", **create))["error"]
        assert error["code"] == "rejected"
        assert ([each["id"] for each in error.get("candidates", [])] == ["github-signin"]) is named
        assert ("logto_update_connector" in error["fix"]) is named


async def test_a_creation_that_is_refused_names_what_changes_the_thing_at_the_same_path(bench: BenchMaker) -> None:
    user = {
        "organization_id": seed.VECTORIZE_ORGANIZATION_ID,
        "source_connector_id": seed.VECTORIZE_DRIVE_MULTI_USER,
        "user_id": "new-user",
        "selected_files": {"f1": {"name": "a.pdf", "mimeType": "application/pdf"}},
        "refresh_token": "token",
    }
    add, change = "vectorize_add_user_to_source_connector", "vectorize_update_user_in_source_connector"
    for policy in ("", f"{change}=block"):
        made = bench(policy=policy)
        assert "error" not in await run(made, add, **user)
        error = (await run(made, add, **user | {"refresh_token": "another"}))["error"]
        assert (error["code"], change in error["fix"]) == ("rejected", not policy)


async def test_an_id_that_only_another_list_shows_is_to_be_taken_from_there(bench: BenchMaker) -> None:
    made = bench(toolsets=("all",))
    error = (await run(made, "versori_list_activations", environment_id="absent"))["error"]
    assert (error["code"], error["fix"]) == (
        "not_found",
        "Take environment_id from versori_list_projects, and call again.",
    )
    absent: dict[str, Any] = {"environment_id": seed.VERSORI_STOREFRONT_PRODUCTION, "user_id": "absent"}
    error = (await run(made, "versori_activate_user", **absent, connections=[]))["error"]
    assert "user_id from versori_list_end_users" in error["fix"]
    part = {"id": "absent", "type": "VECTORIZE", "config": {}}
    parts = {
        "source_connectors": [part | {"type": "WEB_CRAWLER"}],
        "ai_platform_connector": part,
        "destination_connector": part,
    }
    error = (await run(made, "vectorize_create_pipeline", pipeline_name="p", schedule="manual", **parts))["error"]
    assert "source_connectors from vectorize_get_source_connectors and" in error["fix"], "the read needs the id itself"
    blocked = bench(toolsets=("all",), policy="versori_list_projects=block")
    error = (await run(blocked, "versori_list_activations", environment_id="absent"))["error"]
    assert "versori_list_projects" not in error["fix"]


@pytest.mark.parametrize(
    ("tool", "named"),
    [
        ("vectorize_get_pipelines", "nextToken"),
        ("versori_list_connectors", "after"),
        ("conductorone_search_apps", "page_token"),
    ],
)
async def test_a_cursor_of_another_list_is_explained_by_the_name_of_the_argument(
    bench: BenchMaker, tool: str, named: str
) -> None:
    error = (await run(bench(), tool, cursor="zzz"))["error"]
    assert error["fix"].startswith(f"Upstream's `{named}` is `cursor` here. ")


@pytest.mark.parametrize(
    ("tool", "arguments", "empty"),
    [
        ("conductorone_update_connector", {"app_id": "a", "id": "", "display_name": "x"}, "id"),
        ("conductorone_force_sync", {"app_id": "a", "connector_id": ""}, "connector_id"),
    ],
)
async def test_an_empty_id_is_named_as_the_call_named_it(
    bench: BenchMaker, tool: str, arguments: Any, empty: str
) -> None:
    error = (await run(bench(), tool, **arguments))["error"]
    assert error["message"].startswith(f"{tool}: at {empty}: ")
