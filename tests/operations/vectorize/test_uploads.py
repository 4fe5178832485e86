"""Vectorize's uploads and one-time tokens: what they overwrite, what they refuse, and where their secrets go."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.operations.situation import Situation
from connector_mcp.operations.vectorize.source_users import GenerateOneTimeConnectorToken
from connector_mcp.operations.vectorize.uploads import (
    DeleteFileFromConnector,
    GetUploadFilesFromConnector,
    StartFileUploadToConnector,
)
from tests.operations.hooks import losses, problems

IDS = {"organization_id": "org", "connector_id": "c"}
FILE = {"key": "k", "name": "a.pdf", "size": 7, "lastModified": "2026-01-01T00:00:00Z", "metadata": {}}


def upload(name: str = "a.pdf", **given: Any) -> StartFileUploadToConnector:
    return StartFileUploadToConnector(**IDS, name=name, content_type="application/pdf", **given)


def selected(call: Any, *rows: Any) -> Situation:
    """The situation after the files were read."""
    assert call.acts_on.select is not None
    return Situation(call.acts_on.select(call, Situation(list(rows))))


def test_an_upload_of_a_new_file_loses_nothing_and_one_of_the_same_name_does() -> None:
    assert losses(upload(), selected(upload(), {**FILE, "name": "b.pdf"})) == []
    told = "Lets the stored file be overwritten (7 bytes, of 2026-01-01T00:00:00Z)"
    assert losses(upload(), selected(upload(), FILE)) == [(told, "", None)]
    assert upload().target_read() == GetUploadFilesFromConnector(**IDS)


def test_metadata_is_sent_as_text_and_its_address_is_a_secret() -> None:
    assert upload(metadata={"team": "ü"}).make_body(Situation())["metadata"] == '{"team": "ü"}'
    assert "metadata" not in upload().make_body(Situation())
    assert upload().mints == ("uploadUrl",)
    step = upload().find_next_step({"uploadUrl": "secret://x"}, Situation())
    assert "secret://x" in step
    assert "application/pdf" in step


def test_only_a_file_that_is_there_can_be_deleted() -> None:
    call = DeleteFileFromConnector(**IDS, file_name="a.pdf")
    assert problems(call, Situation()) == problems(call, selected(call, FILE)) == []
    assert problems(call, selected(call, {**FILE, "name": "b.pdf"})) == ["file_name"]


@pytest.mark.parametrize(
    ("type_id", "refused"),
    [("GOOGLE_DRIVE_OAUTH_MULTI", False), ("NOTION_OAUTH_MULTI_CUSTOM", True), ("AWS_S3", True)],
)
def test_a_token_is_made_for_users_of_a_managed_connector_only(type_id: str, refused: bool) -> None:
    call = GenerateOneTimeConnectorToken(organization_id="org", source_connector_id="c", user_id="u")
    situation = Situation({"id": "c", "type": type_id})
    assert problems(call, situation) == (["source_connector_id"] if refused else [])
    assert call.make_body(situation) == {"user_id": "u", "connector_id": "c"}
    assert call.mints == ("token",)
    if not refused:
        assert "/connect/google-drive with" in call.find_next_step({"token": "secret://t"}, situation)
