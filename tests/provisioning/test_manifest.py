"""Manifests that are wrong: every error at once, with its line."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.engine.checks.issues import validator
from connector_mcp.errors import InvalidArguments
from connector_mcp.json_values import members
from connector_mcp.provisioning.manifest import all_kinds, manifest_schema, parse_manifest
from connector_mcp.provisioning.manifest_file import read_manifest
from tests.engine.conftest import Bench
from tests.provisioning.manifests import Manifest, call, issues, sixty_things

SITE: dict[str, Any] = {"name": "Docs", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}
PINECONE: dict[str, Any] = {"name": "Index", "type": "PINECONE", "config": {"api-key": "secret://pinecone"}}


def part(section: str, key: str) -> dict[str, Any]:
    return {"id": f"${{{section}.{key}.id}}"}


PIPELINE: dict[str, Any] = {
    "name": "Search",
    "sources": [part("sources", "docs")],
    "destination": part("destinations", "index"),
    "ai_platform": part("ai_platforms", "openai"),
    "schedule": "manual",
}


def found(**sections: Any) -> dict[str, str]:
    """What is wrong with a manifest, by path."""
    _, issues = parse_manifest({"name": "ingestion", **sections})
    return {issue.path: issue.got for issue in issues}


WRONG: dict[str, tuple[Manifest, dict[str, str]]] = {
    "an unknown section": ({"source": {}}, {"source": "an unknown section"}),
    "a section that is no object": ({"sources": [SITE]}, {"sources": "an array of 1"}),
    "a name that is none": ({"name": "no name"}, {"name": "a string of 7 characters"}),
    "an unknown member": ({"sources": {"docs": {**SITE, "confg": {}}}}, {"sources.docs.confg": "an unknown member"}),
    "a missing member": ({"sources": {"docs": {"name": "Docs"}}}, {"sources.docs.type": "nothing"}),
    "a member of another form": ({"sources": {"docs": {**SITE, "config": 1}}}, {"sources.docs.config": "the number 1"}),
    "an unknown state": (
        {"sources": {"docs": {**SITE, "state": "gone"}}}, {"sources.docs.state": "a string of 4 characters"}
    ),
    "a reference that leads nowhere": (
        {"source_users": {"u": {"source": "${sources.drve.id}", "user": "u"}}},
        {"source_users.u.source": "a reference to an entry that is not there"},
    ),
    "a reference to a thing of another kind": (
        {"destinations": {"d": PINECONE}, "source_users": {"u": {"source": "${destinations.d.id}", "user": "u"}}},
        {"source_users.u.source": "a reference to one of destinations"},
    ),
    "a reference inside of a text": (
        {"sources": {"docs": SITE}, "source_users": {"u": {"source": "x-${sources.docs.id}", "user": "u"}}},
        {"source_users.u.source": "a reference that cannot be read"},
    ),
    "a variable that is not declared": (
        {"sources": {"docs": {**SITE, "name": "${variables.stage} docs"}}},
        {"sources.docs.name": "a variable that is not declared"},
    ),
    "a secret in clear text": (
        {"destinations": {"index": {**PINECONE, "config": {"api-key": "pcsk-1"}}}},
        {"destinations.index.config.api-key": "a secret in clear text"},
    ),
    "a user's token in clear text": (
        {"source_users": {"u": {"source": "id", "user": "u", "refresh_token": "1//x"}}},
        {"source_users.u.refresh_token": "a secret in clear text"},
    ),
    "the same thing twice": (
        {"sources": {"docs": SITE, "again": SITE}},
        {"sources.again": "the same source connector as sources.docs"},
    ),
    "a thing that is always there and is to be absent": (
        {"sign_in": {"default": {"state": "absent"}}}, {"sign_in.default.state": "absent"}
    ),
    "a reference to what is to be absent": (
        {"sources": {"drive": {"name": "D", "type": "GOOGLE_DRIVE_OAUTH_MULTI", "state": "absent"}},
         "source_users": {"u": {"source": "${sources.drive.id}", "user": "u"}}},
        {"source_users.u.source": "a reference to an entry that is to be absent"},
    ),
    "a cycle": (
        {"end_users": {"a": {"user": "${end_users.b.display_name}", "display_name": "a"},
                       "b": {"user": "${end_users.a.display_name}", "display_name": "b"}}},
        {"end_users.a": "a cycle of references: end_users.a → end_users.b → end_users.a"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sections", "wanted"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_with_its_place(sections: Manifest, wanted: dict[str, str]) -> None:
    assert found(**sections) == wanted


@pytest.mark.anyio
async def test_all_errors_are_told_at_once_those_of_configs_too(made: Bench) -> None:
    sections = {key: value for each, _ in WRONG.values() for key, value in each.items() if key != "name"}
    merged: Manifest = {"name": "no name"}
    for each, _ in WRONG.values():
        for section in each.keys() & all_kinds().keys():
            for key, entry in members(each[section]).items():
                merged.setdefault(section, {})[f"{key}-{len(merged[section])}"] = entry
    merged["sources"]["bad"] = {"name": "Bad", "type": "WEB_CRAWLER", "config": {"seed-url": "https://a.example"}}
    merged["unknown"] = sections
    paths = await issues(made, merged)
    assert {"name", "unknown", "sources.bad.config.seed-url", "sources.bad.config.seed-urls"} <= paths.keys()
    assert len(paths) >= 14
    assert made.requests() == []


@pytest.mark.anyio
async def test_a_wrong_config_is_named_in_the_words_of_the_manifest(made: Bench) -> None:
    pipeline = {**PIPELINE, "sources": [{**part("sources", "docs"), "config": {"max-url": 1}}]}
    openai = {"name": "Embedder", "type": "OPENAI", "config": {"key": "secret://openai"}}
    result = await call(
        made, "plan_connectors", manifest={"name": "ingestion", "sources": {"docs": SITE}, "pipelines": {"p": pipeline},
        "destinations": {"index": PINECONE}, "ai_platforms": {"openai": openai}},
    )  # fmt: skip
    paths = [each["path"] for each in result.content["error"]["issues"]]
    assert "pipelines.p.sources[0].config.max-url" in paths


@pytest.mark.anyio
async def test_a_reference_to_a_secret_elsewhere_than_in_a_place_for_one_is_refused(made: Bench) -> None:
    site = {**SITE, "config": {"seed-urls": ["secret://pinecone"]}}
    paths = await issues(made, {"name": "ingestion", "sources": {"docs": site}})
    assert set(paths) == {"sources.docs.config.seed-urls[0]"}


def test_variables_are_filled_in_with_their_type() -> None:
    entry = {"name": "Docs ${variables.stage}", "type": "AWS_S3", "config": {"archiver": "${variables.archive}"}}
    manifest, issues = parse_manifest(
        {"name": "x", "variables": {"stage": "staging", "archive": False}, "sources": {"docs": entry}}
    )
    assert issues == []
    assert manifest.entries["sources.docs"].values["name"] == "Docs staging"
    assert manifest.entries["sources.docs"].values["config"] == {"archiver": False}


def test_entries_stand_after_those_that_they_need() -> None:
    manifest, issues = parse_manifest(sixty_things())
    assert issues == []
    order = list(manifest.entries)
    assert len(order) == 60
    for address, entry in manifest.entries.items():
        assert all(order.index(needed) < order.index(address) for needed in entry.needs)


YAML = """\
name: ingestion
sources:
  docs:
    name: Docs   # a comment
    type: WEB_CRAWLER
    since: 2026-01-01
    config: {seed-urls: [https://a.example]}
  docs:
    name: Again
    name: Twice
  wiki: &wiki
    name: !secret x
  copy: *wiki
"""


def test_lines_are_told_and_the_traps_of_yaml_are_errors() -> None:
    read = read_manifest(YAML, "connectors.yaml")
    told = {issue.path: issue.got for issue in read.placed(read.issues)}
    assert told == {
        "connectors.yaml:8: sources.docs": "a key that stands in line 3 already",
        "connectors.yaml:10: sources.docs.name": "a key that stands in line 9 already",
        "connectors.yaml:12: sources.wiki.name": "a value with a tag",
        "connectors.yaml:13: sources.copy": "an anchor, or values nested too deeply",
    }
    assert read.place("sources.wiki.config.x") == "connectors.yaml:11: sources.wiki.config.x"


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: [1\nb: 2\n", 2), ("- a\n", 1), ("", 1), ('{"a": \n}x', 2), ("text", 1), ("a: \x00", 1)],
)
def test_what_is_no_manifest_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(InvalidArguments) as raised:
        read_manifest(text, "m.yaml")
    assert raised.value.issues[0].path == f"m.yaml:{line}"


def test_json_is_read_as_it_is() -> None:
    read = read_manifest(
        '{\n\t"name": "x",\n\t"variables": {"n": 1.5, "t": true, "e": null, "s": "\\u00e9"}\n}\n', "m.json"
    )
    assert read.data == {"name": "x", "variables": {"n": 1.5, "t": True, "e": None, "s": "é"}}
    assert read.place("variables.n") == "m.json:3: variables.n"


def test_the_schema_describes_every_section_and_takes_the_manifest_of_the_tests() -> None:
    from jsonschema import Draft202012Validator

    schema = manifest_schema()
    Draft202012Validator.check_schema(schema)
    assert schema["properties"].keys() >= all_kinds().keys()
    assert validator(schema).is_valid(sixty_things())
    assert not validator(schema).is_valid({"name": "x", "sources": {"a": {"nme": 1}}})
