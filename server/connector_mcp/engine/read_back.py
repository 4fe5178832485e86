"""Reads the target back after a write and compares it with the plan.

A platform may answer 200 and store something else (Vectorize facts, trap 6). Reading back never turns a success into a
failure: its findings go into `meta.verified` and a warning.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from connector_mcp.engine.results import Meta
from connector_mcp.errors import ConnectorError, NotFound
from connector_mcp.json_values import items
from connector_mcp.operations.operation import Effect, Operation, Path, at
from connector_mcp.operations.update import without_vacant

Read = Callable[[Operation], Awaitable[Any]]
"""Runs a read operation and returns its record."""


async def verify(operation: Operation, planned: Mapping[Path, Any], data: Any, read: Read, meta: Meta) -> None:
    """Compare the platform's state with the plan of the call.

    `planned` holds no secrets, because reads withhold them. `meta.verified` stays None where a read can prove nothing.
    """
    match type(operation).effect:
        case Effect.DESTROY:
            await _verify_gone(operation, read, meta)
        case Effect.CREATE:
            await _verify_created(operation, data, read, meta)
        case _:
            if planned:
                await _verify_changed(operation, planned, data, read, meta)


async def _verify_created(operation: Operation, data: Any, read: Read, meta: Meta) -> None:
    """Read each object that was made. An object inside the target is skipped: no read of the target shows it."""
    made: list[Any] = [[row] for row in items(data)] if isinstance(data, list) else [data]
    backs = [back for back in map(operation.read_back, made) if back is not None]
    target = operation.target_read()
    for back in backs:
        if back == target:
            continue
        if await _read_back(back, read, meta) is not None:
            meta.verified = meta.verified is not False


async def _verify_changed(operation: Operation, planned: Mapping[Path, Any], data: Any, read: Read, meta: Meta) -> None:
    back = operation.read_back(data)
    found = None if back is None else await _read_back(back, read, meta)
    if found is None:
        return
    differing = [path for path, value in planned.items() if _differs(value, at(found.record, path))]
    meta.verified = not differing
    if differing:
        names = ", ".join(".".join(path) for path in differing)
        meta.warn(f"Accepted, but reading back shows another value for: {names}.")


@dataclass(frozen=True)
class _Found:
    record: Any


async def _read_back(back: Operation, read: Read, meta: Meta) -> _Found | None:
    try:
        return _Found(await read(back))
    except NotFound:
        meta.verified = False
        meta.warn("Accepted, but the platform does not show it; it may be visible later.")
    except ConnectorError as error:
        meta.warn(f"Reading back failed ({error.code}); the write itself was accepted.")
    return None


async def _verify_gone(operation: Operation, read: Read, meta: Meta) -> None:
    reader = operation.target_read()
    if reader is None or _resource(type(operation)) != _resource(type(reader)):
        return
    try:
        record = await read(reader)
    except NotFound:
        meta.verified = True
    except ConnectorError as error:
        meta.warn(f"Reading back failed ({error.code}); the deletion itself was accepted.")
    else:
        meta.verified = bool(at(record, "deletedAt"))
        if not meta.verified:
            meta.warn("Accepted, but the target can still be read.")


def _differs(planned: Any, found: Any) -> bool:
    """Whether a planned value is not the one that is found. Vacant, false, zero and missing are the same."""
    return (without_vacant(planned) or None) != (without_vacant(found) or None)


def _resource(operation: type[Operation]) -> str:
    return re.sub(r"{\w+}", "{}", operation.http.path)
