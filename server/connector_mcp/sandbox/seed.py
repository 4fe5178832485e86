"""What exists in a new sandbox: tenants, credentials and connectors, with the ids that docs, demos and tests refer to.

The values are in seed.json, and each of its constants is a member of this module. Every credential begins with
`sandbox-secret-`, except ConductorOne's client secret: it needs the platform's own form to be signed with. Its key is
public and worthless.
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

VECTORIZE_WORKSPACES: Final[tuple[str, ...]] = tuple(_CONSTANTS["VECTORIZE_WORKSPACES"])
VECTORIZE_USERS: Final[tuple[str, ...]] = tuple(_CONSTANTS["VECTORIZE_USERS"])
CONDUCTORONE_USERS: Final[list[JsonObject]] = _CONSTANTS["CONDUCTORONE_USERS"]


def __getattr__(name: str) -> str:
    """The id, credential or address that seed.json has under this name, such as `VECTORIZE_S3`."""
    if name not in _CONSTANTS:
        raise AttributeError(f"seed.json has no constant {name}")
    return _CONSTANTS[name]


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
