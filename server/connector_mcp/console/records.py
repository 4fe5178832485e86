"""The pages of what was done and decided: calls, each call by itself, and the history of decisions."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from connector_mcp.audit.calls import CALLS, CallLog
from connector_mcp.audit.reader import Wanted
from connector_mcp.audit.record import BEGUN, as_ocsf_event
from connector_mcp.console.access import PageShell, Problem, as_query, given
from connector_mcp.console.rendering import diff, show
from connector_mcp.engine.approval.parked_call import Approval
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.errors import ConnectorError
from connector_mcp.json_values import JsonObject
from connector_mcp.program import runnable

EARLIER = 10
"""Earlier calls on the same target that the page of a call shows."""

FILTERS = ("since", "until", "caller", "tool", "outcome", "target", "checks")
"""The parameters by which calls are filtered."""

DECISIONS = ("approved", "denied", "void")


class RecordPages:
    """The handlers of `/console/calls` and `/console/history`."""

    def __init__(self, shell: PageShell, approvals: Approvals, log: CallLog) -> None:
        self._shell = shell
        self._approvals = approvals
        self._log = log

    async def history(self, request: Request) -> Response:
        visitor = await self._shell.visitor(request)
        chosen = given(request, "decision", "by")
        page = await self._approvals.history(**chosen, **given(request, "before", "after"), count=CALLS)
        values: JsonObject = {"page": page, "chosen": chosen, "query": as_query(chosen), "decisions": DECISIONS}
        return self._shell.page("history", visitor, here="history", **values)

    async def calls(self, request: Request) -> Response:
        visitor = await self._shell.visitor(request)
        chosen, wanted = _chosen(request)
        page = await self._log.page(wanted, **given(request, "before", "after"), count=CALLS)
        return self._shell.page(
            "calls", visitor, here="calls", page=page, chosen=chosen, query=as_query(chosen), outcomes=_outcomes()
        )

    async def call(self, request: Request) -> Response:
        """Show one call: what it was, who decided it, whether its records are intact, and what came before."""
        visitor = await self._shell.visitor(request)
        call_id = request.path_params["id"]
        records = await self._log.records(call_id)
        if not records:
            raise Problem(
                404,
                "Call not found",
                "The audit log has no call with this id.",
                runnable("Records that were archived are in the files of `connector-mcp audit archive`."),
            )
        # What was altered is not shown as if it had happened.
        intact = [each.line.authentic for each in records if each.line.authentic is not None]
        record = intact[-1] if intact else None
        approval = await self._approval(record) if record else None
        target = record.get("target") if record else None
        same = Wanted(target=target, probes=False, once=True)
        earlier = (await self._log.page(same, before=call_id, count=EARLIER)).calls if target else ()
        return self._shell.page(
            "call",
            visitor,
            here="calls",
            call_id=call_id,
            records=records,
            record=record,
            approval=approval,
            diff=diff(approval) if approval else [],
            arguments=[(name, show(value)) for name, value in record["arguments"].items()] if record else [],
            target=target,
            earlier=earlier,
        )

    async def export(self, request: Request) -> Response:
        """Stream the calls of a filter as `connector-mcp audit export` prints them."""
        await self._shell.visitor(request)
        _, wanted = _chosen(request)
        parts = self._log.export(wanted)
        # A database that is away shows before the answer begins.
        first = await anext(parts, list[JsonObject]())

        async def lines() -> AsyncGenerator[str]:
            yield _as_lines(first)
            async for part in parts:
                yield _as_lines(part)

        headers = {"Content-Disposition": 'attachment; filename="calls.jsonl"'}
        return StreamingResponse(lines(), media_type="application/x-ndjson", headers=headers)

    async def _approval(self, record: JsonObject) -> Approval | None:
        """Return the approval that the call waited for or used, if it is still kept."""
        if record["digest"] is None or record["decision"] != "approve":
            return None
        return await self._approvals.of_call(record["digest"], datetime.fromisoformat(record["time"]).timestamp())


def _chosen(request: Request) -> tuple[dict[str, str], Wanted]:
    """Return the filters as they were given, and the calls that they choose.

    Raises:
        Problem: A time is not one.
    """
    chosen = given(request, *FILTERS)
    # No name of a tool has a bracket, which would begin a set of characters.
    tool = chosen["tool"].lower().replace("[", "\ufffd")
    return chosen, Wanted(
        since=_time("From", chosen["since"]),
        until=_time("To", chosen["until"]),
        tool=(tool if any(character in tool for character in "*?") else f"*{tool}*") if tool else None,
        principal=chosen["caller"] or None,
        outcome=chosen["outcome"] or None,
        target=chosen["target"] or None,
        probes=bool(chosen["checks"]),
        once=True,
    )


def _time(field: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Problem(
            HTTPStatus.BAD_REQUEST, "Not a time", f"{field} is not a time.", "Enter it as 2026-01-31T09:30, in UTC."
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _outcomes() -> list[str | tuple[str, str]]:
    """Return every outcome that a record may have, with its name where that is another."""
    codes, kinds = set[str](), [ConnectorError]
    for kind in kinds:
        codes.add(kind.code)
        kinds += kind.__subclasses__()
    return ["ok", (BEGUN, "no end"), "asked", "cancelled", *sorted(codes)]


def _as_lines(records: Sequence[JsonObject]) -> str:
    return "".join(f"{json.dumps(as_ocsf_event(record), separators=(',', ':'))}\n" for record in records)
