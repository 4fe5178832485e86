"""Google service accounts: a config takes the text of the JSON key file, and callers give much else in its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from connector_mcp.errors import Issue
from connector_mcp.json_values import members
from connector_mcp.operations.situation import ConfigUse

_KEY_FILE = "service-account-json"
_FILE_PATH = re.compile(r"^(~|\.{0,2}[/\\]|[A-Za-z]:[/\\]|file:)|\.json$")
_AND = " and "


def find_key_file_problems(uses: Iterable[ConfigUse]) -> Iterator[Issue]:
    """Find service accounts without the text of their JSON key file, and what was given in its place."""
    for use in uses:
        if use.type is None:
            continue
        member = "key" if use.type.type == "VERTEX" else _KEY_FILE
        key = use.value.get(member)
        # Another kind of value is the schema's matter, and a reference is checked when its value is known.
        if not isinstance(key, str) or key.startswith("secret://") or member not in use.type.config["properties"]:
            continue
        if found := _key_file_problem(key):
            got, wanted = found
            yield Issue(f"{use.path}.{member}", got, f"the text of the service account's key file, {wanted}")


def _parsed(text: str, *, strict: bool) -> Any:
    try:
        return json.loads(text, strict=strict)
    except (ValueError, RecursionError):
        return None


def _key_file_problem(key: str) -> tuple[str, str] | None:
    """What was given in place of a key file, and what is wanted; None for a key file."""
    held = _parsed(key, strict=True)
    if key.startswith("\ufeff"):
        return "text with a byte order mark", "without the byte order mark in front"
    if held is None and not key.lstrip().startswith(("{", '"')):
        is_path = _FILE_PATH.search(key.strip()) is not None
        return ("the path of a file" if is_path else "text that is not JSON"), "not its path or another text"
    if held is None and _parsed(key, strict=False):
        return (
            "JSON with raw line breaks",
            "with \\n for each line break of private_key: they were unescaped on the way",
        )
    if held is None:
        return "text that is no JSON any more", "unchanged: it was cut or altered on the way"
    if isinstance(held, str):
        return "JSON that was encoded twice", "encoded once: it was encoded twice"
    lacking = [name for name in ("client_email", "private_key") if not isinstance(members(held).get(name), str)]
    if members(held).get("type") != "service_account" or lacking:
        return "JSON that is no such key file", f"with {_AND.join(('type service_account', *lacking))}"
    if "-----BEGIN" in held["private_key"] and "\\n" in held["private_key"]:
        return "a private_key with line breaks that were escaped twice", "unchanged: its line breaks were escaped twice"
    return None
