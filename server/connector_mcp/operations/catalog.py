"""All operations, by tool name.

A platform's folder is a package that names its `PLATFORM`, with a module `operations` that names its `OPERATIONS`. To
add a platform, write such a folder and add its name here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module

from connector_mcp.operations.local import DescribeConnectorType
from connector_mcp.operations.operation import Operation
from connector_mcp.operations.platform import Platform

PLATFORMS = ("vectorize", "logto", "versori", "conductorone")


@dataclass(frozen=True)
class PlatformFolder:
    """What a platform's folder declares."""

    package: str
    platform: Platform

    @cached_property
    def operations(self) -> tuple[type[Operation], ...]:
        """The platform's operations, imported when they are first asked for."""
        # The models of a platform take 10 to 30 ms to build, and whether it is served is known without them.
        return tuple(import_module(f"{self.package}.operations").OPERATIONS)


@cache
def platform_folder(name: str) -> PlatformFolder:
    """The declarations of a platform."""
    package = f"connector_mcp.operations.{name}"
    return PlatformFolder(package, import_module(package).PLATFORM)


def catalog(platforms: Iterable[str] = PLATFORMS) -> Mapping[str, type[Operation]]:
    """The operations of the named platforms and those that belong to none, by tool name in a stable order."""
    operations = [operation for name in platforms for operation in platform_folder(name).operations]
    if operations:
        operations.append(DescribeConnectorType)
    return {operation.tool_name(): operation for operation in operations}
