"""Open state, audit log and secrets, the same for the server and for the operator's commands."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from connector_mcp.config.settings import Settings, variable_name
from connector_mcp.errors import Misconfigured
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.catalog import PLATFORMS
from connector_mcp.secrets.collection import SecretEntry, Secrets
from connector_mcp.secrets.encrypted import EncryptedFile, KeyFile, KeyInKeyring
from connector_mcp.secrets.reference import KINDS, SCHEME, read_limits
from connector_mcp.secrets.sources import Directory, EnvironmentSource, Keyring, SecretSource
from connector_mcp.state.database import Database
from connector_mcp.state.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from connector_mcp.upstream.rate import SharedRateLimit


SANDBOX_RECORDS = "sandbox-records.db"
"""The records of sandbox servers, apart from those of real ones."""


def open_database(settings: Settings) -> Database:
    """Return the database of records that the settings name. It connects when first used; close it when done.

    Raises:
        Misconfigured: The address of the shared database, or the file with its password, is invalid.
    """
    if settings.state is None:
        return SqliteDatabase(settings.state_dir / (SANDBOX_RECORDS if settings.sandbox else "records.db"))
    # The driver takes a tenth of a second to import, and most starts do not need it.
    try:
        from connector_mcp.state.postgres import PostgresDatabase
    except ImportError as failure:
        raise Misconfigured(
            f"{variable_name('state')} names a PostgreSQL server, but its driver is not installed ({failure}).",
            fix="Run `pip install 'connector-mcp[postgres]'`.",
        ) from None
    password = settings.secret("state_password")
    try:
        return PostgresDatabase(
            settings.state.get_secret_value(),
            password=password.get_secret_value() if password else None,
            schema="connector_mcp_sandbox" if settings.sandbox else "connector_mcp",
        )
    except ValueError as failure:
        raise Misconfigured(
            f"{variable_name('state')} is wrong: {failure}.", fix="Set it to postgresql://USER@HOST:5432/DATABASE."
        ) from None


def shared_rate_limit(settings: Settings, database: Database, what: str) -> SharedRateLimit | None:
    """Return the rate limit that replicas keep together, or None if this machine is the only one.

    `what` names the counted requests in the log.
    """
    if settings.state is None:
        return None
    from connector_mcp.state.postgres import SharedRates
    from connector_mcp.upstream.rate import SharedRateLimit

    return SharedRateLimit(SharedRates(database), what)


def with_sandbox(settings: Settings) -> list[Settings]:
    """Return the settings, and the same for the sandbox where it has records of its own."""
    if settings.sandbox:
        return [settings]
    if settings.state is None:
        apart = (settings.state_dir / SANDBOX_RECORDS).exists()
    else:
        sql = "SELECT to_regnamespace('connector_mcp_sandbox') IS NOT NULL AS found"
        with closing(open_database(settings)) as database:
            apart = database.read_now(lambda transaction: transaction.execute(sql).all())[0]["found"]
    return [settings, settings.model_copy(update={"sandbox": True})] if apart else [settings]


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
