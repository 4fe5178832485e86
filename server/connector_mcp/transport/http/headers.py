"""The headers of an ASGI request as they came: bytes, of which each check decodes no more than it looks at."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Scope

Headers = Mapping[bytes, bytes]


def headers_of(scope: Scope) -> Headers | None:
    """The headers by name; None where one comes twice, of which nothing is taken for granted."""
    lines: list[tuple[bytes, bytes]] = scope["headers"]
    found = dict(lines)
    return found if len(found) == len(lines) else None


def values_of(scope: Scope, name: bytes) -> list[str]:
    """What each header of this name says; `name` is in lower case."""
    lines: list[tuple[bytes, bytes]] = scope["headers"]
    return [value.decode("latin-1") for key, value in lines if key == name]
