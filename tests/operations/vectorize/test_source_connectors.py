"""Vectorize's source connectors: what is sent, what an update would lose, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from connector_mcp.operations.platform import Request
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.vectorize.source_connectors import (
    CreateSourceConnector,
    DeleteSourceConnector,
    GetSourceConnector,
    UpdateSourceConnector,
)
from tests.operations import hooks

IDS = {"organization_id": "org", "source_connector_id": "src/1"}
CONNECTOR = "/org/{organization_id}/connectors/sources/{source_connector_id}"
SITE: dict[str, Any] = {"name": "Site", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}
UPLOAD: dict[str, Any] = {"name": "Files", "type": "FILE_UPLOAD"}
CONFIG = {"bucket-name": "docs", "region": "eu", "archiver": False, "endpoint": "", "added-later": {"a": 1}}
STORED: dict[str, Any] = {"id": "src/1", "type": "AWS_S3", "name": "Docs", "configDoc": CONFIG}


def create(*connectors: dict[str, Any], **arguments: Any) -> CreateSourceConnector:
    given = {"organization_id": "org", "connectors": list(connectors), **arguments}
    return CreateSourceConnector.model_validate(given)


def update(config: dict[str, Any]) -> UpdateSourceConnector:
    return UpdateSourceConnector.model_validate({**IDS, "config": config})


def test_the_created_connectors_are_found_in_both_forms_of_the_answer() -> None:
    first, second = {"name": "a", "id": "1"}, {"name": "b", "id": "2"}
    objects = [{"message": "ok", "connector": first}, {"message": "ok", "connector": second}]
    array = [{"message": "ok", "connectors": [first, second]}]
    for answers in (objects, array):
        assert create(SITE, UPLOAD).shape_result(answers, Situation()) == [first, second]


@pytest.mark.parametrize("data", [None, [], ["odd"], [{"name": "a"}], [{"id": 5}]])
def test_a_creation_is_read_back_by_the_new_id_if_there_is_one(data: Any) -> None:
    assert create(SITE).read_back(data) is None
    read = GetSourceConnector(organization_id="org", source_connector_id="new")
    assert create(SITE).read_back([{"id": "new"}]) == read


def test_a_config_is_required_or_refused_by_the_type() -> None:
    for connector in ({"name": "a", "type": "AWS_S3"}, {**UPLOAD, "config": {}}):
        assert hooks.problems(create(SITE, connector), Situation()) == ["connectors[1].config"]
    assert hooks.problems(create(SITE, UPLOAD), Situation()) == []


def test_the_configs_of_a_creation_are_checked_by_their_own_types() -> None:
    [use] = create(UPLOAD, SITE).find_configs(Situation())
    assert (use.path, use.type_id, use.complete) == ("connectors[1].config", "WEB_CRAWLER", True)
    assert use.value == SITE["config"]


@pytest.mark.parametrize("connectors", [[], [{"name": "", "type": "AWS_S3"}], [{**SITE, "odd": 1}]])
def test_a_creation_that_does_not_fit_is_refused(connectors: list[Any]) -> None:
    with pytest.raises(ValidationError):
        create(*connectors)


def test_an_update_sends_the_config_as_it_is_given() -> None:
    config = {"bucket-name": "new", "region": "", "secret-key": "s"}
    [request] = update(config).make_requests(Situation(current=STORED))
    assert request == Request("PATCH", CONNECTOR, IDS, {}, {"config": config}, repeatable=True)
    assert update(config).make_body(Situation()) == {"config": config}


REGION = ("Unsets region of the config", "configDoc.region", "eu")
ADDED = ("Unsets added-later of the config", "configDoc.added-later", {"a": 1})
UNSEEN = ("May unset stored credentials, which no read shows: what this type stores is not known", "", None)
KEPT = {"bucket-name": "docs", "archiver": True}
NOTION = {"id": "src/1", "type": "NOTION", "name": "Wiki", "configDoc": {}}
EDITED = ("Unsets editedToken of the config if it is stored, which no read shows", "configDoc.editedToken", None)
WHOLE = {"bucket-name": "new", "region": "us", "archiver": True, "added-later": {"a": 2}, "secret-key": "s"}


@pytest.mark.parametrize(
    ("config", "record", "lost"),
    [
        (KEPT, STORED, [REGION, ADDED]),
        (KEPT, {**STORED, "type": "NOT_KNOWN"}, [REGION, ADDED, UNSEEN]),
        ({**KEPT, "region": "", "added-later": {"a": []}}, STORED,
         [REGION, ("Unsets added-later.a of the config", "configDoc.added-later.a", 1)]),
        ({"access-token": "t"}, NOTION, [EDITED]),
        ({"access-token": "t", "editedToken": ""}, NOTION, [EDITED]),
        ({"access-token": "t", "editedToken": "e"}, NOTION, []),
        (WHOLE, STORED, []),
        (WHOLE, None, []),
    ],
)  # fmt: skip
def test_every_stored_key_that_is_not_sent_again_is_a_loss_whether_or_not_a_schema_or_a_read_shows_it(
    config: Any, record: Any, lost: list[Any]
) -> None:
    assert hooks.losses(update(config), Situation(current=record)) == lost


BUILT_IN = Situation({"id": "b", "type": "VECTORIZE", "name": "Built-in"})


def test_the_built_in_connector_is_neither_changed_nor_deleted() -> None:
    for call in (update({}), DeleteSourceConnector(**IDS)):
        assert hooks.problems(call, BUILT_IN) == ["source_connector_id"]
        assert hooks.problems(call, Situation(STORED)) == []


@pytest.mark.parametrize(
    ("record", "told", "untold"),
    [
        (STORED, "Deletes Amazon S3 source connector {name}; pipelines that read from it stop ingesting.", "user"),
        ({"type": "NOT_KNOWN"}, "Deletes source connector {name};", "user"),
        (None, "Deletes source connector {name};", "user"),
        ({"configDoc": {"authorized-users": ["a", "b"]}}, "and so do the files of its 2 users.", "1 user"),
        ({"configDoc": {"authorized-users": ["a"]}}, "and so do the files of its 1 user.", "users"),
    ],
)
def test_a_deletion_tells_what_the_connector_shows(record: Any, told: str, untold: str) -> None:
    sentence = DeleteSourceConnector(**IDS).describe_effect(Situation(record))
    assert told in sentence
    assert untold not in sentence
    assert sentence.endswith("It cannot be undone.")


def test_a_creation_and_a_change_tell_what_they_concern() -> None:
    braces = {**UPLOAD, "name": "a {name}"}
    assert create(SITE, braces).describe_effect(Situation()).format(name="!") == (
        "Creates 2 source connectors: Web Crawler “Site”, File Upload “a {name}”."
    )
    many = create(*[{**UPLOAD, "name": "n" * 500}] * 30).describe_effect(Situation())
    assert many.endswith(" and 20 more.")
    assert len(many) < 1000
    assert update({}).describe_effect(Situation(STORED)).startswith("Changes the config of Amazon S3 source connector")


def test_the_plan_sets_the_given_keys_and_unsets_the_others() -> None:
    stored = {**STORED, "configDoc": {"bucket-name": "docs", "region": "eu", "added-later": "x"}}
    planned = hooks.plan(update({"bucket-name": "new", "path-prefixes": ["a"], "region": ""}), Situation(stored))
    wanted = {"bucket-name": "new", "path-prefixes": ["a"], "region": None, "added-later": None}
    assert planned == {f"configDoc.{key}": value for key, value in wanted.items()}


def test_an_update_answers_with_the_connector_and_its_pipelines() -> None:
    answer = {"message": "ok", "data": {"updatedConnector": STORED, "pipelineIds": ["p"]}}
    assert update({}).shape_result([answer], Situation()) == {**STORED, "pipelineIds": ["p"]}
    assert update({}).read_back(STORED) == GetSourceConnector(**IDS)


def test_the_config_of_an_update_is_checked_by_the_stored_type() -> None:
    [use] = update({"bucket-name": "b"}).find_configs(Situation(current=STORED))
    assert (use.path, use.type_id, use.complete) == ("config", "AWS_S3", True)
    [unread] = update({}).find_configs(Situation())
    assert (unread.type_id, unread.type) == (None, None)
