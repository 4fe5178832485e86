"""The files of the audit log as a process keeps them open, while others may move them."""

from __future__ import annotations

import os
from pathlib import Path

from connector_mcp.audit.chain import lock


class OpenFile:
    """A file that is kept open for as long as it is the one at its path; only its owner can read it."""

    def __init__(self, path: Path, flags: int = 0) -> None:
        self._path = path
        self._name = str(path)
        self._flags = os.O_RDWR | os.O_CREAT | flags
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None
        self.size = 0
        """Bytes of the file when it was last looked for."""

    def open(self) -> int:
        """The file at the path, which is made where there is none.

        Raises:
            OSError: It cannot be opened.
        """
        if self._descriptor is not None and self._is_in_place():
            return self._descriptor
        self.close()
        try:
            self._descriptor = os.open(self._path, self._flags, 0o600)
        except FileNotFoundError:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, self._flags, 0o600)
        opened = os.fstat(self._descriptor)
        self._identity, self.size = (opened.st_dev, opened.st_ino), opened.st_size
        return self._descriptor

    def lock(self) -> int:
        """The same, locked; to be unlocked by who is done with it.

        Raises:
            OSError: It cannot be opened, or others held its lock for too long.
        """
        while True:
            descriptor = self.open() if self._descriptor is None else self._descriptor
            lock(descriptor)
            if self._is_in_place():
                return descriptor
            # It was moved or replaced: the lock is on what others do not see.
            self.close()

    def close(self) -> None:
        """Let go of the file, and of its lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _is_in_place(self) -> bool:
        try:
            found = os.stat(self._name)  # noqa: PTH116 - twice a record, and `Path.stat` takes half as long again
        except FileNotFoundError:
            return False
        self.size = found.st_size
        return (found.st_dev, found.st_ino) == self._identity
