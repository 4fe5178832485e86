"""Open state, audit log and secrets, the same for the server and for the operator's commands."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from connector_mcp.audit.files import AuditTrail, FileTrail
from connector_mcp.config.settings import Settings
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import PLATFORMS
from connector_mcp.secrets.collection import SecretEntry, Secrets
from connector_mcp.secrets.encrypted import EncryptedFile, KeyFile, KeyInKeyring
from connector_mcp.secrets.reference import KINDS, SCHEME, read_limits
from connector_mcp.secrets.sources import Directory, EnvironmentSource, Keyring, SecretSource
from connector_mcp.state.sqlite_store import SqliteStore
from connector_mcp.state.store import Store

if TYPE_CHECKING:
    from connector_mcp.audit.check import LogSnapshot
    from connector_mcp.state.redis import RedisConnection
    from connector_mcp.state.store import Journal
    from connector_mcp.upstream.rate import SharedRateLimit


SANDBOX_STATE = "sandbox.db"
"""The state of sandbox servers, apart from that of real ones."""


def open_store(settings: Settings) -> Store:
    """Return the store that the settings name. It connects when first used; close it when done.

    Raises:
        Misconfigured: The address of the shared store, or the file with its password, is invalid.
    """
    if settings.state is None:
        return SqliteStore(settings.state_dir / (SANDBOX_STATE if settings.sandbox else "state.db"))
    # The client takes a tenth of a second to import, and most starts do not need it.
    from connector_mcp.state.redis import RedisStore

    return RedisStore(open_connection(settings, settings.state))


def with_sandbox(settings: Settings) -> list[Settings]:
    """Return the settings, and the same for the sandbox where it has state of its own on this machine."""
    apart = settings.state is None and not settings.sandbox and (settings.state_dir / SANDBOX_STATE).exists()
    return [settings, settings.model_copy(update={"sandbox": True})] if apart else [settings]


def shared_turns(store: Store) -> SharedRateLimit | None:
    """Return the rate limit towards platforms that replicas share, or None if the store is this machine's own."""
    if isinstance(store, SqliteStore):
        return None
    from connector_mcp.state.redis import RedisRateLimit, RedisStore
    from connector_mcp.upstream.rate import SharedRateLimit

    if not isinstance(store, RedisStore):
        return None
    return SharedRateLimit(RedisRateLimit(store.connection), "requests to platforms")


def open_trail(settings: Settings, store: Store) -> AuditTrail:
    """Return where audit records are written: files, or the store that replicas share. Close it when done.

    Raises:
        Misconfigured: As for `open_store`.
    """
    if settings.state is None:
        return FileTrail(audit_path(settings), max_bytes=settings.audit_file_bytes)
    from connector_mcp.audit.shared import SharedTrail

    return SharedTrail(_open_journal(settings, settings.state), store)


@contextmanager
def read_audit(settings: Settings) -> Generator[LogSnapshot]:
    """Open a snapshot of the audit log that the settings name. It blocks, so do not call it on an event loop.

    Raises:
        StoreUnavailable: There is no log, its key is missing or damaged, or it cannot be read.
    """
    if settings.state is None:
        from connector_mcp.audit.check import snapshot

        with snapshot(audit_path(settings)) as files:
            yield files
        return
    from connector_mcp.audit.shared import shared_snapshot

    with shared_snapshot(_open_journal(settings, settings.state), open_store(settings)) as shared:
        yield shared


def open_connection(settings: Settings, address: SecretStr) -> RedisConnection:
    """Return a connection to the shared store. It connects when first used; close it when done.

    Raises:
        Misconfigured: The address, or the file with the password, is invalid.
    """
    from connector_mcp.state.redis import RedisConnection

    password = settings.secret("state_password")
    return RedisConnection(address.get_secret_value(), password=password.get_secret_value() if password else None)


def _open_journal(settings: Settings, address: SecretStr) -> Journal:
    from connector_mcp.state.redis import RedisJournal

    return RedisJournal(open_connection(settings, address), "audit")


def audit_path(settings: Settings) -> Path:
    """Return the file that audit records are written to; its related files are next to it."""
    return settings.state_dir / "audit.jsonl"


def open_secret_store(settings: Settings) -> EncryptedFile:
    """Return the encrypted file of secrets in the state directory. The first secret creates it."""
    in_keyring = settings.secrets_keyring and settings.secrets_key_file is None
    key = KeyInKeyring() if in_keyring else KeyFile(settings.secrets_key_file or settings.state_dir / "secrets.key")
    return EncryptedFile(settings.state_dir / "secrets.enc", key)


def open_secrets(settings: Settings, environ: Mapping[str, str]) -> Secrets:
    """Return all sources of secrets, in the order in which they are searched.

    Raises:
        Misconfigured: The limits or the directory are invalid.
    """
    limits = read_limits(settings.secrets_limits, PLATFORMS)
    sources: list[SecretSource] = []
    environment = EnvironmentSource(environ)
    if environment.names():
        sources.append(environment)
    if settings.secrets_dir is not None:
        sources.append(Directory(settings.secrets_dir))
    if settings.secrets_keyring:
        sources.append(Keyring(limits))
    # Always a source, so that a store created while the server runs is found too.
    store = open_secret_store(settings)
    sources.append(store)
    return Secrets(sources, limits, store)


def secret_record(listed: SecretEntry) -> JsonObject:
    """Return what `list_secrets` and `secrets list --json` say about a secret. A missing member means no limit."""
    record: JsonObject = {"reference": f"{SCHEME}{listed.name}", "source": listed.source}
    for kind in KINDS:
        allowed: list[set[str]] = [set(getattr(limits, kind)) for limits in listed.limits if getattr(limits, kind)]
        if allowed:
            record[kind] = sorted(allowed[0].intersection(*allowed[1:]))
    return record | ({"changed": listed.changed} if listed.changed else {})
