"""Changing a Logto connector (facts: sections 3 and 4, traps 4, 5, 9 and 12)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import Internal, Issue
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.connector_types import ConnectorType
from connector_mcp.operations.logto import factory_rules as rules
from connector_mcp.operations.logto.connectors import (
    CONNECTOR,
    CONNECTOR_TARGET,
    EXAMPLE_ID,
    ConnectorId,
    ConnectorMetadata,
    ConnectorOperation,
    SyncProfile,
)
from connector_mcp.operations.logto.stored_json import as_list, as_object, emptied, merge, planned
from connector_mcp.operations.operation import PATCH, ConfigUse, Effect, Loss, Situation, at

_MERGED = ("config", "metadata")


class UpdateConnector(ConnectorOperation):
    """Change a connector. Config and metadata are merged with what is stored, so secrets need not be sent again; null
    erases a member, lists are replaced."""

    http = PATCH(CONNECTOR)
    effect = Effect.UPDATE
    acts_on = CONNECTOR_TARGET
    can_destroy = True
    overwrites = True
    consequence = "Changes connector {name} (id {id}); sign-ins and messages use the new settings at once."
    example = {"id": EXAMPLE_ID, "sync_profile": True}

    id: ConnectorId
    config: Annotated[JsonObject | None, Field(description="Members to change.")] = None
    metadata: Annotated[ConnectorMetadata | None, Field(description="Only for oidc, oauth2, saml.")] = None
    sync_profile: SyncProfile = None
    enable_token_storage: Annotated[bool | None, Field(description="false deletes stored tokens.")] = None

    def make_body(self, situation: Situation) -> Any:
        """What the caller set, config and metadata completed with what is stored.

        Raises:
            Internal: The connector was not read, so that sending them would erase what was not given.
        """
        return {
            name: merge(_stored(situation.current, name), value) if name in _MERGED else value
            for name, value in self._given()
        }

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        if self.config is None:
            return ()
        factory_id = at(situation.current, "connectorId")
        type_id = factory_id if isinstance(factory_id, str) else None
        return (ConfigUse("config", type_id, rules.factory(type_id), self.config, complete=False),)

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        """Nothing to change, and what Logto would refuse of the outcome."""
        if not self._given():
            wanted = "at least one of config, metadata, sync_profile, enable_token_storage"
            return (Issue("config", "nothing", wanted),)
        current = as_object(situation.current)
        if current is None:
            return ()
        if current.get("isDemo"):
            return (Issue("id", "a demo connector", "a connector that can be changed"),)
        known = rules.factory(current.get("connectorId"))
        return (
            *self._find_config_problems(current, known),
            *self._find_metadata_problems(current, known),
            *self._find_setting_problems(current, known),
        )

    def find_losses(self, situation: Situation) -> tuple[Loss, ...]:
        """Stored members that are emptied, templates left out of the new list, and stored third-party tokens."""
        losses: list[Loss] = []
        if as_object(situation.current) is not None:
            for name, given in self._given():
                if name in _MERGED:
                    lost = emptied(_stored(situation.current, name), given, name)
                    losses += [Loss(f"Unsets {path}", path, before) for path, before in lost]
            losses += self._find_templates_lost(situation.current)
        if self.enable_token_storage is False and at(situation.current, "enableTokenStorage") is not False:
            losses.append(Loss("Deletes the third-party tokens stored for users", "enableTokenStorage", True))
        return tuple(losses)

    def plan_changes(self, situation: Situation) -> Mapping[str, Any]:
        changes: dict[str, Any] = {}
        for name, value in self._given():
            changes |= dict(planned(value, name)) if name in _MERGED else {name: value}
        return changes

    def _given(self) -> list[tuple[str, Any]]:
        """Wire name and value of what is to change; Logto takes null for none of these, so null counts as unset."""
        return [(name, value) for name, value in self.given("body") if value is not None]

    def _find_config_problems(self, current: JsonObject, known: ConnectorType | None) -> Iterator[Issue]:
        """What the factory would refuse of the merged config, as far as this call brings it about."""
        if self.config is None or known is None:
            return
        for key in known.config.get("required", ()):
            if key in self.config and self.config[key] is None:
                yield Issue(f"config.{key}", "null", f"a value, which {known.type} requires")
        if "templates" in self.config:
            yield from rules.missing_templates(known, merge(_stored(current, "config"), self.config))

    def _find_metadata_problems(self, current: JsonObject, known: ConnectorType | None) -> Iterator[Issue]:
        if self.metadata is None:
            return
        if not _trait(current, known, "isStandard"):
            yield Issue("metadata", "an object", "no metadata: only oidc, oauth2 and saml connectors take it")
        elif "target" in self.metadata.model_fields_set:
            target = _stored(current, "metadata").get("target")
            if self.metadata.target != target:
                yield Issue("metadata.target", "another target", "the stored one, or leave it out: it cannot change")

    def _find_setting_problems(self, current: JsonObject, known: ConnectorType | None) -> Iterator[Issue]:
        if self.sync_profile and current.get("type") in rules.EXCLUSIVE_TYPES:
            yield Issue("sync_profile", "true", "false: only social connectors sync profiles")
        if self.enable_token_storage and _trait(current, known, "isTokenStorageSupported") is False:
            yield Issue("enable_token_storage", "true", "false: this connector cannot store third-party tokens")

    def _find_templates_lost(self, current: Any) -> list[Loss]:
        stored, given = as_list(at(current, "config.templates")), as_list(at(self.config, "templates"))
        if not stored or not given:
            return []
        kept = rules.templates_by_use(given)
        return [
            Loss(f"Removes the {use} template from config.templates", before=template)
            for use, template in rules.templates_by_use(stored).items()
            if use not in kept
        ]


def _stored(current: Any, name: str) -> JsonObject:
    """The stored object that a change is merged with; of metadata, with the target, which must be sent each time."""
    stored = as_object(at(current, name))
    if stored is None:
        raise Internal(
            f"The connector's stored {name} was not read, so the change could not be merged with it. Nothing was sent.",
            fix="Read the connector with logto_get_connector and call again.",
        )
    target = at(current, "target")
    return {"target": target, **stored} if name == "metadata" and isinstance(target, str) else stored


def _trait(current: JsonObject, known: ConnectorType | None, name: str) -> Any:
    """A trait of a connector as its record says, or else as its factory is known to have."""
    return current.get(name) if name in current or known is None else known.traits.get(name)
