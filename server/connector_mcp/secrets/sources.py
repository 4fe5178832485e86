"""The places that only hold values: the environment, a directory of files, the operating system's keyring."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from connector_mcp.errors import Misconfigured
from connector_mcp.secrets.limits import Limits
from connector_mcp.secrets.reference import is_name

VARIABLE = "CONNECTOR_MCP_SECRET_"
"""What the variables begin with; the rest is the secret's name."""
LARGEST = 65_536
"""Bytes of a value."""
SERVICE = "connector-mcp"
"""What the entries in the keyring are filed under."""


class SecretSource(Protocol):
    """A place where secrets are. Its methods block, for milliseconds as a rule; a keyring may ask its owner first."""

    @property
    def title(self) -> str:
        """The place in one word."""
        ...

    def names(self) -> list[str]:
        """The secrets that are known to be there."""
        ...

    def read(self, name: str) -> str | None:
        """The value, or None where there is none. The name is well-formed.

        Raises:
            Misconfigured: The place cannot be read, or may be read by others.
        """
        ...

    def limits(self, name: str) -> Limits:
        """Where the place itself says that the secret may be used."""
        ...

    def changed(self, name: str) -> str | None:
        """When the value last changed, ISO 8601 in UTC, where the place knows."""
        ...


class Environment:
    """Variables of this process."""

    title = "environment"

    def __init__(self, environ: Mapping[str, str]) -> None:
        held = {name.removeprefix(VARIABLE): value for name, value in environ.items() if name.startswith(VARIABLE)}
        self._values = {name: value for name, value in held.items() if value and is_name(name)}

    def names(self) -> list[str]:
        return list(self._values)

    def read(self, name: str) -> str | None:
        return self._values.get(name)

    def limits(self, name: str) -> Limits:
        return Limits()

    def changed(self, name: str) -> str | None:
        return None


class Directory:
    """One file a secret, named like it, as container platforms mount them. Line breaks at its end do not count."""

    title = "directory"

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_dir():
            raise Misconfigured(
                f"CONNECTOR_MCP_SECRETS_DIR names {path}, which is no directory.", fix="Name one, or unset it."
            )

    def names(self) -> list[str]:
        try:
            return sorted(
                entry.name for entry in self._path.iterdir() if is_name(entry.name) and self._find(entry.name)
            )
        except OSError as failure:
            raise self._unreadable(self._path, failure) from None

    def read(self, name: str) -> str | None:
        path = self._find(name)
        if path is None:
            return None
        try:
            # Not waiting for a writer, should the file have become a pipe since it was looked at.
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return None
                content = file.read(LARGEST + 1)
            text = content.decode("utf-8")
        except OSError as failure:
            raise self._unreadable(path, failure) from None
        except UnicodeDecodeError:
            raise Misconfigured(f"The secret {name} in {self._path} is no UTF-8 text.", fix="Correct it.") from None
        if len(content) > LARGEST:
            raise Misconfigured(
                f"The secret {name} in {self._path} is larger than {LARGEST} bytes.", fix="Is it the right file?"
            )
        return text.rstrip("\r\n")

    def limits(self, name: str) -> Limits:
        return Limits()

    def changed(self, name: str) -> str | None:
        path = self._find(name)
        try:
            return None if path is None else utc(path.stat().st_mtime)
        except OSError:
            return None

    def _find(self, name: str) -> Path | None:
        """The regular file of this name. A link counts where it stays inside, as those of mounted volumes do."""
        if not is_name(name):
            return None
        try:
            root = self._path.resolve(strict=True)
            path = (root / name).resolve(strict=True)
        except (OSError, RuntimeError):
            return None
        return path if path.is_relative_to(root) and path.is_file() else None

    def _unreadable(self, path: Path, failure: OSError) -> Misconfigured:
        return Misconfigured(
            f"{path}, of the secrets in CONNECTOR_MCP_SECRETS_DIR, cannot be read: {failure.strerror}.",
            fix="Let the user of the server read it.",
        )


class _KeyringModule(Protocol):
    """What is used of the `keyring` package, which is an extra and need not be installed."""

    def get_password(self, service_name: str, username: str) -> str | None: ...

    def set_password(self, service_name: str, username: str, password: str) -> None: ...


class Keyring:
    """The operating system's keyring, through the package `keyring`. It lists nothing, so a name is known by asking."""

    title = "keyring"

    def __init__(self, expected: Mapping[str, Limits]) -> None:
        self._expected = tuple(expected)

    def names(self) -> list[str]:
        return [name for name in self._expected if self.read(name) is not None]

    def read(self, name: str) -> str | None:
        backend = open_keyring()
        if backend is None:
            return None
        try:
            return backend.get_password(SERVICE, name)
        except Exception:  # noqa: BLE001 - every backend has its own errors; their texts may hold anything
            return None

    def limits(self, name: str) -> Limits:
        return Limits()

    def changed(self, name: str) -> str | None:
        return None


def open_keyring() -> _KeyringModule | None:
    """The keyring, or None where the package is missing or finds no usable backend."""
    # Takes 0.1 s and more to import, and looks for backends then.
    try:
        module = import_module("keyring")
        usable = float(module.get_keyring().priority) > 0
    except Exception:  # noqa: BLE001 - what a missing backend raises is the backend's own matter
        return None
    return cast("_KeyringModule", module) if usable else None


def utc(timestamp: float) -> str:
    """Seconds since the epoch in ISO 8601, UTC."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
