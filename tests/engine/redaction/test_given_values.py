"""Secrets given in a call are hidden in that call only, and destroy nothing that an agent works with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from connector_mcp.engine.redaction.redactor import MARKER, MOST_GIVEN
from connector_mcp.engine.redaction.scrubber import Scrubber
from connector_mcp.operations.catalog import catalog
from connector_mcp.sandbox import seed
from tests.engine.conftest import Bench, FakeCaller
from tests.engine.test_call import OKTA, READS, run

pytestmark = pytest.mark.anyio

UPDATES: list[tuple[str, dict[str, Any], str]] = [
    ("logto_update_connector", {"id": seed.LOGTO_GITHUB, "config": {"clientSecret": ""}}, "clientSecret"),
    ("conductorone_update_connector", {**OKTA, "config": {"okta_v2_api_token": ""}}, "okta_v2_api_token"),
    (
        "vectorize_update_source_connector",
        {"source_connector_id": seed.VECTORIZE_CONFLUENCE, "config": {"username": "u", "api-token": "", "domain": "d"}},
        "api-token",
    ),
]  # fmt: skip
WITHOUT_LABELS = (
    "conductorone_validate_http_connector_config", "logto_create_connector_authorization_uri",
    "vectorize_get_pipeline_metrics", "versori_get_project_logs",
)  # fmt: skip


def labels(value: Any, path: tuple[str | int, ...] = (), *, named: bool = False) -> Iterator[tuple[Any, str]]:
    """Every id, name, type, state and time in a result outside of configs, with its path."""
    if isinstance(value, dict):
        for key, member in value.items():
            if not key.startswith("config"):
                in_name = named or key == "name"
                yield from labels(member, (*path, key), named=in_name or _is_label(key, member))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from labels(member, (*path, index), named=named)
    elif isinstance(value, str) and named:
        yield path, value


def _is_label(key: str, member: Any) -> bool:
    last = re.search(r"(ids?|types?|[nN]ames?|[sS]tatus|At|target|platform|protocol)$", key)
    return last is not None and not isinstance(member, dict)


@pytest.mark.parametrize("tool", [name for name in READS if catalog()[name].on])
async def test_no_id_name_or_type_of_a_result_is_altered_by_a_secret_that_is_or_is_in_it(
    made: Bench, tool: str
) -> None:
    detail = {"detail": "full"} if "_list_" in tool or tool.endswith("connectors") else {}
    data = (await run(made, tool, READS[tool] | detail))["data"]
    model, before = catalog()[tool].output, dict(labels(data))
    assert before or tool in WITHOUT_LABELS
    for text in {*before.values()}:
        parts = {text, text[1:], text[:-1], *re.split(r"[^\w]", text), text.lower(), *text.split("_")}
        given = Scrubber(tuple).extended(parts).value(deepcopy(data), model=model)
        assert dict(labels(given)) == before
        # The server's own secrets are removed from names, and from members that are not documented.
        own = dict(labels(Scrubber(lambda parts=parts: parts).value(deepcopy(data), model=model)))
        documented = [info.alias for name, info in model.model_fields.items() if not name.endswith("name")]
        kept = [path for path in before if path[isinstance(path[0], int)] in documented and "ame" not in str(path)]
        assert [own[path] for path in kept] == [before[path] for path in kept]


@pytest.mark.parametrize(("tool", "arguments", "field"), UPDATES, ids=[tool for tool, _, _ in UPDATES])
async def test_a_guessable_secret_is_hidden_in_its_field_and_leaves_the_result_whole(
    made: Bench, tool: str, arguments: dict[str, Any], field: str
) -> None:
    caller = FakeCaller()

    async def update(value: str) -> Any:
        given = {**arguments, "config": {**arguments["config"], field: value}}
        content = await run(made, tool, given, caller)
        assert "error" not in content, content
        shown = json.loads(made.audit_lines[-1])["arguments"]
        assert {key: shown[key] for key in arguments} == {**arguments, "config": {**arguments["config"], field: MARKER}}
        content["meta"].pop("request_id", None)
        # Free text loses the word, in this call only.
        for member in ("updatedAt", "configUpdatedAt", "errorMessage"):
            content["data"].pop(member, None)
        return content

    await update("Zq9xT7-earlier")
    plain = await update("Zq9xT7-unmistakable")
    for secret in ("google", "github-signin", "connector", "config", "Confluence", "verified", "true"):
        assert await update(secret) == plain


async def test_what_one_call_gives_changes_nothing_for_another_caller(made: Bench) -> None:
    first, second = FakeCaller(principal="first"), FakeCaller(principal="second")
    listing = ("logto_list_connectors", {"detail": "full"})
    await run(made, "logto_update_connector", {"id": seed.LOGTO_GITHUB, "config": {"scope": "openid profile"}}, second)
    before = await run(made, *listing, second)
    for secret in ("openid profile", "google-universal", "Iv1.sandbox", "Acme Zq9xT7"):
        arguments = {"id": seed.LOGTO_GITHUB, "config": {"clientSecret": secret}}
        assert "error" not in await run(made, "logto_update_connector", arguments, first)
        for caller in (first, second):
            assert (await run(made, *listing, caller))["data"] == before["data"]


async def test_more_secrets_than_can_be_searched_for_are_refused_before_anything_is_sent(made: Bench) -> None:
    config = {f"key{number}": f"given-{number}" for number in range(MOST_GIVEN + 1)}
    content = await run(made, "logto_create_connector", {"connector_id": "own-factory", "config": config})
    assert content["error"]["code"] == "invalid_arguments"
    assert made.requests("POST") == []
