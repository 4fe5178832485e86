"""All operations, by tool name.

The package of a platform names its `PLATFORM` and its `MODULES`: the modules that declare operations, each of which
names its `OPERATIONS`. To add a platform, write such a package and add its name to `PLATFORMS` here.
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
    """The declarations of one platform."""

    package: str
    platform: Platform
    modules: tuple[str, ...]

    @cached_property
    def operations(self) -> tuple[type[Operation], ...]:
        """The platform's operations in the order of tools/list, imported when they are first asked for."""
        # Building the models takes most of the start-up time, and a platform that is not served needs none.
        modules = [import_module(f"{self.package}.{name}") for name in self.modules]
        return tuple(operation for module in modules for operation in module.OPERATIONS)


@cache
def platform_folder(name: str) -> PlatformFolder:
    """The declarations of a platform."""
    package = import_module(f"connector_mcp.operations.{name}")
    return PlatformFolder(package.__name__, package.PLATFORM, package.MODULES)


def catalog(platforms: Iterable[str] = PLATFORMS) -> Mapping[str, type[Operation]]:
    """The operations of the named platforms and those that belong to none, by tool name in a stable order."""
    operations = [operation for name in platforms for operation in platform_folder(name).operations]
    if operations:
        operations.append(DescribeConnectorType)
    return {operation.tool_name(): operation for operation in operations}
