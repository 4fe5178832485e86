"""Users of multi-user source connectors (facts: section 5, traps 10 to 13)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, items
from connector_mcp.operations.connector_types import ConnectorType, connector_type
from connector_mcp.operations.fields import SECRET, in_body
from connector_mcp.operations.operation import Effect, Record, at
from connector_mcp.operations.platform import DELETE, PATCH, POST
from connector_mcp.operations.situation import ConfigUse, Situation
from connector_mcp.operations.update import Merge, UpdateOperation, is_vacant
from connector_mcp.operations.vectorize.platform import Acknowledged, VectorizeOperation
from connector_mcp.operations.vectorize.source_connectors import CONNECTOR, SOURCE_CONNECTOR, SourceConnectorId

USERS = f"{CONNECTOR}/users"

# A connector's record shows nothing of these.
UserId = Annotated[
    str, Field(min_length=1, description="Id of the user in your own application."), in_body(stored_as=None)
]
SelectedFiles = Annotated[
    JsonObject,
    Field(
        description="All that is ingested of the user. Drive, Dropbox: {id: {name, mimeType}}. Notion: {pageIds, "
        "databaseIds}."
    ),
    in_body(stored_as=None),
]
RefreshToken = Annotated[
    str | None, Field(description="OAuth token of a Drive or Dropbox user."), in_body(stored_as=None), SECRET
]
AccessToken = Annotated[str | None, Field(description="OAuth token of a Notion user."), in_body(stored_as=None), SECRET]

TOKENS = {"refreshToken": "refresh_token", "accessToken": "access_token"}
"""The argument for each credential that a provider may demand."""
_EXAMPLE_CONNECTOR = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
_SELECTION = {"1AbCdEf": {"name": "Plan.docx", "mimeType": "application/vnd.google-apps.document"}}


class SourceUserOperation(VectorizeOperation):
    """Base of the operations on a connector's users."""

    toolset = "vectorize.sources"
    by_default = True
    output = Acknowledged
    acts_on = replace(SOURCE_CONNECTOR, dependents=None)

    source_connector_id: SourceConnectorId
    user_id: UserId

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        """The selection, which has one form for each provider."""
        known, selection = self.find_type(situation), getattr(self, "selected_files", None)
        if known is None or selection is None or "selected_files" not in known.traits:
            return ()
        form = replace(known, config=known.traits["selected_files"])
        return (ConfigUse("selected_files", known.type, form, selection),)

    def find_type(self, situation: Situation) -> ConnectorType | None:
        """The type of the connector that the user belongs to."""
        return connector_type("vectorize", at(situation.current, "type"))

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        """Find a connector that has no users, and what its provider would refuse or store to no effect (section 5)."""
        known = self.find_type(situation)
        if known and not known.traits.get("users"):
            wanted = "a connector of a type that ends in _OAUTH_MULTI or _OAUTH_MULTI_CUSTOM"
            return (Issue("source_connector_id", f"a connector of type {known.type}", wanted),)
        selection = getattr(self, "selected_files", None)
        if selection is not None and is_vacant(selection):
            wanted = "at least one file or page; delete the user to ingest nothing"
            return (Issue("selected_files", "an empty selection", wanted),)
        return tuple(self.find_token_problems(known and TOKENS.get(str(known.traits.get("user_credential")))))

    def given_tokens(self) -> list[str]:
        """The arguments for tokens that the caller gave."""
        return [name for name in TOKENS.values() if getattr(self, name, None) is not None]

    def find_token_problems(self, wanted: str | None) -> Iterator[Issue]:
        """Find tokens that the provider does not take; `wanted` is the one that it does, if the provider is known."""
        given = self.given_tokens()
        for name in given:
            if not getattr(self, name).strip():
                yield Issue(name, "an empty string", "the user's token, or leave it out to keep the stored one")
            elif wanted not in (None, name):
                yield Issue(name, "a token that this connector's provider does not take", f"{wanted} in its place")
        if wanted is None and len(given) > 1:
            yield Issue("access_token", "both tokens", "the one that the connector's provider takes")


def count_selected(selection: JsonObject) -> str:
    """How many files, or pages and databases, a selection holds."""
    kinds = {"page": items(selection.get("pageIds")), "database": items(selection.get("databaseIds"))}
    counts = {kind: len(held) for kind, held in kinds.items() if held} or {"file": len(selection)}
    return " and ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts.items())


class AddUserToSourceConnector(SourceUserOperation):
    """Add a user, with files to ingest, to a multi-user source connector (its type ends in _OAUTH_MULTI or
    _OAUTH_MULTI_CUSTOM). The user's OAuth token of the provider is needed."""

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

    def find_token_problems(self, wanted: str | None) -> Iterator[Issue]:
        yield from super().find_token_problems(wanted)
        if not self.given_tokens():
            yield Issue(wanted or "refresh_token", "nothing", "the user's token, which this connector's provider needs")

    def describe_effect(self, situation: Situation) -> str:
        return f"{self.consequence[:-1]}; ingests {count_selected(self.selected_files)} with the user's token."


class UpdateUserInSourceConnector(SourceUserOperation, UpdateOperation):
    """Change a user's files or token in a multi-user source connector. Files left out of a selection are no longer
    ingested."""

    http = PATCH(USERS)
    strategy = Merge()
    can_destroy = False
    consequence = "Changes user {user_id} of source connector {name}."
    example = {"source_connector_id": _EXAMPLE_CONNECTOR, "user_id": "user_123", "selected_files": _SELECTION}

    selected_files: Annotated[SelectedFiles | None, in_body(stored_as=None)] = None
    refresh_token: RefreshToken = None
    access_token: AccessToken = None

    def find_token_problems(self, wanted: str | None) -> Iterator[Issue]:
        yield from super().find_token_problems(wanted)
        if self.selected_files is None and not self.given_tokens():
            yield Issue("selected_files", "nothing", f"a change: selected_files, {wanted or 'a token'} or both")

    def describe_effect(self, situation: Situation) -> str:
        changed = [] if self.selected_files is None else [f"from now on only {count_selected(self.selected_files)}"]
        if self.given_tokens():
            changed.append("a new token in place of the stored one")
        return f"{self.consequence[:-1]}: {', '.join(changed)}." if changed else self.consequence


class DeleteUserFromSourceConnector(SourceUserOperation):
    """Remove a user from a multi-user source connector. The user's files are no longer ingested."""

    http = DELETE(USERS)
    effect = Effect.DESTROY
    consequence = "Removes user {user_id} from source connector {name}; that user's files are no longer ingested."
    example = {"source_connector_id": _EXAMPLE_CONNECTOR, "user_id": "user_123"}


class OneTimeToken(Record):
    """A reference to the token, which is a secret, and how long it is good for."""

    token: str | None = None
    expires_at: Annotated[float | None, Field(alias="expires_at")] = None
    ttl: float | None = None


class GenerateOneTimeConnectorToken(SourceUserOperation):
    """Make a one-time token with which a user authorizes files for a Vectorize-managed multi-user connector, on
    Vectorize's connect page. The token is kept in the secret store, never shown."""

    http = POST("/org/{organization_id}/generateOneTimeConnectorToken")
    by_default = False
    effect = Effect.CREATE
    output = OneTimeToken
    mints = ("token",)
    repeatable = False
    consequence = "Lets who has the token authorize files as user {user_id} of source connector {name}."
    example = {"source_connector_id": _EXAMPLE_CONNECTOR, "user_id": "user_123"}

    source_connector_id: Annotated[SourceConnectorId, in_body("connector_id")]
    user_id: Annotated[
        str, Field(min_length=1, description="Id of the user in your own application."), in_body("user_id")
    ]

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        known = self.find_type(situation)
        if known and known.type.endswith("_CUSTOM"):
            wanted = "a Vectorize-managed one; users of your own application: vectorize_add_user_to_source_connector"
            return (Issue("source_connector_id", f"a connector of type {known.type}", wanted),)
        return super().find_problems(situation)

    def find_next_step(self, data: Any, situation: Situation) -> str:
        provider = str(at(situation.current, "type")).partition("_OAUTH")[0].lower().replace("_", "-")
        return (
            f"The user opens https://platform.vectorize.io/connect/{provider} with the query token (the value that "
            f"{at(data, 'token')} keeps) and organizationId, and chooses files. Then vectorize_create_pipeline."
        )


OPERATIONS = (
    AddUserToSourceConnector,
    UpdateUserInSourceConnector,
    DeleteUserFromSourceConnector,
    GenerateOneTimeConnectorToken,
)
