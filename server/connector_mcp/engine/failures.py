"""What a call that failed answers, and what the log is told of it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any

from connector_mcp.engine.approval.gate import PERSON, channel_of
from connector_mcp.engine.call_record import CallRecord
from connector_mcp.engine.caller import CallResult
from connector_mcp.engine.policy import Decision
from connector_mcp.engine.redaction.json_paths import all_strings
from connector_mcp.engine.results import clean_strings
from connector_mcp.errors import ConnectorError, Internal, OutcomeUnknown
from connector_mcp.operations.catalog import platform_folder
from connector_mcp.operations.operation import ListOperation, Operation

logger = logging.getLogger("connector_mcp.engine")


def failure(call: CallRecord, error: ConnectorError, *, tell_profile: bool) -> CallResult:
    """The answer, and on the record what is learnt from the failure. `tell_profile` where there are several."""
    call.outcome = error.code
    if refused_by := error.details.get("refused_by"):
        call.decided_by = refused_by
        refusal = Decision.ASK if refused_by == PERSON else Decision.APPROVE
        call.channel = error.details.get("channel") or channel_of(refusal, call.caller.transport)
    if error.upstream:
        call.status = error.upstream.get("status")
        call.meta.request_id = call.scrubbed(error.upstream.get("request_id"))
    members = error.as_dict()
    if isinstance(error, OutcomeUnknown | Internal) and call.changing:
        members["fix"] = f"{members['fix']} {_reader_hint(call.tool.operation)}".strip()
    if call.sandbox:
        members["sandbox"] = True
    if call.account and tell_profile:
        members["profile"] = call.account.profile
    return CallResult({"error": clean_strings(call.scrubber.value(members))}, is_error=True)


def fault(call: CallRecord, error: Exception, arguments: Mapping[str, Any]) -> Internal:
    """The answer to a failure that nobody foresaw; its traceback goes to the log, without any argument's text."""
    scrubber = call.scrubber.and_also(all_strings(dict(arguments)))
    told = scrubber.text("".join(traceback.format_exception(error)))
    logger.error("%s failed inside the server\n%s", call.tool.name, told)
    sent = " The change had been sent and may have been made." if call.changing else ""
    look = "See first whether it was; the" if call.changing else "The"
    return Internal(
        f"{call.tool.name} failed inside this server.{sent}",
        fix=f"{look} operator finds the cause in the server's log on stderr.",
    )


def _reader_hint(operation: type[Operation]) -> str:
    if operation.acts_on is not None:
        return f"Look with {operation.acts_on.read.tool_name()}."
    if operation.on is None:
        return ""
    lists = [o for o in platform_folder(operation.on.name).operations if issubclass(o, ListOperation)]
    return f"Look with {lists[0].tool_name()}." if lists else ""
