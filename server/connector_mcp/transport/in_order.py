"""Whether a request is beyond reproach, so that it may be answered without the SDK's models.

Whatever is not goes the SDK's way, which judges it: there is one place where requests are refused.
"""

from __future__ import annotations

from typing import Any

from mcp.server.context import ServerRequestContext
from mcp_types.methods import validate_client_request
from mcp_types.version import MODERN_PROTOCOL_VERSIONS


def is_in_order(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the SDK would hand this to its handler: well-formed for its revision, and after the handshake."""
    # A request of 2026-07-28 brings what a handshake says with it, but need not say who sends it.
    if ctx.session.client_params is None and ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return False
    try:
        validate_client_request(ctx.method, ctx.protocol_version, ctx.params)
    except (KeyError, ValueError):
        return False
    return True
