"""What exists in a new sandbox: tenants, credentials and connectors, with the ids that docs, demos and tests refer to.

The values are in seed.json. Every credential begins with `sandbox-secret-`, except ConductorOne's client secret: it
needs the platform's own form to be signed with. Its key is public and worthless.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

from connector_mcp.json_values import JsonObject
from connector_mcp.sandbox.world import World

_SEED: Final[JsonObject] = json.loads((resources.files("connector_mcp.sandbox") / "seed.json").read_text("utf-8"))
_CONSTANTS: Final[dict[str, Any]] = _SEED["constants"]
_SEEDED: Final = ("sandbox.markers", "seeded")

PLATFORMS: Final[tuple[str, ...]] = tuple(_CONSTANTS["PLATFORMS"])

VECTORIZE_API_KEY: Final[str] = _CONSTANTS["VECTORIZE_API_KEY"]
VECTORIZE_ORGANIZATION_ID: Final[str] = _CONSTANTS["VECTORIZE_ORGANIZATION_ID"]
VECTORIZE_WORKSPACES: Final[tuple[str, ...]] = tuple(_CONSTANTS["VECTORIZE_WORKSPACES"])
VECTORIZE_OPERATOR_ID: Final[str] = _CONSTANTS["VECTORIZE_OPERATOR_ID"]
VECTORIZE_OPERATOR_EMAIL: Final[str] = _CONSTANTS["VECTORIZE_OPERATOR_EMAIL"]
VECTORIZE_S3: Final[str] = _CONSTANTS["VECTORIZE_S3"]
VECTORIZE_WEB_CRAWLER: Final[str] = _CONSTANTS["VECTORIZE_WEB_CRAWLER"]
VECTORIZE_DRIVE_MULTI_USER: Final[str] = _CONSTANTS["VECTORIZE_DRIVE_MULTI_USER"]
VECTORIZE_CONFLUENCE: Final[str] = _CONSTANTS["VECTORIZE_CONFLUENCE"]
VECTORIZE_FILE_UPLOAD: Final[str] = _CONSTANTS["VECTORIZE_FILE_UPLOAD"]
VECTORIZE_BUILT_IN: Final[str] = _CONSTANTS["VECTORIZE_BUILT_IN"]
VECTORIZE_PINECONE: Final[str] = _CONSTANTS["VECTORIZE_PINECONE"]
VECTORIZE_BUILT_IN_DESTINATION: Final[str] = _CONSTANTS["VECTORIZE_BUILT_IN_DESTINATION"]
VECTORIZE_OPENAI: Final[str] = _CONSTANTS["VECTORIZE_OPENAI"]
VECTORIZE_BUILT_IN_AI_PLATFORM: Final[str] = _CONSTANTS["VECTORIZE_BUILT_IN_AI_PLATFORM"]
VECTORIZE_PIPELINE: Final[str] = _CONSTANTS["VECTORIZE_PIPELINE"]
VECTORIZE_FAILED_PIPELINE: Final[str] = _CONSTANTS["VECTORIZE_FAILED_PIPELINE"]
VECTORIZE_ASLEEP_PIPELINE: Final[str] = _CONSTANTS["VECTORIZE_ASLEEP_PIPELINE"]
VECTORIZE_USERS: Final[tuple[str, ...]] = tuple(_CONSTANTS["VECTORIZE_USERS"])

LOGTO_APP_ID: Final[str] = _CONSTANTS["LOGTO_APP_ID"]
LOGTO_APP_SECRET: Final[str] = _CONSTANTS["LOGTO_APP_SECRET"]
LOGTO_RESOURCE: Final[str] = _CONSTANTS["LOGTO_RESOURCE"]
"""Self-hosted, so the resource indicator is the same at every address."""
LOGTO_SMTP: Final[str] = _CONSTANTS["LOGTO_SMTP"]
LOGTO_TWILIO: Final[str] = _CONSTANTS["LOGTO_TWILIO"]
LOGTO_GOOGLE: Final[str] = _CONSTANTS["LOGTO_GOOGLE"]
LOGTO_GITHUB: Final[str] = _CONSTANTS["LOGTO_GITHUB"]
LOGTO_OIDC: Final[str] = _CONSTANTS["LOGTO_OIDC"]
LOGTO_SSO: Final[str] = _CONSTANTS["LOGTO_SSO"]

VERSORI_API_KEY: Final[str] = _CONSTANTS["VERSORI_API_KEY"]
VERSORI_JWT: Final[str] = _CONSTANTS["VERSORI_JWT"]
"""Accepted with the scheme word `JWT`, as a signing-key token is."""
VERSORI_ORGANISATION_ID: Final[str] = _CONSTANTS["VERSORI_ORGANISATION_ID"]
VERSORI_CRM: Final[str] = _CONSTANTS["VERSORI_CRM"]
VERSORI_BILLING: Final[str] = _CONSTANTS["VERSORI_BILLING"]
VERSORI_WAREHOUSE: Final[str] = _CONSTANTS["VERSORI_WAREHOUSE"]
VERSORI_SYSTEM: Final[str] = _CONSTANTS["VERSORI_SYSTEM"]
VERSORI_SHOP: Final[str] = _CONSTANTS["VERSORI_SHOP"]
VERSORI_PROJECT: Final[str] = _CONSTANTS["VERSORI_PROJECT"]
VERSORI_PRODUCTION: Final[str] = _CONSTANTS["VERSORI_PRODUCTION"]
VERSORI_STAGING: Final[str] = _CONSTANTS["VERSORI_STAGING"]
VERSORI_STOREFRONT: Final[str] = _CONSTANTS["VERSORI_STOREFRONT"]
VERSORI_STOREFRONT_PRODUCTION: Final[str] = _CONSTANTS["VERSORI_STOREFRONT_PRODUCTION"]
VERSORI_TEMPLATE: Final[str] = _CONSTANTS["VERSORI_TEMPLATE"]
VERSORI_SHOP_TEMPLATE: Final[str] = _CONSTANTS["VERSORI_SHOP_TEMPLATE"]
VERSORI_CONNECTION: Final[str] = _CONSTANTS["VERSORI_CONNECTION"]
VERSORI_SHOP_CONNECTION: Final[str] = _CONSTANTS["VERSORI_SHOP_CONNECTION"]
VERSORI_END_USER: Final[str] = _CONSTANTS["VERSORI_END_USER"]
VERSORI_ACTIVATION: Final[str] = _CONSTANTS["VERSORI_ACTIVATION"]
VERSORI_VERSION: Final[str] = _CONSTANTS["VERSORI_VERSION"]
VERSORI_NEXT_VERSION: Final[str] = _CONSTANTS["VERSORI_NEXT_VERSION"]
VERSORI_FAILED_VERSION: Final[str] = _CONSTANTS["VERSORI_FAILED_VERSION"]

CONDUCTORONE_CLIENT_ID: Final[str] = _CONSTANTS["CONDUCTORONE_CLIENT_ID"]
CONDUCTORONE_CLIENT_SECRET: Final[str] = _CONSTANTS["CONDUCTORONE_CLIENT_SECRET"]
CONDUCTORONE_PLAIN_SECRET: Final[str] = _CONSTANTS["CONDUCTORONE_PLAIN_SECRET"]
CONDUCTORONE_APP_ID: Final[str] = _CONSTANTS["CONDUCTORONE_APP_ID"]
CONDUCTORONE_OKTA: Final[str] = _CONSTANTS["CONDUCTORONE_OKTA"]
CONDUCTORONE_GITHUB: Final[str] = _CONSTANTS["CONDUCTORONE_GITHUB"]
CONDUCTORONE_SLACK: Final[str] = _CONSTANTS["CONDUCTORONE_SLACK"]
CONDUCTORONE_DELETED: Final[str] = _CONSTANTS["CONDUCTORONE_DELETED"]
CONDUCTORONE_USERS: Final[list[JsonObject]] = _CONSTANTS["CONDUCTORONE_USERS"]


def seed_world(world: World) -> None:
    """Fill a new world. A world that was seeded before stays as it is, even where collections were emptied."""
    with world.transaction():
        if world.get(*_SEEDED) is not None:
            return
        world.put(*_SEEDED, {"version": 1})
        for collection, documents in _SEED["documents"].items():
            for document in documents:
                world.put(collection, document["id"], document)
    world.forget_past()


def variables(platform: str, origin: str | None, *, create_body: str) -> dict[str, str]:
    """The platform's own environment variables for the sandbox.

    `origin` is where the sandbox is served (`http://127.0.0.1:8800`). Without it the addresses are in-process ones,
    which never resolve (RFC 2606). Raises KeyError for an unknown platform.
    """
    host = f"https://{platform}.sandbox.invalid" if origin is None else f"{origin.rstrip('/')}/{platform}"
    templates: dict[str, str] = _SEED["variables"][platform]
    return {name: text.format(host=host, create_body=create_body) for name, text in templates.items()}
