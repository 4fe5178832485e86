"""The last step: a platform's answer as a result that conforms to the tool's output schema and fits its budget.

Nulls are left out (an absent member and a null one mean the same in an answer), noise such as logos is left out unless
asked for, lists give summary rows, and what is over the cap is cut at a whole record with a sentence that says so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import ValidationError

from connector_mcp.engine.caller import CallResult
from connector_mcp.engine.compact_json import encode_bytes
from connector_mcp.engine.redaction.redactor import redact_record
from connector_mcp.engine.redaction.scrubber import Scrubber
from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Effect, ListOperation, Operation, Record, at
from connector_mcp.text import clean, strip_hidden

PARTIAL = "This list is partial: call again with cursor set to meta.cursor for the next rows."
_UNEXPECTED = "Members that were not of their documented type stand in meta.unexpected."
# Outside of printable ASCII, and in it the escapes of all but quotes, backslashes, line breaks and tabs.
_MAY_HIDE = re.compile(rb"[^\x20-\x7e]|\\[ubfr]")
_UNTOLD = ("verified", "offset")
_RESERVE = 400
"""Bytes kept free for what is said about a cut."""


@dataclass
class Meta:
    """What a result says about the call itself."""

    platform: str | None = None
    profile: str | None = None
    tenant: str | None = None
    request_id: str | None = None
    sandbox: bool = False
    verified: bool | None = None
    """Whether reading back showed what was written; None where that was not looked at."""
    cursor: str | None = None
    warnings: list[str] = field(default_factory=list[str])
    unexpected: JsonObject = field(default_factory=dict[str, Any])
    """Members that were not of their documented type, as they came."""
    changes: list[JsonObject] = field(default_factory=list[JsonObject])
    """What a write changed of its target: member, before, after; redacted."""
    offset: int | None = None
    """Of a list that the server cuts itself, the place of the first row. Not shown."""

    def warn(self, warning: str) -> None:
        """Add a warning, once."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def as_dict(self) -> JsonObject:
        """The members that say something."""
        told = {name: value for name, value in vars(self).items() if value and name not in _UNTOLD}
        return told if self.verified is None else told | {"verified": self.verified}


def encode(value: Any) -> str:
    """Compact JSON, as results are sent and measured."""
    return encode_bytes(value).decode("utf-8", "surrogatepass")


def shape_data(operation: Operation, data: Any, answer: Any, meta: Meta) -> Any:
    """The data of a result, redacted, out of what the operation made of the answer; notes on it go to `meta`.

    What this server answers by itself is not redacted: it describes credentials, and holds none.
    """
    if isinstance(operation, ListOperation):
        return _rows(operation, data, answer, meta)
    if isinstance(data, list):
        return [_record(operation, row, meta, None) for row in cast("list[Any]", data)]
    wanted = vars(operation).get("fields") or None
    if wanted:
        _name_missing(wanted, [data], meta)
    if data is None and operation.effect is Effect.READ:
        meta.warn("The platform's answer held no record where one is documented.")
    return {} if data is None else _record(operation, data, meta, wanted)


def check_cursor(operation: Operation) -> None:
    """To be called before anything is sent: a cursor that this server did not give is refused.

    Raises:
        InvalidArguments: The list is one that the server cuts itself, and the cursor is none of its own.
    """
    if isinstance(operation, ListOperation) and not _pages_upstream(operation):
        _start(operation)


def _rows(operation: ListOperation, data: Any, answer: Any, meta: Meta) -> list[JsonObject]:
    rows = cast("list[Any]", data) if isinstance(data, list) else []
    if not isinstance(data, list) and data is not None:
        meta.warn("The platform's answer held no list where one is documented.")
    paging = operation.paging
    if paging is not None and _pages_upstream(operation):
        following = at(answer, paging.next or "")
        if isinstance(following, str) and following and following != operation.cursor:
            meta.cursor = following
    else:
        rows = _cut_by_server(operation, rows, meta)
    wanted = operation.fields or (None if operation.detail == "full" else operation.summary or None)
    shaped = [_record(operation, row, meta, wanted) for row in rows]
    if operation.fields:
        _name_missing(operation.fields, rows, meta)
    if meta.cursor:
        meta.warn(PARTIAL)
    return shaped


def _pages_upstream(operation: ListOperation) -> bool:
    return operation.paging is not None and operation.paging.cursor is not None


def _start(operation: ListOperation) -> int:
    """The offset that a cursor of ours is."""
    cursor = operation.cursor or "0"
    if len(cursor) > 9 or not (cursor.isascii() and cursor.isdigit()):
        wanted = "meta.cursor of an earlier answer of this tool"
        raise InvalidArguments(operation.tool_name(), [Issue("cursor", "another cursor", wanted, "20")])
    return int(cursor)


def _cut_by_server(operation: ListOperation, rows: list[Any], meta: Meta) -> list[Any]:
    """A page of a list that the platform gives whole; the cursor is the offset of the next row."""
    start = meta.offset = _start(operation)
    end = len(rows) if operation.limit is None else start + operation.limit
    if end < len(rows):
        meta.cursor = str(end)
    return rows[start:end]


def _name_missing(wanted: Sequence[str], rows: list[Any], meta: Meta) -> None:
    known = {key for row in rows if isinstance(row, dict) for key in cast("JsonObject", row)}
    unknown = [name for name in wanted if known and name not in known]
    if unknown:
        names = ", ".join(clean(name) for name in unknown)
        meta.warn(f"There is no {names}; there are {', '.join(sorted(known))}.")


def _record(operation: Operation, record: Any, meta: Meta, wanted: Collection[str] | None) -> JsonObject:
    if not isinstance(record, dict):
        meta.warn("The platform's answer held something else where a record is documented; it is left out.")
        return {}
    members, heavy = cast("JsonObject", record), operation.heavy
    # Chosen first and redacted then: of a list, most of every row is never looked at.
    if wanted is None:
        kept = {key: member for key, member in members.items() if member is not None and key not in heavy}
    else:
        kept = {key: member for key, member in members.items() if member is not None and key in wanted}
    if operation.on is not None:
        kept = redact_record(record, operation.stored_config, operation.on, chosen=kept)
    try:
        operation.output.model_validate(kept)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            key = str(problem["loc"][0])
            wire = key if key in kept else _wire_name(operation.output, key)
            if wire in kept:
                meta.unexpected[wire] = kept.pop(wire)
        meta.warn(_UNEXPECTED)
    return kept


def _wire_name(model: type[Record], name: str) -> str:
    info = model.model_fields.get(name)
    return info.alias if info and info.alias else name


def shows_all(encoded: bytes) -> bool:
    """Whether no string in a compact JSON text holds a character that `clean_strings` takes out; no walk is needed."""
    # A pattern looks at each byte by itself; these look for one, far faster. JSON escapes all controls but DEL.
    if encoded.isascii() and b"\\" not in encoded and b"\x7f" not in encoded:
        return True
    return _MAY_HIDE.search(encoded) is None


def clean_strings(value: Any) -> Any:
    """The value with control, bidi and invisible characters taken out of every string; line breaks and tabs stay."""
    if isinstance(value, str):
        return strip_hidden(value)
    if isinstance(value, Mapping):
        return {strip_hidden(key): clean_strings(member) for key, member in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [clean_strings(member) for member in cast("list[Any]", value)]
    return value


def finish(content: JsonObject, scrubber: Scrubber, largest: int, *, offset: int | None = None) -> CallResult:
    """The content as it may leave: without hidden characters and known credentials, and no larger than the cap."""
    # Nearly every result is plain and holds nothing that is known: its text shows it, and the walks are spared.
    text = encode_bytes(content)
    if not shows_all(text):
        content = clean_strings(content)
        text = encode_bytes(content)
    if scrubber.finds(text.decode("utf-8", "surrogatepass")):
        content = scrubber.value(content)
    elif len(text) <= largest:
        return CallResult(content, is_error=False, encoded=text)
    return CallResult(fit(content, largest, offset=offset), is_error=False)


def fit(content: JsonObject, largest: int, *, offset: int | None = None) -> JsonObject:
    """The content, cut at a whole record where its JSON is longer than `largest` bytes (at least 1024).

    A list that is cut has a cursor to what is left out where `offset`, the place of its first row, is given, and none
    otherwise: the platform's own leads past the rows left out.
    """
    if _size(content) <= largest:
        return content
    meta, said = _fit_meta(content["meta"], largest // 2)
    room = largest - _size(meta) - _RESERVE
    if isinstance(content["data"], list):
        rows = cast("list[Any]", content["data"])
        kept = _fit_rows(rows, room)
        if len(kept) < len(rows):
            said.append(f"Shows {len(kept)} of {len(rows)} rows: pass a smaller limit, or fields with what you need.")
            meta = _with_cursor(meta, None if offset is None or not kept else str(offset + len(kept)))
        data: Any = kept
    else:
        data, left_out = _fit_record(cast("JsonObject", content["data"]), room)
        if left_out:
            said.append(f"Leaves out {clean(', '.join(left_out), 200)}: too long for one result.")
    return {**content, "data": data, "meta": {**meta, "cut": " ".join(said)}}


def _size(value: Any) -> int:
    return len(encode_bytes(value))


def _fit_meta(meta: JsonObject, room: int) -> tuple[JsonObject, list[str]]:
    """The meta without its largest parts where it takes more than its share, and what is to be said of that."""
    fitting, said = dict(meta), list[str]()
    for part in ("unexpected", "changes", "warnings"):
        if _size(fitting) > room and part in fitting:
            del fitting[part]
            said.append(f"Leaves out meta.{part}: too long for one result.")
    return fitting, said


def _fit_rows(rows: list[Any], room: int) -> list[Any]:
    kept: list[Any] = []
    for row in rows:
        room -= _size(row) + 1
        if room < 0:
            break
        kept.append(row)
    return kept


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
    """The meta with another cursor, and the warning that goes with one."""
    others = [warning for warning in meta.get("warnings", ()) if warning != PARTIAL]
    warnings = others if cursor is None else [*others, PARTIAL]
    members = {key: value for key, value in meta.items() if key not in ("cursor", "warnings")}
    return members | ({"cursor": cursor} if cursor else {}) | ({"warnings": warnings} if warnings else {})
