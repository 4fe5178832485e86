"""This server as it is not shipped: with its operations so many times over, or without a record of its calls.

python benchmarks/variant_server.py TIMES [--unrecorded]
"""

from __future__ import annotations

import os
import sys

import anyio

from connector_mcp.audit.record import AuditRecord
from connector_mcp.audit.trail import FileTrail
from connector_mcp.cli.options import load_settings
from connector_mcp.composition.engine import open_engine
from connector_mcp.composition.storage import audit_path
from connector_mcp.engine.engine import Engine
from connector_mcp.engine.policy import Policy
from connector_mcp.operations.operation import Operation
from connector_mcp.transport.stdio import serve_stdio


class Unrecorded(FileTrail):
    """An audit log that keeps nothing."""

    async def check(self) -> None:
        """All is well."""

    async def write(self, record: AuditRecord) -> None:
        """Forget the record."""


def _copies(operation: type[Operation], times: int) -> list[type[Operation]]:
    body = {"__module__": operation.__module__, "__doc__": operation.__doc__}
    return [operation, *(type(f"{operation.__name__}Number{n}", (operation,), dict(body)) for n in range(1, times))]


async def main(times: int, recorded: bool) -> None:
    """Serve one client over stdio."""
    settings = load_settings()
    audit = (FileTrail if recorded else Unrecorded)(audit_path(settings), max_bytes=settings.audit_file_bytes)
    async with open_engine(settings, os.environ, "stdio") as shipped:
        many = [copy for tool in shipped.tools() for copy in _copies(tool.operation, times)]
        operations = {operation.tool_name(): operation for operation in many}
        policy = Policy.parse(settings.policy, read_only=False, transport="stdio", tools=None)
        variant = Engine(settings, operations, shipped.accounts, policy=policy, store=shipped.store, audit=audit)
        await serve_stdio(variant)
        await audit.aclose()


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), "--unrecorded" not in sys.argv[2:])
