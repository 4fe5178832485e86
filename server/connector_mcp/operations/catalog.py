"""All operations, by tool name.

The package of a platform names its `PLATFORM` and its `MODULES`: the modules that declare operations, each of which
names its `OPERATIONS`. One of them may name a `TYPE_SOURCE`. To add a platform, write such a package and add its name
to `PLATFORMS` here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from types import MappingProxyType, ModuleType

from connector_mcp.errors import Misconfigured
from connector_mcp.operations.across import ACROSS
from connector_mcp.operations.local import TypeSource, describe_connector_type
from connector_mcp.operations.operation import Operation
from connector_mcp.operations.overview import Overview
from connector_mcp.operations.platform import Platform
from connector_mcp.operations.provisioning.kinds import Kind, kinds_of
from connector_mcp.operations.provisioning.tools import PROVISIONING
from connector_mcp.suggest import did_you_mean

DEFAULT_TOOLSET = "default"
ALL_TOOLSETS = "all"

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

    @cached_property
    def overview(self) -> Overview:
        """How the platform's connectors are found and checked; imported like the operations."""
        return Overview.of(import_module(f"{self.package}.overview"))

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of things that a manifest can describe; imported like the operations."""
        return kinds_of(import_module(f"{self.package}.kinds"))


@cache
def platform_folder(name: str) -> PlatformFolder:
    """The declarations of a platform."""
    package = import_module(f"connector_mcp.operations.{name}")
    return PlatformFolder(package.__name__, package.PLATFORM, package.MODULES)


def catalog(platforms: Iterable[str] = PLATFORMS) -> Mapping[str, type[Operation]]:
    """The operations of the named platforms and those that belong to none, by tool name in a stable order."""
    return _catalog(tuple(platforms))


@cache
def _catalog(platforms: tuple[str, ...]) -> Mapping[str, type[Operation]]:
    folders = {name: platform_folder(name) for name in platforms}
    operations = [operation for folder in folders.values() for operation in folder.operations]
    if operations:
        operations.append(describe_connector_type({name: each.type_source for name, each in folders.items()}))
        operations += (*ACROSS, *PROVISIONING)
    return MappingProxyType({operation.tool_name(): operation for operation in operations})


def in_toolsets(operations: Mapping[str, type[Operation]], chosen: Collection[str]) -> dict[str, type[Operation]]:
    """The operations of the chosen toolsets. Each is `default`, `all`, a platform, or one toolset of a platform.

    Raises:
        Misconfigured: A name is not one of these. A toolset of a platform that is not served is no mistake.
    """
    for name in {*chosen} - {DEFAULT_TOOLSET, ALL_TOOLSETS, *PLATFORMS}:
        known = toolsets()
        if name not in known:
            raise Misconfigured(
                f"There is no toolset {name}.{did_you_mean(name, known)}",
                fix=f"Use {DEFAULT_TOOLSET}, {ALL_TOOLSETS}, a platform, or one of: {', '.join(known)}.",
            )
    return {
        name: operation
        for name, operation in operations.items()
        if not operation.toolset
        or ALL_TOOLSETS in chosen
        or (operation.by_default and DEFAULT_TOOLSET in chosen)
        or {operation.toolset, operation.toolset.partition(".")[0]} & {*chosen}
    }


def missing_toolset(name: str, chosen: Collection[str]) -> str:
    """The toolset of a tool that is in none of the chosen ones; empty if it is in one."""
    operation = catalog()[name]
    return "" if in_toolsets({name: operation}, chosen) else operation.toolset


@cache
def toolsets() -> Mapping[str, tuple[type[Operation], ...]]:
    """The operations of every toolset of every platform, by the name of the toolset."""
    found: dict[str, tuple[type[Operation], ...]] = {}
    for operation in catalog().values():
        if operation.toolset:
            found[operation.toolset] = (*found.get(operation.toolset, ()), operation)
    return found
