"""Suggestions for names that are not known."""

from __future__ import annotations

import re

import pytest

from connector_mcp.engine.checks.issues import likely_values
from connector_mcp.operations.catalog import catalog
from connector_mcp.suggest import closest, did_you_mean, meant, nearest

KNOWN = ("AWS_S3", "AZURE_BLOB", "DISCORD", "DROPBOX", "DROPBOX_OAUTH", "DROPBOX_OAUTH_MULTI")


def test_case_does_not_matter_and_the_known_spelling_is_returned() -> None:
    assert closest("aws_s4", KNOWN) == "AWS_S3"


def test_several_names_come_with_the_most_similar_first() -> None:
    assert nearest("dropbox-oauth", KNOWN) == ["DROPBOX_OAUTH", "DROPBOX_OAUTH_MULTI", "DROPBOX"]


def test_nothing_similar_is_no_suggestion_unless_any_will_do() -> None:
    assert closest("zzz", KNOWN) is None
    assert did_you_mean("zzz", KNOWN) == ""
    assert closest("zzz", KNOWN, cutoff=0) in KNOWN
    assert did_you_mean("nonsense", ["tokens"]) == did_you_mean("deny", ["destroy"]) == ""


@pytest.mark.parametrize("pair", [
    "inactive active", "disabled enabled", "unverified verified", "disallow allow", "not_ok ok", "nok ok", "un-set set",
    "include exclude", "import export", "sign_in sign_out", "upload download", "minimum maximum", "encrypt decrypt",
    "order-asc order-desc", "Descending Ascending", "increase decrease", "inbound-url outbound-url", "unblock block",
])  # fmt: skip
def test_the_opposite_of_a_name_is_not_suggested(pair: str) -> None:
    one, other = pair.split()
    assert closest(one, [other], cutoff=0.5) is None
    assert closest(other, [one], cutoff=0.5) is None
    assert closest(one, [other, f"{one}x"], cutoff=0.5) == f"{one}x"


STATES = ("ok", "failing", "paused", "pending", "unknown")


@pytest.mark.parametrize("word", ["broken", "down", "bad", "nok", "not_ok", "error", "published", "faulty", "sent"])
def test_a_word_that_is_none_of_a_list_is_not_taken_for_one_of_them(word: str) -> None:
    assert likely_values((*STATES, "full", "none", "username"), word) == []


@pytest.mark.parametrize("word", ["fail", "Failling", "FAILING ", "faling"])
def test_a_word_with_a_typo_and_the_beginning_of_one_are_known(word: str) -> None:
    assert likely_values(STATES, word) == ["failing"]


def test_a_sentence_ends_with_the_question() -> None:
    assert did_you_mean("DISCORT", KNOWN) == " Did you mean 'DISCORD'?"


TOOLS = list(catalog())
MEANT = {
    "listConnectors": "find_connectors",
    "list_vectorize_sources": "vectorize_get_source_connectors",
    "logto.connectors.list": "logto_list_connectors",
    "mcp__connectors__logto_list_connectors": "logto_list_connectors",
    "logto_get_connectors": "logto_list_connectors",
    "conductorOneListConnectors": "conductorone_list_connectors",
    "logto_remove_connector": "logto_delete_connector",
    "addUserToSource": "vectorize_add_user_to_source_connector",
    "getConnectorTypeSchema": "describe_connector_type",
    "vectorize_get_source_conectors": "vectorize_get_source_connectors",
}


@pytest.mark.parametrize("name", MEANT)
def test_a_tool_is_meant_by_the_meaning_of_the_words(name: str) -> None:
    assert meant(name, TOOLS) == [MEANT[name]]


def test_every_tool_is_found_however_its_name_is_spelled() -> None:
    for tool in TOOLS:
        camel = re.sub(r"_(\w)", lambda found: found[1].upper(), tool)
        for spelling in (camel, tool.replace("_", "-"), tool.upper(), f"mcp__connectors__{tool}"):
            assert meant(spelling, TOOLS) == [tool], spelling


def test_an_ambiguous_name_means_several_and_a_strange_one_none() -> None:
    assert {"logto_delete_connector", "vectorize_delete_source_connector"} < set(meant("deleteConnector", TOOLS))
    kinds = {f"vectorize_get_{kind}_connectors" for kind in ("source", "destination", "ai_platform")}
    assert kinds < set(meant("vectorize_list_connectors", TOOLS))
    assert meant("frobnicate_widget", TOOLS) == meant("x" * 101, TOOLS) == []
