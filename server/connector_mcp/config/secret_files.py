"""Secrets in files of their own, as container platforms mount them."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import SecretStr

from connector_mcp.errors import Misconfigured


def is_token(text: str) -> bool:
    """Whether a header can carry the text: visible ASCII characters, without spaces."""
    return re.fullmatch(r"[!-~]+", text) is not None


def read_secret(file: Path, setting: str, make: str) -> SecretStr:
    """The one word in a file that a setting names; `make` is the command that makes such a word.

    Raises:
        Misconfigured: The file cannot be read, or holds no secret.
    """
    where = f"{setting} names {file}"
    try:
        word = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as failure:
        raise Misconfigured(
            f"{where}, which cannot be read: {type(failure).__name__}.",
            fix="Name a file that this process may read and that holds the secret alone.",
        ) from None
    if not is_token(word):
        raise Misconfigured(
            f"{where}, which holds no secret: wanted visible ASCII characters on one line, without spaces.",
            fix=f"Write the secret into the file, for example with `{make}`.",
        )
    return SecretStr(word)
