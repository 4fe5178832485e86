"""Who and what exists in a new sandbox: tenants, credentials and the ids that docs, demos and tests refer to.

Every credential says what it is: it begins with `sandbox-secret-`. The one exception is ConductorOne's client secret,
which must have the platform's own form to be signed with; its key is public knowledge and worthless.
"""

from __future__ import annotations

from typing import Final

PLATFORMS: Final = ("vectorize", "logto", "versori", "conductorone")

# Vectorize
VECTORIZE_API_KEY: Final = "sandbox-secret-vectorize-api-key"
VECTORIZE_ORGANIZATION_ID: Final = "org_sandbox"
VECTORIZE_WORKSPACES: Final = ("ws_default", "ws_research")
VECTORIZE_OPERATOR_ID: Final = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
VECTORIZE_OPERATOR_EMAIL: Final = "ops@acme.example"
VECTORIZE_S3: Final = "0a53b0c0-0000-4000-8000-000000000001"
VECTORIZE_WEB_CRAWLER: Final = "0a53b0c0-0000-4000-8000-000000000002"
VECTORIZE_DRIVE_MULTI_USER: Final = "0a53b0c0-0000-4000-8000-000000000003"
VECTORIZE_CONFLUENCE: Final = "0a53b0c0-0000-4000-8000-000000000004"
VECTORIZE_FILE_UPLOAD: Final = "0a53b0c0-0000-4000-8000-000000000005"
VECTORIZE_BUILT_IN: Final = "0a53b0c0-0000-4000-8000-000000000006"
VECTORIZE_USERS: Final = ("user_alice", "user_bruno")

# Logto: self-hosted, so the resource indicator is the fixed one whatever the address
LOGTO_APP_ID: Final = "sandbox-m2m-app"
LOGTO_APP_SECRET: Final = "sandbox-secret-logto-app-secret"  # noqa: S105 - opens nothing but the sandbox
LOGTO_RESOURCE: Final = "https://default.logto.app/api"
LOGTO_SMTP: Final = "smtp-main"
LOGTO_TWILIO: Final = "twilio-main"
LOGTO_GOOGLE: Final = "google-signin"
LOGTO_GITHUB: Final = "github-signin"
LOGTO_OIDC: Final = "acme-idp"

# Versori
VERSORI_API_KEY: Final = "sandbox-secret-versori-api-key"
VERSORI_JWT: Final = "sandbox-secret-versori-jwt"
"""Accepted with the scheme word `JWT`, as a signing-key token is."""
VERSORI_ORGANISATION_ID: Final = "01J0SANDB0X000000000000RG0"
VERSORI_CRM: Final = "01J0SANDB0XC0NNECT0R0000A0"
VERSORI_BILLING: Final = "01J0SANDB0XC0NNECT0R0000B0"
VERSORI_WAREHOUSE: Final = "01J0SANDB0XC0NNECT0R0000C0"

# ConductorOne
CONDUCTORONE_CLIENT_ID: Final = "sandbox-fox-00001@conductorone.sandbox.invalid/pcc"
_CONDUCTORONE_KEY: Final = (
    "eyJrdHkiOiJPS1AiLCJjcnYiOiJFZDI1NTE5IiwieCI6IkE2RUh2X1BPRUw0ZGNOMFk1MHZBbVdmazFqQ2JwUTFmSGR5R1p"
    "CSlZNYmciLCJkIjoiQUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOCJ9"
)
CONDUCTORONE_CLIENT_SECRET: Final = f"secret-token:conductorone.com:v1:{_CONDUCTORONE_KEY}"
CONDUCTORONE_PLAIN_SECRET: Final = "sandbox-secret-conductorone-client-secret"  # noqa: S105 - opens nothing but the sandbox
CONDUCTORONE_APP_ID: Final = "2sandboxApp0000000000000001"
CONDUCTORONE_OKTA: Final = "2sandboxConnector0000000001"
CONDUCTORONE_GITHUB: Final = "2sandboxConnector0000000002"
CONDUCTORONE_SLACK: Final = "2sandboxConnector0000000003"
CONDUCTORONE_DELETED: Final = "2sandboxConnector0000000004"
CONDUCTORONE_APP: Final = {"id": CONDUCTORONE_APP_ID, "displayName": "Acme workforce"}
CONDUCTORONE_USERS: Final = (
    {"id": "2sandboxUser000000000000001", "displayName": "Alice Adams", "email": "alice@acme.example"},
    {"id": "2sandboxUser000000000000002", "displayName": "Bruno Berg", "email": "bruno@acme.example"},
)

_BASE_PATHS: Final = {"vectorize": "/v1", "logto": "", "versori": "/api/connect/v1", "conductorone": ""}


def variables(platform: str, origin: str | None, *, create_body: str) -> dict[str, str]:
    """What the platform's own environment variables must hold to reach the sandbox.

    `origin` is where the sandbox is served (`http://127.0.0.1:8800`); without it the addresses are in-process ones,
    which resolve nowhere (RFC 2606). Raises KeyError for a platform that does not exist.
    """
    host = f"https://{platform}.sandbox.invalid" if origin is None else f"{origin.rstrip('/')}/{platform}"
    address = host + _BASE_PATHS[platform]
    match platform:
        case "vectorize":
            return {
                "VECTORIZE_API_KEY": VECTORIZE_API_KEY,
                "VECTORIZE_ORGANIZATION_ID": VECTORIZE_ORGANIZATION_ID,
                "VECTORIZE_BASE_URL": address,
                "VECTORIZE_CREATE_BODY": create_body,
            }
        case "logto":
            return {"LOGTO_ENDPOINT": address, "LOGTO_APP_ID": LOGTO_APP_ID, "LOGTO_APP_SECRET": LOGTO_APP_SECRET}
        case "versori":
            return {
                "VERSORI_API_KEY": VERSORI_API_KEY,
                "VERSORI_ORGANISATION_ID": VERSORI_ORGANISATION_ID,
                "VERSORI_BASE_URL": address,
            }
        case _:
            return {
                "CONDUCTORONE_CLIENT_ID": CONDUCTORONE_CLIENT_ID,
                "CONDUCTORONE_CLIENT_SECRET": CONDUCTORONE_CLIENT_SECRET,
                "CONDUCTORONE_BASE_URL": address,
            }
