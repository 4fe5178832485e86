"""Listing, getting and deleting Logto connectors."""

from connector_mcp.operations.logto.connectors import DeleteConnector, GetConnector, ListConnectors
from connector_mcp.operations.operation import Effect, Situation
from connector_mcp.operations.platform import NO_BODY, Request

NOWHERE = Situation()


def test_the_list_is_asked_for_one_target_in_the_query():
    assert ListConnectors(target="google").make_request(NOWHERE) == Request(
        "GET", "/api/connectors", query={"target": "google"}, body=NO_BODY, repeatable=True, changes=False
    )


def test_the_list_sends_no_arguments_that_steer_this_server():
    asked = ListConnectors(limit=5, cursor="5", fields=["id"], detail="full")
    assert asked.make_request(NOWHERE) == Request("GET", "/api/connectors", repeatable=True, changes=False)


def test_the_list_answers_with_the_array_itself():
    assert ListConnectors().shape_result([[{"id": "a"}, {"id": "b"}]], NOWHERE) == [{"id": "a"}, {"id": "b"}]


def test_no_noise_member_is_in_the_summary_of_a_row():
    assert not set(ListConnectors.summary) & ListConnectors.heavy
    assert {"readme", "logo", "logoDark", "configTemplate", "description", "formItems"} == ListConnectors.heavy


def test_a_connector_is_got_by_its_id_and_the_wanted_fields_are_not_sent():
    assert GetConnector(id="x7k2m9q4", fields=["readme"]).make_request(NOWHERE) == Request(
        "GET", "/api/connectors/{id}", {"id": "x7k2m9q4"}, repeatable=True, changes=False
    )


def test_a_connector_is_deleted_by_its_id_without_a_body():
    assert DeleteConnector(id="x7k2m9q4").make_request(NOWHERE) == Request(
        "DELETE", "/api/connectors/{id}", {"id": "x7k2m9q4"}, body=NO_BODY, repeatable=True
    )
    assert DeleteConnector.effect is Effect.DESTROY


def test_a_deletion_is_confirmed_though_the_platform_answers_with_nothing():
    assert DeleteConnector(id="x7k2m9q4").shape_result([None], NOWHERE) == {"id": "x7k2m9q4", "deleted": True}


def test_the_target_of_a_deletion_is_the_connector_by_the_name_that_the_console_shows():
    call = DeleteConnector(id="x7k2m9q4")
    assert call.target_read() == GetConnector(id="x7k2m9q4")
    target = DeleteConnector.acts_on
    assert target is not None
    assert callable(target.name)
    assert target.name(call, {"id": "x7k2m9q4", "name": {"en": "Google", "de": "Guugl"}}) == "Google"
    assert target.name(call, {"id": "x7k2m9q4", "name": {}}) == "x7k2m9q4"
    assert target.name(call, None) == "x7k2m9q4"
    assert "usage" in target.volatile


def test_the_person_who_is_asked_reads_what_stops():
    asked = DeleteConnector.consequence.format(name="Google", id="x7k2m9q4")
    assert asked.startswith("Deletes connector Google (id x7k2m9q4) with its credentials.")
    for stops in ("sign-in with it stops", "third-party tokens", "verification codes", "cannot be undone"):
        assert stops in asked
