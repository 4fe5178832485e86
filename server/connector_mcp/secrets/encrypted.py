"""The secret store: one encrypted file (Fernet: AES-128-CBC with HMAC-SHA256).

The whole file is one token, so that neither names nor limits can be read or altered without the key. A change replaces
the file in one step under a lock, so that other processes see it either before or after.
"""

from __future__ import annotations

import codecs
import json
import os
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from connector_mcp.errors import Misconfigured
from connector_mcp.input_text import drop_mark
from connector_mcp.secrets.reference import KINDS, SecretLimits
from connector_mcp.secrets.sources import SERVICE, file_stamp, open_keyring, utc

FORMAT = 1
_KEY_ENTRY = "key of the secret store"


@dataclass(frozen=True)
class KeyFile:
    """The key of the secret store in a file that only its owner can read."""

    path: Path

    def read(self) -> bytes | None:
        try:
            mode = self.path.stat().st_mode
            key = self.path.read_bytes().removeprefix(codecs.BOM_UTF8).strip()
        except FileNotFoundError:
            return None
        except OSError as failure:
            raise Misconfigured(
                f"The key of the secret store, {self.path}, cannot be read: {failure.strerror}.",
                fix="Allow the server's user to read it, or name another with CONNECTOR_MCP_SECRETS_KEY_FILE.",
            ) from None
        if os.name == "posix" and mode & 0o077:
            raise Misconfigured(
                f"The key of the secret store, {self.path}, can be read by others, so it is not used.",
                fix=f"Run `chmod 600 {self.path}`. Replace the secrets if somebody may have read the key.",
            )
        return key

    def write(self, key: bytes) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key + b"\n")
            file.flush()
            os.fsync(file.fileno())


class KeyInKeyring:
    """The key of the secret store in the operating system's keyring."""

    def read(self) -> bytes | None:
        backend = open_keyring()
        if backend is None:
            raise Misconfigured(
                "The key of the secret store should be in the keyring, but no keyring is available.",
                fix="Install connector-mcp[keyring] and unlock a keyring, or name a CONNECTOR_MCP_SECRETS_KEY_FILE.",
            )
        try:
            held = backend.get_password(SERVICE, _KEY_ENTRY)
        except Exception:  # noqa: BLE001 - every backend has its own errors, and their texts may hold anything
            raise self._refused() from None
        return held.encode() if held else None

    def write(self, key: bytes) -> None:
        backend = open_keyring()
        try:
            if backend is not None:
                backend.set_password(SERVICE, _KEY_ENTRY, key.decode())
                return
        except Exception:  # noqa: BLE001, S110 - as above
            pass
        raise self._refused()

    def _refused(self) -> Misconfigured:
        return Misconfigured("The keyring did not give access to the key of the secret store.", fix="Unlock it.")


class EncryptedFile:
    """The secret store, a `SecretSource` that can be written to. `key` is made with the first secret."""

    title = "store"

    def __init__(self, path: Path, key: KeyFile | KeyInKeyring, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._key = key
        self._clock = clock

    def names(self) -> list[str]:
        return sorted(self._load())

    def read(self, name: str) -> str | None:
        return self._load().get(name, {}).get("value")

    def limits(self, name: str) -> SecretLimits:
        held = self._load().get(name, {})
        return SecretLimits(**{kind: tuple(held[kind]) for kind in KINDS if kind in held})

    def changed(self, name: str) -> str | None:
        return self._load().get(name, {}).get("changed")

    def stamp(self) -> object:
        return file_stamp(self.path)

    def put(self, name: str, value: str, limits: SecretLimits, *, replace: bool = True) -> bool:
        """Store a secret. Without `replace`, return False and change nothing if the name is taken.

        Raises:
            Misconfigured: The file or the key cannot be used.
        """
        with self._locked():
            held = self._load()
            if name in held and not replace:
                return False
            held[name] = {"value": drop_mark(value), "changed": utc(self._clock()), **limits.as_dict()}
            self._save(held)
        return True

    def check(self) -> None:
        """Raise unless a secret could be stored. Without a store, only its lock file is made.

        Raises:
            Misconfigured: The file or the key cannot be used.
        """
        with self._locked():
            self._load()

    def remove(self, name: str) -> bool:
        """Remove a secret and return whether it existed."""
        if not self.path.exists():
            return False
        with self._locked():
            held = self._load()
            existed = held.pop(name, None) is not None
            if existed:
                self._save(held)
        return existed

    def _load(self) -> dict[str, dict[str, Any]]:
        try:
            token = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as failure:
            raise self._unusable(failure.strerror or type(failure).__name__) from None
        # Slow to import, and only needed for a stored secret.
        from cryptography.fernet import Fernet, InvalidToken

        key = self._key.read()
        if key is None:
            raise self._unusable("its key is missing")
        try:
            held = json.loads(Fernet(key).decrypt(token))
        except (InvalidToken, ValueError):
            raise self._unusable("the key does not match, or the file was altered") from None
        if not isinstance(held, dict) or cast("dict[str, Any]", held).get("format") != FORMAT:
            raise self._unusable("it was made by a newer connector-mcp")
        return cast("dict[str, dict[str, Any]]", held["secrets"])

    def _save(self, held: dict[str, dict[str, Any]]) -> None:
        from cryptography.fernet import Fernet

        key = self._key.read()
        if key is None:
            key = Fernet.generate_key()
            self._key.write(key)
        try:
            token = Fernet(key).encrypt(json.dumps({"format": FORMAT, "secrets": held}).encode())
        except ValueError:
            raise self._unusable("its key is not a Fernet key") from None
        try:
            # The file is made with mode 0600.
            descriptor, made = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(token)
                    file.flush()
                    os.fsync(file.fileno())
                Path(made).replace(self.path)
            except BaseException:
                Path(made).unlink(missing_ok=True)
                raise
        except OSError as failure:
            raise self._unusable(failure.strerror or type(failure).__name__) from None

    @contextmanager
    def _locked(self) -> Generator[None]:
        """Keep other processes from writing."""
        # Windows has no fcntl. Environment variables, a directory and the keyring work there.
        try:
            import fcntl
        except ImportError:
            raise Misconfigured(
                "Secrets cannot be stored on this system: Windows has no POSIX file locks.",
                fix="Set CONNECTOR_MCP_SECRET_NAME, name a directory of secrets with CONNECTOR_MCP_SECRETS_DIR, or use "
                "the system's keyring with CONNECTOR_MCP_SECRETS_KEYRING.",
            ) from None
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as failure:
            raise self._unusable(failure.strerror or type(failure).__name__) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _unusable(self, reason: str) -> Misconfigured:
        return Misconfigured(
            f"The secret store {self.path} cannot be used: {reason}.",
            fix="Run `connector-mcp secrets check` as the user of the server, with its environment.",
        )
