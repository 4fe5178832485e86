"""Versori connectors, Connect API v1 (facts: sections 3 and 4, traps 2 to 6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from connector_mcp.errors import Internal, Issue
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import (
    GET,
    LOCAL_ONLY,
    PUT,
    Effect,
    ListOperation,
    Loss,
    Operation,
    Paging,
    Record,
    Situation,
    Target,
    at,
    in_body,
)
from connector_mcp.operations.versori.platform import VERSORI
from connector_mcp.operations.versori.variables import find_variable_losses, objects

OrganisationId = Annotated[str, Field(description="Versori organisation id.")]
ConnectorId = Annotated[str, Field(description="Connector id.")]
Protocol = Literal["http", "bigquery"]

CONNECTORS = "/o/{organisation_id}/connectors"
CONNECTOR = f"{CONNECTORS}/{{connector_id}}"

# Members that the PUT unsets when they are missing, so that a merge has to send them again (trap 2). Not among them:
# authSchemeConfigIds, which is kept, and connectionVariables, which would rewrite every connection (traps 3 and 4).
_UNSETTABLE = ("documentationURL", "imageURL", "tags", "public")
_CARRIED_OVER = ("name", "protocol", "baseUrl", "datasetId", *_UNSETTABLE)
_ADDRESS = {"http": "base_url", "bigquery": "dataset_id"}


class Connector(Record):
    """A connector as Versori shows it, with its connections and versions."""

    id: str | None = None
    name: str | None = None
    protocol: str | None = None
    public: bool | None = None
    base_url: str | None = None
    dataset_id: str | None = None
    documentation_url: Annotated[str | None, Field(alias="documentationURL")] = None
    image_url: Annotated[str | None, Field(alias="imageURL")] = None
    tags: JsonObject | None = None
    auth_scheme_configs: list[JsonObject] | None = None
    connection_variables: list[JsonObject] | None = None
    updated_at: str | None = None


class ConnectionVariable(BaseModel):
    """A placeholder of the base URL and what stands for it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(description="In base_url.")]
    value: Annotated[str, Field(description="Its value.")]


class VersoriOperation(Operation):
    """Base of Versori's operations."""

    on = VERSORI

    organisation_id: OrganisationId


class ListConnectors(VersoriOperation, ListOperation):
    """List the connectors of the organisation, last updated first, a page at a time."""

    http = GET(CONNECTORS)
    output = Connector
    paging = Paging(items="connectors", limit="first", cursor="after", next="next")
    summary = ("id", "name", "protocol", "baseUrl", "datasetId", "public", "updatedAt")
    heavy = frozenset({"connections", "versions"})
    example = {"limit": 20, "name": "acme"}

    name: Annotated[str | None, Field(description="Part of the name.")] = None
    protocol: Annotated[str | None, Field(description="Part of the protocol.")] = None
    tags: Annotated[str | None, Field(description="Tags as `key:value,key`.")] = None
    categories: Annotated[list[str] | None, Field(description="Categories such as ERP, CRM.")] = None


class GetConnector(VersoriOperation):
    """Get one connector with its auth schemes, connections and versions; credentials are withheld."""

    http = GET(CONNECTOR)
    effect = Effect.READ
    output = Connector
    example = {"connector_id": "01J2ABCDEF0123456789ABCDEF"}

    connector_id: ConnectorId


def _what_an_update_touches(operation: Any, record: Any) -> Any:
    """The record less what lives by itself: versions, and of connections all but their variables (trap 4)."""
    if not isinstance(record, dict):
        return record
    touched = {member: value for member, value in cast("JsonObject", record).items() if member != "versions"}
    if "connections" in touched:
        touched["connections"] = [
            {member: connection.get(member) for member in ("id", "name", "variables")}
            for connection in objects(touched["connections"])
        ]
    return touched


class UpdateConnector(VersoriOperation):
    """Change a connector. What is not given keeps its value: the server merges, as Versori itself unsets what is left
    out."""

    http = PUT(CONNECTOR)
    effect = Effect.UPDATE
    output = Connector
    acts_on = Target(
        "connector", GetConnector, volatile=frozenset({"updatedAt", "versions"}), select=_what_an_update_touches
    )
    overwrites = True
    can_destroy = True
    heavy = frozenset({"connections", "versions"})
    consequence = "Changes connector {name}; its connections and the integrations that use it get the new settings."
    example = {"connector_id": "01J2ABCDEF0123456789ABCDEF", "name": "Acme CRM", "tags": {"team": ["sales"]}}

    connector_id: ConnectorId
    name: Annotated[str | None, Field(description="Display name.")] = None
    protocol: Annotated[Protocol | None, Field(description="Cannot change.")] = None
    base_url: Annotated[str | None, Field(description="http: may hold {{variable}}.")] = None
    dataset_id: Annotated[str | None, Field(description="bigquery: project.dataset.")] = None
    auth_scheme_config_ids: Annotated[list[str] | None, Field(description="All ids, in the new order.")] = None
    connection_variables: Annotated[
        list[ConnectionVariable] | None, Field(description="Overwrites every connection's.")
    ] = None
    documentation_url: Annotated[str | None, Field(description="null unsets."), in_body("documentationURL")] = None
    image_url: Annotated[str | None, Field(description="null unsets."), in_body("imageURL")] = None
    tags: Annotated[dict[str, list[str]] | None, Field(description="Replaces all.")] = None
    public: Annotated[bool | None, Field(description="In the public library.")] = None
    replace: Annotated[bool, Field(description="Unset what is not given."), LOCAL_ONLY] = False

    def make_body(self, situation: Situation) -> Any:
        """What is given, over what is now there unless the caller replaces.

        Raises:
            Internal: A merge is due and the connector has not been read; sending would unset what was not given.
        """
        identity = {"id": self.connector_id, "organisationId": self.organisation_id}
        if self.replace:
            return identity | dict(self.given("body"))
        now = {member: at(situation.current, member) for member in _CARRIED_OVER}
        kept = {member: value for member, value in now.items() if value is not None}
        if not kept:
            raise Internal(
                "versori_update_connector: the connector was not read, so its values cannot be kept. Nothing was sent.",
                fix="Check with versori_get_connector that the connector can be read, then call again.",
            )
        return identity | kept | dict(self.given("body"))

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        """What Versori would refuse, or accept and not do."""
        return (
            *self._find_missing(),
            *self._find_protocol_problems(at(situation.current, "protocol")),
            *self._find_order_problems(situation.current),
        )

    def find_losses(self, situation: Situation) -> tuple[Loss, ...]:
        """Every value that is there now and would not be after the call (traps 2 to 4)."""
        given, current = dict(self.given("body")), situation.current
        losses: list[Loss] = []
        for member in _UNSETTABLE:
            before = at(current, member)
            if before and self._unsets(member, given):
                losses.append(Loss(f"Unsets {member}", member, before))
        tags, before = given.get("tags"), at(current, "tags")
        if tags and isinstance(before, dict):
            stored = cast("JsonObject", before)
            losses.extend(Loss(f"Unsets tags.{key}", f"tags.{key}", stored[key]) for key in stored if key not in tags)
        if "connectionVariables" in given:
            losses.extend(find_variable_losses(given["connectionVariables"] or [], current))
        elif self.replace and at(current, "connectionVariables"):
            losses.append(Loss("May unset connectionVariables", "connectionVariables", current["connectionVariables"]))
        return tuple(losses)

    def plan_changes(self, situation: Situation) -> Mapping[str, Any]:
        """The members after the call. A merge names the variables too, so that it shows if they were lost (trap 4)."""
        given, current = dict(self.given("body")), situation.current
        order = given.pop("authSchemeConfigIds", None)
        changes: JsonObject = {member: None if value in ("", [], {}) else value for member, value in given.items()}
        for member in _UNSETTABLE:
            if at(current, member) and self._unsets(member, given):
                changes[member] = None
        if not self.replace and "connectionVariables" not in given and at(current, "connectionVariables"):
            changes["connectionVariables"] = current["connectionVariables"]
        if order and (configs := {config.get("id"): config for config in objects(at(current, "authSchemeConfigs"))}):
            changes["authSchemeConfigs"] = [configs[key] for key in order if key in configs]
        return changes

    def _unsets(self, member: str, given: Mapping[str, Any]) -> bool:
        return given[member] in (None, "", [], {}) if member in given else self.replace

    def _find_missing(self) -> Iterator[Issue]:
        settings = [name for name, wire in self.wires().items() if wire.place == "body"]
        if not self.model_fields_set.intersection(settings):
            yield Issue("arguments", "nothing to change", f"at least one of {', '.join(settings)}")
        required = ("name", "protocol", *([_ADDRESS[self.protocol]] if self.protocol else []))
        for name in required if self.replace else ():
            if name not in self.model_fields_set:
                yield Issue(name, "nothing", "a value: `replace` sends only what is given, and Versori requires it")
        for name in ("name", "protocol", "base_url", "dataset_id"):
            if name in self.model_fields_set and not getattr(self, name):
                yield Issue(name, "an empty value", "a value, or leave it out to keep the present one")

    def _find_protocol_problems(self, current: Any) -> Iterator[Issue]:
        protocol = current if current in _ADDRESS else self.protocol
        if protocol is None:
            return
        if self.protocol and self.protocol != protocol:
            yield Issue("protocol", self.protocol, f"{protocol}: a connector keeps its protocol", protocol)
        fitting = _ADDRESS[protocol]
        for name in _ADDRESS.values():
            if name != fitting and getattr(self, name):
                yield Issue(name, "a value", f"{fitting}, or nothing: this is a connector of protocol {protocol}")
        if protocol != "http" and self.connection_variables:
            yield Issue("connection_variables", "a value", f"nothing: {protocol} connectors have no variables")

    def _find_order_problems(self, current: Any) -> Iterator[Issue]:
        if "auth_scheme_config_ids" not in self.model_fields_set or not isinstance(current, dict):
            return
        ids = [str(config.get("id")) for config in objects(at(current, "authSchemeConfigs"))]
        if sorted(self.auth_scheme_config_ids or []) != sorted(ids):
            yield Issue(
                "auth_scheme_config_ids",
                f"{len(self.auth_scheme_config_ids or [])} ids that are not the connector's own",
                f"a reordering of the {len(ids)} ids that versori_get_connector shows under authSchemeConfigs",
            )
