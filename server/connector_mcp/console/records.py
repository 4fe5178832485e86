"""The pages of what was done and decided: recent calls, and the history of decisions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase

from starlette.requests import Request
from starlette.responses import Response

from connector_mcp.console.access import PageShell
from connector_mcp.engine.approval.queue import PAGE, Approvals
from connector_mcp.json_values import JsonObject

CALLS_READ = 1_000
"""Calls among which a page of the list is looked for."""


class RecordPages:
    """The handlers of `/console/calls` and `/console/history`."""

    def __init__(
        self, shell: PageShell, approvals: Approvals, recent_calls: Callable[..., Awaitable[Sequence[JsonObject]]]
    ) -> None:
        self._shell = shell
        self._approvals = approvals
        self._recent_calls = recent_calls

    async def history(self, request: Request) -> Response:
        visitor = await self._shell.visitor(request)
        before, after = (request.query_params.get(name, "") for name in ("before", "after"))
        page = await self._approvals.history(before=before, after=after)
        return self._shell.page("history", visitor, here="history", page=page)

    async def calls(self, request: Request) -> Response:
        visitor = await self._shell.visitor(request)
        tool, outcome = (request.query_params.get(name, "").strip() for name in ("tool", "outcome"))
        before, after = _number(request, "before"), _number(request, "after")
        calls = await self._recent_calls(CALLS_READ, before=before, after=after)
        pattern = tool if any(character in tool for character in "*?[") else f"*{tool}*"
        found = [
            call for call in calls if fnmatchcase(str(call["tool"]), pattern) and outcome in ("", str(call["outcome"]))
        ]
        page = found[:PAGE] if after is None else found[-PAGE:]
        is_cut = len(found) > PAGE or len(calls) == CALLS_READ
        # A filter may leave nothing of what was read; the search then goes on from there.
        first, last = (page or calls)[:1], (page if len(found) > PAGE else calls)[-1:]
        return self._shell.page(
            "calls",
            visitor,
            here="calls",
            calls=page,
            newer=first[0]["seq"] if first and (before is not None or (after is not None and is_cut)) else None,
            older=last[0]["seq"] if last and (after is not None or is_cut) else None,
            tool=tool,
            outcome=outcome,
            outcomes=sorted({str(call["outcome"]) for call in calls}),
        )


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None
