"""Vectorize source connectors (facts: sections 3, 5 and 6, traps 1, 4 to 7, 14, 15 and 19)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.connector_types import connector_type
from connector_mcp.operations.fields import in_body, in_query
from connector_mcp.operations.operation import (
    DELETE,
    GET,
    PATCH,
    POST,
    ConfigUse,
    Effect,
    ListOperation,
    Loss,
    Operation,
    Paging,
    Path,
    Record,
    Situation,
    StoredConfig,
    Target,
    at,
)
from connector_mcp.operations.platform import Request
from connector_mcp.operations.type_names import unknown_type
from connector_mcp.operations.update import Merge, UpdateOperation, is_vacant
from connector_mcp.operations.vectorize.platform import VECTORIZE

OrganizationId = Annotated[
    str, Field(description="Organization that owns the connectors: its id, as the console's address shows it.")
]
SourceConnectorId = Annotated[
    str, Field(description="Id of the source connector. vectorize_get_source_connectors lists them.")
]
WorkspaceId = Annotated[
    str | None, Field(description="Id of a workspace, as the console shows it, to keep to that one."), in_query()
]

# The types that a create request may name: those of the vendor's schema, and the multi-user types of its SDK.
SourceType = Literal[
    "AWS_S3",
    "AZURE_BLOB",
    "CONFLUENCE",
    "DISCORD",
    "DROPBOX_OAUTH_MULTI",
    "DROPBOX_OAUTH_MULTI_CUSTOM",
    "FILE_UPLOAD",
    "FIRECRAWL",
    "FIREFLIES",
    "GCS",
    "GITHUB",
    "GOOGLE_DRIVE",
    "GOOGLE_DRIVE_OAUTH_MULTI",
    "GOOGLE_DRIVE_OAUTH_MULTI_CUSTOM",
    "NOTION_OAUTH_MULTI",
    "NOTION_OAUTH_MULTI_CUSTOM",
    "ONE_DRIVE",
    "SHAREPOINT",
    "WEB_CRAWLER",
    "ZOOM",
    "ZOOM_ADMIN",
]

_KEY_FILE = "service-account-json"
_FILE_PATH = re.compile(r"^(~|\.{0,2}[/\\]|[A-Za-z]:[/\\]|file:)|\.json$")
_AND = " and "
_LONGEST_NAME = 60
_MOST_NAMED = 10

CONNECTORS = "/org/{organization_id}/connectors/sources"
CONNECTOR = f"{CONNECTORS}/{{source_connector_id}}"


class SourceConnector(Record):
    """A source connector as Vectorize shows it; secrets are normally withheld from `configDoc`."""

    id: str | None = None
    type: str | None = None
    name: str | None = None
    config_doc: JsonObject | None = None
    created_at: str | None = None
    verification_status: str | None = None
    error_message: str | None = None


class CreationOutcome(Record):
    """The outcome for one of the connectors to create, with the platform's own check of its credentials."""

    name: str | None = None
    id: str | None = None
    verification_status: str | None = None
    error_message: str | None = None


class UpdatedSourceConnector(SourceConnector):
    """The connector after an update, and the pipelines that use it."""

    pipeline_ids: list[str] | None = None


class Acknowledged(Record):
    """An answer that consists of one sentence."""

    message: str | None = None


class NewSourceConnector(BaseModel):
    """One connector to create."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, description="Display name. It cannot be changed later.")]
    type: Annotated[
        str,
        Field(
            description="What it reads from. It cannot be changed later.",
            json_schema_extra={"enum": [*get_args(SourceType)]},
        ),
    ]
    config: Annotated[
        JsonObject | None, Field(description="All keys that the type needs. describe_connector_type gives them.")
    ] = None


class VectorizeOperation(Operation):
    """Base of Vectorize's operations."""

    on = VECTORIZE
    toolset = "vectorize.sources"
    by_default = True
    stored_config = StoredConfig(at="configDoc", type_at="type")

    organization_id: OrganizationId


def type_name(record: Any) -> str:
    """The name of a record's connector type with a space after it; empty if the type is not known."""
    known = connector_type("vectorize", at(record, "type"))
    return f"{known.name} " if known else ""


def use_of(path: str, type_id: Any, config: JsonObject) -> ConfigUse:
    """The use of a whole config of this type."""
    return ConfigUse(path, type_id, connector_type("vectorize", type_id), config, empty_is_missing=True)


def find_system_connector(record: Any) -> tuple[Issue, ...]:
    """Find Vectorize's own built-in connector, which can be neither changed nor deleted (trap 14)."""
    if at(record, "type") != "VECTORIZE":
        return ()
    return (Issue("source_connector_id", "the built-in connector", "a connector that can be changed or deleted"),)


def find_key_file_problems(uses: Iterable[ConfigUse]) -> Iterator[Issue]:
    """Find service accounts without the text of their JSON key file, and what was given in its place."""
    for use in uses:
        key = use.value.get(_KEY_FILE)
        # Another kind of value is the schema's matter, and a reference is checked when its value is known.
        if use.type is None or not isinstance(key, str) or key.startswith("secret://"):
            continue
        if _KEY_FILE in use.type.config["properties"] and (found := _key_file_problem(key)):
            got, wanted = found
            yield Issue(f"{use.path}.{_KEY_FILE}", got, f"the text of the service account's key file, {wanted}")


def _parsed(text: str, *, strict: bool) -> Any:
    try:
        return json.loads(text, strict=strict)
    except (ValueError, RecursionError):
        return None


def _key_file_problem(key: str) -> tuple[str, str] | None:
    """What was given in place of a key file, and what is wanted; None for a key file."""
    held = _parsed(key, strict=True)
    if key.startswith("\ufeff"):
        return "text with a byte order mark", "without the byte order mark in front"
    if held is None and not key.lstrip().startswith(("{", '"')):
        is_path = _FILE_PATH.search(key.strip()) is not None
        return ("the path of a file" if is_path else "text that is not JSON"), "not its path or another text"
    if held is None and _parsed(key, strict=False):
        return (
            "JSON with raw line breaks",
            "with \\n for each line break of private_key: they were unescaped on the way",
        )
    if held is None:
        return "text that is no JSON any more", "unchanged: it was cut or altered on the way"
    if isinstance(held, str):
        return "JSON that was encoded twice", "encoded once: it was encoded twice"
    lacking = [name for name in ("client_email", "private_key") if not isinstance(members(held).get(name), str)]
    if members(held).get("type") != "service_account" or lacking:
        return "JSON that is no such key file", f"with {_AND.join(('type service_account', *lacking))}"
    if "-----BEGIN" in held["private_key"] and "\\n" in held["private_key"]:
        return "a private_key with line breaks that were escaped twice", "unchanged: its line breaks were escaped twice"
    return None


class GetSourceConnectors(VectorizeOperation, ListOperation):
    """List the organization's source connectors with the state of their credentials, a page at a time."""

    http = GET(CONNECTORS)
    output = SourceConnector
    paging = Paging(items="sourceConnectors", limit="limit", cursor="nextToken", next="nextToken")
    summary = ("id", "type", "name", "verificationStatus", "errorMessage")
    example = {"limit": 20}

    workspace_id: WorkspaceId = None


class GetSourceConnector(VectorizeOperation):
    """Get a source connector with its config, whether its credentials work (verificationStatus), and its last error."""

    http = GET(CONNECTOR)
    effect = Effect.READ
    output = SourceConnector
    example = {"source_connector_id": "550e8400-e29b-41d4-a716-446655440000"}

    source_connector_id: SourceConnectorId


class CreateSourceConnector(VectorizeOperation):
    """Create source connectors, which a pipeline then reads from. Call describe_connector_type first for the config
    keys. verificationStatus says whether the credentials work."""

    http = POST(CONNECTORS)
    effect = Effect.CREATE
    output = CreationOutcome
    returns_list = True
    repeatable = False
    reports = ("verificationStatus", "errorMessage")
    consequence = "Creates source connectors."
    example = {
        "connectors": [{"name": "Docs site", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}]
    }

    connectors: Annotated[
        list[NewSourceConnector], Field(min_length=1, description="What to create. Each succeeds or fails by itself.")
    ]
    workspace_id: WorkspaceId = None

    def make_requests(self, situation: Situation) -> tuple[Request, ...]:
        """Make one request for each connector, or one with the list for servers that take an array (trap 1)."""
        bodies = [connector.model_dump(exclude_unset=True) for connector in self.connectors]
        whole = self.make_request(situation)
        parts: Sequence[Any] = [bodies] if situation.options.get("VECTORIZE_CREATE_BODY") == "array" else bodies
        return tuple(replace(whole, body=part) for part in parts)

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        return tuple(
            use_of(f"connectors[{index}].config", each.type, each.config)
            for index, each in enumerate(self.connectors)
            if each.config is not None
        )

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        """Find configs that are missing, and configs of a type that takes none."""
        issues: list[Issue] = []
        for index, connector in enumerate(self.connectors):
            known = connector_type("vectorize", connector.type)
            path = f"connectors[{index}].config"
            if connector.type not in get_args(SourceType):
                otherwise = f"one of {', '.join(get_args(SourceType))}"
                place = f"connectors[{index}].type"
                issue = unknown_type(
                    place, "vectorize", connector.type, otherwise, fits=lambda kind: kind.type in get_args(SourceType)
                )
                issues.append(replace(issue, unknown=True))
            if known and known.config.get("required") and connector.config is None:
                needed = ", ".join(known.config["required"])
                issues.append(Issue(path, "nothing", f"the config of {connector.type}: {needed}"))
            if connector.type == "FILE_UPLOAD" and connector.config is not None:
                issues.append(Issue(path, "an object", "no config: FILE_UPLOAD takes none on create"))
        return (*issues, *find_key_file_problems(self.find_configs(situation)))

    def describe_effect(self, situation: Situation) -> str:
        """Name the connectors to create."""
        made = [
            f"{type_name(each.model_dump())}“{each.name[:_LONGEST_NAME]}”" for each in self.connectors[:_MOST_NAMED]
        ]
        more = len(self.connectors) - len(made)
        what = f"Creates {len(self.connectors)} source connector{'s' if len(self.connectors) > 1 else ''}: "
        listed = what + ", ".join(made) + (f" and {more} more" if more else "") + "."
        return listed.replace("{", "{{").replace("}", "}}")

    def find_unproven(self, data: Any) -> str:
        if all(at(row, "verificationStatus") or at(row, "error") for row in items(data)):
            return ""
        return "Vectorize has not reported whether the credentials work: read verificationStatus of the connector."

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """Take name and id of each created connector from either form of the answer (trap 1)."""
        created: list[Any] = []
        for answer in answers:
            one, several = at(answer, "connector"), at(answer, "connectors")
            created.extend(items(several) or [one])
        return created

    def read_back(self, data: Any) -> Operation | None:
        """The read of the first connector that was created."""
        identifier = data[0].get("id") if data and isinstance(data[0], dict) else None
        if not isinstance(identifier, str):
            return None
        return GetSourceConnector(organization_id=self.organization_id, source_connector_id=identifier)


SOURCE_CONNECTOR = Target(
    "source connector",
    GetSourceConnector,
    volatile=frozenset({"verificationStatus", "errorMessage", "lastUpdatedById", "lastUpdatedByEmail"}),
)


class UpdateSourceConnector(VectorizeOperation, UpdateOperation):
    """Replace the config of a source connector, as to rotate credentials. Send it whole, secrets included: they cannot
    be read back. It reaches the pipelines that use it. Name and type cannot change."""

    http = PATCH(CONNECTOR)
    output = UpdatedSourceConnector
    acts_on = SOURCE_CONNECTOR
    # Whether the platform merges inside the config is not documented, so keys that are not sent count as lost (trap 4).
    strategy = Merge()
    consequence = "Changes the config of source connector {name}; it reaches the pipelines that use it."
    example = {
        "source_connector_id": "550e8400-e29b-41d4-a716-446655440000",
        "config": {"seed-urls": ["https://docs.example.com"]},
    }

    source_connector_id: SourceConnectorId
    config: Annotated[
        JsonObject,
        Field(description="The whole config. Keys left out are unset, secrets too."),
        in_body(stored_as="configDoc"),
    ]

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        type_id = at(situation.current, "type")
        return (use_of("config", type_id, self.config),)

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        """Find a connector that cannot be changed, and a key file that is none."""
        return (*find_system_connector(situation.current), *find_key_file_problems(self.find_configs(situation)))

    def find_hidden_losses(self, situation: Situation) -> Iterator[Loss]:
        """The stored credentials that no read shows, where the config may leave them out."""
        if situation.current is None:
            return
        known = connector_type("vectorize", at(situation.current, "type"))
        if known is None:
            yield Loss("May unset stored credentials, which no read shows: what this type stores is not known")
            return
        for key in known.secret_paths:
            if key not in known.config.get("required", ()) and is_vacant(self.config.get(key)):
                yield Loss(f"Unsets {key} of the config if it is stored, which no read shows", ("configDoc", key))

    def describe_effect(self, situation: Situation) -> str:
        return self.consequence.replace("source connector", f"{type_name(situation.current)}source connector")

    def describe_loss(self, path: Path, before: Any, *, overwritten: bool) -> Loss:
        if len(path) > 1 and not overwritten:
            return Loss(f"Unsets {'.'.join(path[1:])} of the config", path, before)
        return super().describe_loss(path, before, overwritten=overwritten)

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        updated, pipelines = at(answers[0], "data.updatedConnector"), at(answers[0], "data.pipelineIds")
        return members(updated) | {"pipelineIds": pipelines}


class DeleteSourceConnector(VectorizeOperation):
    """Delete a source connector for good. Pipelines that read from it stop ingesting."""

    http = DELETE(CONNECTOR)
    effect = Effect.DESTROY
    output = Acknowledged
    acts_on = SOURCE_CONNECTOR
    consequence = "Deletes source connector {name}; pipelines that read from it stop ingesting. It cannot be undone."
    example = {"source_connector_id": "550e8400-e29b-41d4-a716-446655440000"}

    source_connector_id: SourceConnectorId

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        """Find a connector that cannot be deleted."""
        return find_system_connector(situation.current)

    def describe_effect(self, situation: Situation) -> str:
        """Say what stops, with the number of users if the connector shows them."""
        users = len(items(at(situation.current, "configDoc.authorized-users")))
        also = f", and so do the files of its {users} user{'s' if users > 1 else ''}" if users else ""
        return (
            f"Deletes {type_name(situation.current)}source connector {{name}}; pipelines that read from it stop "
            f"ingesting{also}. It cannot be undone."
        )


OPERATIONS = (
    GetSourceConnectors,
    CreateSourceConnector,
    GetSourceConnector,
    UpdateSourceConnector,
    DeleteSourceConnector,
)
