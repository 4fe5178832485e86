"""Versori connectors, Connect API v1 (facts: sections 3 and 4, traps 2 to 6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, is_array, is_object, items, members
from connector_mcp.operations.fields import LOCAL_ONLY, in_body
from connector_mcp.operations.operation import Effect, ListOperation, Paging, Record, Target, at
from connector_mcp.operations.platform import GET, PUT
from connector_mcp.operations.situation import Loss, Path, Situation
from connector_mcp.operations.update import NamedItems, Replace, UpdateOperation, is_unset
from connector_mcp.operations.versori.platform import ULID, VersoriOperation

ConnectorId = Annotated[str, Field(description="Id of the connector. versori_list_connectors lists them.")]
Protocol = Literal["http", "bigquery"]

CONNECTORS = "/o/{organisation_id}/connectors"
CONNECTOR = f"{CONNECTORS}/{{connector_id}}"

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
    """A placeholder of the base URL and its value."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(description="Name of the placeholder in base_url, without braces.")]
    value: Annotated[str, Field(description="What is put in the placeholder's place.")]


class ListConnectors(VersoriOperation, ListOperation):
    """List the connectors of the organisation, last updated first, a page at a time."""

    http = GET(CONNECTORS)
    output = Connector
    paging = Paging(items="connectors", limit="first", cursor="after", next="next", empty=("connectors", "totalCount"))
    summary = ("id", "name", "protocol", "baseUrl", "datasetId", "public", "updatedAt")
    heavy = frozenset({"connections", "versions"})
    example = {"limit": 20, "name": "acme"}

    name: Annotated[str | None, Field(description="Only connectors with this in their name.")] = None
    protocol: Annotated[
        str | None, Field(description="Only connectors with this in their protocol: http or bigquery.")
    ] = None
    tags: Annotated[str | None, Field(description="Only connectors with these tags, as key:value,key.")] = None
    categories: Annotated[
        list[str] | None, Field(description="Only connectors in these categories, such as ERP or CRM.")
    ] = None


class GetConnector(VersoriOperation):
    """Get a connector with its auth schemes, connections and versions; credentials are withheld."""

    http = GET(CONNECTOR)
    effect = Effect.READ
    output = Connector
    example = {"connector_id": ULID}

    connector_id: ConnectorId


def _what_an_update_touches(operation: Any, situation: Situation) -> Any:
    """The record without its versions, and of its connections only their names and variables (trap 4)."""
    record = situation.current
    if not is_object(record):
        return record
    touched = {member: value for member, value in record.items() if member != "versions"}
    connections = touched.get("connections")
    if is_array(connections) and all(map(is_object, connections)):
        touched["connections"] = [
            {member: connection.get(member) for member in ("id", "name", "variables")} for connection in connections
        ]
    return touched


def _shows_variables(connections: Any) -> bool:
    """Whether a record shows the variables of every connection."""
    return is_array(connections) and all(is_array(at(connection, "variables")) for connection in connections)


class UpdateConnector(VersoriOperation, UpdateOperation):
    """Change a connector, as its name, address, variables or tags. What is left out keeps its value unless replace is
    true."""

    http = PUT(CONNECTOR)
    output = Connector
    acts_on = Target(
        "connector",
        GetConnector,
        volatile=frozenset({"updatedAt", "versions"}),
        select=_what_an_update_touches,
        type_at="protocol",
    )
    # Not sent again: authSchemeConfigIds, which Versori keeps, and connectionVariables, which would rewrite the
    # variables of every connection (traps 2 to 4).
    strategy = Replace(
        required=("name", "protocol", "baseUrl", "datasetId"), unset=("documentationURL", "imageURL", "tags", "public")
    )
    named_items = {
        "connectionVariables": NamedItems(("name",), value="value"),
        "connections": NamedItems(("name", "id")),
        "connections.variables": NamedItems(("name",), value="value"),
    }
    heavy = frozenset({"connections", "versions"})
    host_arguments = ("base_url",)
    consequence = "Changes connector {name}; its connections and the integrations that use it get the new settings."
    example = {"connector_id": ULID, "name": "Acme CRM", "tags": {"team": ["sales"]}}

    connector_id: ConnectorId
    name: Annotated[str | None, Field(description="New display name.")] = None
    protocol: Annotated[Protocol | None, Field(description="May be left out: a connector keeps its protocol.")] = None
    base_url: Annotated[str | None, Field(description="http: address that calls go to; may hold {{variable}}.")] = None
    dataset_id: Annotated[str | None, Field(description="bigquery: the data set, as project.dataset.")] = None
    auth_scheme_config_ids: Annotated[
        list[str] | None,
        Field(description="Ids of all present authSchemeConfigs in the new order; none can be added or removed."),
        in_body(stored_as="authSchemeConfigs"),
    ] = None
    connection_variables: Annotated[
        list[ConnectionVariable] | None,
        Field(description="The whole list. It also replaces the variables of every connection; [] drops all."),
    ] = None
    documentation_url: Annotated[
        str | None, Field(description='URL of its documentation; "" unsets it.'), in_body("documentationURL")
    ] = None
    image_url: Annotated[str | None, Field(description='URL of its image; "" unsets it.'), in_body("imageURL")] = None
    tags: Annotated[dict[str, list[str]] | None, Field(description="All tags: {key: [value]}. {} unsets them.")] = None
    public: Annotated[
        bool | None, Field(description="true shows it to everyone in the public library, false hides it.")
    ] = None
    replace: Annotated[bool, Field(description="true unsets what is left out, false keeps it."), LOCAL_ONLY] = False

    def make_body(self, situation: Situation) -> Any:
        """Make the body, which repeats the ids of the path (trap 5). What is left out of it is unset (trap 2)."""
        identity = {"id": self.connector_id, "organisationId": self.organisation_id}
        return identity | {name: value for name, value in super().make_body(situation).items() if value != ""}

    def after(self, current: JsonObject) -> JsonObject:
        """The connector with its auth schemes reordered, and its variables written to every connection (trap 4).

        A replacement without variables may unset them (trap 3). The worse outcome is assumed.
        """
        given, after = self.given_members(), super().after(current)
        configs = {str(config.get("id")): config for config in map(members, items(current.get("authSchemeConfigs")))}
        if "authSchemeConfigs" in given:
            order: list[str] = given["authSchemeConfigs"]
            after["authSchemeConfigs"] = [configs[key] for key in order if key in configs]
        if "connectionVariables" in given:
            variables: JsonObject = {"variables": given["connectionVariables"]}
            if is_array(connections := current.get("connections")):
                after["connections"] = [each | variables if is_object(each) else each for each in connections]
        elif self.replace:
            after.pop("connectionVariables", None)
        return after

    def plan_changes(self, situation: Situation) -> Mapping[Path, Any]:
        """Expect a merge to keep the variables (trap 4). What a replacement does to them is not known (trap 3)."""
        planned, variables = dict(super().plan_changes(situation)), at(situation.current, "connectionVariables")
        if "connectionVariables" not in self.given_members():
            planned.pop(("connectionVariables",), None)
            if variables and not self.replace:
                planned[("connectionVariables",)] = variables
        return planned

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        """Find what Versori would refuse, and what it would accept and not do."""
        return (
            *self._find_missing(),
            *self._find_protocol_problems(at(situation.current, "protocol")),
            *self._find_order_problems(situation.current),
            *self._find_repeated_variables(),
        )

    def find_hidden_losses(self, situation: Situation) -> Iterator[Loss]:
        """Privacy, variables of connections that the read does not show, and tags without a value."""
        current = members(situation.current)
        if current and self.public and not current.get("public"):
            yield Loss("Shows the connector with its base URL to every organization, in the public library")
        if current and self.connection_variables is not None and not _shows_variables(current.get("connections")):
            yield Loss("May overwrite variables of connections, which Versori's answer does not show", ("connections",))
        kept = members(self.after(current).get("tags"))
        for tag, values in members(current.get("tags")).items():
            if is_unset(values) and tag not in kept:
                yield Loss(f"Unsets tags.{tag}", ("tags", tag))

    def describe_loss(self, path: Path, before: Any, *, overwritten: bool) -> Loss:
        match path:
            case ("connectionVariables",) if "connectionVariables" not in self.given_members():
                return Loss("May unset connectionVariables", path, before)
            case ("connectionVariables", name):
                return Loss(f"Drops variable {name}", path, before)
            case ("connections", connection, "variables", name):
                verb = "Overwrites" if overwritten else "Drops"
                return Loss(f"{verb} variable {name} of connection {connection}", path, before)
            case _:
                return super().describe_loss(path, before, overwritten=overwritten)

    def _find_missing(self) -> Iterator[Issue]:
        settings = self.sent_in("body")
        if not any(getattr(self, name) is not None for name in settings):
            yield Issue("arguments", "nothing to change", f"at least one of {', '.join(settings)}")
        required = ("name", "protocol", *([_ADDRESS[self.protocol]] if self.protocol else []))
        for name in required if self.replace else ():
            if getattr(self, name) is None:
                yield Issue(name, "nothing", "a value: `replace` sends only what is given, and Versori requires it")
        for name in ("name", "protocol", "base_url", "dataset_id"):
            if getattr(self, name) == "":
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
        if self.auth_scheme_config_ids is None or not is_object(current):
            return
        ids = [str(members(config).get("id")) for config in items(current.get("authSchemeConfigs"))]
        if sorted(self.auth_scheme_config_ids) != sorted(ids):
            yield Issue(
                "auth_scheme_config_ids",
                f"{len(self.auth_scheme_config_ids)} ids that are not the connector's own",
                f"a reordering of the {len(ids)} ids that versori_get_connector shows under authSchemeConfigs",
            )

    def _find_repeated_variables(self) -> Iterator[Issue]:
        names = [variable.name for variable in self.connection_variables or ()]
        if len(set(names)) < len(names):
            yield Issue("connection_variables", "a name more than once", "each name once: Versori would keep one value")


OPERATIONS = (UpdateConnector, ListConnectors, GetConnector)
