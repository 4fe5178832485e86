"""An audit record as an event of the Open Cybersecurity Schema Framework: API Activity, class 6003 of version 1.3."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from connector_mcp import __version__
from connector_mcp.audit.record import BEGUN
from connector_mcp.json_values import JsonObject

VERSION = "1.3.0"
CLASS = 6003

_ACTIVITIES = {"create": (1, "Create"), "read": (2, "Read"), "update": (3, "Update"), "destroy": (4, "Delete")}
_UNMAPPED = (
    "phase", "transport", "profile", "decision", "decided_by", "channel", "digest", "fingerprint_before",
    "fingerprint_after", "outcome", "sandbox", "prev", "hash",
)  # fmt: skip
_UNFINISHED = frozenset({BEGUN, "asked", "approval_required", "cancelled", "outcome_unknown"})
"""Outcomes that are neither a success nor a failure yet."""


def as_event(record: JsonObject) -> JsonObject:
    """The event. What has no place in the class is in `unmapped`, under its own name."""
    activity, name = _ACTIVITIES.get(record["effect"], (99, record["effect"]))
    status, said = _status(record["outcome"])
    return _without_none(
        {
            "category_uid": 6,
            "category_name": "Application Activity",
            "class_uid": CLASS,
            "class_name": "API Activity",
            "activity_id": activity,
            "activity_name": name,
            "type_uid": CLASS * 100 + activity,
            "type_name": f"API Activity: {name}",
            "severity_id": 1,
            "severity": "Informational",
            "time": round(datetime.fromisoformat(record["time"]).timestamp() * 1000),
            "duration": round(record["duration_ms"]),
            "status_id": status,
            "status": said,
            "status_code": record["outcome"],
            "metadata": {
                "version": VERSION,
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
                "response": {"code": record["upstream_status"], "data": _request_id(record)},
            },
            "src_endpoint": {"name": record["client"] or record["transport"]},
            "unmapped": {member: record[member] for member in _UNMAPPED},
        }
    )


def _status(outcome: str) -> tuple[int, str]:
    if outcome == "ok":
        return 1, "Success"
    return (0, "Unknown") if outcome in _UNFINISHED else (2, "Failure")


def _request_id(record: JsonObject) -> JsonObject | None:
    identifier = record["upstream_request_id"]
    return {"request_id": identifier} if identifier else None


def _without_none(event: JsonObject) -> JsonObject:
    """The event without attributes that have no value; what the caller gave (`data`) stays as it is."""
    kept: dict[str, Any] = {}
    for name, value in event.items():
        if value is None:
            continue
        inner = isinstance(value, dict) and name != "data"
        kept[name] = _without_none(cast("JsonObject", value)) if inner else value
    return {name: value for name, value in kept.items() if value != {}}
