"""Results: a platform's response in the form of the tool's output schema, within the size limit; and failures.

Nulls are left out, because they mean the same as absent members. Heavy members such as logos are left out unless asked
for, lists give summary rows, and a result over the limit is cut at a whole record with a sentence that says so.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import ValidationError

from connector_mcp.engine.caller import CallResult
from connector_mcp.engine.redaction.redactor import MOST_GIVEN, Place, all_strings, redact_record, strings
from connector_mcp.errors import ConnectorError, Internal, InvalidArguments, Issue, OutcomeUnknown
from connector_mcp.json_values import JsonObject, is_array, is_object, items
from connector_mcp.operations.catalog import platform_folder
from connector_mcp.operations.operation import ListOperation, Operation, Record, at
from connector_mcp.operations.situation import Loss, Path
from connector_mcp.operations.tool import name_served, only_served
from connector_mcp.telemetry.log_lines import Trace
from connector_mcp.text import clean, has_hidden, strip_hidden

if TYPE_CHECKING:
    from connector_mcp.engine.redaction.scrubber import Scrubber

logger = logging.getLogger("connector_mcp.engine")

PARTIAL = "This list is partial: call again with cursor set to meta.cursor for the next rows."
FEWER = "The platform has "
"""How the warning about a list begins of which the platform gives only a part, and no way to the rest."""
_UNEXPECTED = "Members that do not have their documented type are in meta.unexpected."
# The escapes of control characters except line breaks and tabs, which JSON may spell with these.
_CONTROL = re.compile(rb"(?<!\\)(?:\\\\)*\\[ubfr]")
_ESCAPES = (rb"\u", rb"\b", rb"\f", rb"\r")
TAKEN_OUT = (
    "Invisible or control characters were taken out of {}. Texts written back from here are stored without them."
)
_SCRUBBED_META = {"unexpected": Place.FREE, "warnings": Place.LABEL}
_NAMED = 20
"""Unknown members of rows that a warning names."""
_OMITTED = ("verified", "offset")
_RESERVE = 450
"""Bytes kept free for the note about a cut."""


@dataclass
class Meta:
    """The `meta` of a result: what it says about the call itself."""

    platform: str | None = None
    profile: str | None = None
    tenant: str | None = None
    request_id: str | None = None
    sandbox: bool = False
    verified: bool | None = None
    """Whether reading back showed what was written; None if nothing was read back."""
    next: str = ""
    """What is left to do before the outcome is of use; it names only tools that the caller sees."""
    unproven: str = ""
    """What `verified` does not prove, and the check that would."""
    cursor: str | None = None
    warnings: list[str] = field(default_factory=list[str])
    unexpected: JsonObject = field(default_factory=dict[str, Any])
    """Members that do not have their documented type, unchanged."""
    changes: list[JsonObject] = field(default_factory=list[JsonObject])
    """The members that a write changed, each with its values before and after, redacted."""
    offset: int | None = None
    """For a list that the server pages itself: the index of the first row. Not shown."""
    resolved: JsonObject = field(default_factory=dict[str, Any])
    """The id that was read in place of what an argument gave."""

    def warn(self, warning: str) -> None:
        """Add a warning, once."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def as_dict(self) -> JsonObject:
        """Return the members that are set."""
        shown = {name: value for name, value in vars(self).items() if value and name not in _OMITTED}
        return shown if self.verified is None else shown | {"verified": self.verified}


def encode_bytes(value: Any) -> bytes:
    """Encode as compact JSON in UTF-8. Half of a surrogate pair, which has no encoding, is written as if it had one."""
    try:
        return orjson.dumps(value)
    except TypeError:
        # Half of a surrogate pair, or a number of more than 64 bits.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def encode(value: Any) -> str:
    """Encode as compact JSON, as results are sent and measured."""
    return encode_bytes(value).decode("utf-8", "surrogatepass")


def shape_data(operation: Operation, data: Any, answer: Any, meta: Meta) -> Any:
    """Make the data of a result, redacted, from what the operation made of the response. Notes go to `meta`.

    The data of local operations is not redacted: it describes credentials and contains none.
    """
    if isinstance(operation, ListOperation):
        return _rows(operation, data, answer, meta)
    if is_array(data):
        return [shape_record(operation, row, meta, None) for row in data]
    wanted = vars(operation).get("fields") or None
    if wanted:
        _name_missing(wanted, [data], meta)
    return {} if data is None else shape_record(operation, data, meta, wanted)


def check_cursor(operation: Operation) -> None:
    """Refuse a cursor that this server did not give, before anything is sent.

    Raises:
        InvalidArguments: The server pages this list itself, and the cursor is not one of its own.
    """
    if isinstance(operation, ListOperation) and not _pages_upstream(operation):
        _start(operation)


def _rows(operation: ListOperation, data: Any, answer: Any, meta: Meta) -> list[JsonObject]:
    rows = items(data)
    if _pages_upstream(operation):
        meta.cursor = following_cursor(operation, answer)
    else:
        # The platform sends the list whole. The cursor is the offset of the next row.
        start = meta.offset = _start(operation)
        end = len(rows) if operation.limit is None else start + operation.limit
        if end < len(rows):
            meta.cursor = str(end)
        rows = rows[start:end]
    total = rows_in_all(operation, answer)
    if total > len(items(data)) and not (meta.cursor or operation.cursor):
        meta.warn(f"{FEWER}{total} rows and gave {len(items(data))} of them: narrow the list.")
    wanted = operation.fields or (None if operation.detail == "full" else operation.summary or None)
    shaped = [shape_record(operation, row, meta, wanted) for row in rows]
    if operation.fields:
        _name_missing(operation.fields, rows, meta)
    if meta.cursor:
        meta.warn(PARTIAL)
    return shaped


def following_cursor(operation: ListOperation, answer: Any) -> str | None:
    """Return the platform's cursor of the next page, if it pages the list and there is one."""
    following = at(answer, operation.paging.next or "") if operation.paging and _pages_upstream(operation) else None
    return following if isinstance(following, str) and following and following != operation.cursor else None


def rows_in_all(operation: ListOperation, answer: Any) -> int:
    """Return the number of rows that the platform says a list has, 0 where it does not say it."""
    total = at(answer, operation.paging.total) if operation.paging and operation.paging.total else None
    return total if isinstance(total, int) else 0


def _pages_upstream(operation: ListOperation) -> bool:
    return operation.paging is not None and operation.paging.cursor is not None


def _start(operation: ListOperation) -> int:
    """Read the offset from a cursor that this server gave."""
    cursor = operation.cursor or "0"
    if len(cursor) > 9 or not (cursor.isascii() and cursor.isdigit()):
        wanted = "meta.cursor of an earlier result of this tool"
        raise InvalidArguments(operation.tool_name(), [Issue("cursor", "another cursor", wanted, "20")])
    return int(cursor)


def _name_missing(wanted: Sequence[str], rows: list[Any], meta: Meta) -> None:
    known = {key for row in rows if is_object(row) for key in row}
    unknown = [name for name in wanted if known and name not in known]
    if unknown:
        names = ", ".join(clean(name, 64) for name in unknown[:_NAMED])
        meta.warn(f"There is no {names}; the members are {', '.join(sorted(known))}.")


def shape_record(operation: Operation, record: Any, meta: Meta, wanted: Collection[str] | None) -> JsonObject:
    """Redact a record or row, with the members that are wanted, or all but the heavy ones. Notes go to `meta`."""
    if not is_object(record):
        return {}
    # Choose before redacting: most members of a row are never shown.
    kept: JsonObject = {}
    for key, member in record.items():
        if member is not None and (key not in operation.heavy if wanted is None else key in wanted):
            kept[key] = member
    if operation.on is not None:
        kept = redact_record(record, operation.stored_config, operation.on, chosen=kept)
    try:
        operation.output.model_validate(kept)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            key = str(problem["loc"][0])
            info = operation.output.model_fields.get(key)
            wire = key if key in kept or info is None else info.alias
            if wire is not None and wire in kept:
                meta.unexpected[wire] = kept.pop(wire)
        meta.warn(_UNEXPECTED)
    return kept


def shows_all(encoded: bytes) -> bool:
    """Check that no string in compact JSON contains a character that `clean_strings` removes."""
    # JSON escapes all control characters except DEL. The pattern is slow, and few texts have one of the escapes.
    if any(map(encoded.__contains__, _ESCAPES)) and _CONTROL.search(encoded):
        return False
    if encoded.isascii():
        return b"\x7f" not in encoded
    return not has_hidden(encoded.decode("utf-8", "surrogatepass"))


def clean_strings(value: Any) -> Any:
    """Remove control, bidi and invisible characters from every string. Line breaks and tabs stay."""
    if isinstance(value, str):
        return strip_hidden(value)
    if is_object(value):
        return {strip_hidden(key): clean_strings(member) for key, member in value.items()}
    if is_array(value):
        return [clean_strings(member) for member in value]
    return value


def find_cleaned(planned: Mapping[Path, Any], current: Any) -> Iterator[Loss]:
    """Find stored texts that a call would replace by what `clean_strings` made of them: agents see no other form."""
    for path, value in planned.items():
        given, stored = set(strings(value)), set(strings(at(current, path)))
        if any(text not in given and strip_hidden(text) in given - stored for text in stored if has_hidden(text)):
            yield Loss(f"Takes invisible characters out of {'.'.join(path)}", path)


def finish(
    content: JsonObject, scrubber: Scrubber, largest: int, model: type[Record], *, offset: int | None = None
) -> CallResult:
    """Make the result of a success: without hidden characters or known credentials, and within the size limit.

    `model` documents the data, or each of its rows.
    """
    text = encode_bytes(content)
    if not shows_all(text):
        content = _cleaned(content)
        text = encode_bytes(content)
    if scrubber.finds(text):
        data, meta = scrubber.value(content["data"], model=model), content["meta"]
        # The other members of the meta are the server's own, or were scrubbed when they were made.
        said = {key: scrubber.value(meta[key], place) for key, place in _SCRUBBED_META.items() if key in meta}
        content = {**content, "data": data, "meta": {**meta, **said}}
    elif len(text) <= largest:
        return CallResult(content, is_error=False, encoded=text)
    return CallResult(fit(content, largest, offset=offset), is_error=False)


def _cleaned(content: JsonObject) -> JsonObject:
    """Clean all strings, and say in the meta which members of the data had something taken out."""
    cleaned, meta = clean_strings(content), content["meta"]
    pairs = zip(*(each if is_array(each) else [each] for each in (content["data"], cleaned["data"])), strict=True)
    changed = {
        clean(key) for row, shown in pairs for key, member in row.items() if key not in shown or member != shown[key]
    }
    if changed or meta != cleaned["meta"]:
        names = ", ".join(sorted(changed)) or "meta"
        cleaned["meta"]["warnings"] = [*cleaned["meta"].get("warnings", ()), TAKEN_OUT.format(clean(names, 200))]
    return cleaned


def fit(content: JsonObject, largest: int, *, offset: int | None = None) -> JsonObject:
    """Cut the content at a whole record if its JSON is longer than `largest` bytes (at least 1024).

    `offset` is the index of the list's first row. With it, a cut list gets a cursor to the rest; without it none,
    because the platform's own cursor would skip the rows left out.
    """
    if _size(content) <= largest:
        return content
    meta, said = _fit_meta(content["meta"], largest // 2)
    room = largest - _size(meta) - _RESERVE
    rows = content["data"]
    if is_array(rows):
        kept: list[Any] = []
        for row in rows:
            room -= _size(row) + 1
            if room < 0:
                break
            kept.append(row)
        if len(kept) < len(rows):
            advice = "pass a smaller limit, or" if kept else "the first alone is too long, so pass"
            said.append(f"Shows {len(kept)} of {len(rows)} rows: {advice} fields with what you need.")
            meta = _with_cursor(meta, None if offset is None or not kept else str(offset + len(kept)))
        data: Any = kept
    else:
        data, left_out = _fit_record(rows, room)
        if left_out:
            names = clean(", ".join(left_out), 200)
            said.append(f"Leaves out {names}: too long for one result; ask for less if the tool allows it.")
    return {**content, "data": data, "meta": {**meta, "cut": " ".join(said)}}


def _size(value: Any) -> int:
    return len(encode_bytes(value))


def _fit_meta(meta: JsonObject, room: int) -> tuple[JsonObject, list[str]]:
    """Drop the largest parts of a meta that is too long, and say what was dropped."""
    fitting, said = dict(meta), list[str]()
    for part in ("unexpected", "changes", "warnings"):
        if _size(fitting) > room and part in fitting:
            del fitting[part]
            said.append(f"Leaves out meta.{part}: too long for one result.")
    return fitting, said


def _fit_record(record: JsonObject, room: int) -> tuple[JsonObject, list[str]]:
    sizes = {key: _size({key: member}) for key, member in record.items()}
    excess, left_out = sum(sizes.values()) - room, list[str]()
    for key in sorted(sizes, key=lambda key: sizes[key], reverse=True):
        if excess <= 0:
            break
        excess -= sizes[key]
        left_out.append(key)
    return {key: member for key, member in record.items() if key not in left_out}, left_out


def _with_cursor(meta: JsonObject, cursor: str | None) -> JsonObject:
    """Replace the cursor, and the warning that goes with it."""
    others = [warning for warning in meta.get("warnings", ()) if warning != PARTIAL]
    warnings = others if cursor is None else [*others, PARTIAL]
    members = {key: value for key, value in meta.items() if key not in ("cursor", "warnings")}
    return members | ({"cursor": cursor} if cursor else {}) | ({"warnings": warnings} if warnings else {})


def failure(
    error: ConnectorError,
    scrubber: Scrubber,
    further: JsonObject,
    largest: int,
    *,
    may_have_changed: type[Operation] | None,
    served: Collection[str] | None = None,
) -> CallResult:
    """Make the result of a failure, within the size limit. It names no tool that is not served.

    `may_have_changed` is the operation if its change may have been made.
    """
    members = error.as_dict()
    if isinstance(error, OutcomeUnknown | Internal) and may_have_changed is not None:
        members["fix"] = f"{members['fix']} {_reader_hint(may_have_changed)}".strip()
    if served is not None:
        members["fix"] = only_served(members["fix"], served) or members["fix"]
        members = {key: value if key == "upstream" else name_served(value, served) for key, value in members.items()}
    # The platform's words may be anything. The server's own hold ids and names.
    said = {
        key: scrubber.value(value, Place.FREE if key == "upstream" else Place.LABEL) for key, value in members.items()
    }
    return CallResult({"error": _fit_failure(clean_strings(said | further), largest)}, is_error=True)


def _fit_failure(error: JsonObject, largest: int) -> JsonObject:
    """Shorten the lists of a failure that is too long, then leave out what the platform said, then cut the texts."""
    for key, value in error.items():
        while _size(error) > largest and is_array(value) and value:
            value = value[: len(value) // 2]
            error = {**error, key: value, "cut": f"Only the first {len(value)} of {key} are shown."}
    if _size(error) > largest:
        error = {key: value for key, value in error.items() if key != "upstream"}
    if _size(error) > largest:
        error = {key: clean(value, 500) if isinstance(value, str) else value for key, value in error.items()}
    return error


def internal_error(
    error: Exception, tool: str, arguments: Mapping[str, Any], scrubber: Scrubber, may_have_changed: bool
) -> Internal:
    """Log an unexpected error without the text of any argument, and make the error to return."""
    given = list(islice(all_strings(dict(arguments)), MOST_GIVEN + 1))
    # Of too many arguments to search for, none is shown: the lines of code that led to the error are enough.
    lines = traceback.format_tb(error.__traceback__) if len(given) > MOST_GIVEN else traceback.format_exception(error)
    logger.error("%s failed inside the server%s", tool, Trace.of(lines, scrubber.extended(given[:MOST_GIVEN]).text))
    sent = " The change had been sent and may have been made." if may_have_changed else ""
    look = "First check whether it was made. The" if may_have_changed else "The"
    return Internal(
        f"{tool} failed inside this server.{sent}",
        fix=f"{look} operator finds the cause in the server's log on stderr.",
    )


def _reader_hint(operation: type[Operation]) -> str:
    """Name the read tool to check with."""
    if operation.acts_on is not None:
        return f"Check with {operation.acts_on.read.tool_name()}."
    if operation.on is None:
        return ""
    lists = [each for each in platform_folder(operation.on.name).operations if issubclass(each, ListOperation)]
    lists.sort(key=lambda each: each.toolset != operation.toolset)
    return f"Check with {lists[0].tool_name()}." if lists else ""
