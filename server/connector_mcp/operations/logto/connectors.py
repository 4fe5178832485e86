"""Logto connectors: reading, creating, changing and deleting them (facts: sections 3 to 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, is_object, items, members
from connector_mcp.operations.connector_types import ConnectorType, kept_masks
from connector_mcp.operations.fields import ArgumentObject
from connector_mcp.operations.logto import factories as rules
from connector_mcp.operations.logto.factories import FactoryId, Fields, LogtoOperation
from connector_mcp.operations.operation import (
    Deleted,
    Effect,
    ListOperation,
    Operation,
    Paging,
    Record,
    StoredConfig,
    Target,
    at,
)
from connector_mcp.operations.platform import DELETE, GET, PATCH, POST
from connector_mcp.operations.situation import ConfigUse, Loss, Path, Situation
from connector_mcp.operations.update import Merge, NamedItems, UpdateOperation

CONNECTORS = "/api/connectors"
CONNECTOR = f"{CONNECTORS}/{{id}}"
EXAMPLE_ID = "x7k2m9q4"

_ON_CREATION = {
    "Email": "Creates an Email connector from factory {connector_id}; Logto sends all e-mail through it at once.",
    "Sms": "Creates an Sms connector from factory {connector_id}; Logto sends all SMS through it at once.",
    "Social": (
        "Creates a Social connector from factory {connector_id}; people can sign in with it once the sign-in "
        "experience lists it."
    ),
}
_ON_CHANGE = {
    "Email": "Changes Email connector {name} (id {id}); Logto sends e-mail with the new settings at once.",
    "Sms": "Changes Sms connector {name} (id {id}); Logto sends SMS with the new settings at once.",
    "Social": "Changes Social connector {name} (id {id}); sign-ins with it use the new settings at once.",
}
_ON_DELETION = {
    "Email": "Logto sends no e-mail any more, so that no verification code reaches anybody by e-mail.",
    "Sms": "Logto sends no SMS any more, so that no verification code reaches anybody by SMS.",
    "Social": "People can no longer sign in with {name}{device}.",
}
_DEVICES = {"Native": " in native apps", "Web": " on the web"}

ConnectorId = Annotated[str, Field(description="Id of the connector. logto_list_connectors lists them.")]
SyncProfile = Annotated[bool | None, Field(description="true updates a user's profile at each sign-in.")]


class ConnectorMetadata(ArgumentObject):
    """How a connector shows itself. Only standard connectors (oidc, oauth2, saml) let the caller choose it."""

    target: Annotated[str | None, Field(description="Identity provider's name in Logto; it cannot change.")] = None
    name: Annotated[dict[str, str | None] | None, Field(description="Display name by language; needs en.")] = None
    logo: Annotated[str | None, Field(description="URL of the logo on light pages.")] = None
    logo_dark: Annotated[str | None, Field(description="URL of the logo on dark pages.")] = None


class ConnectorRecord(Record):
    """A connector; `connectorId` is its factory."""

    id: str | None = None
    connector_id: str | None = None
    type: str | None = None
    target: str | None = None
    platform: str | None = None
    name: JsonObject | None = None
    config: JsonObject | None = None
    metadata: JsonObject | None = None
    sync_profile: bool | None = None
    enable_token_storage: bool | None = None
    is_standard: bool | None = None
    is_demo: bool | None = None


class ConnectorOperation(LogtoOperation):
    """Base of the operations that answer with connectors; the answers hold credentials in clear text (trap 2)."""

    output = ConnectorRecord
    stored_config = StoredConfig(at="config", type_at="connectorId")


class ListConnectors(ConnectorOperation, ListOperation):
    """List the tenant's connectors: at most one Email and one Sms, and the Social ones that people sign in with."""

    http = GET(CONNECTORS)
    paging = Paging(items="")
    summary = ("id", "connectorId", "type", "target", "platform", "name", "isDemo")
    known_by = ("name", "target")
    refers: ClassVar[Mapping[str, type[Operation]]] = {"connectorId": rules.ListConnectorFactories}
    example = {"target": "google"}

    target: Annotated[str | None, Field(description="Only connectors of this provider, such as google.")] = None


class GetConnector(ConnectorOperation):
    """Get a connector with its config, metadata and settings. Demo connectors are only in the list."""

    http = GET(CONNECTOR)
    effect = Effect.READ
    example = {"id": EXAMPLE_ID}

    id: ConnectorId
    fields: Fields = None


def connectors_in_danger(operation: CreateConnector, situation: Situation) -> list[JsonObject]:
    """The tenant's connectors that this creation deletes or, if its type is not known, may delete."""
    types = rules.types_replaced(operation.kind(situation))
    unread = operation.heavy | {"usage"}
    return [
        {member: value for member, value in connector.items() if member not in unread}
        for connector in map(members, items(situation.current))
        if connector.get("type") in types
    ]


def name_connectors_in_danger(operation: CreateConnector, connectors: Any) -> str:
    """The names of the connectors in danger, or the factory where there are none."""
    return ", ".join(map(rules.connector_name, items(connectors))) or operation.connector_id


class CreateConnector(ConnectorOperation):
    """Create a connector from a factory. Call describe_connector_type first for the config keys. A new Email or Sms
    connector deletes the present one of that type, whatever its factory."""

    http = POST(CONNECTORS)
    effect = Effect.CREATE
    acts_on = Target(
        "connector", ListConnectors, name=name_connectors_in_danger, select=connectors_in_danger, type_at="type"
    )
    can_destroy = True
    repeatable = False
    conflict_codes = rules.CONFLICT_CODES
    consequence = "Creates a connector from factory {connector_id}."
    reads_back = GetConnector
    example = {"connector_id": "github-universal", "config": {"clientId": "Iv1.abc", "clientSecret": "<client-secret>"}}

    connector_id: FactoryId
    id: Annotated[str | None, Field(description="Id of your choice; left out, Logto makes one.")] = None
    config: Annotated[
        JsonObject | None, Field(description="All keys that the factory needs. describe_connector_type gives them.")
    ] = None
    metadata: Annotated[ConnectorMetadata | None, Field(description="For oidc, oauth2, saml only; needs target.")] = (
        None
    )
    sync_profile: SyncProfile = None
    enable_token_storage: Annotated[bool | None, Field(description="true stores users' provider tokens.")] = None

    def kind(self, situation: Situation) -> ConnectorType | None:
        """The connector type, as far as it is known by now."""
        return rules.factory_type(self.connector_id, situation.described)

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        if self.config is None:
            return ()
        return (rules.checked_config(self.connector_id, self.config, situation.described),)

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        """Find what Logto would refuse, and what it would accept and leave as a connector that cannot work."""
        known, metadata = self.kind(situation), dict(self.given("body")).get("metadata")
        if rules.is_demo(self.connector_id):
            yield Issue("connector_id", "a demo factory", "a factory that connectors can be made from")
        elif known is None:
            yield from rules.unknown_factory("connector_id", self.connector_id, situation.described)
        else:
            yield from rules.missing_config(known, self.config)
            yield from rules.wrong_metadata(known, metadata)
            if self.enable_token_storage:
                yield from rules.unsuitable_token_storage(known)

    def find_losses(self, situation: Situation) -> Iterator[Loss]:
        """The present connectors of the same type, which Logto deletes without asking (trap 7)."""
        if situation.current is None:
            for made in sorted(rules.types_replaced(self.kind(situation))):
                yield Loss(f"May delete the present {made} connector and its credentials")
        verb = "Deletes" if self.kind(situation) else "May delete, as the new one's type is not known,"
        for old in connectors_in_danger(self, situation):
            named = f"{old['type']} connector {old.get('connectorId')} (id {old.get('id')})"
            yield Loss(f"{verb} {named} with its credentials")

    def is_rival(self, row: JsonObject) -> bool:
        return rules.is_rival(row, self.connector_id, self.metadata.target if self.metadata else None)

    def describe_effect(self, situation: Situation) -> str:
        """Say what the new connector is for, as its type decides."""
        made = rules.type_made(self.kind(situation))
        return _ON_CREATION.get(made or "", self.consequence)

    def type_read(self, current: Any = None) -> Operation | None:
        """The factory, if it or a key of the config is not one that Logto ships."""
        needed = rules.needs_record(self.connector_id, self.config)
        return rules.GetConnectorFactory(id=self.connector_id) if needed else None

    def target_read(self) -> Operation | None:
        """The list, unless the new connector is known to be social and so replaces none."""
        return super().target_read() if rules.types_replaced(rules.factory(self.connector_id)) else None

    def find_unproven(self, data: Any) -> str:
        return "" if self.config is None else rules.unproven_config(at(data, "type"))

    def find_next_step(self, data: Any, situation: Situation) -> str:
        if at(data, "type") != "Social":
            return "Codes go through it where logto_update_sign_in_exp says so: check_connector tells for what."
        return "Not visible at sign-in yet: logto_update_sign_in_exp, with its target added to those from before."


# A demo connector is listed, and may be deleted, but cannot be read by its id (trap 16).
CONNECTOR_TARGET = Target(
    "connector", GetConnector, name="name.en", volatile=frozenset({"usage"}), listed=ListConnectors
)


class UpdateConnector(ConnectorOperation, UpdateOperation):
    """Change a connector, as to rotate a secret. Config and metadata are merged with what is stored: what is left out
    is kept, secrets too; null erases a member; lists are replaced."""

    http = PATCH(CONNECTOR)
    acts_on = CONNECTOR_TARGET
    # Logto replaces both as a whole, and drops every member that is empty (traps 4 and 5).
    strategy = Merge(completed=("config", "metadata"))
    named_items = {"config.templates": NamedItems(("usageType",))}
    consequence = "Changes connector {name} (id {id}); what uses it works with the new settings at once."
    example = {"id": EXAMPLE_ID, "sync_profile": True}

    id: ConnectorId
    config: Annotated[JsonObject | None, Field(description="Only the keys to change.")] = None
    metadata: Annotated[ConnectorMetadata | None, Field(description="Only for oidc, oauth2, saml: what to change.")] = (
        None
    )
    sync_profile: SyncProfile = None
    enable_token_storage: Annotated[
        bool | None, Field(description="true stores the provider's tokens of users; false also deletes those stored.")
    ] = None

    def complete_members(self, current: JsonObject) -> JsonObject:
        """The merged members; metadata with the target, which Logto requires each time (trap 9)."""
        completed, target = super().complete_members(current), current.get("target")
        if "metadata" in completed and isinstance(target, str):
            completed["metadata"] = {"target": target} | completed["metadata"]
        return completed

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        if self.config is None:
            return ()
        factory_id = at(situation.current, "connectorId")
        type_id = factory_id if isinstance(factory_id, str) else None
        if type_id is None:
            return (ConfigUse("config", None, None, self.config, complete=False),)
        known, check_as = rules.factory(type_id), rules.factory_type(type_id, situation.current)
        merged = members(self.complete_members(members(situation.current))["config"])
        return (ConfigUse(
            "config", type_id, known, self.config, complete=False, check_as=check_as, empty_is_missing=True,
            merged=merged,
        ),)  # fmt: skip

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        """Find nothing to change, and what Logto would refuse of the merged connector."""
        if all(value == {} for value in self.given_members().values()):
            wanted = "at least one of config, metadata, sync_profile, enable_token_storage"
            yield Issue("config", "nothing", wanted)
        elif at(situation.current, "isDemo"):
            yield Issue("id", "a demo connector", "a connector that can be changed")
        elif is_object(current := situation.current):
            known = rules.factory_type(str(current.get("connectorId")), current)
            yield from self._find_config_problems(current, known)
            yield from self._find_metadata_problems(current, known)
            yield from self._find_setting_problems(current, known)

    def describe_effect(self, situation: Situation) -> str:
        return _ON_CHANGE.get(str(at(situation.current, "type")), self.consequence)

    def find_hidden_losses(self, situation: Situation) -> Iterator[Loss]:
        """The third-party tokens, which Logto deletes when their storage is switched off."""
        if self.enable_token_storage is False and at(situation.current, "enableTokenStorage") is not False:
            yield Loss("Deletes the third-party tokens stored for users", ("enableTokenStorage",), True)

    def find_unproven(self, data: Any) -> str:
        return "" if self.config is None else rules.unproven_config(at(data, "type"))

    def describe_loss(self, path: Path, before: Any, *, overwritten: bool) -> Loss:
        if len(path) == 3 and path[:2] == ("config", "templates"):
            return Loss(f"Removes the {path[2]} template from config.templates", path, before)
        return super().describe_loss(path, before, overwritten=overwritten)

    def _find_config_problems(self, current: JsonObject, known: ConnectorType | None) -> Iterator[Issue]:
        """Find what the factory would refuse of the merged config because of this call."""
        if self.config is None:
            return
        stored, kept = members(current.get("config")), members(self.complete_members(current)["config"])
        for path in kept_masks(stored, kept, known.secret_paths if known else ()):
            wanted = "the value itself: Logto shows only a mask of it, which must not be written back"
            yield Issue(f"config.{path}", "nothing", wanted)
        if known is None:
            return
        for key in known.config.get("required", ()):
            if key in self.config and self.config[key] is None:
                yield Issue(f"config.{key}", "null", f"a value, which {known.type} requires")
        if "templates" in self.config:
            yield from rules.missing_config(known, self.complete_members(current)["config"])

    def _find_metadata_problems(self, current: JsonObject, known: ConnectorType | None) -> Iterator[Issue]:
        if self.metadata is None:
            return
        if not _trait(current, known, "isStandard"):
            yield Issue("metadata", "an object", "no metadata: only oidc, oauth2 and saml connectors take it")
        elif "target" in self.metadata.model_fields_set:
            target = at(current, "metadata.target") or at(current, "target")
            if self.metadata.target != target:
                yield Issue("metadata.target", "another target", "the stored one, or leave it out: it cannot change")
        if self.metadata.name:
            yield from rules.nameless_metadata(self.complete_members(current)["metadata"])

    def _find_setting_problems(self, current: JsonObject, known: ConnectorType | None) -> Iterator[Issue]:
        if self.sync_profile and current.get("type") in rules.EXCLUSIVE_TYPES:
            yield Issue("sync_profile", "true", "false: only social connectors sync profiles")
        if self.enable_token_storage and _trait(current, known, "isTokenStorageSupported") is False:
            yield Issue("enable_token_storage", "true", "false: this connector cannot store third-party tokens")


def _trait(current: JsonObject, known: ConnectorType | None, name: str) -> Any:
    """A trait of a connector, from its record or else from its factory."""
    return current.get(name) if name in current or known is None else known.traits.get(name)


class DeleteConnector(LogtoOperation):
    """Delete a connector for good. People can no longer sign in with it, or get no more codes; the provider's tokens
    stored for users are deleted."""

    http = DELETE(CONNECTOR)
    effect = Effect.DESTROY
    output = Deleted
    acts_on = CONNECTOR_TARGET
    consequence = "Deletes connector {name} (id {id}) with its credentials; what uses it stops. It cannot be undone."
    confirms = "deleted"
    example = {"id": EXAMPLE_ID}

    id: ConnectorId

    def describe_effect(self, situation: Situation) -> str:
        connector = members(situation.current)
        made, device = str(connector.get("type")), _DEVICES.get(str(connector.get("platform")), "")
        if made not in _ON_DELETION:
            return self.consequence
        if connector.get("isDemo") is True:
            what = "Deletes demo connector {name} (id {id})."
        else:
            what = "Deletes connector {name} (id {id}) with its credentials."
        # Only a connector that says so stores no tokens.
        tokens = made == "Social" and connector.get("enableTokenStorage") is not False
        lost = " The third-party tokens stored for users are deleted." if tokens else ""
        return f"{what} {_ON_DELETION[made].replace('{device}', device)}{lost} It cannot be undone."


OPERATIONS = (ListConnectors, CreateConnector, GetConnector, UpdateConnector, DeleteConnector)
