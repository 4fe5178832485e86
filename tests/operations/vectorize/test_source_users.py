"""The users of Vectorize's multi-user connectors: bodies, and the token that each provider requires."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from connector_mcp.operations.operation import Operation, Situation
from connector_mcp.operations.vectorize.source_connectors import GetSourceConnector
from connector_mcp.operations.vectorize.source_users import (
    AddUserToSourceConnector,
    DeleteUserFromSourceConnector,
    UpdateUserInSourceConnector,
)
from tests.operations.hooks import problems

IDS = {"organization_id": "org", "source_connector_id": "src"}
USERS = "/org/{organization_id}/connectors/sources/{source_connector_id}/users"
SELECTION = {"1Ab": {"name": "Plan.docx", "mimeType": "text/plain"}}
USER: dict[str, Any] = {**IDS, "user_id": "u", "selected_files": SELECTION}
DRIVE = Situation(current={"id": "src", "type": "GOOGLE_DRIVE_OAUTH_MULTI", "configDoc": {"authorized-users": ["u"]}})
NOTION = Situation(current={"id": "src", "type": "NOTION_OAUTH_MULTI"})


def test_a_user_is_added_with_files_and_token() -> None:
    [request] = AddUserToSourceConnector(**USER, refresh_token="r").make_requests(DRIVE)
    assert (request.method, request.path, request.path_values) == ("POST", USERS, IDS)
    assert request.body == {"userId": "u", "selectedFiles": SELECTION, "refreshToken": "r"}
    assert not request.repeatable


def test_a_user_is_updated_with_what_is_given_and_a_null_is_not_sent() -> None:
    operation = UpdateUserInSourceConnector(**IDS, user_id="u", access_token="a", refresh_token=None)
    [request] = operation.make_requests(NOTION)
    assert (request.method, request.path) == ("PATCH", USERS)
    assert request.body == {"userId": "u", "accessToken": "a"}
    assert request.repeatable


def test_a_user_is_deleted_by_the_id_in_the_body() -> None:
    [request] = DeleteUserFromSourceConnector(**IDS, user_id="u").make_requests(DRIVE)
    assert (request.method, request.path, request.body) == ("DELETE", USERS, {"userId": "u"})


@pytest.mark.parametrize(
    ("situation", "token", "wanted"),
    [
        (DRIVE, {"refresh_token": "r"}, []),
        (DRIVE, {"access_token": "a"}, ["refresh_token"]),
        (DRIVE, {}, ["refresh_token"]),
        (NOTION, {"access_token": "a"}, []),
        (NOTION, {"refresh_token": "r"}, ["access_token"]),
        (NOTION, {"access_token": ""}, ["access_token"]),
    ],
)
def test_each_provider_requires_its_own_token(situation: Situation, token: dict[str, str], wanted: list[str]) -> None:
    assert problems(AddUserToSourceConnector.model_validate({**USER, **token}), situation) == wanted


@pytest.mark.parametrize(
    "operation",
    [
        AddUserToSourceConnector(**USER, refresh_token="r"),
        UpdateUserInSourceConnector(**USER),
        DeleteUserFromSourceConnector(**IDS, user_id="u"),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_only_multi_user_connectors_have_users(operation: Operation) -> None:
    assert problems(operation, Situation(current={"type": "AWS_S3"})) == ["source_connector_id"]
    for unknown in (DRIVE, Situation(), Situation(current={"type": "NOT_KNOWN"})):
        assert problems(operation, unknown) == []
    assert operation.target_read() == GetSourceConnector(**IDS)


def test_the_record_of_a_connector_shows_nothing_of_an_update_of_a_user() -> None:
    operation = UpdateUserInSourceConnector(**USER, refresh_token="r")
    assert operation.find_losses(DRIVE) == ()
    assert operation.plan_changes(DRIVE) == {}
    assert operation.after(DRIVE.current) == DRIVE.current


def test_the_tokens_are_marked_as_credentials() -> None:
    for kind in (AddUserToSourceConnector, UpdateUserInSourceConnector):
        assert kind.secret_arguments() == {"refresh_token", "access_token"}


def test_a_user_needs_an_id() -> None:
    with pytest.raises(ValidationError):
        DeleteUserFromSourceConnector(**IDS, user_id="")
