"""A manifest of sixty things over four platforms, and what the tests do with manifests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connector_mcp.engine.caller import CallResult
from connector_mcp.json_values import members
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.sources import EnvironmentSource
from tests.engine.conftest import Bench, FakeCaller, yes

Manifest = dict[str, Any]
Applied = tuple[Bench, Manifest]
SECRETS = ("s3_key", "s3_secret", "pinecone", "openai", "discord", "facebook", "sso", "okta", "erp", "drive")
_OKTA = "2kG3aTftCcAvWtHZt2Ywry0dPn7"


class Store(EnvironmentSource):
    """Secrets that a test can change."""

    def __init__(self, **values: str) -> None:
        known = {name: f"value-of-{name}-0123456789" for name in SECRETS} | values
        super().__init__({f"CONNECTOR_MCP_SECRET_{name}": value for name, value in known.items()})

    def set(self, name: str, value: str) -> None:
        self._values[name] = value


def secrets() -> Secrets:
    """A store that has all secrets of the manifest."""
    return Secrets([Store()])


def sixty_things() -> Manifest:
    """A manifest of sixty things."""
    s3 = {"access-key": "secret://s3_key", "secret-key": "secret://s3_secret", "archiver": False}
    crawlers = {
        f"site-{n}": {
            "name": f"Site {n}",
            "type": "WEB_CRAWLER",
            "config": {"seed-urls": [f"https://{n}.a.example", f"https://{n}.b.example"]},
        }
        for n in range(6)
    }
    buckets = {
        f"bucket-{n}": {"name": f"Bucket {n}", "type": "AWS_S3", "config": s3 | {"bucket-name": f"bucket-{n}"}}
        for n in range(3)
    }
    file = {"1AbCdEf": {"name": "Plan.docx", "mimeType": "application/vnd.google-apps.document"}}
    users = {
        f"user-{n}": {
            "source": "${sources.drive.id}",
            "user": f"user-{n}",
            "selected_files": file,
            "refresh_token": "secret://drive",
        }
        for n in range(30)
    }
    scheme = {"type": "api-key", "apiKey": {"id": "key", "description": "Key", "name": "X-Key", "in": "header"}}
    app = {"app": "${apps.crm.id}", "type": _OKTA}
    okta = {"okta_v2_domain": "acme.okta.com", "okta_v2_api_token": "secret://okta"}
    return {
        "name": "ingestion",
        "sources": {**crawlers, **buckets, "drive": {"name": "Drives", "type": "GOOGLE_DRIVE_OAUTH_MULTI"}},
        "source_users": users,
        "destinations": {"vectors": {"name": "Index", "type": "PINECONE", "config": {"api-key": "secret://pinecone"}}},
        "ai_platforms": {"openai": {"name": "Embedder", "type": "OPENAI", "config": {"key": "secret://openai"}}},
        "pipelines": {
            name: {
                "name": f"{name} search",
                "sources": [{"id": f"${{sources.{source}.id}}", "config": config} for source in sources],
                "destination": {"id": "${destinations.vectors.id}", "config": {"index": "docs"}},
                "ai_platform": {"id": "${ai_platforms.openai.id}"},
                "schedule": "manual",
            }
            for name, sources, config in (
                ("web", ("site-0", "site-1"), {}),
                ("files", ("bucket-0",), {"file-extensions": ["pdf", "md"], "idle-time": 300}),
            )
        },
        "sign_in_connectors": {
            name: {
                "type": f"{name}-universal",
                "config": {"clientId": "123", "clientSecret": f"secret://{name}"},
            }
            for name in ("discord", "facebook")
        },
        "sso_connectors": {
            "initech": {
                "name": "Initech",
                "type": "OIDC",
                "config": {"clientId": "1", "clientSecret": "secret://sso", "issuer": "https://initech.example"},
            }
        },
        "sign_in": {
            "default": {"social_sign_in_connector_targets": ["google", "github", "discord", "facebook"]},
        },
        "projects": {"orders": {"name": "Orders"}},
        "environments": {"staging": {"name": "staging", "project": "${projects.orders.id}"}},
        "systems": {
            "billing": {
                "name": "Billing",
                "domain": "https://billing.example",
                "base_url": "https://api.billing.example",
                "auth_schemes": {"key": scheme},
            }
        },
        "connection_templates": {
            "billing": {
                "name": "billing",
                "project": "${projects.orders.id}",
                "environment": "${environments.staging.id}",
                "system": "${systems.billing.id}",
                "dynamic": False,
            }
        },
        "connections": {
            "billing": {
                "name": "billing-staging",
                "template": "${connection_templates.billing.id}",
                "credentials": [{"auth_scheme_config": scheme, "type": "string", "data": {"value": "secret://erp"}}],
            }
        },
        "end_users": {"merchant": {"user": "merchant-2", "display_name": "Merchant 2"}},
        "apps": {"crm": {"name": "Acme CRM", "description": "Customers"}},
        "app_connectors": {
            "okta": app | {"name": "Okta production", "config": okta, "description": "Accounts"},
            **{f"later-{n}": app | {"name": f"Later {n}"} for n in range(4)},
        },
    }


def count_of(manifest: Mapping[str, Any]) -> int:
    """How many things a manifest describes."""
    return sum(len(members(section)) for section in manifest.values())


async def call(made: Bench, tool: str, caller: FakeCaller | None = None, **arguments: Any) -> CallResult:
    """Call a tool."""
    return await made.engine.call(tool, arguments, caller or FakeCaller())


async def plan(made: Bench, manifest: Manifest, caller: FakeCaller | None = None, **arguments: Any) -> dict[str, Any]:
    """The data of a plan that could be made."""
    result = await call(made, "plan_connectors", caller, manifest=manifest, **arguments)
    assert not result.is_error, result.content
    return result.content["data"]


async def export(made: Bench, **arguments: Any) -> Manifest:
    """The manifest of what exists."""
    result = await call(made, "export_connectors", **arguments)
    assert not result.is_error, result.content
    return result.content["data"]["manifest"]


async def issues(made: Bench, manifest: Manifest, **arguments: Any) -> dict[str, str]:
    """What is wrong with a manifest: what was got, by path."""
    result = await call(made, "plan_connectors", manifest=manifest, **arguments)
    assert result.is_error, result.content
    return {each["path"]: each["got"] for each in result.content["error"]["issues"]}


async def apply(made: Bench, manifest: Manifest, **arguments: Any) -> dict[str, Any]:
    """Plan a manifest and apply the plan; the person at the client says yes to everything."""
    planned = await plan(made, manifest, **arguments)

    def agree(question: Any) -> Any:
        confirm = question.schema["properties"]["confirm"]
        return yes(manifest["name"] if confirm["type"] == "string" else True)

    while True:
        result = await call(made, "apply_plan", FakeCaller(agree), plan_id=planned["plan_id"])
        assert not result.is_error, result.content
        if (data := result.content["data"])["status"] != "in_progress":
            assert data["status"] == "done", data
            return data


def changes(planned: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Verb and entry of each action of a plan that calls a tool."""
    return [(action["verb"], action["entry"]) for action in planned["actions"] if "tool" in action]
