"""Logto's connector factories with the bulk that the real server sends: guides, logos and form items."""

from __future__ import annotations

import base64
from functools import cache, cached_property
from typing import Any

from connector_mcp.json_values import JsonObject, is_array, is_object
from connector_mcp.operations.connector_types import ConnectorType, connector_types

_AUTHORIZATION_ENDPOINTS = {
    "discord-universal": "https://discord.com/oauth2/authorize",
    "facebook-universal": "https://www.facebook.com/dialog/oauth",
    "github-universal": "https://github.com/login/oauth/authorize",
    "google-universal": "https://accounts.google.com/o/oauth2/v2/auth",
}
_FORM_TYPES = {"boolean": "Switch", "number": "Number", "integer": "Number", "string": "Text"}

# The server's own guard does not have these (facts: section 5, items 5, 6).
_ONLY_IN_OUR_SCHEMA = ("additionalProperties", "minLength")


class Factory:
    """One kind of connector that instances are made of. `type` is `Email`, `Sms` or `Social`."""

    def __init__(self, known: ConnectorType) -> None:
        self._known = known
        self.id = known.type
        self.type = known.kind
        self.target = str(known.traits["target"])
        self.platform: str | None = known.traits["platform"]
        self.is_standard = bool(known.traits["isStandard"])
        self.is_demo = bool(known.traits["isDemo"])
        self.stores_tokens = bool(known.traits["isTokenStorageSupported"])
        self.gives_authorization_uri = bool(known.traits["supportsAuthorizationUri"])
        made_up = f"https://{self.target}.sandbox.invalid/authorize"
        self.authorization_endpoint = _AUTHORIZATION_ENDPOINTS.get(self.id, made_up)

    @cached_property
    def guard(self) -> JsonObject:
        """The JSON Schema that the server validates a config against. Unknown keys and empty strings are valid."""
        return _loosened(self._known.config)

    @cached_property
    def view(self) -> JsonObject:
        """The factory as reads show it. Shared: do not change it."""
        shown: JsonObject = {
            "id": self.id,
            "type": self.type,
            "target": self.target,
            "platform": self.platform,
            "name": {"en": self._known.name},
            "description": {"en": f"{self._known.name} connector. {' '.join(self._known.notes)}"},
            "logo": _logo(self._known.name, "#222"),
            "logoDark": _logo(self._known.name, "#eee"),
            "readme": _readme(self._known),
            "formItems": _form_items(self._known.config),
            "isDemo": self.is_demo,
        }
        if self.type == "Social":
            shown |= {"isStandard": self.is_standard, "isTokenStorageSupported": self.stores_tokens}
        return shown


@cache
def factories() -> dict[str, Factory]:
    """Every factory by its id, demo ones included."""
    known = connector_types("logto").values()
    return {each.type: Factory(each) for each in known if not each.traits.get("isEnterprise")}


def _loosened(schema: Any) -> Any:
    if is_object(schema):
        return {
            key: _loosened(value) for key, value in schema.items() if key not in _ONLY_IN_OUR_SCHEMA or is_object(value)
        }
    if is_array(schema):
        return [_loosened(each) for each in schema]
    return schema


def _form_items(config: JsonObject) -> list[JsonObject]:
    required = config.get("required", [])
    return [
        {
            "key": key,
            "type": _FORM_TYPES.get(str(member.get("type")), "Json"),
            "label": key[:1].upper() + key[1:],
            "required": key in required,
            "placeholder": f"<{key}>",
            "description": member.get("description", ""),
        }
        for key, member in config.get("properties", {}).items()
    ]


def _logo(name: str, colour: str) -> str:
    dots = "".join(f'<circle cx="{n % 16}" cy="{n // 16}" r="0.4" fill="{colour}"/>' for n in range(48))
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><title>{name}</title>{dots}</svg>'
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _readme(known: ConnectorType) -> str:
    lines = [f"# {known.name} connector", "", *known.notes, "", "## Configuration", ""]
    for key, member in known.config.get("properties", {}).items():
        lines.append(f"- `{key}`: {member.get('description', '')}")
    for step in range(1, 31):
        lines += ["", f"### Step {step}", f"Open the console of {known.name}, look at page {step}, go on to the next."]
    return "\n".join(lines)
