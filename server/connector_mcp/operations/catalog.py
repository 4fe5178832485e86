"""All operations, by tool name.

The package of a platform names its `PLATFORM` and its `MODULES`: the modules that declare operations, each of which
names its `OPERATIONS`. One of them may name a `TYPE_SOURCE`. To add a platform, write such a package and add its name
to `PLATFORMS` here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from types import ModuleType

from connector_mcp.operations.local import TypeSource, describe_connector_type
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
        return tuple(operation for module in self._imported() for operation in module.OPERATIONS)

    @property
    def type_source(self) -> TypeSource | None:
        """How the platform describes its connector types; None if it does not."""
        return next((module.TYPE_SOURCE for module in self._imported() if hasattr(module, "TYPE_SOURCE")), None)

    def _imported(self) -> list[ModuleType]:
        return [import_module(f"{self.package}.{name}") for name in self.modules]


@cache
def platform_folder(name: str) -> PlatformFolder:
    """The declarations of a platform."""
    package = import_module(f"connector_mcp.operations.{name}")
    return PlatformFolder(package.__name__, package.PLATFORM, package.MODULES)


def catalog(platforms: Iterable[str] = PLATFORMS) -> Mapping[str, type[Operation]]:
    """The operations of the named platforms and those that belong to none, by tool name in a stable order."""
    folders = {name: platform_folder(name) for name in platforms}
    operations = [operation for folder in folders.values() for operation in folder.operations]
    if operations:
        operations.append(describe_connector_type({name: each.type_source for name, each in folders.items()}))
    return {operation.tool_name(): operation for operation in operations}
