"""Keys that Logto signs the sign-in requests of SAML connectors with (facts, continued: section 2, trap 15).

At most one key of a connector is active. To change it without an outage, the identity provider must trust the new
key's certificate before that key is activated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import NotFound
from connector_mcp.json_values import is_array, items, members
from connector_mcp.operations.fields import LOCAL_ONLY
from connector_mcp.operations.logto.factories import LogtoOperation
from connector_mcp.operations.logto.sso_connectors import EXAMPLE_ID, SSO_CONNECTOR, SsoConnectorId
from connector_mcp.operations.operation import Effect, ListOperation, Paging, Record, Target, at
from connector_mcp.operations.platform import GET, PATCH, POST
from connector_mcp.operations.situation import Loss, Situation
from connector_mcp.operations.update import Merge, UpdateOperation

SIGNING_KEYS = f"{SSO_CONNECTOR}/signing-keys"


class SigningKeyRecord(Record):
    """A signing key. Its certificate is public; the private key never leaves Logto."""

    id: str | None = None
    certificate: str | None = None
    active: bool | None = None
    created_at: int | float | None = None
    expires_at: int | float | None = None


class SigningKeyState(Record):
    """A signing key, and the id of another one that is active."""

    active: bool | None = None
    other_active: str | None = None


class SigningKeyOperation(LogtoOperation):
    """Base of the operations on signing keys."""

    toolset = "logto.sso"
    by_default = False
    output = SigningKeyRecord

    id: SsoConnectorId


class ListSsoConnectorSigningKeys(SigningKeyOperation, ListOperation):
    """List the signing keys of a SAML connector. Only SAML and AzureAD connectors have any, and not on every server."""

    http = GET(SIGNING_KEYS)
    paging = Paging(items="")
    summary = ("id", "active", "createdAt", "expiresAt")
    known_by = ()
    example = {"id": EXAMPLE_ID, "fields": ["id", "active", "certificate"]}


class GetSigningKey(SigningKeyOperation):
    """The read of one key: Logto has only the list, so that this is no tool."""

    http = GET(SIGNING_KEYS)
    effect = Effect.READ
    output = SigningKeyState
    part_of = ListSsoConnectorSigningKeys.tool_name()

    key_id: Annotated[str, Field(description="Id of the key."), LOCAL_ONLY]

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        keys = list(map(members, items(answers[0])))
        if not is_array(answers[0]) or not all(isinstance(key.get("id"), str) and key["id"] for key in keys):
            return None
        found = next((key for key in keys if key.get("id") == self.key_id), None)
        if found is None:
            raise NotFound(
                "This SSO connector has no signing key with that id.", fix=f"{self.tool_name()} lists its keys."
            )
        others = [key["id"] for key in keys if key.get("active") is True and key.get("id") != self.key_id]
        return found | {"otherActive": others[0] if others else None}


class CreateSsoConnectorSigningKey(SigningKeyOperation):
    """Create a signing key for a SAML connector. Give its certificate to the identity provider before you activate it
    with logto_update_sso_connector_signing_key."""

    http = POST(SIGNING_KEYS)
    effect = Effect.CREATE
    acts_on = Target(
        "signing keys", ListSsoConnectorSigningKeys, name=lambda operation, _record: f"SSO connector {operation.id}"
    )
    can_destroy = True
    repeatable = False
    consequence = "Creates a signing key for SSO connector {id}; it is not used until it is active."
    next_step = (
        "Give the certificate to the identity provider; then activate it: logto_update_sso_connector_signing_key."
    )
    example = {"id": EXAMPLE_ID}

    active: Annotated[
        bool | None, Field(description="true only for a connector that signs nothing yet: it replaces the active key.")
    ] = None

    def find_losses(self, situation: Situation) -> Iterator[Loss]:
        """The key that is active, where the new one takes its place."""
        keys = map(members, items(situation.current))
        return (_replaces(key.get("id")) for key in keys if self.active and key.get("active") is True)


class UpdateSsoConnectorSigningKey(SigningKeyOperation, UpdateOperation):
    """Activate or deactivate a signing key. Activating one deactivates the others at once: identity providers that do
    not trust its certificate yet refuse all sign-ins."""

    http = PATCH(f"{SIGNING_KEYS}/{{key_id}}")
    acts_on = Target("signing key", GetSigningKey, name="id")
    strategy = Merge()
    consequence = "Changes which key signs the sign-in requests of SSO connector {id}, at once."
    example = {"id": EXAMPLE_ID, "key_id": "k1", "active": True}

    key_id: Annotated[str, Field(description="Id of the key. logto_list_sso_connector_signing_keys lists them.")]
    active: Annotated[bool, Field(description="true: sign with this key only. false: sign with none.")]

    def find_hidden_losses(self, situation: Situation) -> Iterator[Loss]:
        other, current = at(situation.current, "otherActive"), members(situation.current)
        if self.active and other is not None:
            yield _replaces(other)
        if not self.active and current.get("active") is not False:
            yield Loss("Leaves the connector without a key to sign its requests with", ("active",), True)


def _replaces(key: Any) -> Loss:
    said = f"Deactivates signing key {key}: an identity provider that does not trust the new one refuses all sign-ins"
    return Loss(said, ("active",), True)


OPERATIONS = (ListSsoConnectorSigningKeys, CreateSsoConnectorSigningKey, UpdateSsoConnectorSigningKey)
