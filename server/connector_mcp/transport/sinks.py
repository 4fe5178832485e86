"""Writing to a descriptor without ever blocking, although it stays as whoever started this process has set it.

To set it non-blocking would do so for all who share it: a terminal, or what else the parent writes to. So a pipe is
opened anew, where the system can do that, and a socket told with each piece not to wait. Where neither is possible,
only what is sure not to block is written, 4 kB at a time: for lines of 120 and of 350 kB, 200 each, that takes three
times as much processor time.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from typing import Final, Protocol

PIPE_SIZE: Final = 1 << 19
"""What a pipe is made to hold once something longer than what it holds is to be written."""

_USUAL_SIZE: Final = 1 << 16
_MOST_PIECES: Final = 64


class Sink(Protocol):
    """Where bytes go."""

    descriptor: int
    """What to wait for until it takes more."""

    def write(self, pieces: Sequence[memoryview]) -> int:
        """Write the beginning of the pieces, as far as that does not block; how many bytes that were.

        Raises:
            BlockingIOError: It takes nothing now.
            OSError: Nobody reads any more.
        """
        ...

    def close(self) -> None:
        """Close what was opened here, and not the descriptor itself."""
        ...


def sink_of(descriptor: int) -> Sink:
    """The sink that a descriptor is."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) and (again := _opened_again(descriptor)) is not None:
        return _Pipe(again)
    return _Socket(descriptor) if stat.S_ISSOCK(mode) else _Other(descriptor)


def _opened_again(descriptor: int) -> FileIO | None:
    try:
        return FileIO(os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK), "wb")
    except OSError:
        return None


class _Pipe:
    """A pipe under a description of its own, which alone is non-blocking."""

    def __init__(self, file: FileIO) -> None:
        self.descriptor = file.fileno()
        self._file = file
        self._may_grow = hasattr(fcntl, "F_SETPIPE_SZ")

    def write(self, pieces: Sequence[memoryview]) -> int:
        if self._may_grow and len(pieces[0]) > _USUAL_SIZE:
            self._may_grow = False
            # Not everybody may, and not any number of pipes.
            with suppress(OSError):
                fcntl.fcntl(self.descriptor, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        return os.writev(self.descriptor, pieces[:_MOST_PIECES])

    def close(self) -> None:
        self._file.close()


class _Socket:
    """A socket, as some hosts give to their children in the place of pipes."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._socket = socket.socket(fileno=os.dup(descriptor))

    def write(self, pieces: Sequence[memoryview]) -> int:
        return self._socket.sendmsg(pieces[:_MOST_PIECES], (), socket.MSG_DONTWAIT)

    def close(self) -> None:
        self._socket.close()


class _Other:
    """A terminal, a file, or a pipe that cannot be opened anew."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLOUT)

    def write(self, pieces: Sequence[memoryview]) -> int:
        if not self._ready.poll(0):
            raise BlockingIOError
        # What is ready takes this much without blocking, and may not take more.
        return os.write(self.descriptor, pieces[0][: select.PIPE_BUF])

    def close(self) -> None:
        """Nothing was opened."""
