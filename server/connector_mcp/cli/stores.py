"""Where this machine's state and secrets are: the same for the server and for the operator's commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from connector_mcp.operations.catalogue import PLATFORMS
from connector_mcp.operations.platform import JsonObject
from connector_mcp.secrets.collection import Listed, Secrets
from connector_mcp.secrets.encrypted import EncryptedFile, KeyFile, KeyInKeyring
from connector_mcp.secrets.limits import KINDS, read_limits
from connector_mcp.secrets.reference import SCHEME
from connector_mcp.secrets.sources import Directory, Environment, Keyring, SecretSource
from connector_mcp.settings import Settings
from connector_mcp.state.sqlite import SqliteStore
from connector_mcp.state.store import Store


def open_store(settings: Settings) -> Store:
    """The store of the settings' state directory. Nothing is opened before it is first used; close it when done."""
    return SqliteStore(settings.state_dir / "state.db")


def audit_path(settings: Settings) -> Path:
    """The file that audit records are written to; what belongs to it is beside it."""
    return settings.state_dir / "audit.jsonl"


def open_secret_store(settings: Settings) -> EncryptedFile:
    """The encrypted file of secrets in the settings' state directory. Nothing is made before the first secret."""
    in_keyring = settings.secrets_keyring and settings.secrets_key_file is None
    key = KeyInKeyring() if in_keyring else KeyFile(settings.secrets_key_file or settings.state_dir / "secrets.key")
    return EncryptedFile(settings.state_dir / "secrets.enc", key)


def open_secrets(settings: Settings, environ: Mapping[str, str]) -> Secrets:
    """Every place of secrets that there is, in the order in which they are asked.

    Raises:
        Misconfigured: The limits or the directory are not what they should be.
    """
    limits = read_limits(settings.secrets_limits, PLATFORMS)
    sources: list[SecretSource] = []
    environment = Environment(environ)
    if environment.names():
        sources.append(environment)
    if settings.secrets_dir is not None:
        sources.append(Directory(settings.secrets_dir))
    if settings.secrets_keyring:
        sources.append(Keyring(limits))
    store = open_secret_store(settings)
    # One that is made while the server runs is found too; whether there is one decides on the list of tools alone.
    sources.append(store)
    return Secrets(sources, limits)


def has_secrets(secrets: Secrets, settings: Settings) -> bool:
    """Whether a place of secrets is configured, or the store holds any."""
    return len(secrets.sources) > 1 or open_secret_store(settings).path.exists()


def as_record(listed: Listed) -> JsonObject:
    """What may be told of a secret, as `list_secrets` and `secrets list --json` give it. No limits are no members."""
    record: JsonObject = {"reference": f"{SCHEME}{listed.name}", "source": listed.source}
    for kind in KINDS:
        allowed: list[set[str]] = [set(getattr(limits, kind)) for limits in listed.limits if getattr(limits, kind)]
        if allowed:
            record[kind] = sorted(allowed[0].intersection(*allowed[1:]))
    return record | ({"changed": listed.changed} if listed.changed else {})
