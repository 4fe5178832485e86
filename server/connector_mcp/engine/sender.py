"""Send an operation's requests through the account's client, one after the other, and read targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connector_mcp.engine.accounts import Account
from connector_mcp.engine.caller import Caller
from connector_mcp.engine.preview import fingerprint
from connector_mcp.engine.results import Meta
from connector_mcp.errors import Conflict, ConnectorError, NotFound, OutcomeUnknown, Rejected
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Operation, Situation

_CONCERNS_ONE = (Rejected, Conflict, NotFound)
"""Failures of one request only: the requests after it may still be sent."""


class Sender:
    """The upstream side of one call."""

    def __init__(self, account: Account, tool: str, caller: Caller) -> None:
        self._account = account
        self._tool = tool
        self._caller = caller
        self._failures: dict[int, ConnectorError | None] = {}
        self.status: int | None = None
        self.request_id: str | None = None
        self.found: Situation | None = None
        """The operation's target, as `read_back` found it."""
        self.found_gone = False

    async def situation(self, operation: Operation) -> Situation:
        """Read the target as it is now."""
        reader = operation.target_read()
        if reader is None or operation.acts_on is None:
            return Situation(options=self._account.options)
        return self._situated(operation, await self.read(reader))

    async def read(self, reader: Operation) -> Any:
        """Run a read operation and return its record or rows."""
        situation = Situation(options=self._account.options)
        answer = await self._account.client.send(reader.make_request(situation), tool=self._tool)
        return reader.shape_result([answer.body], situation)

    async def read_back(self, operation: Operation, reader: Operation) -> Any:
        """Read after a write, and keep what the read shows of the operation's own target."""
        of_target = reader == operation.target_read()
        try:
            record = await self.read(reader)
        except NotFound:
            self.found_gone = self.found_gone or of_target
            raise
        if of_target:
            self.found = self._situated(operation, record)
        return record

    def _situated(self, operation: Operation, record: Any) -> Situation:
        select = operation.acts_on.select if operation.acts_on else None
        return Situation(current=select(operation, record) if select else record, options=self._account.options)

    async def send(self, operation: Operation, situation: Situation) -> list[Any]:
        """Send the operation's requests and return the bodies of the responses.

        If some of several requests fail, `outcomes` reports them. If all fail, the call fails.
        """
        requests = operation.make_requests(situation)
        answers: list[Any] = []
        for index, request in enumerate(requests):
            if len(requests) > 1:
                await self._caller.progress(f"{index} of {len(requests)} sent")
            try:
                answer = await self._account.client.send(request, tool=self._tool)
            except ConnectorError as error:
                if len(requests) == 1:
                    raise
                self._failures[index] = error
                if not isinstance(error, _CONCERNS_ONE):
                    self._failures.update(dict.fromkeys(range(index + 1, len(requests))))
                    break
            else:
                answers.append(answer.body)
                self.status, self.request_id = answer.status, answer.request_id
        if not answers and self._failures:
            raise self._failure_of_all()
        return answers

    def fingerprint_after(self, operation: Operation, key: bytes) -> str | None:
        """Return the target's fingerprint after the write; None if reading back did not show it."""
        if self.found_gone:
            return "gone"
        return fingerprint(operation, self.found.current, key) if self.found else None

    @property
    def left_unknown(self) -> bool:
        """Whether the outcome of one of several requests is unknown."""
        return any(isinstance(error, OutcomeUnknown) for error in self._failures.values())

    def outcomes(self, operation: Operation, answers: Sequence[Any], situation: Situation, meta: Meta) -> Any:
        """Make the data of the result, with a row for each of several requests that failed, in its place."""
        data = operation.shape_result(answers, situation)
        for index, row in self._rows():
            data.insert(index, row)
        if self._failures:
            total = len(answers) + len(self._failures)
            meta.warn(f"{len(self._failures)} of {total} failed: correct and repeat only those; the others are done.")
        return data

    def _failure_of_all(self) -> ConnectorError:
        """Choose the most important failure, and add the outcome of every request to it."""
        failures = [error for error in self._failures.values() if error is not None]
        chosen = next((error for error in failures if isinstance(error, OutcomeUnknown)), failures[0])
        chosen.details["outcomes"] = [row for _, row in self._rows()]
        return chosen

    def _rows(self) -> list[tuple[int, JsonObject]]:
        return [
            (index, {"index": index, "error": {"code": "not_sent"} if error is None else error.as_dict()})
            for index, error in sorted(self._failures.items())
        ]
