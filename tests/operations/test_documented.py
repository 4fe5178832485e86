"""The lists of documented operations, and the tools: each is in the other, or has a reason."""

from __future__ import annotations

import re

import pytest

from connector_mcp.operations.catalog import PLATFORMS, platform_folder, toolsets
from tools.operations_page import documented, request


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_documented_operation_is_a_tool_or_has_a_reason(platform: str) -> None:
    tools = {
        (each.api.name if each.api else "", request(each.http.method, each.http.path)): each.tool_name()
        for each in platform_folder(platform).operations
    }
    listed = {(each.api, each.request): each for each in documented(platform)}
    assert len(listed) == len(documented(platform)), "no operation is listed twice"
    assert len(tools) == len(platform_folder(platform).operations), "no operation has two tools"
    assert tools.keys() <= listed.keys()
    for key, each in listed.items():
        assert bool(each.reason) != (key in tools), each
        assert each.rank in ("A", "B", "C")
        assert each.rank == "C" or key in tools or len(each.reason) > len("rare"), each


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_tool_of_a_platform_is_in_one_of_its_toolsets(platform: str) -> None:
    for each in platform_folder(platform).operations:
        assert re.fullmatch(rf"{platform}\.[a-z_]+", each.toolset)
        assert each in toolsets()[each.toolset]
        assert len(each.tool_name()) <= 48


def test_logtos_tools_are_called_as_its_operations_and_conductorones_defaults_are_those_of_rank_a() -> None:
    named = {each.operation for each in documented("logto") if not each.reason}
    assert named == {each.__name__ for each in platform_folder("logto").operations}
    ranks = {each.request: each.rank for each in documented("conductorone")}
    tools = {request(each.http.method, each.http.path): each for each in platform_folder("conductorone").operations}
    assert {ranks[key] for key, each in tools.items() if each.by_default} == {"A"}
    for each in documented("conductorone"):
        assert each.rank != "A" or each.request in tools or "describe_connector_type" in each.reason
