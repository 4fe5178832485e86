"""The users of Vectorize's multi-user connectors: bodies, and the token that each provider requires."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from connector_mcp.operations.operation import Operation
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.vectorize.source_connectors import GetSourceConnector
from connector_mcp.operations.vectorize.source_users import (
    AddUserToSourceConnector,
    DeleteUserFromSourceConnector,
    SourceUserOperation,
    UpdateUserInSourceConnector,
)
from tests.operations.hooks import issues, problems

IDS = {"organization_id": "org", "source_connector_id": "src"}
SELECTION = {"1Ab": {"name": "Plan.docx", "mimeType": "text/plain"}}
USER: dict[str, Any] = {**IDS, "user_id": "u", "selected_files": SELECTION}
DRIVE = Situation(current={"id": "src", "type": "GOOGLE_DRIVE_OAUTH_MULTI", "configDoc": {"authorized-users": ["u"]}})
NOTION = Situation(current={"id": "src", "type": "NOTION_OAUTH_MULTI"})
FILES: dict[str, dict[str, Any]] = {
    "GOOGLE_DRIVE_OAUTH_MULTI": SELECTION,
    "DROPBOX_OAUTH_MULTI_CUSTOM": {"1Ab": {"name": "Plan.docx", "mimeType": "text/plain", "path": "/Plan.docx"}},
    "NOTION_OAUTH_MULTI": {"pageIds": ["p"], "databaseIds": []},
}
NEW_TYPE = "BOX_OAUTH_MULTI"
ADD, UPDATE = AddUserToSourceConnector, UpdateUserInSourceConnector
both = pytest.mark.parametrize("kind", [ADD, UPDATE])


def token_of(type_id: str) -> dict[str, str]:
    return {"access_token": "t"} if type_id.startswith("NOTION") else {"refresh_token": "t"}


def refused(kind: type[SourceUserOperation], type_id: str, **given: Any) -> set[str]:
    """The paths that are refused of a call on a connector of this type."""
    call = kind.model_validate({**IDS, "user_id": "u", **given})
    return {issue.path for issue in issues(call, Situation(current={"id": "src", "type": type_id}))}


@both
@pytest.mark.parametrize("type_id", [*FILES, NEW_TYPE])
def test_a_user_has_one_token_of_the_providers_kind(kind: type[SourceUserOperation], type_id: str) -> None:
    files = FILES.get(type_id, SELECTION)
    right = token_of(type_id)
    (name,) = right
    (wrong,) = {"access_token", "refresh_token"} - {name}
    assert refused(kind, type_id, selected_files=files, **right) == set()
    assert refused(kind, type_id, selected_files=files, **right, **{wrong: None}) == set()
    assert refused(kind, type_id, selected_files=files, **right, **{wrong: "t"}) != set()
    assert refused(kind, type_id, selected_files=files, **{wrong: "t"}) == (set() if type_id == NEW_TYPE else {wrong})
    for empty in ("", "  "):
        assert refused(kind, type_id, selected_files=files, **{name: empty}) == {name}
    without = refused(kind, type_id, selected_files=files)
    assert without == ({name} if kind is ADD else set())


@both
@pytest.mark.parametrize("type_id", FILES)
def test_a_selection_has_the_exact_form_of_the_provider(kind: type[SourceUserOperation], type_id: str) -> None:
    right = {"selected_files": FILES[type_id], **token_of(type_id)}
    assert refused(kind, type_id, **right) == set()
    if type_id.startswith("NOTION"):
        wrong: list[Any] = [SELECTION, {"pageIds": "p"}, {"pageIds": [""]}, {"pageIds": [1]}, {"pages": ["p"]}]
    else:
        wrong = [FILES["NOTION_OAUTH_MULTI"], {"1Ab": "Plan.docx"}, {"1Ab": None}]
        (file,) = FILES[type_id].values()
        wrong += [{"1Ab": {key: file[key] for key in file if key != left}} for left in ("name", "mimeType")]
        wrong += [{"1Ab": {**file, key: ""}} for key in file]
        wrong += [{"1Ab": {**file, "mimetype": "text/plain"}}, {**FILES[type_id], "2Cd": {"name": "n"}}]
    for selection in wrong:
        paths = refused(kind, type_id, **{**right, "selected_files": selection})
        assert paths
        assert all(path.startswith("selected_files") for path in paths), selection


@both
@pytest.mark.parametrize("empty", [{}, {"pageIds": [], "databaseIds": []}, {"1Ab": {}}, {"1Ab": {"name": ""}}])
def test_an_empty_selection_is_refused_before_the_connector_is_read(kind: Any, empty: Any) -> None:
    call = kind.model_validate({**IDS, "user_id": "u", "selected_files": empty, "refresh_token": "t"})
    assert problems(call, Situation()) == problems(call, DRIVE) == ["selected_files"]


def test_the_nearest_member_of_a_selection_is_named() -> None:
    selection = {"1Ab": {"name": "n", "mimetype": "text/plain"}}
    call = ADD.model_validate({**IDS, "user_id": "u", "selected_files": selection, "refresh_token": "t"})
    (wanted,) = [issue.wanted for issue in issues(call, DRIVE) if issue.path.endswith(".mimetype")]
    assert wanted.startswith("mimeType (closest match)")


@pytest.mark.parametrize("given", [{}, {"selected_files": None, "refresh_token": None, "access_token": None}])
def test_an_update_of_a_user_changes_something(given: Any) -> None:
    call = UPDATE.model_validate({**IDS, "user_id": "u", **given})
    assert problems(call, Situation()) == problems(call, DRIVE) == ["selected_files"]


@pytest.mark.parametrize(
    ("operation", "situation", "told"),
    [
        (ADD(**USER, refresh_token="r"), DRIVE, "ingests 1 file with the user's token."),
        (UPDATE(**USER), DRIVE, ": from now on only 1 file."),
        (UPDATE(**IDS, user_id="u", refresh_token="r"), DRIVE, ": a new token in place of the stored one."),
        (UPDATE(**{**USER, "selected_files": {"pageIds": ["p"]}}), NOTION, "only 1 page."),
    ],
)
def test_what_a_call_does_to_a_user_is_told(operation: Operation, situation: Situation, told: str) -> None:
    assert told in operation.describe_effect(situation)


@pytest.mark.parametrize(
    "operation",
    [ADD(**USER, refresh_token="r"), UPDATE(**USER), DeleteUserFromSourceConnector(**IDS, user_id="u")],
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


def test_a_user_needs_an_id() -> None:
    with pytest.raises(ValidationError):
        DeleteUserFromSourceConnector(**IDS, user_id="")
