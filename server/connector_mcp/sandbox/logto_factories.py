"""Logto's connector factories as the emulated server has them, noise included: guides, logos and form items."""

from __future__ import annotations

import base64
from dataclasses import dataclass
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

# Only our own description of a type is stricter than the server's guard in these points (facts: section 5, items 5, 6).
_STRICTER_THAN_THE_SERVER = ("additionalProperties", "minLength")


@dataclass(frozen=True)
class Factory:
    """One kind of connector that instances are made of."""

    known: ConnectorType

    @property
    def id(self) -> str:
        return self.known.type

    @property
    def type(self) -> str:
        """`Email`, `Sms` or `Social`."""
        return self.known.kind

    @property
    def target(self) -> str:
        return str(self.known.traits["target"])

    @property
    def platform(self) -> str | None:
        return self.known.traits["platform"]

    @property
    def is_standard(self) -> bool:
        return bool(self.known.traits["isStandard"])

    @property
    def is_demo(self) -> bool:
        return bool(self.known.traits["isDemo"])

    @property
    def stores_tokens(self) -> bool:
        return bool(self.known.traits["isTokenStorageSupported"])

    @property
    def gives_authorization_uri(self) -> bool:
        return bool(self.known.traits["supportsAuthorizationUri"])

    @property
    def authorization_endpoint(self) -> str:
        """The provider's own address where it is well known, else a made-up one."""
        return _AUTHORIZATION_ENDPOINTS.get(self.id, f"https://{self.target}.sandbox.invalid/authorize")

    @cached_property
    def guard(self) -> JsonObject:
        """The JSON Schema that the server holds a config against: unknown keys and empty strings pass."""
        return _as_lenient_as_the_server(self.known.config)

    @cached_property
    def view(self) -> JsonObject:
        """The factory as its reads show it; shared, so not to be changed."""
        shown: JsonObject = {
            "id": self.id,
            "type": self.type,
            "target": self.target,
            "platform": self.platform,
            "name": {"en": self.known.name},
            "description": {"en": f"{self.known.name} connector. {' '.join(self.known.notes)}"},
            "logo": _logo(self.known.name, "#222"),
            "logoDark": _logo(self.known.name, "#eee"),
            "readme": _readme(self.known),
            "formItems": _form_items(self.known.config),
            "isDemo": self.is_demo,
        }
        if self.type == "Social":
            shown |= {"isStandard": self.is_standard, "isTokenStorageSupported": self.stores_tokens}
        return shown


@cache
def _all() -> dict[str, Factory]:
    return {key: Factory(known) for key, known in connector_types("logto").items()}


def factories() -> tuple[Factory, ...]:
    """Every factory, demo ones included."""
    return tuple(_all().values())


def factory(factory_id: str) -> Factory | None:
    """The factory with this id, or None."""
    return _all().get(factory_id)


def _as_lenient_as_the_server(schema: Any) -> Any:
    if is_object(schema):
        return {
            key: _as_lenient_as_the_server(value)
            for key, value in schema.items()
            if key not in _STRICTER_THAN_THE_SERVER or is_object(value)
        }
    if is_array(schema):
        return [_as_lenient_as_the_server(each) for each in schema]
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
