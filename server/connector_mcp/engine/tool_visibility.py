"""Which tools are listed to whom.

Policies do not change while a server runs: what they leave of the tools is found once for each set of scopes. To ask
them all for each list took half the processor time of a `tools/list` with 126 tools.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from connector_mcp.engine.approval.gate import permits
from connector_mcp.engine.policy import Policy
from connector_mcp.operations.operation import Operation
from connector_mcp.operations.tool import Tool


class Listed:
    """What the policies, and the scopes of a caller, do not rule out altogether."""

    def __init__(self, tools: Collection[Tool], policies: Callable[[type[Operation]], list[Policy]]) -> None:
        """`policies` gives those that an operation can come under."""
        self._tools = tools
        self._policies = policies
        # Of scopes there are three, so clients cannot make it grow.
        self._kept: dict[frozenset[str] | None, tuple[Tool, ...]] = {}

    def within(self, scopes: frozenset[str] | None) -> tuple[Tool, ...]:
        """The tools that may be called with these scopes, or where there are no scopes."""
        if scopes not in self._kept:
            self._kept[scopes] = tuple(
                tool
                for tool in self._tools
                if any(permits(p, tool.name, tool.operation.effect, scopes) for p in self._policies(tool.operation))
            )
        return self._kept[scopes]
