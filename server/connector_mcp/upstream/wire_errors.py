"""Why an attempt brought no answer.

    WireError
    ├── NeverSent             no byte of the request left this machine
    │   ├── ConnectError
    │   ├── ConnectTimeout
    │   ├── PoolTimeout
    │   └── ProxyError
    ├── LocalProtocolError    the request cannot be written as HTTP
    ├── UnsupportedProtocol   the address is not one of this wire
    ├── RemoteProtocolError   the other side broke off, or does not speak HTTP
    ├── ReadError             the connection broke
    ├── WriteError
    ├── ReadTimeout
    └── WriteTimeout

The names are those of httpx, which logs and metrics show. They are not httpx's own classes because importing httpx is
a sixteenth of a cold start, and nothing else needs it there. The three timeouts are `TimedOut` as well.
"""

from __future__ import annotations


class WireError(Exception):
    """One attempt brought no answer. What is not `NeverSent` may have reached the other side."""


class TimedOut(WireError):
    """Nothing happened for too long."""


class NeverSent(WireError):
    """No byte of the request left this machine."""


class ConnectError(NeverSent):
    """No connection could be made, or its TLS handshake failed."""


class ConnectTimeout(NeverSent, TimedOut):
    """Making a connection, TLS included, took too long."""


class PoolTimeout(NeverSent, TimedOut):
    """All connections were in use for too long."""


class ProxyError(NeverSent):
    """A proxy made no connection."""


class LocalProtocolError(WireError):
    """The request cannot be written as HTTP."""


class UnsupportedProtocol(WireError):
    """The address is not one of this wire."""


class RemoteProtocolError(WireError):
    """The other side ended its answer too early, or does not speak HTTP."""


class ReadError(WireError):
    """The connection broke."""


class WriteError(WireError):
    """The connection broke while the request was written."""


class ReadTimeout(TimedOut):
    """No byte came for too long."""


class WriteTimeout(TimedOut):
    """No byte was taken for too long."""
