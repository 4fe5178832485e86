"""One request and one answer as the emulated platforms see them, and the table that leads from a path to a handler.

Framework-free, so that the in-process transport and the served application are two thin faces of the same code.
Paths are matched on their percent-encoded form: a slash inside an id is part of the id, as on the real platforms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote


@dataclass(frozen=True)
class Call:
    """A request. `path` is percent-encoded and holds the platform's base path; header names are lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: bytes = field(default=b"", repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    """Decoded path parameters, filled in by the route that matched."""

    def header(self, name: str) -> str:
        """The header's value, empty when it was not sent."""
        return self.headers.get(name, "")

    def query_values(self, name: str) -> list[str]:
        """Every value of a query parameter, in order; an empty value counts."""
        return [value for key, value in parse_qsl(self.query, keep_blank_values=True) if key == name]

    def query_value(self, name: str) -> str | None:
        """The first non-empty value of a query parameter."""
        return next((value for value in self.query_values(name) if value), None)

    def form(self) -> dict[str, str]:
        """The fields of an urlencoded body; empty when the body is of another type."""
        if self.header("content-type").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
            return {}
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def json(self) -> Any:
        """The decoded JSON body, None when there is none; raises ValueError when it is not JSON."""
        return json.loads(self.body) if self.body.strip() else None

    def host(self) -> str:
        """The name in the Host header without its port, lower case."""
        host = self.header("host").lower()
        return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


@dataclass(frozen=True)
class Answer:
    """A response whose body is complete."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class RefusalError(Exception):
    """Leaves a handler with the platform's error answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Emulator(Protocol):
    """An emulated platform."""

    def handle(self, call: Call) -> Answer:
        """Carry the request out and answer it; every failure is an answer of the platform's own shape."""
        ...

    def failure(self, status: int) -> Answer:
        """The platform's error answer for a status that a fault demands."""
        ...


def json_answer(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """A JSON answer, compact, unicode kept but for lone surrogates, which UTF-8 cannot carry."""
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Answer(status, body, {"content-type": "application/json; charset=utf-8", **(headers or {})})


Handler = Callable[[Call], Answer]


@dataclass(frozen=True)
class Route:
    """A method, a path whose `{name}` segments are parameters, and what answers it."""

    method: str
    path: str
    handler: Handler

    def parameters(self, segments: Sequence[str]) -> dict[str, str] | None:
        """The decoded parameters when the segments fit this route, else None."""
        wanted = self.path.split("/")
        if len(wanted) != len(segments):
            return None
        found: dict[str, str] = {}
        for want, got in zip(wanted, segments, strict=True):
            if want.startswith("{"):
                if not got:
                    return None
                found[want[1:-1]] = unquote(got)
            elif want != unquote(got):
                return None
        return found


@dataclass(frozen=True)
class Routes:
    """The documented operations of a platform. The first route that fits wins."""

    routes: tuple[Route, ...]

    def find(self, call: Call) -> tuple[Handler, Call] | None:
        """The handler and the call with its path parameters, or None when no operation has this method and path."""
        segments = call.path.split("/")
        for route in self.routes:
            parameters = route.parameters(segments) if route.method == call.method else None
            if parameters is not None:
                return route.handler, replace(call, parameters=parameters)
        return None
