"""All secrets of this process, from all sources, and the rules for using one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from connector_mcp.errors import Misconfigured
from connector_mcp.program import runnable
from connector_mcp.secrets.encrypted import EncryptedFile
from connector_mcp.secrets.reference import SCHEME, NotStored, SecretLimits, Unresolved, Use
from connector_mcp.secrets.sources import SecretSource
from connector_mcp.suggest import closest

logger = logging.getLogger("connector_mcp.secrets")


@dataclass(frozen=True)
class SecretEntry:
    """What may be shown of a secret. Never its value."""

    name: str
    source: str
    limits: tuple[SecretLimits, ...]
    changed: str | None


@dataclass(frozen=True)
class ResolvedSecret:
    """A secret that may be used."""

    value: str = field(repr=False)
    names_hosts: bool
    """Whether its limits name the hosts that it may go to."""


class Secrets:
    """All sources of secrets. A name is looked up in their order, and the first source that has it provides the value.

    `limits` apply in addition to those that a source keeps itself.
    """

    def __init__(
        self,
        sources: Sequence[SecretSource] = (),
        limits: Mapping[str, SecretLimits] | None = None,
        store: EncryptedFile | None = None,
    ) -> None:
        """`store` is the source that new secrets are written to."""
        self.sources = tuple(sources)
        self._store = store
        self._limits = dict(limits or {})
        self._stamps: list[object] = []
        # Only keys count. Threads may add some at any time.
        self._known: dict[str, None] = {}

    @property
    def known(self) -> tuple[str, ...]:
        """Every value that was read so far. Values that were replaced since may still be on a platform."""
        return tuple(self._known)

    def is_outdated(self) -> bool:
        """Check, without reading a value, whether `known` may lack one."""
        return self._stamps != [source.stamp() for source in self.sources]

    def read_all(self) -> None:
        """Read the values of all sources into `known`. What cannot be read is left out, and logged."""
        # A source that changes meanwhile is read again.
        stamps = [source.stamp() for source in self.sources]
        for source in self.sources:
            try:
                for name in source.names():
                    self._learn(source.read(name))
            except Misconfigured as failure:
                logger.warning("secrets are not recognized in texts until they can be read: %s", failure.message)
        # Until all is read, no other call may take `known` for complete.
        self._stamps = stamps

    def _learn(self, value: str | None) -> None:
        if value:
            self._known[value] = None

    def names(self) -> list[str]:
        """Return every known name once."""
        return list(dict.fromkeys(name for source in self.sources for name in source.names()))

    def missing(self) -> list[str]:
        """Return the names that have limits but no value in any source."""
        return [name for name in self._limits if all(source.read(name) is None for source in self.sources)]

    def listing(self) -> list[SecretEntry]:
        """List every secret with its source, its limits and the time of its last change.

        Raises:
            Misconfigured: A source cannot be read.
        """
        held: dict[str, SecretSource] = {}
        for source in self.sources:
            for name in source.names():
                held.setdefault(name, source)
        return [
            SecretEntry(name, source.title, self._limits_of(source, name), source.changed(name))
            for name, source in sorted(held.items())
        ]

    def find(self, name: str, use: Use) -> ResolvedSecret:
        """Return a secret for one use.

        Raises:
            NotStored: No source has it.
            Unresolved: It has no usable value, or its limits do not allow this use.
            Misconfigured: A source cannot be read. Later sources are not tried then.
        """
        for source in self.sources:
            value = source.read(name)
            if value is None:
                continue
            limited = self._limits_of(source, name)
            for limits in limited:
                _check_limits(limits, name, use)
            if not value.strip() or not _is_text(value):
                raise Unresolved(
                    f"{SCHEME}{name}, which holds no text", "a secret with a value", fix=_how_to_store(name)
                )
            self._learn(value)
            return ResolvedSecret(value, names_hosts=any(limits.hosts for limits in limited))
        _check_limits(self._limits.get(name, SecretLimits()), name, use)
        near = closest(name, self.names())
        wanted = "a stored secret" if near is None else f"a stored secret, such as {SCHEME}{near}"
        raise NotStored(f"{SCHEME}{name}, which is not stored", wanted, fix=_how_to_store(name))

    def check_store(self) -> None:
        """Raise unless a new secret could be stored.

        Raises:
            Misconfigured: There is no store, or it cannot be used.
        """
        self._required_store().check()

    def store_new(self, stem: str, value: str, limits: SecretLimits) -> str:
        """Store a secret under a free name (`stem`, or `stem` with a number) and return the name.

        Raises:
            Misconfigured: There is no store, or a source cannot be read.
        """
        store = self._required_store()
        self._learn(value)
        names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
        free = (name for name in names if all(source.read(name) is None for source in self.sources))
        return next(name for name in free if store.put(name, value, limits, replace=False))

    def _required_store(self) -> EncryptedFile:
        if self._store is None:
            raise Misconfigured(
                "The platform would make a new credential, but there is no secret store to keep it in.",
                fix="Serve with a state directory that holds a secret store: CONNECTOR_MCP_STATE_DIR.",
            )
        return self._store

    def _limits_of(self, source: SecretSource, name: str) -> tuple[SecretLimits, ...]:
        both = (source.limits(name), self._limits.get(name, SecretLimits()))
        return tuple(limits for limits in both if limits != SecretLimits())


def _check_limits(limits: SecretLimits, name: str, use: Use) -> None:
    allowed = limits.refusal(use)
    if allowed:
        raise Unresolved(f"{SCHEME}{name}, which may not be used here", f"a use that its limits allow: {allowed}")


def _how_to_store(name: str) -> str:
    return runnable(f"Ask the operator to run `connector-mcp secrets set {name}` in a terminal, then call again.")


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)
