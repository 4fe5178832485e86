"""What the audit log records of a call, and its form as an event of the Open Cybersecurity Schema Framework.

A call ends with one record, whatever its outcome. A change has another record, written before it is sent, so that a
process that dies in between leaves a trace.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from connector_mcp import __version__
from connector_mcp.json_values import JsonObject, is_object

Phase = Literal["begun", "ended"]

BEGUN = "begun"
"""Outcome of a record that was written before the change was sent."""

PROBE = "probe"
"""Transport of a check that `doctor` or the console makes. No agent made that call."""

MAX_LINE = 65_536
"""Maximum size of a line in bytes. A longer record is written without its arguments; their digest stays."""

CHAIN_BYTES = 256
"""Upper bound for what the number, the time and the hashes add to a record."""

OCSF_VERSION = "1.3.0"
API_ACTIVITY = 6003
"""The class of the event."""

_ACTIVITIES = {"create": (1, "Create"), "read": (2, "Read"), "update": (3, "Update"), "destroy": (4, "Delete")}
_UNMAPPED = (
    "phase", "transport", "profile", "decision", "decided_by", "channel", "digest", "fingerprint_before",
    "fingerprint_after", "outcome", "sandbox", "prev", "hash",
)  # fmt: skip
_UNFINISHED = (BEGUN, "asked", "approval_required", "cancelled", "outcome_unknown")
_STATUSES = {"ok": (1, "Success"), **dict.fromkeys(_UNFINISHED, (0, "Unknown"))}


def utc_time(seconds: float) -> str:
    """Return a time in ISO 8601, UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(kw_only=True)
class AuditRecord:
    """What is recorded of one call, in the order in which it is written. Arguments are already redacted."""

    phase: Phase = "ended"
    """`begun`: the change is about to be sent; `ended`: the call is over. Both have the same `call_id`."""
    call_id: str
    principal: str
    client: str | None
    transport: str
    platform: str | None
    profile: str | None
    tenant: str | None = None
    tool: str
    target: str | None = None
    """The thing that the call concerns: platform, profile and id, with slashes between them. None if it names none."""
    effect: str
    """What this call does, with these arguments and this target."""
    decision: str
    """What the gate decided."""
    decided_by: str | None = None
    """The client, operator or rule that decided. The server never sees the person at a client."""
    channel: str | None = None
    """How the decision arrived: `policy`, `elicitation`, `terminal`, `approvals` or `console`; None before it."""
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    digest: str | None = None
    fingerprint_before: str | None = None
    """Keyed digest of the target at the time of the decision."""
    fingerprint_after: str | None = None
    """The same after the change, or `gone`; None if the target was not read back."""
    upstream_status: int | None = None
    upstream_request_id: str | None = None
    outcome: str
    """`ok`, an error code, `asked`, `cancelled`, or `begun`."""
    duration_ms: float
    sandbox: bool = False


def encode_record(members: JsonObject) -> bytes:
    """Encode the members of a record as a JSON object in ASCII, without its arguments if they make it too long."""
    encoded = _encode(members)
    if len(encoded) > MAX_LINE - CHAIN_BYTES:
        encoded = _encode({**members, "arguments": {"omitted_bytes": len(_encode(members["arguments"]))}})
    return encoded


def _encode(members: JsonObject) -> bytes:
    return _ENCODER.encode(members).encode("ascii")


def _name_type(value: object) -> str:
    # The text of a value that JSON cannot hold may be a secret; the name of its type is not.
    return f"<{type(value).__name__}>"


_ENCODER = json.JSONEncoder(separators=(",", ":"), default=_name_type)


def as_ocsf_event(record: JsonObject) -> JsonObject:
    """Convert a record into an OCSF event, API Activity. Members without a place in that class are in `unmapped`."""
    activity, name = _ACTIVITIES.get(record["effect"], (99, record["effect"]))
    status, status_name = _STATUSES.get(record["outcome"], (2, "Failure"))
    request_id = record["upstream_request_id"]
    return _without_none(
        {
            "category_uid": 6,
            "category_name": "Application Activity",
            "class_uid": API_ACTIVITY,
            "class_name": "API Activity",
            "activity_id": activity,
            "activity_name": name,
            "type_uid": API_ACTIVITY * 100 + activity,
            "type_name": f"API Activity: {name}",
            "severity_id": 1,
            "severity": "Informational",
            "time": round(datetime.fromisoformat(record["time"]).timestamp() * 1000),
            "duration": round(record["duration_ms"]),
            "status_id": status,
            "status": status_name,
            "status_code": record["outcome"],
            "metadata": {
                "version": OCSF_VERSION,
                "product": {"name": "connector-mcp", "vendor_name": "connector-mcp", "version": __version__},
                "uid": record["hash"],
                "correlation_uid": record["call_id"],
                "sequence": record["seq"],
                "log_name": "audit",
                "original_time": record["time"],
                "tenant_uid": record["tenant"],
            },
            "actor": {"user": {"name": record["principal"]}, "app_name": record["client"]},
            "api": {
                "operation": record["tool"],
                "service": {"name": record["platform"]} if record["platform"] else None,
                "request": {"uid": record["call_id"], "data": record["arguments"]},
                "response": {
                    "code": record["upstream_status"],
                    "data": {"request_id": request_id} if request_id else None,
                },
            },
            "resources": [{"uid": record["target"]}] if record.get("target") else None,
            "src_endpoint": {"name": record["client"] or record["transport"]},
            "unmapped": {member: record[member] for member in _UNMAPPED},
        }
    )


def _without_none(event: JsonObject) -> JsonObject:
    """Drop attributes without a value, except inside of `data`, which the caller provided."""
    kept = {
        name: _without_none(value) if is_object(value) and name != "data" else value for name, value in event.items()
    }
    return {name: value for name, value in kept.items() if value not in (None, {})}
