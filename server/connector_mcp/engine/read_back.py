"""Reads back what was written, and says where the platform persisted something else.

A platform's 200 is no proof (Vectorize facts, trap 6). Reading back never turns a success into a failure: what it finds
goes into `meta.verified` and a warning.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from connector_mcp.engine.results import Meta
from connector_mcp.errors import ConnectorError, NotFound
from connector_mcp.operations.operation import Effect, Operation, at

Read = Callable[[Operation], Awaitable[Any]]
"""Runs a read operation and gives its record."""


async def verify(operation: Operation, planned: Mapping[str, Any], data: Any, read: Read, meta: Meta) -> None:
    """Compare the platform's state with what the call set out to do.

    `planned` holds no secrets, as reads withhold those. `meta.verified` stays None where a read could prove nothing.
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
    """Read each object that was made. One that is part of its target shows in no read of the target."""
    made: list[Any] = [[row] for row in cast("list[Any]", data)] if isinstance(data, list) else [data]
    backs = [back for back in map(operation.read_back, made) if back is not None]
    target = operation.target_read()
    for back in backs:
        if back == target:
            continue
        if await _read_back(back, read, meta) is not None:
            meta.verified = meta.verified is not False


async def _verify_changed(operation: Operation, planned: Mapping[str, Any], data: Any, read: Read, meta: Meta) -> None:
    back = operation.read_back(data)
    found = None if back is None else await _read_back(back, read, meta)
    if found is None:
        return
    differing = [path for path, value in planned.items() if _differs(value, at(found.record, path))]
    meta.verified = not differing
    if differing:
        meta.warn(f"Accepted, but reading back shows another value for: {', '.join(differing)}.")


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
    """Whether a planned member is not what is found; an emptied one, a false one and an absent one are the same."""
    return planned != found and not (_is_vacant(planned) and _is_vacant(found))


def _is_vacant(value: Any) -> bool:
    return value in (None, "", [], {}, False)


def _resource(operation: type[Operation]) -> str:
    return re.sub(r"{\w+}", "{}", operation.http.path)
