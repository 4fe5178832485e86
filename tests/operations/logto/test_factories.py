"""Reading Logto's connector factories."""

from connector_mcp.operations.logto.factories import GetConnectorFactory, ListConnectorFactories
from connector_mcp.operations.platform import Request
from connector_mcp.operations.situation import Situation

NOWHERE = Situation()


def test_the_list_of_factories_is_an_array_of_which_the_server_cuts_pages():
    assert ListConnectorFactories(limit=3, cursor="3").make_request(NOWHERE) == Request(
        "GET", "/api/connector-factories", repeatable=True, changes=False
    )
    assert ListConnectorFactories().shape_result([[{"id": "oidc"}]], NOWHERE) == [{"id": "oidc"}]


def test_a_factory_is_got_by_its_id_and_the_wanted_fields_are_not_sent():
    assert GetConnectorFactory(id="http-sms", fields=["formItems"]).make_request(NOWHERE) == Request(
        "GET", "/api/connector-factories/{id}", {"id": "http-sms"}, repeatable=True, changes=False
    )


def test_form_items_are_shown_on_request_only():
    assert "formItems" in GetConnectorFactory.heavy
    assert "formItems" not in ListConnectorFactories.summary
