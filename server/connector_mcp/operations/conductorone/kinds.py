"""What a manifest can describe."""

from __future__ import annotations

from connector_mcp.operations.provisioning.kinds import Kind

KINDS: tuple[type[Kind], ...] = ()
