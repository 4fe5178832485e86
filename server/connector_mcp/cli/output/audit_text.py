"""Audit records and what a check of them found, as an operator reads them: every text in them is cleaned."""

from __future__ import annotations

from datetime import datetime

from connector_mcp.audit.check import CheckReport
from connector_mcp.audit.record import BEGUN
from connector_mcp.cli.output.text import one_line
from connector_mcp.json_values import JsonObject

HEADER = ("time", "who", "tool", "effect", "decision", "outcome", "call")


def as_row(record: JsonObject) -> tuple[str, ...]:
    """One row a call: when, who, what, what it did, who decided, how it ended, and its id."""
    decided_by = f" by {record['decided_by']}" if record["decided_by"] else ""
    outcome = "no end" if record["outcome"] == BEGUN else str(record["outcome"])
    return (
        datetime.fromisoformat(record["time"]).astimezone().isoformat(sep=" ", timespec="minutes"),
        one_line(str(record["principal"]), width=24),
        one_line(str(record["tool"]), width=48),
        one_line(str(record["effect"])),
        one_line(f"{record['decision']}{decided_by}", width=40),
        one_line(outcome),
        one_line(str(record["call_id"])),
    )


def as_summary(verdict: CheckReport) -> str:
    """The verdict in lines: what is wrong first, then what is explained, then how far it reaches."""
    lines = [f"problem: {one_line(problem)}" for problem in verdict.problems]
    lines += [f"note: {one_line(note)}" for note in verdict.notes]
    if verdict.first is None:
        return "\n".join([*lines, "There are no records."])
    said = "intact" if verdict.intact else "NOT intact"
    plural = "" if verdict.records == 1 else "s"
    lines.append(f"{said}: {verdict.records} record{plural}, numbers {verdict.first} to {verdict.last}")
    return "\n".join([*lines, f"last hash: {verdict.last_hash}"])
