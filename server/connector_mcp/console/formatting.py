"""Values, times and calls in the words and forms in which pages show them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from connector_mcp.engine.approval.queue import Approval
from connector_mcp.json_values import JsonObject
from connector_mcp.text import strip_hidden

_Members = TypeAdapter(dict[str, Any])

_LONGEST = 4_000
"""Characters of one value on a page."""


@dataclass(frozen=True)
class Shown:
    """A value as text. `note` says what cannot be seen of it."""

    text: str
    note: str = ""
    unset: bool = False


@dataclass(frozen=True)
class Row:
    """One field of the target, before and after the call."""

    field: str
    before: Shown
    after: Shown


def shown(value: Any) -> Shown:
    """A value in full, as far as a page can hold it."""
    if value is None:
        return Shown("not set", unset=True)
    full = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    text = strip_hidden(full)
    notes = ["has characters that do not show"] if text != full else []
    if len(text) > _LONGEST:
        notes.append(f"cut: {len(text) - _LONGEST} more characters are not shown")
        text = text[:_LONGEST]
    return Shown(text or "empty", "; ".join(notes), unset=not text)


def diff(approval: Approval) -> list[Row]:
    """What the call changes, field by field; of a deletion, everything that the target was seen to hold."""
    if approval.deletes and not approval.diff:
        seen = _Members.validate_python(approval.snapshot or {})
        # What stands in lists is mostly what the platform says of any such connector: the target's own comes first.
        own_first = sorted(seen, key=lambda field: "[" in field)
        return [Row(field, shown(seen[field]), Shown("gone", unset=True)) for field in own_first]
    return [Row(change.field, shown(change.before), shown(change.after)) for change in approval.diff]


def arguments(approval: Approval) -> list[tuple[str, Shown]]:
    """The call's arguments, redacted."""
    return [(name, shown(value)) for name, value in approval.arguments.items()]


def status(approval: Approval, now: float) -> str:
    """What has become of the call, in one word."""
    if approval.status == "pending" and approval.expires_at <= now:
        return "expired"
    return {"pending": "waiting", "void": "void"}.get(approval.status, approval.status)


def moment(when: float | str) -> str:
    """Epoch seconds, or a time in ISO 8601, in UTC to the minute."""
    return _as_utc(when).strftime("%Y-%m-%d %H:%M UTC")


def machine_time(when: float | str) -> str:
    """The same for the `datetime` attribute."""
    return _as_utc(when).isoformat(timespec="seconds")


def duration(seconds: float) -> str:
    """About how long, in words: the two largest units."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return "less than a minute"
    days, minutes = divmod(minutes, 1_440)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if count]
    return " ".join(parts[:2])


def ago(when: float, now: float) -> str:
    """How long it has been."""
    return f"{duration(now - when)} ago" if now - when >= 60 else "just now"


def left(when: float, now: float) -> str:
    """How long it will be."""
    return f"in {duration(when - now)}" if when > now else "expired"


def newest_first(records: Iterable[JsonObject]) -> list[JsonObject]:
    """One audit record a call, its end, or its beginning where there is no end; the newest call in front."""
    calls: dict[str, JsonObject] = {}
    for record in records:
        known = calls.get(str(record["call_id"]))
        if known is None or known["phase"] != "ended":
            calls[str(record["call_id"])] = record
    return sorted(calls.values(), key=lambda record: str(record["time"]), reverse=True)


def outcomes(records: Sequence[JsonObject]) -> list[str]:
    """How calls ended, each once."""
    return sorted({str(record["outcome"]) for record in records})


def _as_utc(when: float | str) -> datetime:
    return datetime.fromisoformat(when).astimezone(UTC) if isinstance(when, str) else datetime.fromtimestamp(when, UTC)
