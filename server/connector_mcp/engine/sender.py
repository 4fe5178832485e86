"""Send an operation's requests through the account's client, read targets, and read back after a write.

A success of an undocumented shape is refused. A platform may answer 200 and store something else. Reading back never
turns a success into a failure: its findings go into `meta.verified` and a warning.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from connector_mcp.engine.accounts import Account
from connector_mcp.engine.caller import Caller
from connector_mcp.engine.preview import fingerprint
from connector_mcp.engine.redaction.redactor import names_a_secret
from connector_mcp.engine.results import Meta, following_cursor, rows_in_all
from connector_mcp.errors import (
    Conflict,
    ConnectorError,
    InvalidArguments,
    Malformed,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    TimedOut,
    TooLarge,
    Unreachable,
    UpstreamError,
)
from connector_mcp.json_values import JsonObject, is_array, is_object, items, members
from connector_mcp.operations.operation import Effect, ListOperation, Operation, at
from connector_mcp.operations.situation import Path, Situation
from connector_mcp.operations.update import without_vacant
from connector_mcp.secrets.reference import referenced_name
from connector_mcp.upstream.client import UpstreamResponse

_CONCERNS_ONE = (Rejected, Conflict, NotFound)
"""Failures of one request only: the requests after it may still be sent."""

_NOT_DONE = (Unreachable, RateLimited, TimedOut)
"""Failures of a change that say that the platform did nothing. A change that may be done is `OutcomeUnknown`."""

_MOST_PAGES = 5
"""Pages of a list that are searched for what a call means, or for what it affects."""


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
        self.may_have_changed = False
        """Whether a request of the operation may have left this machine and taken effect."""

    async def situation(self, operation: Operation) -> Situation:
        """Read the target as it is now, and the platform's own description of the connector type if it is needed.

        Raises:
            UpstreamError: A read failed, or did not show the target. The error says that the call was not sent.
        """
        try:
            reader = operation.target_read()
            if reader is None or operation.acts_on is None:
                described = await self.describe(operation.type_read())
                return Situation(options=self._account.options, described=described)
            try:
                record = await self.read(reader)
            except Rejected:
                record = await self._find_listed(operation.acts_on.listed, reader)
                if record is None:
                    raise
            if flaw := _find_target_flaw(operation, reader, record):
                raise self._malformed(reader, flaw)
            described = await self.describe(operation.type_read(record))
        except UpstreamError as error:
            error.message = f"{error.message} It was read for {self._tool}, which was not sent."
            raise
        except InvalidArguments as error:
            named: Mapping[str, str] = operation.acts_on.arguments if operation.acts_on else {}
            issues = [replace(issue, path=named.get(issue.path, issue.path)) for issue in error.issues]
            raise InvalidArguments(self._tool, issues) from None
        dependents = await self._read_dependents(operation)
        return replace(self._situated(operation, record, described), dependents=dependents)

    async def _read_dependents(self, operation: Operation) -> tuple[JsonObject, ...] | None:
        """Read the whole list of what may depend on the target. A call without it says what it says of any target."""
        listed = operation.acts_on.dependents if operation.acts_on else None
        try:
            rows, are_all = await self.read_list(listed, operation) if listed else ([], False)
        except ConnectorError:
            return None
        return tuple(rows) if are_all else None

    async def describe(self, reader: Operation | None) -> JsonObject | None:
        """Read a connector type. The description is empty if the platform does not have the type."""
        if reader is None:
            return None
        try:
            return members(await self.read(reader))
        except NotFound:
            return {}

    async def _find_listed(self, listed: type[Operation] | None, reader: Operation) -> Any:
        """Find the target in the list that shows it, by the id of its read."""
        rows = items(await self.read(listed())) if listed else []
        wanted = getattr(reader, reader.http.placeholders[-1])
        return next((row for row in rows if at(row, "id") == wanted), None)

    async def read(self, reader: Operation) -> Any:
        """Run a read operation and return its record, or all rows of a list."""
        if not isinstance(reader, ListOperation):
            return (await self._read(reader))[0]
        rows, are_all = await self._read_pages(reader)
        if are_all:
            return rows
        title, tool = self._account.platform.title, reader.tool_name()
        raise TooLarge(
            f"{title} has more rows for {tool} than {_MOST_PAGES} pages hold, and all are needed.",
            fix=f"Look with {tool} page by page, and do this in {title} itself.",
            upstream={"platform": self._account.platform.name},
        )

    async def read_list(self, listed: type[ListOperation], operation: Operation) -> tuple[list[JsonObject], bool]:
        """Return the rows of a list in the place that the operation is about, and whether they are all."""
        return await self._read_pages(self.list_like(listed, operation))

    async def _read_pages(self, reader: ListOperation) -> tuple[list[JsonObject], bool]:
        rows: list[JsonObject] = []
        if reader.limit is None and reader.paging and reader.paging.limit:
            reader = reader.model_copy(update={"limit": reader.paging.largest})
        for _ in range(_MOST_PAGES):
            page, answer = await self._read(reader)
            rows += page
            cursor = following_cursor(reader, answer.body)
            if cursor is None:
                return rows, rows_in_all(reader, answer.body) <= len(rows)
            reader = reader.model_copy(update={"cursor": cursor})
        return rows, False

    def list_like(self, listed: type[ListOperation], operation: Operation) -> ListOperation:
        """Make the read of a list in the place that the operation is about."""
        return listed(limit=100, **{name: getattr(operation, name) for name in listed.http.placeholders})

    async def _read(self, reader: Operation) -> tuple[Any, UpstreamResponse]:
        situation = Situation(options=self._account.options)
        answer = await self._account.client.send(reader.make_request(situation), tool=reader.tool_name())
        record = reader.shape_result([answer.body], situation)
        if flaw := find_flaw(reader, record):
            raise self._malformed(reader, flaw, answer)
        return record, answer

    def _malformed(self, operation: Operation, flaw: str, answer: UpstreamResponse | None = None) -> UpstreamError:
        """Make the error for a success of an undocumented shape. Whether it made a change is not known."""
        platform, tool = self._account.platform, operation.tool_name()
        said = f"{platform.title} answered {tool} with {flaw}, which is not its documented answer."
        fix = f"The operator should check that {platform.base_url.name} is the API's address."
        upstream: JsonObject = {"platform": platform.name}
        if answer is not None:
            upstream |= {"status": answer.status, "request_id": answer.request_id}
        if operation.effect is Effect.READ:
            return Malformed(said, fix=fix, upstream=upstream)
        return OutcomeUnknown(f"{said} The change may or may not have been made.", fix=fix, upstream=upstream)

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

    def _situated(self, operation: Operation, record: Any, described: JsonObject | None = None) -> Situation:
        found = Situation(record, options=self._account.options, described=described)
        select = operation.acts_on.select if operation.acts_on else None
        return replace(found, current=select(operation, found)) if select else found

    async def send(self, operation: Operation, situation: Situation) -> list[Any]:
        """Send the operation's requests and return the bodies of the responses.

        If some of several requests fail, `outcomes` reports them. If all fail, the call fails.
        """
        requests = operation.make_requests(situation)
        answers: list[Any] = []
        for index, request in enumerate(requests):
            if len(requests) > 1:
                await self._caller.progress(f"{index} of {len(requests)} sent")
            before = self.may_have_changed
            try:
                answer = await self._account.client.send(request, tool=self._tool, sending=self._note_sending)
                if flaw := find_flaw(operation, operation.shape_result([answer.body], situation)):
                    raise self._malformed(operation, flaw, answer)
            except ConnectorError as error:
                if isinstance(error, _NOT_DONE):
                    self.may_have_changed = before
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
            # Raise the most important failure, with the outcome of every request.
            failures = [error for error in self._failures.values() if error is not None]
            chosen = next((error for error in failures if isinstance(error, OutcomeUnknown)), failures[0])
            chosen.details["outcomes"] = [row for _, row in self._rows()]
            raise chosen
        return answers

    def _note_sending(self) -> None:
        self.may_have_changed = True

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
        if self._failures:
            for index, row in self._rows():
                data.insert(index, row)
            total = len(answers) + len(self._failures)
            meta.warn(f"{len(self._failures)} of {total} failed: correct and repeat only those; the others are done.")
        return data

    def _rows(self) -> list[tuple[int, JsonObject]]:
        return [
            (index, {"index": index, "error": {"code": "not_sent"} if error is None else error.as_dict()})
            for index, error in sorted(self._failures.items())
        ]


# The shape of what comes back ----------------------------------------------------------------------------------------

# A page of a gateway, or another version of an API, answers 200 as well. Nothing is concluded from such an answer: a
# list is not empty because it cannot be found, and a target that was not recognized may have something to lose.


def find_flaw(operation: Operation, data: Any) -> str | None:
    """Describe what an answer shows instead of the documented data; None if it shows the data.

    `data` is what the operation takes out of the answer.
    """
    if operation.returns_list:
        if not is_array(data):
            return "no list"
        if not data and operation.effect is not Effect.READ:
            return "an empty list of what it changed"
        return next((f"a list in which {flaw}" for row in data if (flaw := _find_row_flaw(operation, row))), None)
    if data is None and operation.effect is not Effect.READ and "id" not in operation.output.model_fields:
        # Platforms confirm some changes without a body.
        return None
    if flaw := _find_row_flaw(operation, data):
        return f"something in which {flaw}"
    if operation.effect is Effect.READ and "id" in operation.output.model_fields and operation.http.placeholders:
        wanted = getattr(operation, operation.http.placeholders[-1])
        return None if str(at(data, "id")) == wanted else "another id than the one asked for"
    return None


def _find_target_flaw(operation: Operation, reader: Operation, record: Any) -> str | None:
    """Describe why a read does not show the target of a change; None if it does. Its shape was checked before."""
    if operation.acts_on is None:
        return None
    stored = reader.stored_config
    type_at = operation.acts_on.type_at or (stored.type_at if stored else "")
    for row in record if isinstance(reader, ListOperation) else [record]:
        kind = at(row, type_at) if type_at else "any"
        if not isinstance(kind, str) or not kind:
            return f"a {operation.acts_on.kind} without {type_at}"
    return None


def _find_row_flaw(operation: Operation, row: Any) -> str | None:
    fields = operation.output.model_fields
    if not is_object(row):
        return "there is no object"
    if "id" in fields:
        identifier = row.get("id")
        return None if isinstance(identifier, str) and identifier else "there is no id"
    has_any = any(row.get(info.alias or name) is not None for name, info in fields.items())
    return None if has_any else "there is none of the documented members"


# Reading back --------------------------------------------------------------------------------------------------------

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
            await _verify_complete(operation, data, read, meta)
        case _:
            if planned:
                await _verify_changed(operation, planned, data, read, meta)
            await _verify_complete(operation, data, read, meta)
    meta.unproven = operation.find_unproven(data)
    if meta.verified is None and not meta.warnings:
        meta.unproven = f"Not read back: no read shows what this call sent. {meta.unproven}".strip()


async def _verify_complete(operation: Operation, data: Any, read: Read, meta: Meta) -> None:
    """Look for what was sent and the answer lacks: an answer may leave out what was stored, too."""
    missing = operation.find_missing(data)
    reader = operation.target_read() if isinstance(data, list) else operation.read_back(data)
    if missing and reader is not None and (found := await _read_back(reader, read, meta)) is not None:
        missing = operation.find_missing(found[0])
    if missing:
        meta.verified = False
        meta.warn(f"Accepted, but the platform does not show all that was sent. Missing: {', '.join(missing)}.")


async def _verify_created(operation: Operation, data: Any, read: Read, meta: Meta) -> None:
    """Read each object that was made. An object inside the target is skipped: no read of the target shows it."""
    target = operation.target_read()
    for made in [[row] for row in items(data)] if isinstance(data, list) else [data]:
        back = operation.read_back(made)
        if back is None or back == target:
            continue
        if (found := await _read_back(back, read, meta)) is not None:
            meta.verified = meta.verified is not False
            row = items(made)[0] if is_array(made) else made
            if is_object(row):
                row.update({name: at(found[0], name) for name in operation.reports if at(found[0], name) is not None})
            _note_differing(meta, _differing_texts(operation, found[0]))


def _differing_texts(operation: Operation, record: Any) -> list[str]:
    """Return the members of which a new object shows another text than was sent. Reads withhold secrets."""
    return [
        name
        for name, sent in operation.given("body")
        if isinstance(sent, str) and sent and not (referenced_name(sent) or names_a_secret(name, operation.on))
        if isinstance(shown := at(record, name), str) and shown.strip() != sent.strip()
    ]


async def _verify_changed(operation: Operation, planned: Mapping[Path, Any], data: Any, read: Read, meta: Meta) -> None:
    back = operation.read_back(data)
    found = None if back is None else await _read_back(back, read, meta)
    if found is None:
        return
    # Vacant, false, zero and missing are the same.
    differing = [
        path
        for path, value in planned.items()
        if (without_vacant(value) or None) != (without_vacant(at(found[0], path)) or None)
    ]
    meta.verified = True
    _note_differing(meta, [".".join(path) for path in differing])


def _note_differing(meta: Meta, names: Sequence[str]) -> None:
    if names:
        meta.verified = False
        meta.warn(f"Accepted, but reading back shows another value for: {', '.join(names)}.")


async def _read_back(back: Operation, read: Read, meta: Meta) -> tuple[Any] | None:
    """Return what the read found, or None if it failed."""
    try:
        return (await read(back),)
    except NotFound:
        meta.verified = False
        meta.warn("Accepted, but the platform does not show it; it may be visible later.")
    except ConnectorError as error:
        meta.warn(f"Reading back failed ({error.code}); the write itself was accepted.")
    return None


async def _verify_gone(operation: Operation, read: Read, meta: Meta) -> None:
    reader = operation.target_read()
    # A read of what the deleted resource was in proves nothing.
    if reader is None or operation.http.shape != reader.http.shape:
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
