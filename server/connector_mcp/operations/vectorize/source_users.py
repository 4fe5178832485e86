"""Users of multi-user source connectors (facts: section 5, traps 10 to 13)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.connector_types import connector_type
from connector_mcp.operations.fields import SECRET, in_body
from connector_mcp.operations.operation import DELETE, PATCH, POST, Effect, Situation, at
from connector_mcp.operations.update import Merge, UpdateOperation
from connector_mcp.operations.vectorize.source_connectors import (
    CONNECTOR,
    SOURCE_CONNECTOR,
    Acknowledged,
    SourceConnectorId,
    VectorizeOperation,
)

USERS = f"{CONNECTOR}/users"

# A connector's record shows nothing of these.
UserId = Annotated[str, Field(min_length=1, description="Your own id of the user."), in_body(stored_as=None)]
SelectedFiles = Annotated[
    JsonObject,
    Field(description="Drive, Dropbox: {id: {name, mimeType}}. Notion: {pageIds, databaseIds}."),
    in_body(stored_as=None),
]
RefreshToken = Annotated[str | None, Field(description="Drive, Dropbox."), in_body(stored_as=None), SECRET]
AccessToken = Annotated[str | None, Field(description="Notion."), in_body(stored_as=None), SECRET]

_EXAMPLE_CONNECTOR = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
_SELECTION = {"1AbCdEf": {"name": "Plan.docx", "mimeType": "application/vnd.google-apps.document"}}


class SourceUserOperation(VectorizeOperation):
    """Base of the operations on a connector's users."""

    output = Acknowledged
    acts_on = SOURCE_CONNECTOR
    stored_config = None

    source_connector_id: SourceConnectorId
    user_id: UserId

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        """Find a connector that has no users, and what its provider would refuse (section 5)."""
        type_id = at(situation.current, "type")
        known = connector_type("vectorize", type_id)
        if known is None:
            return ()
        if not known.traits.get("users"):
            wanted = "a connector of a type that ends in _OAUTH_MULTI or _OAUTH_MULTI_CUSTOM"
            return (Issue("source_connector_id", f"a connector of type {type_id}", wanted),)
        return self.find_provider_problems(str(known.traits.get("user_credential", "")))

    def find_provider_problems(self, credential: str) -> tuple[Issue, ...]:
        """Find what the provider would refuse; `credential` is the wire name of the token that it requires."""
        return ()


class AddUserToSourceConnector(SourceUserOperation):
    """Add a user, with files to ingest, to a multi-user source connector. Needs the token of the provider."""

    http = POST(USERS)
    effect = Effect.CREATE
    repeatable = False
    consequence = "Adds user {user_id} to source connector {name}."
    example = {
        "source_connector_id": _EXAMPLE_CONNECTOR,
        "user_id": "user_123",
        "selected_files": _SELECTION,
        "refresh_token": "<refresh-token>",
    }

    selected_files: SelectedFiles
    refresh_token: RefreshToken = None
    access_token: AccessToken = None

    def find_provider_problems(self, credential: str) -> tuple[Issue, ...]:
        wanted, given = "refresh_token", "access_token"
        if credential == "accessToken":
            wanted, given = given, wanted
        if getattr(self, wanted):
            return ()
        got = f"nothing (but {given})" if getattr(self, given) else "nothing"
        return (Issue(wanted, got, f"the user's {wanted.replace('_', ' ')}, which this connector's provider needs"),)


class UpdateUserInSourceConnector(SourceUserOperation, UpdateOperation):
    """Change a user's files or token in a multi-user source connector. A selection given replaces the stored one."""

    http = PATCH(USERS)
    strategy = Merge()
    can_destroy = False
    consequence = "Changes user {user_id} of source connector {name}."
    example = {"source_connector_id": _EXAMPLE_CONNECTOR, "user_id": "user_123", "selected_files": _SELECTION}

    selected_files: Annotated[SelectedFiles | None, in_body(stored_as=None)] = None
    refresh_token: RefreshToken = None
    access_token: AccessToken = None


class DeleteUserFromSourceConnector(SourceUserOperation):
    """Remove a user from a multi-user source connector. The user's files are no longer ingested."""

    http = DELETE(USERS)
    effect = Effect.DESTROY
    consequence = "Removes user {user_id} from source connector {name}; that user's files are no longer ingested."
    example = {"source_connector_id": _EXAMPLE_CONNECTOR, "user_id": "user_123"}


OPERATIONS = (AddUserToSourceConnector, UpdateUserInSourceConnector, DeleteUserFromSourceConnector)
