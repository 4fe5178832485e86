"""Suggestions for names that are not known."""

from __future__ import annotations

from connector_mcp.suggest import closest, did_you_mean, nearest

KNOWN = ("AWS_S3", "AZURE_BLOB", "DISCORD", "DROPBOX", "DROPBOX_OAUTH", "DROPBOX_OAUTH_MULTI")


def test_case_does_not_matter_and_the_known_spelling_is_returned() -> None:
    assert closest("aws_s4", KNOWN) == "AWS_S3"


def test_several_names_come_with_the_most_similar_first() -> None:
    assert nearest("dropbox-oauth", KNOWN) == ["DROPBOX_OAUTH", "DROPBOX_OAUTH_MULTI", "DROPBOX"]


def test_nothing_similar_is_no_suggestion_unless_any_will_do() -> None:
    assert closest("zzz", KNOWN) is None
    assert did_you_mean("zzz", KNOWN) == ""
    assert closest("zzz", KNOWN, cutoff=0) in KNOWN


def test_a_sentence_ends_with_the_question() -> None:
    assert did_you_mean("DISCORT", KNOWN) == " Did you mean 'DISCORD'?"
