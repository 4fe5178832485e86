"""The credentials of self-hosted ConductorOne connectors (facts: section 6, trap 13)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from connector_mcp.operations.conductorone.connectors import (
    CONNECTOR_OF_ACTION,
    CONNECTORS,
    EXAMPLE,
    ConductorOneOperation,
    ConnectorId,
)
from connector_mcp.operations.operation import Effect, Operation, Record, Target, at
from connector_mcp.operations.platform import GET, POST
from connector_mcp.operations.situation import Loss, Situation

CREDENTIAL = f"{CONNECTORS}/{{connector_id}}/credentials/{{credential_id}}"
_EXAMPLE = {**EXAMPLE, "credential_id": "2cred000000000000000000001"}
_NEVER_SYNCED = ("SYNC_STATUS_UNSPECIFIED", "", None)


class ConnectorCredential(Record):
    """A credential with which a self-hosted connector signs in to ConductorOne."""

    id: str | None = None
    connector_id: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    created_at: str | None = None
    expires_time: str | None = None
    last_used_at: str | None = None
    deleted_at: str | None = None


CredentialId = Annotated[str, Field(description="Credential id. conductorone_rotate_credential gives it.")]


class CredentialOperation(ConductorOneOperation):
    """Base of the operations on credentials."""

    toolset = "conductorone.credentials"
    by_default = False
    output = ConnectorCredential
    record = "credential"
    stored_config = None

    connector_id: ConnectorId


class RotateCredential(CredentialOperation):
    """Make a new credential for a self-hosted connector. The secret goes to the secret store, not into the result. Keep
    its id: there is no list, and without it the credential cannot be revoked."""

    http = POST("/api/v1/apps/connectors/credentials")
    by_default = True
    effect = Effect.CREATE
    acts_on = CONNECTOR_OF_ACTION
    can_destroy = True
    repeatable = False
    mints = ("credential.clientSecret",)
    consequence = "Makes a new credential for connector {name}; it gives access to ConductorOne as this connector."
    next_step = (
        "The operator starts the connector with clientId and the stored secret. lastUsedAt in "
        "conductorone_get_credentials shows that it signed in; then revoke the old credential."
    )
    example = EXAMPLE

    def find_losses(self, situation: Situation) -> Iterator[Loss]:
        """That an older credential stays valid is not documented. A connector that never synced uses none."""
        if not at(situation.current, "id") or at(situation.current, "status.status") not in _NEVER_SYNCED:
            yield Loss("May end the credential that the running connector uses: it then stops until it has the new one")


class GetCredentials(CredentialOperation):
    """Get a credential of a self-hosted connector, without its secret. lastUsedAt shows whether the connector has
    signed in with it."""

    http = GET(CREDENTIAL)
    effect = Effect.READ
    example = _EXAMPLE

    credential_id: CredentialId


def _known_as(operation: Any, record: Any) -> str:
    return str(at(record, "displayName") or at(record, "clientId") or operation.credential_id)


class RevokedCredential(Record):
    """The confirmation of a revocation."""

    id: str | None = None
    revoked: bool | None = None


class RevokeCredential(CredentialOperation):
    """Revoke a credential for good. A self-hosted connector that uses it stops at once."""

    http = POST(CREDENTIAL)
    effect = Effect.DESTROY
    output = RevokedCredential
    acts_on = Target("credential", GetCredentials, name=_known_as, volatile=frozenset({"lastUsedAt", "updatedAt"}))
    consequence = "Revokes credential {name} (id {credential_id}) for good; a connector that signs in with it stops."
    empty_body = {}
    confirms = "revoked"
    example = _EXAMPLE

    credential_id: CredentialId


OPERATIONS: tuple[type[Operation], ...] = (RotateCredential, GetCredentials, RevokeCredential)
