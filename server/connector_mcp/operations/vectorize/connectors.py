"""What Vectorize's three kinds of connectors share (facts: sections 3 and 5, traps 1, 4 to 7, 14, 15 and 19).

A source, a destination and an AI platform have the same record and the same five operations, under paths of their own.
A pipeline joins them. Each kind has a module that derives its operations from these bases.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.connector_types import connector_type, connector_types
from connector_mcp.operations.fields import in_body
from connector_mcp.operations.operation import (
    Effect,
    ListOperation,
    Operation,
    Paging,
    Record,
    StoredConfig,
    Target,
    at,
)
from connector_mcp.operations.platform import Request
from connector_mcp.operations.situation import ConfigUse, Loss, Path, Situation
from connector_mcp.operations.update import Merge, UpdateOperation, is_vacant
from connector_mcp.operations.vectorize.pipelines import GetPipelines, find_other_type, quoted
from connector_mcp.operations.vectorize.platform import Acknowledged, VectorizeOperation, WorkspaceId

_MOST_NAMED = 10
_KEY_FILE = "service-account-json"
_FILE_PATH = re.compile(r"^(~|\.{0,2}[/\\]|[A-Za-z]:[/\\]|file:)|\.json$")


class Connector(Record):
    """A connector as Vectorize shows it; secrets are normally withheld from `configDoc`."""

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


class UpdatedConnector(Connector):
    """The connector after an update, and the pipelines that use it."""

    pipeline_ids: list[str] | None = None


class NewConnector(BaseModel):
    """One connector to create."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, description="Display name. It cannot be changed later.")]
    type: Annotated[str, Field(description="Type of connector. It cannot be changed later.")]
    config: Annotated[
        JsonObject | None, Field(description="All keys that the type needs. describe_connector_type gives them.")
    ] = None


New = TypeVar("New", bound=NewConnector)


class ConnectorOperation(VectorizeOperation):
    """Base of the operations on one kind of connector."""

    stored_config = StoredConfig(at="configDoc", type_at="type")

    noun: ClassVar[str]
    kind: ClassVar[str]
    """The kind of its types in connector_types.json."""
    used_in: ClassVar[str]
    """Member of a pipeline with the ids of the connectors of this kind that it uses."""
    use: ClassVar[str]
    """What a pipeline does with it: `read from it`."""
    lost: ClassVar[str]
    """What pipelines do without it: `stop ingesting`."""

    def find_pipelines(self, situation: Situation) -> list[str] | None:
        """The names of the pipelines that use the connector; None if they are not known."""
        if situation.dependents is None:
            return None
        own = getattr(self, self.http.placeholders[-1])
        return [quoted(at(row, "name")) for row in situation.dependents if own in items(at(row, self.used_in))]

    def describe_pipelines(self, situation: Situation, effect: str) -> str:
        """What happens to the pipelines that use the connector, with their names as far as they are known."""
        names = self.find_pipelines(situation)
        if names == []:
            return "; no pipeline that uses it is listed"
        more = f" and {len(names) - _MOST_NAMED} more" if names and len(names) > _MOST_NAMED else ""
        listed = f": {', '.join(names[:_MOST_NAMED])}{more}" if names else ""
        return f"; pipelines that {self.use} {effect}{listed}"


def types_of(kind: str) -> list[str]:
    """The types of this kind that a create request may name."""
    return [known.type for known in connector_types("vectorize").values() if known.kind == kind and known.creatable]


def type_field(kind: str, what: str) -> Any:
    """Make the field for the type of a new connector. Its schema lists the types when it is built."""

    def offer(schema: JsonObject) -> None:
        schema["enum"] = types_of(kind)

    return Field(description=f"{what} It cannot be changed later.", json_schema_extra=offer)


def type_name(record: Any) -> str:
    """The name of a record's connector type with a space after it; empty if the type is not known."""
    known = connector_type("vectorize", at(record, "type"))
    return f"{known.name} " if known else ""


def use_of(path: str, type_id: Any, config: JsonObject) -> ConfigUse:
    """The use of a whole config of this type."""
    return ConfigUse(path, type_id, connector_type("vectorize", type_id), config, empty_is_missing=True)


def find_system_connector(record: Any, argument: str) -> tuple[Issue, ...]:
    """Find Vectorize's own built-in connector, which can be neither changed nor deleted (trap 14)."""
    if at(record, "type") != "VECTORIZE":
        return ()
    return (Issue(argument, "the built-in connector", "a connector that can be changed or deleted"),)


class ConnectorRead(ConnectorOperation):
    """Base of the reads of one connector."""

    effect = Effect.READ
    output = Connector


class ConnectorList(ConnectorOperation, ListOperation):
    """Base of the lists."""

    output = Connector
    summary = ("id", "type", "name", "verificationStatus", "errorMessage")
    example = {"limit": 20}

    workspace_id: WorkspaceId = None


def pages_of(rows: str) -> Paging:
    """How Vectorize pages a list."""
    return Paging(items=rows, limit="limit", cursor="nextToken", next="nextToken")


class ConnectorCreation(ConnectorOperation, Generic[New]):
    """Base of the creations."""

    effect = Effect.CREATE
    output = CreationOutcome
    returns_list = True
    repeatable = False
    reports = ("verificationStatus", "errorMessage")
    next_step = "A connector does nothing until a pipeline uses it: vectorize_create_pipeline."

    connectors: Annotated[
        list[New], Field(min_length=1, description="What to create. Each succeeds or fails by itself.")
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
        """Find types of another kind, configs that are missing, and configs of a type that takes none."""
        issues: list[Issue] = []
        for index, connector in enumerate(self.connectors):
            known = connector_type("vectorize", connector.type)
            path = f"connectors[{index}].config"
            if connector.type not in (creatable := types_of(self.kind)):
                issues.append(find_other_type(f"connectors[{index}].type", connector.type, creatable))
            if known and known.config.get("required") and connector.config is None:
                needed = ", ".join(known.config["required"])
                issues.append(Issue(path, "nothing", f"the config of {connector.type}: {needed}"))
            if connector.type == "FILE_UPLOAD" and connector.config is not None:
                issues.append(Issue(path, "an object", "no config: FILE_UPLOAD takes none on create"))
        return (*issues, *find_key_file_problems(self.find_configs(situation)))

    def describe_effect(self, situation: Situation) -> str:
        made = [f"{type_name(each.model_dump())}{quoted(each.name)}" for each in self.connectors[:_MOST_NAMED]]
        more = len(self.connectors) - len(made)
        what = f"Creates {len(self.connectors)} {self.noun}{'s' if len(self.connectors) > 1 else ''}: "
        return what + ", ".join(made) + (f" and {more} more" if more else "") + "."

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

    def find_missing(self, shown: Any) -> list[str]:
        """The connectors that no row is about. One that failed has a row with its index."""
        rows = list(map(members, items(shown)))
        failed = {row["index"] for row in rows if "error" in row}
        names = [each.name for index, each in enumerate(self.connectors) if index not in failed]
        for row in rows:
            if row.get("name") in names:
                names.remove(row["name"])
        # A row without a name is about one of those that are left.
        unnamed = sum("id" in row and "name" not in row for row in rows)
        return [f"connector {quoted(name)}" for name in names[unnamed:]]

    def read_back(self, data: Any) -> Operation | None:
        return super().read_back(next(iter(items(data)), None))


def target_of(reader: type[ConnectorOperation]) -> Target:
    """The connector that a call acts on, with the pipelines that may use it."""
    volatile = frozenset({"verificationStatus", "errorMessage", "lastUpdatedById", "lastUpdatedByEmail"})
    return Target(reader.noun, reader, volatile=volatile, dependents=GetPipelines)


class ConnectorUpdate(ConnectorOperation, UpdateOperation):
    """Base of the updates, which replace the config."""

    output = UpdatedConnector
    consequence = "Changes the config of connector {name}; pipelines that use it get the new one."
    # Whether the platform merges inside the config is not documented, so keys that are not sent count as lost (trap 4).
    strategy = Merge()

    config: Annotated[
        JsonObject,
        Field(description="The whole config. Keys left out are unset, secrets too."),
        in_body(stored_as="configDoc"),
    ]

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        return (use_of("config", at(situation.current, "type"), self.config),)

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        system = find_system_connector(situation.current, self.http.placeholders[-1])
        return (*system, *find_key_file_problems(self.find_configs(situation)))

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
        affected = self.describe_pipelines(situation, "get the new one")
        return f"Changes the config of {type_name(situation.current)}{self.noun} {{name}}{affected}."

    def describe_loss(self, path: Path, before: Any, *, overwritten: bool) -> Loss:
        if len(path) > 1 and not overwritten:
            return Loss(f"Unsets {'.'.join(path[1:])} of the config", path, before)
        return super().describe_loss(path, before, overwritten=overwritten)

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        updated, pipelines = at(answers[0], "data.updatedConnector"), at(answers[0], "data.pipelineIds")
        return members(updated) | {"pipelineIds": pipelines}

    def find_next_step(self, data: Any, situation: Situation) -> str:
        if not items(at(data, "pipelineIds")):
            return ""
        return (
            "It is not documented that running pipelines pick up a new config: vectorize_stop_pipeline and "
            "vectorize_start_pipeline on each of pipelineIds, then check_connector."
        )


class ConnectorDeletion(ConnectorOperation):
    """Base of the deletions."""

    effect = Effect.DESTROY
    output = Acknowledged
    consequence = "Deletes connector {name}; pipelines that use it stop ingesting or fail. It cannot be undone."

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        return find_system_connector(situation.current, self.http.placeholders[-1])

    def describe_effect(self, situation: Situation) -> str:
        users = len(items(at(situation.current, "configDoc.authorized-users")))
        also = f", and so do the files of its {users} user{'s' if users > 1 else ''}" if users else ""
        if self.find_pipelines(situation) == []:
            also = f", and its {users} user{'s' if users > 1 else ''} must authorize again" if users else ""
        stopped = self.describe_pipelines(situation, self.lost)
        return f"Deletes {type_name(situation.current)}{self.noun} {{name}}{stopped}{also}. It cannot be undone."


# A Google service account is the text of its JSON key file, and callers give much else in its place ------------------


def find_key_file_problems(uses: Iterable[ConfigUse]) -> Iterator[Issue]:
    """Find service accounts without the text of their JSON key file, and what was given in its place."""
    for use in uses:
        if use.type is None:
            continue
        member = "key" if use.type.type == "VERTEX" else _KEY_FILE
        key = use.value.get(member)
        # Another kind of value is the schema's matter, and a reference is checked when its value is known.
        if not isinstance(key, str) or key.startswith("secret://") or member not in use.type.config["properties"]:
            continue
        if found := _key_file_problem(key):
            got, wanted = found
            yield Issue(f"{use.path}.{member}", got, f"the text of the service account's key file, {wanted}")


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
        wanted = "with \\n for each line break of private_key: they were unescaped on the way"
        return "JSON with raw line breaks", wanted
    if held is None:
        return "text that is no JSON any more", "unchanged: it was cut or altered on the way"
    if isinstance(held, str):
        return "JSON that was encoded twice", "encoded once: it was encoded twice"
    lacking = [name for name in ("client_email", "private_key") if not isinstance(members(held).get(name), str)]
    if members(held).get("type") != "service_account" or lacking:
        return "JSON that is no such key file", "with " + " and ".join(("type service_account", *lacking))
    if "-----BEGIN" in held["private_key"] and "\\n" in held["private_key"]:
        return "a private_key with line breaks that were escaped twice", "unchanged: its line breaks were escaped twice"
    return None
