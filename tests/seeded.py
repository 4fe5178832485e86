"""Arguments with which each operation works on a new sandbox."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from connector_mcp.json_values import JsonObject
from connector_mcp.operations.logto.email_templates import ReplaceEmailTemplates
from connector_mcp.operations.operation import Operation
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.sandbox.vectorize.uploads import FILES

ALWAYS = ("workspace_id", "organization_id", "organisation_id")
EXISTING: dict[str, JsonObject] = {
    "vectorize": {
        "organization_id": seed.VECTORIZE_ORGANIZATION_ID, "workspace_id": seed.VECTORIZE_WORKSPACES[0],
        "source_connector_id": seed.VECTORIZE_DRIVE_MULTI_USER, "pipeline_id": seed.VECTORIZE_PIPELINE,
        "destination_connector_id": seed.VECTORIZE_PINECONE, "ai_platform_connector_id": seed.VECTORIZE_OPENAI,
        "connector_id": seed.VECTORIZE_FILE_UPLOAD,
    },
    "logto": {"id": seed.LOGTO_GITHUB},
    "versori": {
        "organisation_id": seed.VERSORI_ORGANISATION_ID, "system_id": seed.VERSORI_SYSTEM,
        "project_id": seed.VERSORI_PROJECT, "environment_id": seed.VERSORI_PRODUCTION,
        "template_id": seed.VERSORI_TEMPLATE, "connection_template_id": seed.VERSORI_TEMPLATE,
        "connection_id": seed.VERSORI_CONNECTION, "version_id": seed.VERSORI_NEXT_VERSION,
        "activation_id": seed.VERSORI_ACTIVATION, "connector_id": seed.VERSORI_CRM,
    },
    "conductorone": {
        "app_id": seed.CONDUCTORONE_APP_ID, "connector_id": seed.CONDUCTORONE_OKTA, "id": seed.CONDUCTORONE_OKTA,
    },
}  # fmt: skip
OTHERS: dict[str, JsonObject] = {
    "vectorize_update_source_connector": {
        "source_connector_id": seed.VECTORIZE_WEB_CRAWLER, "config": {"seed-urls": ["https://docs.acme.example"]},
    },
    "vectorize_create_pipeline": {
        "source_connectors": [{"id": seed.VECTORIZE_WEB_CRAWLER, "type": "WEB_CRAWLER", "config": {}}],
        "destination_connector": {"id": seed.VECTORIZE_BUILT_IN_DESTINATION, "type": "VECTORIZE"},
        "ai_platform_connector": {"id": seed.VECTORIZE_BUILT_IN_AI_PLATFORM, "type": "VECTORIZE", "config": {}},
    },
    **{
        f"vectorize_{verb}_source_connector": {"user_id": "user_alice"}
        for verb in ("update_user_in", "delete_user_from")
    },
    "logto_create_connector_authorization_uri": {"connector_id": seed.LOGTO_GITHUB},
    "vectorize_delete_file_from_connector": {"file_name": "plan.pdf"},
    **{f"logto_{verb}_sso_connector": {"id": seed.LOGTO_SSO} for verb in ("update", "delete", "get")},
    "versori_create_connection": {"external_id": "merchant-1"},
    "versori_activate_user": {
        "user_id": "merchant-1",
        "connections": [
            {"connection_template_id": seed.VERSORI_TEMPLATE, "existing_connection_id": seed.VERSORI_CONNECTION}
        ],
    },
    **{
        f"versori_{verb}": {"environment_id": seed.VERSORI_STOREFRONT_PRODUCTION}
        for verb in ("delete_activation", "set_dynamic_variables", "set_dynamic_variable")
    },
    "conductorone_update_app": {"id": seed.CONDUCTORONE_APP_ID},
}  # fmt: skip


Call = Callable[[str, JsonObject], Awaitable[Any]]
"""Calls a tool and returns its data."""


def add_file(sandbox: Sandbox) -> None:
    """Upload a file, as no tool can."""
    name, connector = "plan.pdf", seed.VECTORIZE_FILE_UPLOAD
    file = {"key": f"{seed.VECTORIZE_ORGANIZATION_ID}/{connector}/{name}", "name": name, "connector": connector}
    sandbox.world.put(FILES, file["key"], file | {"size": 4, "lastModified": sandbox.world.timestamp()})


async def add_to_sandbox(call: Call) -> dict[str, JsonObject]:
    """Make with tools what a new sandbox lacks. Return the arguments that name it, by operation."""
    (template,) = await call("logto_replace_email_templates", seeded_arguments(ReplaceEmailTemplates))
    sso = (await call("logto_create_sso_connector", {"provider_name": "SAML", "connector_name": "Acme"}))["id"]
    key = (await call("logto_create_sso_connector_signing_key", {"id": sso}))["id"]
    app = {
        "clientId": "app",
        "credentialId": "01J2CRED",
        "organisationId": seed.VERSORI_ORGANISATION_ID,
    }
    oauth = {
        "id": "oauth", "description": "OAuth", "authorizeUrl": "https://acme.example/a", "scopes": [],
        "tokenUrl": "https://acme.example/t", "defaultScopes": [],
        "grant": {"type": "authorizationCode", "authorizationCode": app},
    }  # fmt: skip
    scheme = {"system_id": seed.VERSORI_SYSTEM, "auth_scheme_config_id": "oauth"}
    await call("versori_upsert_auth_scheme_config", scheme | {"config": {"type": "oauth2", "oauth2": oauth}})
    self_hosted = {"app_id": seed.CONDUCTORONE_APP_ID, "catalog_id": "2HErg7BRmNdHgX8sTCWVq4E1fyh"}
    made = (await call("conductorone_create_delegated_connector", self_hosted))["id"]
    place = {"app_id": seed.CONDUCTORONE_APP_ID, "connector_id": made}
    credential = (await call("conductorone_rotate_credential", place))["id"]
    return {
        "logto_create_sso_connector_signing_key": {"id": sso},
        "logto_list_sso_connector_signing_keys": {"id": sso},
        "logto_update_sso_connector_signing_key": {"id": sso, "key_id": key},
        **{f"logto_{verb}": {"id": template["id"]} for verb in ("get_email_template", "update_email_template_details")},
        "versori_initialise_oauth2_connection": scheme,
        "conductorone_rotate_credential": place,
        **{
            f"conductorone_{verb}": place | {"credential_id": credential}
            for verb in ("get_credentials", "revoke_credential")
        },
    }


def confirmation(message: str, schema: Any) -> Any:
    """What a person who agrees enters: the name that the question asks for, or yes."""
    if schema["properties"]["confirm"]["type"] == "boolean":
        return True
    return message.rpartition("type the name: ")[2].strip()


def seeded_arguments(operation: type[Operation], added: Mapping[str, JsonObject] | None = None) -> JsonObject:
    """The example of an operation, with ids of what the sandbox has and of what was added to it."""
    given = dict(operation.example)
    if operation.on is not None:
        given |= {
            name: value
            for name, value in EXISTING[operation.on.name].items()
            if name in operation.model_fields and (name in given or name in ALWAYS)
        }
    given |= OTHERS.get(operation.tool_name(), {}) | (added or {}).get(operation.tool_name(), {})
    return json.loads(re.sub(r'"<[^"]*>"', '"value"', json.dumps(given)))
