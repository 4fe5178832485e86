"""All operations, by tool name.

A platform's folder is a package that names its declarations: `PLATFORM` and `OPERATIONS`. To add a platform, write such
a folder and add its name here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from connector_mcp.operations.describe import DescribeConnectorType
from connector_mcp.operations.operation import Operation
from connector_mcp.operations.platform import Platform

PLATFORMS = ("vectorize", "logto", "versori", "conductorone")


@dataclass(frozen=True)
class PlatformFolder:
    """What a platform's folder declares."""

    platform: Platform
    operations: tuple[type[Operation], ...]


@cache
def platform_folder(name: str) -> PlatformFolder:
    """The declarations of a platform, imported when they are first asked for."""
    module = import_module(f"connector_mcp.operations.{name}")
    return PlatformFolder(module.PLATFORM, tuple(module.OPERATIONS))


def catalogue(platforms: Iterable[str] = PLATFORMS) -> Mapping[str, type[Operation]]:
    """The operations of the named platforms and those that belong to none, by tool name in a stable order."""
    operations = [operation for name in platforms for operation in platform_folder(name).operations]
    if operations:
        operations.append(DescribeConnectorType)
    return {operation.tool_name(): operation for operation in operations}
