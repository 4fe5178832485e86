"""What the tests of redaction share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connector_mcp.engine.redaction.redactor import by_plan
from connector_mcp.operations.connector_types import config_plan
from connector_mcp.operations.operation import StoredConfig
from connector_mcp.operations.platform import Platform

STORED = {
    "vectorize": StoredConfig("configDoc", "type"),
    "logto": StoredConfig("config", "connectorId"),
    "conductorone": StoredConfig("config.configuration", "catalogId"),
    "versori": StoredConfig("config", "protocol"),
}


def by_schema(value: Any, schema: Mapping[str, Any], platform: Platform | None = None, *, strict: bool = False) -> Any:
    """A config as it is shown by a schema that is no connector type's."""
    return by_plan(value, config_plan(schema), platform, strict=strict)
