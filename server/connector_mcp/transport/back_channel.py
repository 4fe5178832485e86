"""Questions to a client that are put while a call waits, and their answers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from uuid import uuid4

from mcp.shared.exceptions import MCPError
from mcp_types import JSONRPCError, JSONRPCResponse, jsonrpc_message_adapter
from pydantic import ValidationError


class BackChannel:
    """The questions of one connection that wait for an answer."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    def expect(self) -> tuple[str, asyncio.Future[dict[str, Any]]]:
        """An id for a question, and what will be its answer (or an MCPError)."""
        # The SDK numbers its own questions: a word is never one of those.
        identifier = f"ask-{uuid4().hex}"
        answer = self._waiting[identifier] = asyncio.get_running_loop().create_future()
        return identifier, answer

    def expect_no_more(self, identifier: str) -> None:
        """The answer to a question is not waited for any longer."""
        del self._waiting[identifier]

    def hear(self, members: dict[str, Any]) -> bool:
        """Whether this message is the answer to one of the questions; then it has been given to whoever waits."""
        identifier = members.get("id")
        if not isinstance(identifier, str) or (answer := self._waiting.get(identifier)) is None:
            return False
        try:
            message = jsonrpc_message_adapter.validate_python(members, by_name=False)
        except ValidationError:
            return False
        # A second answer to the same question changes nothing.
        with suppress(asyncio.InvalidStateError):
            match message:
                case JSONRPCResponse(result=result):
                    answer.set_result(result)
                case JSONRPCError(error=error):
                    answer.set_exception(MCPError(code=error.code, message=error.message, data=error.data))
                case _:
                    return False
        return True
