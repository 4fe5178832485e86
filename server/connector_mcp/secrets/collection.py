"""All secrets of this process, whichever place they are in, and the rules on using one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import count

from connector_mcp.errors import Misconfigured
from connector_mcp.secrets.encrypted import EncryptedFile
from connector_mcp.secrets.limits import Limits, Use
from connector_mcp.secrets.reference import SCHEME, NotStored, Unresolved
from connector_mcp.secrets.sources import SecretSource


@dataclass(frozen=True)
class Listed:
    """What may be told of a secret. Never its value."""

    name: str
    source: str
    limits: tuple[Limits, ...]
    changed: str | None


class Secrets:
    """The places in the order in which they are asked; the first that has a name has it.

    `limits` come on top of those that a place keeps itself: a use must be within both.
    """

    def __init__(
        self,
        sources: Sequence[SecretSource] = (),
        limits: Mapping[str, Limits] | None = None,
        store: EncryptedFile | None = None,
    ) -> None:
        """`store` is the one of the sources to which new secrets go."""
        self.sources = tuple(sources)
        self._store = store
        self._limits = dict(limits or {})

    def names(self) -> list[str]:
        """Every name that is known, each once."""
        return list(dict.fromkeys(name for source in self.sources for name in source.names()))

    def missing(self) -> list[str]:
        """The names that have limits and are nowhere."""
        return [name for name in self._limits if all(source.read(name) is None for source in self.sources)]

    def listing(self) -> list[Listed]:
        """Every secret with where it is, where it may be used and when it last changed.

        Raises:
            Misconfigured: A place cannot be read.
        """
        held: dict[str, SecretSource] = {}
        for source in self.sources:
            for name in source.names():
                held.setdefault(name, source)
        return [
            Listed(name, source.title, self._limits_of(source, name), source.changed(name))
            for name, source in sorted(held.items())
        ]

    def resolve(self, name: str, use: Use) -> str:
        """The value of a secret, for one use.

        Raises:
            NotStored: It is not there.
            Unresolved: It has no usable value, or may not be used so.
            Misconfigured: A place cannot be read; then no later one is asked either.
        """
        for source in self.sources:
            value = source.read(name)
            if value is None:
                continue
            for limits in self._limits_of(source, name):
                _insist_on_limits(limits, name, use)
            if not value.strip() or not _is_text(value):
                raise Unresolved(
                    f"{SCHEME}{name}, which holds no text", "a secret with a value", fix=_how_to_store(name)
                )
            return value
        _insist_on_limits(self._limits.get(name, Limits()), name, use)
        near = get_close_matches(name.lower(), {known.lower(): known for known in self.names()}, n=1, cutoff=0.5)
        known = next((each for each in self.names() if near and each.lower() == near[0]), None)
        wanted = "a secret that is stored" if known is None else f"{SCHEME}{known}, perhaps, or another that is stored"
        raise NotStored(f"{SCHEME}{name}, which is not stored", wanted, fix=_how_to_store(name))

    def check_store(self) -> None:
        """See that a new secret could be stored.

        Raises:
            Misconfigured: It could not, or there is no store.
        """
        self._required_store().check()

    def store_new(self, stem: str, value: str, limits: Limits) -> str:
        """Store a secret under a name that nothing has yet, the stem or the stem with a number; return the name.

        Raises:
            Misconfigured: There is no store, or it or another place cannot be used.
        """
        store = self._required_store()
        names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
        free = (name for name in names if all(source.read(name) is None for source in self.sources))
        return next(name for name in free if store.add(name, value, limits))

    def _required_store(self) -> EncryptedFile:
        if self._store is None:
            raise Misconfigured(
                "The platform would make a new credential, and there is no secret store to keep it in.",
                fix="Serve with a state directory that holds a secret store: CONNECTOR_MCP_STATE_DIR.",
            )
        return self._store

    def _limits_of(self, source: SecretSource, name: str) -> tuple[Limits, ...]:
        both = (source.limits(name), self._limits.get(name, Limits()))
        return tuple(limits for limits in both if limits != Limits())


def _insist_on_limits(limits: Limits, name: str, use: Use) -> None:
    allowed = limits.refusal(use)
    if allowed:
        raise Unresolved(f"{SCHEME}{name}, which may not be used here", f"a use within its limit: {allowed}")


def _how_to_store(name: str) -> str:
    return f"Ask the operator to run `connector-mcp secrets set {name}` in a terminal, then call again."


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)
