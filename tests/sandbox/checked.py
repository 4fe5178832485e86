"""A sandbox of which every answer is compared with what the platforms' documents say of it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from connector_mcp.sandbox.app import Sandbox
from connector_mcp.sandbox.faults import Fault
from tools.answers import Answers

documented = cache(Answers)


@cache
def _validator(platform: str, operation: str, status: int) -> Any:
    schema = documented(platform).schema(operation, status)
    return None if schema is None else Draft202012Validator(schema)


def flaws(platform: str, operation: str, status: int, body: bytes) -> list[str]:
    """In which ways an answer is not the documented one."""
    try:
        validator = _validator(platform, operation, status)
    except KeyError:
        return [f"{operation}: {status} is not documented"]
    if validator is None or not body:
        return [] if validator is None and not body else [f"{operation}: {status} with body {body[:100]!r}"]
    return [
        f"{operation}: {status}: {error.json_path}: {error.message[:300]}"
        for error in validator.iter_errors(json.loads(body))
    ]


class CheckedSandbox(Sandbox):
    """A sandbox that remembers which operations it answered with success, and the flaws of its answers.

    Answers are taken as they are once a fault was injected.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.succeeded: set[tuple[str, str]] = set()
        self.flaws: list[str] = []
        self._is_faulty = False

    def inject(self, fault: Fault) -> None:
        self._is_faulty = True
        super().inject(fault)

    def transport(self, platform: str) -> httpx.AsyncBaseTransport:
        return _CheckedTransport(self, platform, super().transport(platform))

    def check(self, platform: str, request: httpx.Request, response: httpx.Response) -> None:
        path = request.url.raw_path.partition(b"?")[0].decode("ascii")
        operation = documented(platform).operation(request.method, path)
        if self._is_faulty or response.is_redirect:
            return
        if operation is None:
            is_api = path.startswith(("/api/", "/v1/"))
            self.flaws += [f"{request.method} {path} is in no document"] if is_api and response.is_success else []
            return
        self.flaws += flaws(platform, operation, response.status_code, response.content)
        if response.is_success:
            self.succeeded.add((platform, operation))


class _CheckedTransport(httpx.AsyncBaseTransport):
    def __init__(self, sandbox: CheckedSandbox, platform: str, real: httpx.AsyncBaseTransport) -> None:
        self._sandbox, self._platform, self._real = sandbox, platform, real

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._real.handle_async_request(request)
        if not isinstance(response.stream, httpx.AsyncByteStream) or isinstance(response.stream, httpx.ByteStream):
            self._sandbox.check(self._platform, request, response)
        return response
