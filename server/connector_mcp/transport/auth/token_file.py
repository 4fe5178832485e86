"""Named tokens in a TOML file: an entry `[[token]]` each, with a digest in the place of the token.

    [[token]]
    name = "ci"
    digest = "sha256:9f86d0…"
    scopes = ["connectors:read", "connectors:write"]
    expires = 2027-01-01T00:00:00Z

The file is read again when it changes, so that a token that is taken out stops working at once. As long as a new
version is wrong in any way, none of its tokens counts, those of the version before neither: the change may have been
to take one out.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import time
import tomllib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, cast

from connector_mcp.errors import Misconfigured
from connector_mcp.transport.auth.static_tokens import SCOPES, BearerToken, digest_of, find_holder

logger = logging.getLogger(__name__)

LONGEST_NAME: Final = 64
LARGEST_FILE: Final = 1_048_576
RESERVED: Final = frozenset({"anonymous", "local", "token"})
"""Names that other callers have: whoever needs no token, the command line, the holder of the single token."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_SETTLED: Final = 1.0
"""Seconds after which a change would show in a file's times: clocks of file systems tick slowly."""


class TokenFile:
    """The tokens in a file, as it is now. Entries of a `scoped` file must have scopes, others must not.

    Raises:
        Misconfigured: The file cannot be read, can be changed by others, or holds anything that is not understood.
    """

    def __init__(self, path: Path, *, scoped: bool = True) -> None:
        self.path = path
        self._scoped = scoped
        self._seen: tuple[int, ...] | None = None
        self._fault: Misconfigured | None = None
        self._tokens: tuple[BearerToken, ...] = ()
        self._was_right = False
        self.tokens()

    def tokens(self) -> tuple[BearerToken, ...]:
        """All of them, in the order of the file, with those that have expired.

        Raises:
            Misconfigured: The file is not right now.
        """
        self._look()
        if self._fault is not None:
            raise self._fault
        return self._tokens

    def find(self, token: str) -> BearerToken | None:
        """The token with this value, unless it has expired. The time that this takes does not depend on the value.

        Raises:
            Misconfigured: The file is not right now, so that nobody passes.
        """
        return find_holder(self.tokens(), digest_of(token))

    def _look(self) -> None:
        try:
            seen = _version(self.path.stat())
        except OSError as failure:
            seen, error = None, failure
        else:
            if seen == self._seen:
                return
            error = None
        self._tokens = ()
        try:
            if error is not None:
                raise _unreadable(self.path, error)
            text, seen = _read(self.path)
            self._tokens = parse_tokens(text, str(self.path), scoped=self._scoped)
        except Misconfigured as fault:
            # A file that was never right ends the start, which says the same.
            if self._was_right and (self._fault is None or fault.message != self._fault.message):
                logger.error("%s %s Until then no token of this file counts.", fault.message, fault.fix)
            self._fault = fault
        else:
            self._fault, self._was_right = None, True
        # A version that is still warm may change once more without a sign of it.
        warm = seen is None or time.time() - max(seen[:2]) / 1e9 < _SETTLED
        self._seen = None if warm else seen


def parse_tokens(text: str, where: str, *, scoped: bool) -> tuple[BearerToken, ...]:
    """The tokens of such a file; `where` names it in errors.

    Raises:
        Misconfigured: Anything in it is not understood.
    """
    try:
        held = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as failure:
        # Only the place is told: the text of an error may quote what stands there.
        at = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(failure))
        raise Misconfigured(
            f"{where} is no TOML{f' (at {at[1]})' if at else ''}.", fix="Correct the file, an entry [[token]] each."
        ) from None
    for key in held:
        if key != "token":
            raise _unknown(where, key, ("token",))
    entries = held.get("token", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in cast("list[Any]", entries)):
        raise Misconfigured(f"{where}: token is no list of entries.", fix="Begin each entry with [[token]].")
    tokens: dict[str, BearerToken] = {}
    for number, entry in enumerate(cast("list[dict[str, Any]]", entries), 1):
        token = _entry(entry, f"{where}, entry {number}", scoped=scoped)
        if token.name in tokens:
            raise Misconfigured(
                f"{where}, entry {number}: the name {token.name!r} is taken by an entry before it.",
                fix="Give each token a name of its own.",
            )
        if any(token.digest == other.digest for other in tokens.values()):
            raise Misconfigured(
                f"{where}, entry {number}: the digest of {token.name!r} is that of an entry before it.",
                fix="Make a token for each name with `connector-mcp tokens new`.",
            )
        tokens[token.name] = token
    return tuple(tokens.values())


def entry_of(token: BearerToken) -> str:
    """The token as an entry of such a file."""
    lines = ["[[token]]", f"name = {json.dumps(token.name)}", f'digest = "sha256:{token.digest.hex()}"']
    if token.scopes is not None:
        lines.append(f"scopes = {json.dumps([scope for scope in SCOPES if scope in token.scopes])}")
    if token.expires is not None:
        lines.append(f"expires = {token.expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
    return "\n".join(lines) + "\n"


def append_token(path: Path, token: BearerToken) -> None:
    """Add an entry to a file, which is made, for its owner alone, where there is none.

    Raises:
        Misconfigured: The file is not right, or would not be with the entry in it.
    """
    text = _read(path)[0] if path.exists() else ""
    added = ("\n" if text else "") + entry_of(token)
    if text and not text.endswith("\n"):
        added = "\n" + added
    parse_tokens(text + added, str(path), scoped=token.scopes is not None)
    try:
        # One write, so that a server that reads meanwhile finds all of the entry or nothing.
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, added.encode())
        finally:
            os.close(file)
    except OSError as failure:
        raise _unreadable(path, failure) from None


def _entry(entry: Mapping[str, Any], where: str, *, scoped: bool) -> BearerToken:
    known = ("name", "digest", *(("scopes",) if scoped else ()), "expires")
    for key in entry:
        if key not in known:
            raise _unknown(where, key, known)
    name = entry.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise Misconfigured(
            f"{where}: name is no name.",
            fix=f'Write name = "...", up to {LONGEST_NAME} letters, digits, dots, _ and -.',
        )
    where = f"{where} ({name})"
    if name in RESERVED:
        raise Misconfigured(f"{where}: the name {name!r} is that of another caller.", fix="Take another name.")
    digest = entry.get("digest")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        # The value is not shown: somebody may have put the token itself here.
        raise Misconfigured(
            f"{where}: digest is not sha256: and 64 hexadecimal digits in lower case.",
            fix="Make an entry with `connector-mcp tokens new`.",
        )
    expires = entry.get("expires")
    if expires is not None and (not isinstance(expires, datetime) or expires.tzinfo is None):
        raise Misconfigured(
            f"{where}: expires is no time with an offset.", fix="Write such as expires = 2027-01-01T00:00:00Z."
        )
    scopes = _scopes(entry.get("scopes"), where) if scoped else None
    return BearerToken(name, bytes.fromhex(digest.removeprefix("sha256:")), scopes, expires)


def _scopes(given: Any, where: str) -> frozenset[str]:
    scopes = cast("list[Any]", given) if isinstance(given, list) else []
    if not scopes or not all(isinstance(scope, str) for scope in scopes):
        raise Misconfigured(
            f"{where}: scopes is no list of scopes.", fix=f"Write scopes = [...] with some of {', '.join(SCOPES)}."
        )
    for scope in scopes:
        if scope not in SCOPES:
            raise _unknown(f"{where}: scopes", scope, SCOPES)
    return frozenset(scopes)


def _unknown(where: str, name: str, known: Collection[str]) -> Misconfigured:
    # Names are cut short: in a file that is not what it should be they can be anything.
    nearest = get_close_matches(name, known, n=1, cutoff=0.0)[0]
    return Misconfigured(
        f"{where}: there is no {name[:LONGEST_NAME]!r}; the nearest is {nearest}.",
        fix=f"Write one of {', '.join(known)}.",
    )


def _read(path: Path) -> tuple[str, tuple[int, ...]]:
    """The file's text, and the version that this is of.

    Raises:
        Misconfigured: It cannot be read, is too large, or others may change it.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o022:
                raise Misconfigured(
                    f"Others than its owner may change {path}, and with it who may call.",
                    fix=f"Run `chmod go-w {path}`.",
                )
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise Misconfigured(f"{path} is larger than {LARGEST_FILE} bytes.", fix="Is it the right file?")
        return content.decode(), _version(status)
    except (OSError, UnicodeDecodeError) as failure:
        raise _unreadable(path, failure) from None


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev, status.st_mode


def _unreadable(path: Path, failure: Exception) -> Misconfigured:
    reason = failure.strerror if isinstance(failure, OSError) and failure.strerror else type(failure).__name__
    return Misconfigured(
        f"The tokens in {path} cannot be read or written: {reason}.", fix="Name a TOML file that this process may read."
    )
