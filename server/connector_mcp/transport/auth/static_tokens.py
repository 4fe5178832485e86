"""Static bearer tokens: one from a setting, and named ones in a TOML file. Only digests are kept.

    [[token]]
    name = "ci"
    digest = "sha256:9f86d0…"
    scopes = ["connectors:read", "connectors:write"]
    profiles = ["team-a"]
    expires = 2027-01-01T00:00:00Z

A change of the file takes effect with the next request, so removing an entry revokes its token at once. While the file
is invalid, none of its tokens is accepted, not even those of its last valid version: the change may have revoked one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import stat
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from connector_mcp.errors import Misconfigured
from connector_mcp.input_text import drop_mark
from connector_mcp.json_values import JsonObject, is_array, is_object, is_strings
from connector_mcp.suggest import did_you_mean
from connector_mcp.transport.auth.principal import SCOPES

logger = logging.getLogger(__name__)

SETTING: Final = "CONNECTOR_MCP_HTTP_TOKEN"
TOKEN_PREFIX: Final = "cmcp_"  # noqa: S105 - lets scanners of logs and repositories recognize our tokens
MAX_FILE_BYTES: Final = 1_048_576
RESERVED_NAMES: Final = frozenset({"anonymous", "local", "token"})
"""Names of other callers: those without a token, the command line, the holder of the single token."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class StaticToken:
    """A token by its digest, with the name of its holder and the scopes it grants (None: a token without scopes)."""

    name: str
    digest: bytes = field(repr=False)
    scopes: frozenset[str] | None = None
    expires: datetime | None = None
    """When it expires, with a time zone; None if it never does."""
    profiles: frozenset[str] | None = None
    """The profiles that its holder may act under; None for all."""

    @staticmethod
    def from_secret(secret: str, *, name: str = "token", scopes: Collection[str] | None = None) -> StaticToken:
        """Create the token with this secret value, which the settings have checked."""
        return StaticToken(name, digest_of(secret), None if scopes is None else frozenset(scopes))

    def has_expired(self) -> bool:
        """Check whether the token has expired."""
        return self.expires is not None and self.expires <= datetime.now(UTC)


def digest_of(secret: str) -> bytes:
    """Return the SHA-256 that is kept in place of a token."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def match_token(tokens: Iterable[StaticToken], digest: bytes) -> StaticToken | None:
    """Return the token with this digest, even if it has expired."""
    found = None
    # Every token is compared, so that the time taken does not tell which one came close.
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            found = token
    return found


def find_token(tokens: Iterable[StaticToken], digest: bytes) -> StaticToken | None:
    """Return the token with this digest, unless it has expired."""
    found = match_token(tokens, digest)
    return None if found is None or found.has_expired() else found


def new_secret() -> str:
    """Make a new token value of 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


class TokenFile:
    """The tokens in a file, in its current version. Entries of a `scoped` file must have scopes, others must not.

    Raises:
        Misconfigured: The file cannot be read, can be changed by others, or is invalid.
    """

    def __init__(self, path: Path, *, scoped: bool = True) -> None:
        self.path = path
        self._scoped = scoped
        self._text: str | None = None
        self._tokens: tuple[StaticToken, ...] = ()
        self._reported: str | None = None
        self.tokens()

    def tokens(self) -> tuple[StaticToken, ...]:
        """Return all tokens in the order of the file, expired ones included.

        Raises:
            Misconfigured: The file is invalid at the moment.
        """
        try:
            text = _read(self.path)
            # Compared by content: a second change within one tick of the file system's clock leaves no other trace.
            if text != self._text:
                self._tokens = parse_tokens(text, str(self.path), scoped=self._scoped)
        except Misconfigured as error:
            # An error at the start is not logged: it ends the start, and the command prints it.
            if self._text is not None and error.message != self._reported:
                logger.error("%s %s Until then no token of this file is accepted.", error.message, error.fix)
            self._reported = error.message
            raise
        self._text, self._reported = text, None
        return self._tokens

    def find(self, token: str) -> StaticToken | None:
        """Return the token with this value, unless it has expired. The time taken does not depend on the value.

        Raises:
            Misconfigured: The file is invalid at the moment.
        """
        return find_token(self.tokens(), digest_of(token))


def parse_tokens(text: str, where: str, *, scoped: bool) -> tuple[StaticToken, ...]:
    """Parse the text of a token file; `where` names it in errors.

    Raises:
        Misconfigured: Anything in it is invalid.
    """
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as failure:
        # Only the position is shown: the parser's message may quote what stands there.
        at = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(failure))
        raise Misconfigured(
            f"{where} is not valid TOML{f' (at {at[1]})' if at else ''}.", fix="Write one [[token]] entry per token."
        ) from None
    _check_keys(document, ("token",), where)
    entries = document.get("token", [])
    if not is_array(entries) or not all(is_object(entry) for entry in entries):
        raise Misconfigured(f"{where}: token is not a list of entries.", fix="Begin each entry with [[token]].")
    tokens: list[StaticToken] = []
    for number, entry in enumerate(entries, 1):
        at = f"{where}, entry {number}"
        token = _parse_entry(entry, at, scoped=scoped)
        if any(token.name == other.name for other in tokens):
            raise Misconfigured(f"{at}: the name {token.name!r} is taken.", fix="Give each token its own name.")
        if any(token.digest == other.digest for other in tokens):
            raise Misconfigured(
                f"{at}: {token.name!r} has the digest of an earlier entry.",
                fix="Make one token for each name with `connector-mcp tokens new`.",
            )
        tokens.append(token)
    return tuple(tokens)


def token_entry(token: StaticToken) -> str:
    """Return the token as an entry of a token file."""
    lines = ["[[token]]", f"name = {json.dumps(token.name)}", f'digest = "sha256:{token.digest.hex()}"']
    if token.scopes is not None:
        lines.append(f"scopes = {json.dumps([scope for scope in SCOPES if scope in token.scopes])}")
    if token.profiles is not None:
        lines.append(f"profiles = {json.dumps(sorted(token.profiles))}")
    if token.expires is not None:
        lines.append(f"expires = {token.expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
    return "\n".join(lines) + "\n"


def append_token(path: Path, token: StaticToken) -> None:
    """Add an entry to a file, which is created with access for its owner only if it does not exist.

    Raises:
        Misconfigured: The file is invalid, or would be with the new entry.
    """
    text = _read(path) if path.exists() else ""
    separator = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    added = separator + token_entry(token)
    parse_tokens(text + added, str(path), scoped=token.scopes is not None)
    try:
        # One write, so that a server that reads at the same time sees the whole entry or none of it.
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, added.encode())
        finally:
            os.close(file)
    except OSError as failure:
        raise _unreadable(path, failure) from None


def _parse_entry(entry: JsonObject, where: str, *, scoped: bool) -> StaticToken:
    _check_keys(entry, ("name", "digest", "scopes", *(("profiles",) if scoped else ()), "expires"), where)
    name, digest, expires = entry.get("name"), entry.get("digest"), entry.get("expires")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Misconfigured(
            f"{where}: name is missing or invalid.", fix='Write name = "...", up to 64 letters, digits, dots, _ and -.'
        )
    where = f"{where} ({name})"
    if name in RESERVED_NAMES:
        raise Misconfigured(f"{where}: the name {name!r} is reserved.", fix="Choose another name.")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        # The value is not shown: it may be the token itself.
        raise Misconfigured(
            f"{where}: digest is not `sha256:` and 64 lowercase hexadecimal digits.",
            fix="Make an entry with `connector-mcp tokens new`.",
        )
    if expires is not None and (not isinstance(expires, datetime) or expires.tzinfo is None):
        raise Misconfigured(
            f"{where}: expires is not a time with a UTC offset.", fix="Write it as in expires = 2027-01-01T00:00:00Z."
        )
    if ("scopes" in entry) != scoped:
        kind = "scopes, as a caller's" if "scopes" in entry else "no scopes, as an operator's"
        raise Misconfigured(
            f"{where} has {kind}; this file is read as one of {'callers' if scoped else 'operators'}.",
            fix="Keep tokens of callers in the file of CONNECTOR_MCP_TOKENS_FILE, and tokens of operators in that of "
            "CONNECTOR_MCP_OPERATORS_FILE. To list those of operators, run "
            "`connector-mcp tokens list --operators --file FILE`.",
        )
    token = StaticToken(name, bytes.fromhex(digest.removeprefix("sha256:")), expires=expires)
    if not scoped:
        return token
    scopes = entry.get("scopes")
    if not is_strings(scopes) or not scopes:
        raise Misconfigured(
            f"{where}: scopes is not a list of scopes.", fix=f"Write scopes = [...] with some of {', '.join(SCOPES)}."
        )
    _check_keys(scopes, SCOPES, f"{where}: scopes")
    profiles = entry.get("profiles")
    if "profiles" in entry and (not is_strings(profiles) or not profiles):
        raise Misconfigured(
            f"{where}: profiles is not a list of profiles.",
            fix='Write profiles = ["..."] with the profiles that its holder may act under, or leave it out for all.',
        )
    return replace(token, scopes=frozenset(scopes), profiles=frozenset(profiles) if is_strings(profiles) else None)


def _check_keys(keys: Iterable[str], known: Collection[str], where: str) -> None:
    for key in keys:
        if key not in known:
            # Cut short: in a file that is something else entirely, a key can be anything.
            raise Misconfigured(
                f"{where}: unknown {key[:64]!r}.{did_you_mean(key[:64], known)}", fix=f"Use one of {', '.join(known)}."
            )


def _read(path: Path) -> str:
    """Return the file's text.

    Raises:
        Misconfigured: It cannot be read, is too large, or others may change it.
    """
    try:
        with path.open("rb") as file:
            if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o022:
                raise Misconfigured(
                    f"{path} can be changed by users other than its owner, who could let anyone call.",
                    fix=f"Run `chmod go-w {path}`.",
                )
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise Misconfigured(f"{path} is larger than {MAX_FILE_BYTES} bytes.", fix="Check its path.")
        return drop_mark(content.decode())
    except (OSError, UnicodeDecodeError) as failure:
        raise _unreadable(path, failure) from None


def _unreadable(path: Path, failure: Exception) -> Misconfigured:
    reason = failure.strerror if isinstance(failure, OSError) and failure.strerror else type(failure).__name__
    return Misconfigured(
        f"The token file {path} cannot be read or written: {reason}.",
        fix="Name a TOML file that this process may read.",
    )
