"""Reads on behalf of a plan: whole records, of a list all of its pages."""

from __future__ import annotations

from typing import Any

from connector_mcp.engine.accounts import Account
from connector_mcp.engine.caller import Caller
from connector_mcp.engine.engine_call import CallServices
from connector_mcp.errors import Blocked, TooLarge
from connector_mcp.json_values import items
from connector_mcp.operations.operation import ListOperation
from connector_mcp.operations.overview import Read
from connector_mcp.operations.tool import PROFILE
from connector_mcp.provisioning.rehearsal import RecordRead

PAGES = 200
"""Pages of one list."""


async def read_records(read: Read, account: Account, caller: Caller, services: CallServices) -> Any:
    """Return the data of a read as the platform gave it, of a list that of all its pages.

    Raises:
        ConnectorError: The read failed, or not all pages could be read.
    """
    tool = services.accounts.tool(read.operation)
    arguments = {**read.arguments, **({PROFILE: account.profile} if services.accounts.label(account) else {})}
    rows: list[Any] = []
    for _ in range(PAGES):
        call = RecordRead(tool, caller, services)
        await call.run(arguments)
        if call.error is not None:
            raise call.error
        if call.outcome != "ok":
            raise Blocked(f"{tool.name} could not be read ({call.outcome}).", fix=f"Call {tool.name} by itself.")
        if not issubclass(read.operation, ListOperation):
            return call.data
        rows += items(call.data)
        if call.cursor is None:
            return rows
        arguments |= {"cursor": call.cursor}
    raise TooLarge(
        f"{account.platform.title} has more than {len(rows)} rows for {tool.name}, and all are needed.",
        fix="Describe fewer things, or things of another account.",
    )
