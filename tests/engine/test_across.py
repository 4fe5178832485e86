"""Calls that look at several platforms, or at the audit log."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from connector_mcp.engine import across
from connector_mcp.engine.sender import Sender
from connector_mcp.operations.catalog import PLATFORMS, in_toolsets, platform_folder, toolsets
from connector_mcp.operations.overview import Reads, Verdict
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.faults import Fault
from tests.engine.conftest import AsksByReturning, Bench, BenchMaker, FakeCaller, yes
from tests.records import rows

pytestmark = pytest.mark.anyio

CRAWLER: dict[str, Any] = {"source_connector_id": seed.VECTORIZE_WEB_CRAWLER}
SITE: dict[str, Any] = {"config": {"seed-urls": ["https://a.example"]}}
OVERVIEWS = {platform: platform_folder(platform).overview for platform in PLATFORMS}
TOOLS_OF_ONE: list[tuple[str, dict[str, Any]]] = [("find_connectors", {}), ("check_connector", {"id": "x"})]
CALLERS = pytest.mark.parametrize("kind", [FakeCaller, AsksByReturning])
"""A caller of each era of the protocol."""


async def run(made: Bench, tool: str, caller: FakeCaller | None = None, **arguments: Any) -> Any:
    return (await made.engine.call(tool, arguments, caller or FakeCaller())).content


def judge_at_once(verdict: Verdict, *_: str) -> Reads[Verdict]:
    yield []
    return verdict


def platforms_of(content: Any) -> set[str]:
    return {row["platform"] for row in content["data"]}


async def test_connectors_of_all_platforms_are_found_in_one_form(made: Bench) -> None:
    content = await run(made, "find_connectors", limit=100)
    assert platforms_of(content) == set(PLATFORMS)
    assert all(row.keys() >= {"kind", "id", "name", "type", "status"} for row in content["data"])
    statuses = [row["status"] for row in content["data"]]
    assert statuses == sorted(statuses, key=lambda status: status != "failing")
    assert not any(warning.startswith("Not listed") for warning in content["meta"].get("warnings", ()))


@pytest.mark.parametrize("away", PLATFORMS)
async def test_a_platform_that_fails_is_named_and_the_others_are_listed(made: Bench, away: str) -> None:
    made.sandbox.inject(Fault(platform=away, method="GET", status=403, times=99))
    content = await run(made, "find_connectors", limit=100)
    assert platforms_of(content) == set(PLATFORMS) - {away}
    title = made.account(away).platform.title
    (warning,) = [each for each in content["meta"]["warnings"] if each.startswith("Not listed")]
    assert warning.startswith(f"Not listed: {title} (forbidden). ")


@CALLERS
@pytest.mark.parametrize("decision", ["block", "ask", "approve"])
async def test_a_list_that_policy_does_not_let_pass_counts_as_failed_and_asks_no_one(
    bench: BenchMaker, kind: type[FakeCaller], decision: str
) -> None:
    made, caller = bench(policy=f"logto_list_connectors={decision}"), kind(yes())
    content = await run(made, "find_connectors", caller, limit=100)
    assert platforms_of(content) == set(PLATFORMS) - {"logto"}
    assert "Not listed: Logto (blocked). " in " ".join(content["meta"]["warnings"])
    assert (caller.questions, caller.visits) == ([], [])
    assert ("GET", "/api/connectors") not in made.requests()
    checked = await run(
        bench(policy=f"logto_get_connector={decision}"),
        "check_connector", caller, platform="logto", id=seed.LOGTO_GITHUB,
    )  # fmt: skip
    assert checked["data"]["works"] == "unknown"
    assert caller.questions == []


FILTERS: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
    ({"name": "DOCS"}, lambda row: "docs" in row["name"].lower()),
    ({"type": "s3"}, lambda row: "s3" in row["type"].lower()),
    ({"type": "pipeline"}, lambda row: row["kind"] == "pipeline"),
    ({"status": "unknown"}, lambda row: row["status"] == "unknown"),
    ({"platform": "versori"}, lambda row: row["platform"] == "versori"),
    ({"platform": "logto", "name": "g"}, lambda row: row["platform"] == "logto" and "g" in row["name"].lower()),
]


@pytest.mark.parametrize(("arguments", "fits"), FILTERS)
async def test_filters_leave_the_rows_that_fit_and_no_others(made: Bench, arguments: Any, fits: Any) -> None:
    whole = (await run(made, "find_connectors", limit=100))["data"]
    found = (await run(made, "find_connectors", **arguments, limit=100))["data"]
    assert found == [row for row in whole if fits(row)]
    assert 0 < len(found) < len(whole)


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_small_limit_of_results_hides_nothing_from_the_reads_behind_an_answer(
    bench: BenchMaker, platform: str
) -> None:
    thing = {"vectorize": seed.VECTORIZE_S3, "logto": seed.LOGTO_GITHUB}
    thing |= {"versori": seed.VERSORI_CONNECTION, "conductorone": seed.CONDUCTORONE_OKTA}
    answers: list[Any] = []
    for made in (bench(), bench(max_result_bytes=1024)):
        found = await run(made, "find_connectors", platform=platform, fields=["id"], limit=100)
        checked = await run(made, "check_connector", platform=platform, id=thing[platform])
        answers.append((found["data"], checked["data"]))
    assert answers[0] == answers[1]


async def test_an_answer_says_of_which_list_the_platform_gave_only_a_part(made: Bench) -> None:
    part: dict[str, Any] = {"items": [], "totalCount": 50}
    path = "*/connection-templates*"
    made.sandbox.inject(Fault(platform="versori", method="GET", path_glob=path, status=200, times=9, body=part))
    content = await run(made, "check_connector", platform="versori", id=seed.VERSORI_CONNECTION)
    assert "The platform has 50 rows and gave 0 of them" in " ".join(content["meta"]["warnings"])


async def test_an_odd_row_of_one_platform_neither_breaks_the_call_nor_gets_a_name_that_it_has_not(made: Bench) -> None:
    for platform, body in (
        ("conductorone", {"list": [{"id": 5, "displayName": "App"}]}),
        ("vectorize", {"sourceConnectors": [{"id": "a", "name": None, "type": None}]}),
    ):
        made.sandbox.inject(Fault(platform=platform, method="GET", status=200, body=body))
    content = await run(made, "find_connectors", limit=100)
    assert "Not listed: ConductorOne (malformed_answer). " in " ".join(content["meta"]["warnings"])
    nameless = {"platform": "vectorize", "kind": "source connector", "id": "a", "status": "unknown"}
    assert nameless in content["data"]


async def test_only_the_platform_asked_about_is_read(made: Bench) -> None:
    await run(made, "find_connectors", platform="versori")
    assert {request.platform for request in made.sandbox.requests} == {"versori"}


async def test_a_platform_that_is_not_served_is_an_error_that_names_those_that_are(bench: BenchMaker) -> None:
    made = bench(platforms=("versori", "logto"))
    for tool, more in TOOLS_OF_ONE:
        error = (await run(made, tool, platform="vectorize", **more))["error"]
        assert (error["code"], error["issues"][0]["path"]) == ("invalid_arguments", "platform")
        assert error["issues"][0]["wanted"].endswith("versori, logto")


async def test_a_check_answers_yes_no_or_unknown_with_the_reason(made: Bench) -> None:
    works: dict[str, Any] = {"platform": "vectorize", "id": seed.VECTORIZE_S3}
    assert (await run(made, "check_connector", **works))["data"]["works"] == "yes"
    unused = (await run(made, "check_connector", platform="vectorize", id=seed.VECTORIZE_DRIVE_MULTI_USER))["data"]
    assert (unused["works"], "No pipeline uses" in unused["reason"]) == ("no", True)
    assert "vectorize_create_pipeline" in unused["next"]
    made.sandbox.inject(Fault(platform="vectorize", method="GET", status=403, times=99))
    unknown = (await run(made, "check_connector", **works))["data"]
    assert (unknown["works"], unknown["reason"].startswith("It cannot be known: ")) == ("unknown", True)


async def test_a_check_of_an_unknown_kind_names_the_kinds_and_reads_nothing(made: Bench) -> None:
    error = (await run(made, "check_connector", platform="versori", id="x", kind="planet"))["error"]
    assert (error["code"], error["issues"][0]["path"]) == ("invalid_arguments", "kind")
    assert "activation" in error["issues"][0]["wanted"]
    assert made.requests() == []


KINDS_OF = [(platform, kind) for platform in PLATFORMS for kind in (None, *OVERVIEWS[platform].checks)]


@pytest.mark.parametrize(("platform", "kind"), KINDS_OF)
async def test_a_check_of_what_is_not_there_says_what_it_was_looked_for_as(
    made: Bench, platform: str, kind: str | None
) -> None:
    checks = OVERVIEWS[platform].checks
    place: dict[str, Any] = {"within": seed.VERSORI_PRODUCTION} if kind == "activation" else {}
    content = await run(made, "check_connector", platform=platform, id="absent", kind=kind, **place)
    if "data" in content:
        # It was looked for in lists.
        assert "with this id" in content["data"]["reason"]
        return
    error = content["error"]
    assert error["code"] == "not_found"
    assert "argument" not in error, "this tool has other arguments than the read behind it"
    where = " there, or within is wrong" if place else ""
    assert error["fix"].startswith(f"No {kind or next(iter(checks))} has this id{where}. ")
    assert error["fix"].endswith(f"one of {', '.join(checks)}.")


SYNC: dict[str, Any] = {"app_id": seed.CONDUCTORONE_APP_ID, "connector_id": seed.CONDUCTORONE_OKTA}
FAILED = {"status": "SYNC_STATUS_ERROR", "lastError": "no"}


@pytest.mark.parametrize(
    ("status", "works", "is_awaited"),
    [
        (None, "no", True),
        (FAILED | {"completedAt": "2026-01-01T00:00:00Z"}, "no", True),
        (FAILED | {"completedAt": "9999-01-01T00:00:00Z"}, "no", False),
        ({"status": "SYNC_STATUS_DONE", "completedAt": "2020-01-01T00:00:00Z"}, "unknown", True),
        ({"status": "SYNC_STATUS_RUNNING", "startedAt": "9999-01-01T00:00:00Z"}, "unknown", False),
    ],
)
async def test_a_check_knows_of_a_sync_that_the_platform_may_not_show_yet(
    made: Bench, monkeypatch: pytest.MonkeyPatch, status: Any, works: str, is_awaited: bool
) -> None:
    shown = {"id": seed.CONDUCTORONE_OKTA, "config": {"a": 1}, "configUpdatedAt": "2025-12-31T00:00:00Z"}
    view: dict[str, Any] = {"connectorView": {"connector": {**shown, "catalogId": "other", "status": status}}}
    at = f"*/connectors/{seed.CONDUCTORONE_OKTA}"
    made.sandbox.inject(Fault("conductorone", "GET", at, times=9, status=200, body=view))

    async def check() -> dict[str, Any]:
        place = {"id": seed.CONDUCTORONE_OKTA, "within": seed.CONDUCTORONE_APP_ID}
        return (await run(made, "check_connector", platform="conductorone", **place))["data"]

    before = await check()
    assert before["works"] == works
    assert "data" in await run(made, "conductorone_force_sync", **SYNC)
    call = (await run(made, "recent_changes"))["data"][0]["call_id"]
    after = await check()
    if is_awaited:
        assert after["works"] == "unknown"
        called = rf"conductorone_force_sync was called \d+ s ago \(call {call}\)"
        said = rf"{re.escape(before['reason'])} But {called}, and its outcome may not show yet\."
        assert re.fullmatch(said, after["reason"])
        assert after["next"].endswith(before["next"])
    else:
        assert after == before
    monkeypatch.setattr(across, "_LATE", timedelta())
    assert await check() == before


LEFT_OUT: list[dict[str, Any]] = [
    *({"toolsets": (name,)} for name in ("default", "all", *PLATFORMS, *toolsets())),
    {"read_only": True},
    {"policy": "*_update_*=block,*_list_*=block"},
]


@pytest.mark.parametrize("options", LEFT_OUT, ids=lambda options: str(*options.values()))
async def test_advice_names_only_tools_that_are_served_or_else_says_how_they_would_be(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    made = bench(**options)
    tools = {each.tool_name(): each for platform in PLATFORMS for each in platform_folder(platform).operations}
    served = {tool.name for tool in made.engine.tools()}
    # Whatever the texts of the checks name.
    verdict = Verdict(None, "So.", f"Use {', '.join(tools)}.")
    monkeypatch.setitem(OVERVIEWS["logto"].checks, "advice", partial(judge_at_once, verdict))
    said = (await run(made, "check_connector", platform="logto", id="x", kind="advice"))["data"]["next"]
    advice, _, why = said.partition(". ")
    assert advice.removeprefix("Use ").rstrip(".").split(", ") == [
        name if name in served else "a tool that is not served" for name in tools
    ]
    missing = {tools[name].toolset for name in tools.keys() - in_toolsets(tools, made.engine.settings.toolsets)}
    if missing:
        assert why == f"The operator can add {' and '.join(sorted(missing))} with --toolsets."
    else:
        left_out = "The policy, CONNECTOR_MCP_TOOLS or the caller's scopes leave that tool out."
        assert why == ("" if tools.keys() <= served else left_out)


@CALLERS
async def test_recent_changes_shows_changes_only_by_platform_and_target(
    made: Bench, kind: type[FakeCaller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(across, "_AT_ONCE", 1)
    await run(made, "vectorize_get_source_connectors")
    assert (await run(made, "recent_changes"))["data"] == []
    await run(made, "vectorize_update_source_connector", **CRAWLER, **SITE)
    await run(made, "logto_update_connector", id=seed.LOGTO_OIDC, sync_profile=True)
    await run(made, "vectorize_delete_source_connector", **CRAWLER)
    caller = kind(yes())
    rows = (await run(made, "recent_changes", caller))["data"]
    shown = [(row["tool"], row["platform"], row["outcome"]) for row in rows]
    assert shown == [
        ("logto_update_connector", "logto", "ok"),
        ("vectorize_update_source_connector", "vectorize", "ok"),
    ], "what waits for a decision has changed nothing"
    assert [row["caller"] for row in rows] == ["local"] * 2
    narrowed: list[dict[str, Any]] = [
        {"platform": "vectorize"}, {"platform": "vectorize", "target": ""}, {"target": seed.VECTORIZE_WEB_CRAWLER},
    ]  # fmt: skip
    for arguments in narrowed:
        assert [row["platform"] for row in (await run(made, "recent_changes", **arguments))["data"]] == ["vectorize"]
    assert (await run(made, "recent_changes", target="absent"))["data"] == []
    assert caller.questions == []


async def test_the_creation_of_a_thing_is_among_its_changes(made: Bench) -> None:
    sources = [{"name": "Uploads", "type": "FILE_UPLOAD"}]
    data = (await run(made, "vectorize_create_source_connector", connectors=sources))["data"]
    await run(made, "logto_update_connector", id=seed.LOGTO_OIDC, sync_profile=True)
    (row,) = (await run(made, "recent_changes", target=data[0]["id"]))["data"]
    assert (row["tool"], row["target"]["id"]) == ("vectorize_create_source_connector", data[0]["id"])


async def test_a_change_that_a_platform_refused_is_none_and_one_that_may_be_made_is_shown(
    made: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = f"*/sources/{seed.VECTORIZE_WEB_CRAWLER}"
    made.sandbox.inject(Fault("vectorize", "PATCH", at, status=400))
    await run(made, "vectorize_update_source_connector", **CRAWLER, **SITE)
    assert (await run(made, "recent_changes"))["data"] == []
    made.sandbox.inject(Fault("vectorize", "PATCH", at, times=9, kind="hang_up"))
    await run(made, "vectorize_update_source_connector", **CRAWLER, **SITE)
    assert [row["outcome"] for row in (await run(made, "recent_changes"))["data"]] == ["outcome_unknown"]
    with monkeypatch.context() as patched:
        patched.setattr(Sender, "situation", None)
        assert (await run(made, "vectorize_delete_source_connector", **CRAWLER))["error"]["code"] == "internal"
    assert len((await run(made, "recent_changes"))["data"]) == 1, "a call that ended before it began changed nothing"
    # As if the process had died during both calls.
    rows(made.engine.database, "DELETE FROM audit WHERE phase = 'ended'")
    assert [row["outcome"] for row in (await run(made, "recent_changes"))["data"]] == ["begun"] * 2


async def test_a_record_that_was_altered_is_no_change(made: Bench) -> None:
    database = made.engine.database
    await run(made, "vectorize_update_source_connector", **CRAWLER, **SITE)
    await run(made, "logto_update_connector", id=seed.LOGTO_OIDC, sync_profile=True)
    rows(database, "UPDATE audit SET line = replace(line, 'logto_', 'logto-') WHERE tool LIKE 'logto%'")
    # The next record tells that the head is lost. It is made to look like that of a call.
    rows(database, "UPDATE audit_chain SET head = ''")
    assert [row["platform"] for row in (await run(made, "recent_changes"))["data"]] == ["vectorize"]
    rows(database, "UPDATE audit SET call_id = 'ff', phase = 'ended' WHERE call_id IS NULL")
    assert [row["platform"] for row in (await run(made, "recent_changes"))["data"]] == ["vectorize"]


@pytest.mark.parametrize(("status", "is_shown"), [(500, True), (503, False)])
async def test_a_change_that_a_platform_failed_on_is_shown_unless_it_was_not_carried_out(
    made: Bench, status: int, is_shown: bool
) -> None:
    for method in ("POST", "GET"):
        made.sandbox.inject(Fault("vectorize", method, "*/connectors/sources*", status=status, times=9))
    calls: list[tuple[str, dict[str, Any]]] = [
        ("vectorize_create_source_connector", {"connectors": [{"name": "a", "type": "FILE_UPLOAD"}]}),
        # Its target cannot be read, so that it is not sent.
        ("vectorize_delete_source_connector", CRAWLER),
    ]
    for tool, arguments in calls:
        assert (await run(made, tool, **arguments))["error"]["code"] == "upstream_failed"
    rows = (await run(made, "recent_changes"))["data"]
    assert [row["tool"] for row in rows] == ["vectorize_create_source_connector"] * is_shown
