"""The connectors that a new sandbox holds."""

from __future__ import annotations

from typing import Any

from connector_mcp.json_values import JsonObject
from connector_mcp.sandbox import conductorone, logto, seed, vectorize, versori
from connector_mcp.sandbox.world import World

_MARKERS = "sandbox.markers"
_CREATED = "2026-03-02T09:00:00.000Z"


def seed_world(world: World) -> None:
    """Fill a world that was never filled before; one that was stays as it is, emptied collections included."""
    with world.transaction():
        if world.get(_MARKERS, "seeded") is not None:
            return
        world.put(_MARKERS, "seeded", {"version": 1})
        for collection, documents in (
            (vectorize.SOURCES, _vectorize_sources()),
            (logto.CONNECTORS, _logto_connectors()),
            (logto.STORED_TOKENS, _logto_stored_tokens()),
            (versori.CONNECTORS, _versori_connectors()),
            (conductorone.CONNECTORS, _conductorone_connectors()),
        ):
            for document in documents:
                world.put(collection, document["id"], document)
    world.forget_past()


def _vectorize_sources() -> list[JsonObject]:
    default, research = seed.VECTORIZE_WORKSPACES
    drive_users: JsonObject = {
        user: {
            "selectedFiles": {f"1{user}": {"name": name, "mimeType": "application/vnd.google-apps.document"}},
            "refreshToken": f"sandbox-secret-drive-refresh-token-{user}",
        }
        for user, name in zip(seed.VECTORIZE_USERS, ("Plan.docx", "Budget.xlsx"), strict=True)
    }
    return [
        _source(
            seed.VECTORIZE_S3,
            "AWS_S3",
            "Product documents",
            {
                "access-key": "sandbox-secret-s3-access-key",
                "secret-key": "sandbox-secret-s3-secret-key",
                "bucket-name": "acme-product-docs",
                "region": "eu-central-1",
                "archiver": False,
            },
            pipelineIds=["c0a8012e-7b1f-4d3a-9f61-0f2f8f3f9a11"],
        ),
        _source(seed.VECTORIZE_WEB_CRAWLER, "WEB_CRAWLER", "Docs site", {"seed-urls": ["https://docs.acme.example"]}),
        _source(seed.VECTORIZE_DRIVE_MULTI_USER, "GOOGLE_DRIVE_OAUTH_MULTI", "Customer drives", {}, users=drive_users),
        _source(
            seed.VECTORIZE_CONFLUENCE,
            "CONFLUENCE",
            "Engineering wiki",
            {
                "username": "wiki-reader@acme.example",
                "api-token": "sandbox-secret-confluence-api-token",
                "domain": "acme.atlassian.net",
            },
            workspaceId=research,
            verificationStatus="failed",
            errorMessage="Confluence refused the API token.",
        ),
        _source(seed.VECTORIZE_FILE_UPLOAD, "FILE_UPLOAD", "Research papers", {}, workspaceId=research),
        _source(seed.VECTORIZE_BUILT_IN, "VECTORIZE", "Built-in", {}, workspaceId=default),
    ]


def _source(source_id: str, type_id: str, name: str, config: JsonObject, **more: Any) -> JsonObject:
    return {
        "id": source_id,
        "type": type_id,
        "name": name,
        "config": config,
        "createdAt": _CREATED,
        "createdById": seed.VECTORIZE_OPERATOR_ID,
        "createdByEmail": seed.VECTORIZE_OPERATOR_EMAIL,
        "lastUpdatedById": seed.VECTORIZE_OPERATOR_ID,
        "lastUpdatedByEmail": seed.VECTORIZE_OPERATOR_EMAIL,
        "verificationStatus": "verified",
        "workspaceId": seed.VECTORIZE_WORKSPACES[0],
        "users": {},
        "pipelineIds": [],
        **more,
    }


def _logto_connectors() -> list[JsonObject]:
    usages = ("SignIn", "Register", "ForgotPassword", "Generic")
    content = "Your Acme verification code is {{code}}."
    return [
        _logto_connector(
            seed.LOGTO_SMTP,
            "simple-mail-transfer-protocol",
            {
                "host": "smtp.acme.example",
                "port": 587,
                "auth": {"type": "login", "user": "mailer", "pass": "sandbox-secret-smtp-password"},
                "fromEmail": "no-reply@acme.example",
                "templates": [
                    {"usageType": usage, "contentType": "text/plain", "subject": "Your code", "content": content}
                    for usage in usages
                ],
            },
        ),
        _logto_connector(
            seed.LOGTO_TWILIO,
            "twilio-short-message-service",
            {
                "accountSID": "AC00000000000000000000000000000000",
                "authToken": "sandbox-secret-twilio-auth-token",
                "fromMessagingServiceSID": "MG00000000000000000000000000000000",
                "templates": [{"usageType": usage, "content": content} for usage in usages],
            },
        ),
        _logto_connector(
            seed.LOGTO_GOOGLE,
            "google-universal",
            {
                "clientId": "123.apps.googleusercontent.com",
                "clientSecret": "sandbox-secret-google-client-secret",
                "scope": "openid profile email",
            },
            syncProfile=True,
            enableTokenStorage=True,
        ),
        _logto_connector(
            seed.LOGTO_GITHUB,
            "github-universal",
            {"clientId": "Iv1.sandbox", "clientSecret": "sandbox-secret-github-client-secret"},
        ),
        _logto_connector(
            seed.LOGTO_OIDC,
            "oidc",
            {
                "authorizationEndpoint": "https://id.acme.example/authorize",
                "tokenEndpoint": "https://id.acme.example/token",
                "clientId": "logto",
                "clientSecret": "sandbox-secret-oidc-client-secret",
                "scope": "openid profile email",
                "idTokenVerificationConfig": {"jwksUri": "https://id.acme.example/jwks"},
            },
            metadata={"target": "acme-idp", "name": {"en": "Acme ID"}, "logo": "https://id.acme.example/logo.svg"},
        ),
    ]


def _logto_connector(instance: str, factory: str, config: JsonObject, **more: Any) -> JsonObject:
    return {
        "id": instance,
        "connectorId": factory,
        "config": config,
        "metadata": {},
        "syncProfile": False,
        "enableTokenStorage": False,
        **more,
    }


def _logto_stored_tokens() -> list[JsonObject]:
    return [{"id": f"tokens-{user}", "connectorId": seed.LOGTO_GOOGLE} for user in seed.VECTORIZE_USERS]


def _versori_connectors() -> list[JsonObject]:
    key: JsonObject = {
        "id": "key",
        "description": "API key",
        "schemeType": "api-key",
        "name": "X-Api-Key",
        "in": "header",
    }
    mutual: JsonObject = {"id": "mtls", "description": "Client certificate", "schemeType": "certificate"}
    certificate = {
        "certificate": "-----BEGIN CERTIFICATE-----",
        "key": "sandbox-secret-versori-certificate-key",
        "ca": "-----BEGIN CERTIFICATE-----",
    }
    return [
        _versori_connector(
            seed.VERSORI_CRM,
            "http",
            "Acme CRM",
            [key, mutual],
            [
                _connection(
                    "A1", "production", key, "string", {"value": "sandbox-secret-versori-crm-key"}, region="eu"
                ),
                _connection("A2", "staging", mutual, "certificate", certificate, region="us"),
            ],
            categories=["CRM"],
            baseUrl="https://{{region}}.api.acme.example/v2",
            documentationURL="https://docs.acme.example/crm",
            imageURL="https://acme.example/crm.png",
            tags={"team": ["sales", "support"]},
            public=True,
            connectionVariables=[{"name": "region", "value": "eu"}],
            updatedAt="2026-06-01T12:00:00.000Z",
        ),
        _versori_connector(
            seed.VERSORI_BILLING,
            "http",
            "Acme Billing",
            [key],
            [_connection("B1", "production", key, "string", {"value": "sandbox-secret-versori-billing-key"})],
            categories=["Accounting"],
            baseUrl="https://billing.acme.example/api",
        ),
        _versori_connector(
            seed.VERSORI_WAREHOUSE, "bigquery", "Sales warehouse", [], [], categories=[], datasetId="acme-prod.sales"
        ),
    ]


def _versori_connector(
    connector_id: str, protocol: str, name: str, schemes: list[JsonObject], connections: list[JsonObject], **more: Any
) -> JsonObject:
    version: JsonObject = {
        "id": f"01J0SANDB0XVERS10N000000{connector_id[-2:]}",
        "name": "1.0.0",
        "isLatest": True,
        "isDefault": True,
        "createdAt": _CREATED,
        "updatedAt": _CREATED,
        "publishedAt": _CREATED,
    }
    return {
        "id": connector_id,
        "organisationId": seed.VERSORI_ORGANISATION_ID,
        "name": name,
        "protocol": protocol,
        "public": False,
        "authSchemeConfigs": [{**scheme, "validationMessages": []} for scheme in schemes],
        "connections": connections,
        "versions": [version],
        "createdAt": _CREATED,
        "updatedAt": _CREATED,
        **more,
    }


def _connection(
    mark: str, name: str, scheme: JsonObject, credential_type: str, data: JsonObject, **variables: str
) -> JsonObject:
    credential: JsonObject = {
        "id": f"01J0SANDB0XCREDENT1A0000{mark}",
        "organisationId": seed.VERSORI_ORGANISATION_ID,
        "type": credential_type,
        "name": f"{name} credential",
        "data": data,
    }
    use: JsonObject = {"id": f"01J0SANDB0XCREDVSE000000{mark}", "authSchemeConfig": scheme, "credential": credential}
    return {
        "id": f"01J0SANDB0XC0NNECT10N000{mark}",
        "name": name,
        "credentials": {"action": [use]},
        "variables": [{"name": key, "value": value} for key, value in variables.items()],
        "createdAt": _CREATED,
        "updatedAt": _CREATED,
    }


def _conductorone_connectors() -> list[JsonObject]:
    return [
        _app_connector(
            seed.CONDUCTORONE_OKTA,
            "2kG3aTftCcAvWtHZt2Ywry0dPn7",
            "Okta v2",
            {
                "okta_v2_domain": "acme.okta.com",
                "okta_v2_api_token": "sandbox-secret-okta-api-token",
                "okta_sync_custom_roles": "true",
            },
            description="Production Okta",
            profileIgnoreList=["nickName"],
        ),
        _app_connector(
            seed.CONDUCTORONE_GITHUB,
            "2gkeVHQ9u8BtFpouw5jRmbnxjkW",
            "GitHub v2",
            {
                "C1_selected_field_group_name": "github_personal_access_token_group",
                "github_access_token": "sandbox-secret-github-access-token",
                "github_org_list": "acme,acme-labs",
            },
            disableCheckBadSync=True,
        ),
        _app_connector(
            seed.CONDUCTORONE_SLACK,
            "2O43lWTqeK6kY25TBMLDyIRU00o",
            "Slack",
            {"slack_api_key": "sandbox-secret-slack-api-key"},
        ),
        _app_connector(
            seed.CONDUCTORONE_DELETED,
            "2kG3aTftCcAvWtHZt2Ywry0dPn7",
            "Okta (old tenant)",
            {"okta_v2_domain": "acme-old.okta.com", "okta_v2_api_token": "sandbox-secret-old-okta-api-token"},
            deletedAt="2026-05-20T08:00:00.000Z",
        ),
    ]


def _app_connector(connector_id: str, catalog_id: str, name: str, config: dict[str, str], **more: Any) -> JsonObject:
    values = {key: {"stringValue": value} for key, value in config.items()}
    return {
        "id": connector_id,
        "appId": seed.CONDUCTORONE_APP_ID,
        "catalogId": catalog_id,
        "displayName": name,
        "description": "",
        "userIds": [seed.CONDUCTORONE_USERS[0]["id"]],
        "config": {"@type": conductorone.ENV_CONFIG, "configuration": values},
        "status": {
            "status": "SYNC_STATUS_DONE",
            "startedAt": "2026-08-20T10:00:00Z",
            "completedAt": "2026-08-20T10:04:11Z",
            "updatedAt": "2026-08-20T10:04:11Z",
            "lastError": "",
        },
        "oauthAuthorizedAs": None,
        "profileAllowList": [],
        "profileIgnoreList": [],
        "syncConfig": None,
        "connectorSyncCronSchedule": None,
        "canResumeSync": False,
        "disableCheckBadSync": False,
        "parallelSyncWorkerCount": None,
        "connectorApiVersion": 1,
        "syncDisabledAt": None,
        "syncDisabledCategory": "",
        "syncDisabledReason": "",
        "downloadUrl": "",
        "configUpdatedAt": _CREATED,
        "createdAt": _CREATED,
        "updatedAt": _CREATED,
        "deletedAt": None,
        **more,
    }
