"""What reading back proves, and what it must not claim."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest

from connector_mcp.engine.results import Meta
from connector_mcp.engine.sender import verify
from connector_mcp.errors import ConnectorError, NotFound, UpstreamFailed
from connector_mcp.operations.operation import Effect, Operation
from connector_mcp.operations.situation import Path, Situation
from connector_mcp.operations.update import UpdateOperation
from tests.engine import conftest
from tests.engine.conftest import OPERATIONS

pytestmark = pytest.mark.anyio


def operation(name: str, /, **arguments: Any) -> Operation:
    return conftest.operation(name, **{**OPERATIONS[name].example, **arguments})


class Reads:
    """A platform that answers reads with records in turn, or with failures."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.made: list[Operation] = []

    async def __call__(self, reader: Operation) -> Any:
        self.made.append(reader)
        answer = self.answers.pop(0)
        if isinstance(answer, ConnectorError):
            raise answer
        return answer


class Always(Reads):
    """A platform that answers every read in the same way."""

    async def __call__(self, reader: Operation) -> Any:
        self.answers = [self.answers[0]] * 2
        return await super().__call__(reader)


async def checked(made: Operation, reads: Reads, planned: Mapping[Path, Any] | None = None, data: Any = None) -> Meta:
    meta = Meta()
    await verify(made, planned or {}, data, reads, meta)
    return meta


GONE = NotFound("gone", fix="")
DOWN = UpstreamFailed("down", fix="")
TEMPLATES = [
    {"languageTag": language, "templateType": "SignIn", "details": {"subject": "s", "content": "{{code}}"}}
    for language in ("de", "fr")
]
SCHEMES = [{"type": "api-key", "apiKey": {"id": name, "name": "X", "in": "header"}} for name in ("a", "b")]
SCHEMES_V1 = [{"schemeType": "api-key", "id": name} for name in ("a", "b")]
SOURCES = [{"name": name, "type": "FILE_UPLOAD"} for name in ("a", "b")]
PARTS = [{"connection_template_id": name, "existing_connection_id": name} for name in ("a", "b")]
LISTS: list[tuple[str, dict[str, Any], Any, Any, str]] = [
    (
        f"vectorize_create_{kind}_connector",
        {"connectors": SOURCES},
        [{"name": "a"}, {"name": "b"}],
        [{"name": "b"}],
        "“a”",
    )
    for kind in ("source", "destination", "ai_platform")
]
LISTS += [
    ("logto_replace_email_templates", {"templates": TEMPLATES}, TEMPLATES, TEMPLATES[:1], "SignIn template in fr"),
    (
        "logto_replace_email_templates",
        {"templates": TEMPLATES},
        TEMPLATES,
        [TEMPLATES[0], TEMPLATES[1] | {"details": {"subject": "s", "content": "other"}}],
        "SignIn template in fr",
    ),
    (
        "logto_create_sso_connector",
        {"domains": ["A.com", "b.com"]},
        {"domains": ["a.com", "b.com"]},
        {},
        "A.com, domain b",
    ),
    (
        "versori_create_system",
        {"auth_scheme_configs": SCHEMES},
        {"authSchemeConfigs": SCHEMES},
        {"id": "1", "authSchemeConfigs": SCHEMES[1:]},
        "scheme a",
    ),
    (
        "versori_v1_create_http_connector",
        {"auth_scheme_configs": SCHEMES_V1},
        {"authSchemeConfigs": SCHEMES_V1},
        {"id": "1", "authSchemeConfigs": []},
        "b",
    ),
    (
        "versori_activate_user",
        {"connections": PARTS, "dynamic_variables": {"x": 1}},
        {"id": "1", "connections": [{}, {}], "dynamicVariables": {"x": 1}},
        {"id": "1", "connections": [{}]},
        "1 of 2 connections, variable x",
    ),
    (
        "versori_set_static_user_variables",
        {"variables": {"a": 1, "b": "secret://B"}},
        {"dynamicVariables": {"a": 1, "b": "v"}},
        {"dynamicVariables": {"a": True}},
        "of a.",
    ),
]


@pytest.mark.parametrize(("name", "sent", "whole", "part", "missing"), LISTS)
async def test_an_answer_that_lacks_what_was_sent_is_no_plain_success(
    name: str, sent: dict[str, Any], whole: Any, part: Any, missing: str
) -> None:
    made = operation(name, **sent)
    assert not made.find_missing(whole)
    for again in (part, DOWN):
        back = made.target_read() if isinstance(part, list) else made.read_back(part)
        meta = await checked(made, Always(again), data=deepcopy(part))
        assert (meta.verified, missing in meta.warnings[-1]) == (False, True), meta
        if back is not None:
            kept = await checked(made, Always(whole), data=deepcopy(part))
            assert not any("Missing" in warning for warning in kept.warnings)


def test_every_operation_that_makes_or_sets_a_list_of_things_says_which_of_them_are_missing() -> None:
    def names(value: Any) -> bool:
        return isinstance(value, list) and len(value) > 0 and isinstance(value[0], dict)

    sends_list = {
        name
        for name, each in OPERATIONS.items()
        if each.effect is Effect.CREATE and any(map(names, each.example.values()))
    }
    # Their results have one id, and what it is made of is in the record that is read back.
    assert sends_list - {name for name, *_ in LISTS} == {"vectorize_create_pipeline", "versori_create_connection"}


async def test_a_deletion_is_verified_when_the_target_cannot_be_read_any_more() -> None:
    meta = await checked(operation("vectorize_delete_source_connector"), Reads(GONE))
    assert (meta.verified, meta.warnings) == (True, [])


async def test_a_soft_deletion_counts_and_a_target_that_is_still_there_does_not() -> None:
    assert (await checked(operation("logto_delete_connector"), Reads({"deletedAt": "2026-01-01"}))).verified is True
    for record in ({"id": "x", "deletedAt": None}, {"id": "x"}):
        meta = await checked(operation("logto_delete_connector"), Reads(record))
        assert (meta.verified, meta.warnings) == (False, ["Accepted, but the target can still be read."])


async def test_a_failed_read_back_neither_verifies_nor_refutes_a_deletion() -> None:
    meta = await checked(operation("logto_delete_connector"), Reads(DOWN))
    assert meta.verified is None
    assert "the deletion itself was accepted" in meta.warnings[0]


async def test_removing_a_part_of_the_target_reads_nothing_as_that_would_prove_nothing() -> None:
    reads = Reads()
    for name in (
        "vectorize_delete_user_from_source_connector",
        "vectorize_add_user_to_source_connector",
        "vectorize_update_user_in_source_connector",
        "logto_create_connector_test",
    ):
        assert (await checked(operation(name), reads, data={"message": "ok"})).verified is None
    assert reads.made == []


@pytest.mark.parametrize(
    ("record", "same"),
    [
        ({"displayName": "Acme"}, True),
        ({"displayName": " Acme "}, True),
        ({}, True),
        ({"displayName": "Acme 2"}, False),
    ],
)
async def test_a_created_object_that_shows_another_text_than_was_sent_is_not_verified(
    record: dict[str, Any], same: bool
) -> None:
    meta = await checked(
        operation("conductorone_create_app", display_name="Acme"), Always({"id": "1", **record}), data={"id": "1"}
    )
    assert meta.verified is same
    assert meta.warnings == ([] if same else ["Accepted, but reading back shows another value for: displayName."])


async def test_each_of_several_created_objects_is_read() -> None:
    create = operation("vectorize_create_source_connector")
    rows = [{"id": "a"}, {"index": 1, "error": {"code": "rejected"}}, {"id": "c"}, {"name": "no id"}, "odd"]
    reads = Reads({"id": "a"}, {"id": "c"})
    assert (await checked(create, reads, data=rows)).verified is True
    assert [read.model_dump()["source_connector_id"] for read in reads.made] == ["a", "c"]


async def test_one_created_object_that_is_not_shown_refutes_the_whole() -> None:
    create = operation("vectorize_create_source_connector")
    for answers in ((GONE, {"id": "b"}), ({"id": "a"}, GONE)):
        meta = await checked(create, Reads(*answers), data=[{"id": "a"}, {"id": "b"}])
        assert meta.verified is False
        assert "does not show it" in meta.warnings[0]


async def test_a_creation_of_nothing_readable_is_not_verified() -> None:
    create = operation("vectorize_create_source_connector")
    assert (await checked(create, Reads(), data=[{"name": "Docs site"}])).verified is None
    for data in ([], [{"name": "x"}], None, [None]):
        assert (await checked(create, Reads(), data=data)).verified is False


@pytest.mark.parametrize(
    ("planned", "found", "same"),
    [
        ("a", "a", True), ("a", "b", False), ("a", None, False), (None, "a", False), (None, "", True),
        ("", None, True), ([], None, True), ({}, [], True), (False, None, True), (False, True, False), (0, None, True),
        (None, {}, True), ([1], [1], True), ([1, 2], [2, 1], False), ({"a": 1}, {"a": 1}, True),
    ],
)  # fmt: skip
async def test_a_change_is_verified_by_the_members_that_it_planned(planned: Any, found: Any, same: bool) -> None:
    record = {"config": {"scope": found}, "other": "x"}
    meta = await checked(operation("logto_update_connector"), Reads(record), {("config", "scope"): planned})
    assert meta.verified is same
    assert meta.warnings == ([] if same else ["Accepted, but reading back shows another value for: config.scope."])


async def test_a_change_of_secrets_alone_is_not_verified_as_no_read_shows_them() -> None:
    reads = Reads()
    meta = await checked(operation("logto_update_connector"), reads, {})
    assert (meta.verified, meta.unproven.startswith("Not read back")) == (None, True)
    assert reads.made == []


@pytest.mark.parametrize(("answer", "verified"), [(DOWN, None), (GONE, False)])
async def test_a_failed_read_back_leaves_a_change_a_success(answer: ConnectorError, verified: bool | None) -> None:
    meta = await checked(operation("logto_update_connector"), Reads(answer), {("name",): "x"})
    assert meta.verified is verified
    assert len(meta.warnings) == 1


@pytest.mark.parametrize("record", [None, [], "text", 5])
async def test_an_odd_record_refutes_and_does_not_break(record: Any) -> None:
    assert (await checked(operation("logto_update_connector"), Reads(record), {("a", "b"): 1})).verified is False
    assert (await checked(operation("logto_delete_connector"), Reads(record))).verified is False


EMPTIED: list[tuple[str, dict[str, Any]]] = [
    ("conductorone_update_connector", {member: empty})
    for member, empty in {
        "sync_config": {"sync_resource_type_ids": []}, "user_ids": [], "profile_allow_list": [],
        "profile_ignore_list": [], "description": "", "config": {"okta_v2_domain": None},
    }.items()
] + [
    ("versori_update_connector", {member: empty})
    for member, empty in {"tags": {}, "connection_variables": [], "documentation_url": "", "image_url": ""}.items()
] + [
    ("logto_update_connector", {member: empty})
    for member, empty in {"config": {"scope": None}, "metadata": {"logo": None}, "sync_profile": False}.items()
] + [
    ("vectorize_update_source_connector", {"config": {"seed-urls": ["https://a.example"], "endpoint": ""}})
]  # fmt: skip
STORED: dict[str, Any] = {
    "conductorone": {"catalogId": "2kG3aTftCcAvWtHZt2Ywry0dPn7", "syncConfig": {"syncResourceTypeIds": ["user"]},
        "userIds": ["u"], "profileAllowList": ["a"], "profileIgnoreList": ["b"], "description": "d", "config": {
            "@type": "type.googleapis.com/c1.api.app.v1.EnvConfig",
            "configuration": {"okta_v2_domain": {"stringValue": "acme.okta.com"}}}},
    "versori": {"name": "n", "protocol": "http", "baseUrl": "https://a.example", "tags": {"a": ["b"]},
        "connectionVariables": [{"name": "v", "value": "1"}], "documentationURL": "u", "imageURL": "u"},
    "logto": {"connectorId": "oidc", "target": "acme", "config": {"scope": "s", "clientId": "i"},
        "metadata": {"target": "acme", "logo": "l"}, "syncProfile": True, "isStandard": True},
    "vectorize": {"type": "WEB_CRAWLER", "configDoc": {"seed-urls": ["https://b.example"], "endpoint": "e"}},
}  # fmt: skip


def _as_shown(value: Any, form: str) -> Any:
    """The value as a platform may show it after what is empty in it was stored."""
    if not isinstance(value, dict):
        return {"null": None, "empty": value}[form] if value in ([], "", {}, None) else value
    shown = {key: _as_shown(member, form) for key, member in value.items()}
    return {key: member for key, member in shown.items() if form != "absent" or member not in ([], "", {}, None)}


@pytest.mark.parametrize("form", ["absent", "null", "empty"])
@pytest.mark.parametrize(("name", "arguments"), EMPTIED, ids=[f"{name}-{next(iter(given))}" for name, given in EMPTIED])
async def test_what_an_update_empties_reads_back_equal_in_every_form(name: str, arguments: Any, form: str) -> None:
    kind, stored = OPERATIONS[name], {"id": "c", **STORED[name.partition("_")[0]]}
    required = {key: value for key, value in kind.example.items() if kind.model_fields[key].is_required()}
    made = conftest.operation(name, **{**required, **arguments})
    assert isinstance(made, UpdateOperation)
    shown = made.after(stored)
    if form != "absent":
        for path, value in made.strategy.changes(made, made.given_members()).items():
            shown = {**shown, path[0]: _as_shown(shown.get(path[0], value), form)}
    meta = await checked(made, Reads(shown), made.plan_changes(Situation(stored)))
    assert (meta.verified, meta.warnings) == (True, [])
