from typing import Any

import pytest

from connector_mcp.composition.accounts import missing, platform_values
from connector_mcp.errors import Misconfigured
from connector_mcp.operations.conductorone.platform import CONDUCTORONE
from connector_mcp.operations.logto.platform import LOGTO
from connector_mcp.operations.platform import Platform
from connector_mcp.operations.vectorize.platform import VECTORIZE
from connector_mcp.operations.versori.platform import VERSORI


def test_the_variables_of_a_platform_are_those_that_are_set():
    environ = {"VECTORIZE_API_KEY": " key ", "VECTORIZE_ORGANIZATION_ID": "", "LOGTO_APP_ID": "other", "HOME": "/root"}
    assert platform_values(VECTORIZE, environ) == {"VECTORIZE_API_KEY": "key"}


@pytest.mark.parametrize(
    ("platform", "name", "nearest"),
    [
        (VECTORIZE, "VECTORIZE_API_TOKEN", "VECTORIZE_API_KEY"),
        (VECTORIZE, "VECTORIZE_ORGANISATION_ID", "VECTORIZE_ORGANIZATION_ID"),
        (VERSORI, "VERSORI_ORGANIZATION_ID", "VERSORI_ORGANISATION_ID"),
        (LOGTO, "LOGTO_ENDPOINTS", "LOGTO_ENDPOINT"),
        (CONDUCTORONE, "conductorone_base_url", "CONDUCTORONE_BASE_URL"),
    ],
)
def test_an_unknown_platform_variable_is_refused_with_the_nearest_name(platform: Platform, name: str, nearest: str):
    with pytest.raises(Misconfigured, match=f"{name} is not a known variable. Did you mean '{nearest}'") as caught:
        platform_values(platform, {name: "hunter2"})
    assert "hunter2" not in str(caught.value.as_dict())


def test_a_platform_variable_that_is_not_one_of_its_choices_is_refused():
    with pytest.raises(Misconfigured, match="VECTORIZE_CREATE_BODY is 'list'; expected: object or array"):
        platform_values(VECTORIZE, {"VECTORIZE_CREATE_BODY": "list"})
    assert platform_values(VECTORIZE, {"VECTORIZE_CREATE_BODY": "array"}) == {"VECTORIZE_CREATE_BODY": "array"}


CASES: list[tuple[Platform, dict[str, Any], list[str]]] = [
    (VECTORIZE, {}, ["VECTORIZE_API_KEY"]),
    (VECTORIZE, {"VECTORIZE_API_KEY": "k"}, []),
    (VERSORI, {"VERSORI_ORGANISATION_ID": "o"}, ["VERSORI_API_KEY"]),
    (VERSORI, {"VERSORI_API_KEY": "k"}, []),
    (LOGTO, {}, ["LOGTO_APP_ID", "LOGTO_APP_SECRET", "LOGTO_ENDPOINT"]),
    (LOGTO, {"LOGTO_APP_ID": "i", "LOGTO_APP_SECRET": "s"}, ["LOGTO_ENDPOINT"]),
    (LOGTO, {"LOGTO_ENDPOINT": "https://a", "LOGTO_APP_ID": "i"}, ["LOGTO_APP_SECRET"]),
    (LOGTO, {"LOGTO_ENDPOINT": "https://a", "LOGTO_APP_ID": "i", "LOGTO_APP_SECRET": "s"}, []),
    (CONDUCTORONE, {}, ["CONDUCTORONE_CLIENT_ID", "CONDUCTORONE_CLIENT_SECRET"]),
    (CONDUCTORONE, {"CONDUCTORONE_ACCESS_TOKEN": "t"}, ["CONDUCTORONE_BASE_URL"]),
    (CONDUCTORONE, {"CONDUCTORONE_ACCESS_TOKEN": "t", "CONDUCTORONE_BASE_URL": "https://a"}, []),
    (CONDUCTORONE, {"CONDUCTORONE_CLIENT_ID": "n@a.conductor.one/pcc"}, ["CONDUCTORONE_CLIENT_SECRET"]),
    (CONDUCTORONE, {"CONDUCTORONE_CLIENT_ID": "n@a.conductor.one/pcc", "CONDUCTORONE_CLIENT_SECRET": "s"}, []),
    (CONDUCTORONE, {"CONDUCTORONE_CLIENT_ID": "n", "CONDUCTORONE_CLIENT_SECRET": "s"}, ["CONDUCTORONE_BASE_URL"]),
    (CONDUCTORONE, {"CONDUCTORONE_CLIENT_SECRET": "s"}, ["CONDUCTORONE_CLIENT_ID"]),
    (CONDUCTORONE, {"CONDUCTORONE_ACCESS_TOKEN": "t", "CONDUCTORONE_CLIENT_ID": "n@a.conductor.one/pcc"}, []),
]


@pytest.mark.parametrize(("platform", "values", "lacking"), CASES)
def test_the_variables_that_a_platform_still_lacks_are_listed(platform: Platform, values: Any, lacking: list[str]):
    assert [variable.name for variable in missing(platform, values)] == lacking


def test_a_variable_of_another_program_with_a_platforms_prefix_is_ignored():
    environ = {"LOGTO_COOKIE_SECRET": "x", "LOGTO_BASE_URL": "y", "LOGTO_ENDPOINT": "z"}
    assert platform_values(LOGTO, environ) == {"LOGTO_ENDPOINT": "z"}


@pytest.mark.parametrize("name", ["VECTORIZE_API_TOKEN", "VECTORIZE_ORG_ID", "VECTORIZE_ORGANISATION_ID"])
def test_a_misspelt_platform_variable_is_refused(name: str):
    with pytest.raises(Misconfigured, match=name):
        platform_values(VECTORIZE, {name: "x"})
