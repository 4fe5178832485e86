"""Read-only sources of secrets: environment variables, a directory of files, the operating system's keyring."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from connector_mcp.errors import Misconfigured
from connector_mcp.input_text import check_expanded, decode, drop_mark
from connector_mcp.secrets.reference import SecretLimits, is_name

VARIABLE = "CONNECTOR_MCP_SECRET_"
"""Prefix of the environment variables; the rest is the secret's name."""
LARGEST = 65_536
"""Maximum size of a value in bytes."""
SERVICE = "connector-mcp"
"""Service name of the entries in the keyring."""


class SecretSource(Protocol):
    """A source of secrets. Its methods block, usually for milliseconds; a keyring may ask its owner first."""

    title: str
    """The source in one word."""

    def names(self) -> list[str]:
        """Return the names that are known to exist."""
        ...

    def read(self, name: str) -> str | None:
        """Return the value, or None if there is none. `name` is well-formed.

        Raises:
            Misconfigured: The source cannot be read, or other users can read it.
        """
        ...

    def limits(self, name: str) -> SecretLimits:
        """Return the limits that the source itself keeps for the secret. By default there are none."""
        return SecretLimits()

    def changed(self, name: str) -> str | None:
        """Return when the value last changed (ISO 8601, UTC), if the source knows."""
        return None

    def stamp(self) -> object:
        """Return something that differs once values may have changed. It must be quick: every call compares it."""
        return None


class EnvironmentSource(SecretSource):
    """Environment variables of this process.

    Raises:
        Misconfigured: A launcher did not expand or unquote one of them.
    """

    title = "environment"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._values: dict[str, str] = {}
        for variable, given in environ.items():
            name, value = variable.removeprefix(VARIABLE), drop_mark(given)
            if name != variable and value and is_name(name):
                check_expanded(variable, value)
                self._values[name] = value

    def names(self) -> list[str]:
        return list(self._values)

    def read(self, name: str) -> str | None:
        return self._values.get(name)


class Directory(SecretSource):
    """One file per secret, named like it, as container platforms mount them. Trailing line breaks are removed."""

    title = "directory"

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_dir():
            raise Misconfigured(
                f"CONNECTOR_MCP_SECRETS_DIR names {path}, which is not a directory.", fix="Name one, or unset it."
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
            # Without waiting for a writer, in case the file has meanwhile become a pipe.
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return None
                content = file.read(LARGEST + 1)
            text = decode(content)
        except OSError as failure:
            raise self._unreadable(path, failure) from None
        except UnicodeDecodeError:
            raise Misconfigured(f"The secret {name} in {self._path} is not UTF-8 text.", fix="Correct it.") from None
        if len(content) > LARGEST:
            raise Misconfigured(
                f"The secret {name} in {self._path} is larger than {LARGEST} bytes.", fix="Is it the right file?"
            )
        return text.rstrip("\r\n")

    def changed(self, name: str) -> str | None:
        path = self._find(name)
        try:
            return None if path is None else utc(path.stat().st_mtime)
        except OSError:
            return None

    def stamp(self) -> object:
        try:
            with os.scandir(self._path) as entries:
                return [(entry.name, *file_stamp(entry)) for entry in entries]
        except OSError:
            return None

    def _find(self, name: str) -> Path | None:
        """Return the regular file with this name. Follows links that stay inside: mounted volumes use them."""
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
            f"The secrets in CONNECTOR_MCP_SECRETS_DIR cannot be read: {path}: {failure.strerror}.",
            fix="Allow the server's user to read it.",
        )


class Keyring(SecretSource):
    """The operating system's keyring, through the `keyring` package. It cannot list names: expected ones are tried."""

    title = "keyring"

    def __init__(self, expected: Mapping[str, SecretLimits]) -> None:
        self._expected = tuple(expected)

    def names(self) -> list[str]:
        return [name for name in self._expected if self.read(name) is not None]

    def read(self, name: str) -> str | None:
        backend = open_keyring()
        if backend is None:
            return None
        try:
            value = backend.get_password(SERVICE, name)
        except Exception:  # noqa: BLE001 - every backend has its own errors, and their texts may hold anything
            return None
        return None if value is None else drop_mark(value)


def open_keyring() -> Any | None:
    """Return the module `keyring`, an optional extra, or None if the package is missing or finds no usable backend."""
    # The import is slow: it searches for backends.
    try:
        module = import_module("keyring")
        usable = float(module.get_keyring().priority) > 0
    except Exception:  # noqa: BLE001 - every backend has its own errors
        return None
    return module if usable else None


def file_stamp(file: Path | os.DirEntry[str]) -> tuple[int, ...]:
    """Return what differs once a file was written or replaced; empty if there is none."""
    try:
        held = file.stat()
    except OSError:
        return ()
    return held.st_mtime_ns, held.st_ino, held.st_size


def utc(timestamp: float) -> str:
    """Format epoch seconds in ISO 8601, UTC."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
