"""The file of operators' tokens: names, digests and expiry, never a token."""

from __future__ import annotations

import hashlib
import hmac
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from connector_mcp.errors import Misconfigured


class _Token(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, StringConstraints(pattern=r"^[\w.@+-]{1,64}$")]
    digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
    expires: AwareDatetime | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    token: Annotated[tuple[_Token, ...], Field(min_length=1)]


class OperatorsFile:
    """The tokens of a file, as it is at each look: a token that is taken out counts no more from then on.

    Every look raises `Misconfigured` where the file cannot be read or is not what it should be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, token: str) -> str | None:
        """The name of the operator whose token this is."""
        return self._holder(hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest())

    def holds(self, digest: bytes) -> bool:
        """Whether the token with this SHA-256 is one of them."""
        return self._holder(digest) is not None

    def check(self) -> None:
        """Look once, so that a wrong file ends the start."""
        self._tokens()

    def _holder(self, digest: bytes) -> str | None:
        found, now = None, datetime.now(UTC)
        # Every token is compared, so that the time taken tells nothing of which one came close.
        for token in self._tokens():
            same = hmac.compare_digest(bytes.fromhex(token.digest.removeprefix("sha256:")), digest)
            if same and (token.expires is None or now < token.expires):
                found = token.name
        return found

    def _tokens(self) -> tuple[_Token, ...]:
        try:
            return _File.model_validate(tomllib.loads(self._path.read_text("utf-8"))).token
        except (OSError, UnicodeDecodeError) as failure:
            raise self._wrong(f"cannot be read: {type(failure).__name__}") from None
        except tomllib.TOMLDecodeError:
            raise self._wrong("is no TOML") from None
        except ValidationError as invalid:
            first = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
            place = ".".join(str(step) for step in first["loc"])
            raise self._wrong(f"is wrong at {place}: {first['msg']}") from None

    def _wrong(self, why: str) -> Misconfigured:
        return Misconfigured(
            f"CONNECTOR_MCP_OPERATORS_FILE names {self._path}, which {why}.",
            fix='Give each operator a table [[token]] with name = "alice", digest = "sha256:" and the token\'s SHA-256 '
            "in hex, and expires = 2027-01-31T00:00:00Z if it is to end.",
        )
