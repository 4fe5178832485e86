"""Logto: connectors, the sign-in experience that shows them, enterprise SSO and e-mail templates."""

from connector_mcp.operations.logto.platform import LOGTO as PLATFORM

MODULES = (
    "connectors", "use", "factories", "sign_in", "sso_connectors", "sso_signing_keys", "email_templates",
)  # fmt: skip
"""The modules with operations, in the order of tools/list."""

__all__ = ["MODULES", "PLATFORM"]
