"""Where this machine's state is: the same for the server and for the operator's commands."""

from __future__ import annotations

from pathlib import Path

from connector_mcp.settings import Settings
from connector_mcp.state.sqlite import SqliteStore
from connector_mcp.state.store import Store


def open_store(settings: Settings) -> Store:
    """The store of the settings' state directory. Nothing is opened before it is first used; close it when done."""
    return SqliteStore(settings.state_dir / "state.db")


def audit_path(settings: Settings) -> Path:
    """The file that audit records are written to; what belongs to it is beside it."""
    return settings.state_dir / "audit.jsonl"
