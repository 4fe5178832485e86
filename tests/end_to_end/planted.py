"""Marked credentials, a platform that echoes what it is sent in every way it can, and a search for what got out."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from connector_mcp.operations.connector_types import ConnectorType, connector_types, example
from tests.end_to_end.recording import Recorded

MARK = "planted-"
TYPED = ("vectorize", "logto", "conductorone")

# The member of ConductorOne's configs that names the group of members that is used.
SELECTED = "C1_selected_field_group_name"
# The one config with secrets that exclude each other.
SMTP = "simple-mail-transfer-protocol"
SMTP_AUTH: list[dict[str, Any]] = [
    {"type": "login", "user": "u", "pass": ""},
    {"type": "oauth2", "user": "u", "clientId": "i", "clientSecret": "", "refreshToken": "", "accessToken": ""},
    {"type": "oauth2", "user": "u", "serviceClient": "s", "privateKey": ""},
    {"type": "oauth2", "user": "u", "serviceClient": "s", "privateKey": {"key": "", "passphrase": ""}},
]


@dataclass
class Garden:
    """What was planted: each value once, by the field that it was planted in."""

    values: dict[tuple[str, ...], str] = field(default_factory=dict[tuple[str, ...], str])

    def plant(self, *where: str) -> str:
        """A value for this field, with what JSON, addresses and base64 spell in their own ways."""
        value = f'{MARK}{len(self.values):04d}-"ü/+&\\'
        if where[-1] == "service-account-json" or where[1:] == ("VERTEX", "key"):
            value = json.dumps({"type": "service_account", "client_email": "a@b.c", "private_key": value})
        return self.values.setdefault(where, value)

    def configs(self, kind: ConnectorType) -> Iterator[dict[str, Any]]:
        """Configs of a type that hold a value in every secret member between them; none where it has no secrets."""
        if not kind.secret_paths:
            return
        config: dict[str, Any] = _filled(example(kind.config))
        groups: dict[str, list[str]] = kind.traits.get("fieldGroups") or {"": list(kind.config["properties"])}
        grouped = {key for group in groups.values() for key in group}
        for name, group in groups.items():
            for variant in SMTP_AUTH if kind.type == SMTP else [None]:
                made = {key: value for key, value in config.items() if key in group or key not in grouped}
                if SELECTED in made:
                    made[SELECTED] = name
                if variant is not None:
                    made |= {"auth": deepcopy(variant), "tls": {"key": "", "passphrase": "", "pfx": ""}}
                for path in kind.secret_paths:
                    if path.partition(".")[0] in group:
                        self._put(made, path, kind)
                yield made

    def _put(self, config: dict[str, Any], path: str, kind: ConnectorType) -> None:
        *steps, last = path.split(".")
        holder: Any = config
        for step in steps:
            holder = holder.get(step) if isinstance(holder, dict) else None
        of_map = kind.config["properties"].get(path, {}).get("type") == "object"
        if not isinstance(holder, dict) or (steps and last not in holder):
            return
        if of_map or not isinstance(holder.get(last), dict):
            value = self.plant(kind.platform, kind.type, path)
            holder[last] = {"x-api-key": value} if of_map else value


def _filled(value: Any) -> Any:
    """An example with values in place of its placeholders, which the server refuses."""
    if isinstance(value, dict):
        return {key: _filled(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_filled(member) for member in value]
    return value.strip("<>") if isinstance(value, str) else value


def typed() -> list[ConnectorType]:
    """Every connector type of the platforms that have them."""
    return [kind for platform in TYPED for kind in connector_types(platform).values()]


def echo(request: Recorded) -> dict[str, Any]:
    """All that a platform could send back of a request: as it came, as text, as JSON in a string, and in base64."""
    text = request.content.decode()
    held = list(marked(request.body)) + list(request.headers.values())
    return {
        "message": f"Cannot take {', '.join(held)}: {text}",
        "code": "entity.invalid",
        "data": {"received": text, "body": request.body, "headers": request.headers},
        "encoded": [b64encode(value.encode()).decode() for value in held],
        "basic": b64encode(f"user:{':'.join(held)}".encode()).decode(),
        "address": "https://example.com/?" + "&".join(f"v={quote(value, safe='')}" for value in held),
    }


def marked(value: Any) -> Iterator[str]:
    """Every planted value in a JSON value."""
    if isinstance(value, str):
        if MARK in value:
            yield value
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from marked(member)
    elif isinstance(value, list):
        for member in value:
            yield from marked(member)


def leaks(text: str) -> list[str]:
    """Where the mark stands in a text: as it is, which is also how JSON and addresses spell it, or inside base64."""
    return [text[max(0, at - 200) : at + 200] for word in (MARK, *_MARK_IN_BASE64) if (at := text.find(word)) >= 0]


def _in_base64(before: int) -> str:
    """The characters that hold nothing but the mark, where so many bytes stand before it."""
    text = b64encode(bytes(before) + MARK.encode()).decode()
    return text[(8 * before + 5) // 6 : 8 * (before + len(MARK)) // 6]


_MARK_IN_BASE64 = tuple(_in_base64(before) for before in range(3))
