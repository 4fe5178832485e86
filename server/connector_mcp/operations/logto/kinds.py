"""What a manifest can describe on Logto: connectors for sign-in, e-mail and SMS, SSO connectors, and the sign-in
experience."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.alias_generators import to_camel

from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.connector_types import ConnectorType
from connector_mcp.operations.logto import connectors, sso_connectors
from connector_mcp.operations.logto.factories import factory
from connector_mcp.operations.logto.sign_in import GetSignInExp, UpdateSignInExp
from connector_mcp.operations.operation import at
from connector_mcp.operations.provisioning.kinds import (
    SET,
    Changes,
    Config,
    Entries,
    Entry,
    Kind,
    NamedEntry,
    ToolCall,
    keyed,
    nested,
)

_METADATA = ("target", "name", "logo", "logoDark")
_SETTINGS = ("sync_profile", "enable_token_storage")


class SignInConnectorEntry(Entry):
    """A connector for sign-in, e-mail or SMS. A tenant has one of each factory, and one for e-mail and for SMS."""

    type: Annotated[str, Field(description="Id of the factory, such as google-universal.")]
    config: Config = {}
    metadata: Annotated[
        JsonObject | None, Field(description="For oidc, oauth2 and saml: target, name, logo, logoDark.")
    ] = None
    sync_profile: Annotated[bool | None, Field(description="true updates a user's profile at each sign-in.")] = None
    enable_token_storage: Annotated[bool | None, Field(description="true stores users' provider tokens.")] = None


class SignInConnectors(Kind):
    """Connectors for sign-in, e-mail and SMS."""

    section, platform, noun, check = "sign_in_connectors", "logto", "connector", "connector"
    entry = SignInConnectorEntry
    lists_all = connectors.ListConnectors
    creation = connectors.CreateConnector
    deletion = connectors.DeleteConnector
    fixed = frozenset({"type"})
    is_unique = True
    lists: ClassVar = {"config.templates": keyed("usageType"), "config.prompts": SET}
    argument_names: ClassVar = {"connector_id": "type"}

    def rows(self, data: Any, within: str) -> list[JsonObject]:
        """All but demo connectors, which cannot be read by their ids."""
        return [row for row in map(members, items(data)) if not row.get("isDemo")]

    def key_of(self, record: JsonObject) -> str:
        target = at(record, "metadata.target") or record.get("target")
        return _known_by(record.get("connectorId"), target)

    def key(self, entry: JsonObject) -> str:
        return _known_by(entry["type"], at(entry, "metadata.target"))

    def observe(self, record: JsonObject, within: str) -> JsonObject:
        shown: JsonObject = {"type": record.get("connectorId"), "config": members(record.get("config"))}
        if _is_standard(record.get("connectorId")):
            metadata = {"target": record.get("target")} | members(record.get("metadata"))
            shown["metadata"] = {key: metadata[key] for key in _METADATA if metadata.get(key) is not None}
        return shown | {name: record.get(to_camel(name)) for name in _SETTINGS}

    def create(self, entry: JsonObject) -> ToolCall | None:
        # An id in an entry is that of a connector that exists, and not one to give to a new one.
        return super().create(entry | {"id": None, "config": entry.get("config") or None})

    def update(self, identifier: str, within: str, entry: JsonObject, changes: Changes) -> tuple[ToolCall, ...]:
        merged = {member: nested(changes, member) or None for member in ("config", "metadata")}
        settings = {name: changes.get((name,)) for name in _SETTINGS}
        return (self.call(connectors.UpdateConnector, {"id": identifier} | merged | settings),)

    def config_type(self, entry: JsonObject) -> ConnectorType | None:
        return factory(entry.get("type"))


def _is_standard(factory_id: Any) -> bool:
    known = factory(factory_id)
    return bool(known and known.traits.get("isStandard"))


def _known_by(factory_id: Any, target: Any) -> str:
    """Of a standard factory a tenant may have several connectors, each with a target of its own."""
    return f"{factory_id} {target}" if _is_standard(factory_id) else str(factory_id)


class SsoConnectorEntry(NamedEntry):
    """An enterprise SSO connector."""

    type: Annotated[str, Field(description="OIDC, SAML, AzureAD, AzureAdOidc, GoogleWorkspace or Okta.")]
    config: Config = {}
    domains: Annotated[list[str] | None, Field(description="E-mail domains, which then have no other sign-in.")] = None
    branding: Annotated[JsonObject | None, Field(description="displayName, logo, darkLogo.")] = None
    sync_profile: Annotated[bool | None, Field(description="true updates a user's profile at each sign-in.")] = None
    enable_token_storage: Annotated[bool | None, Field(description="true stores the provider's tokens.")] = None


class SsoConnectors(Kind):
    """Enterprise SSO connectors."""

    section, platform, noun, check = "sso_connectors", "logto", "SSO connector", "SSO connector"
    entry = SsoConnectorEntry
    lists_all = sso_connectors.ListSsoConnectors
    creation = sso_connectors.CreateSsoConnector
    deletion = sso_connectors.DeleteSsoConnector
    known_by = "connectorName"
    shown: ClassVar = {"name": "connectorName", "type": "providerName"} | {name: to_camel(name) for name in _SETTINGS}
    fixed = frozenset({"type"})
    is_unique = True
    lists: ClassVar = {"domains": SET}
    argument_names: ClassVar = {"connector_name": "name", "provider_name": "type"}
    # Logto adds the scopes that it needs.
    computed = frozenset({"scope"})

    def observe(self, record: JsonObject, within: str) -> JsonObject:
        held = {"config": members(record.get("config")), "branding": members(record.get("branding"))}
        return super().observe(record, within) | held | {"domains": items(record.get("domains"))}

    def normalize(self, entry: JsonObject) -> JsonObject:
        domains = entry.get("domains")
        return entry if domains is None else entry | {"domains": [str(each).lower() for each in domains]}

    def create(self, entry: JsonObject) -> ToolCall | None:
        return super().create(entry | {"config": entry.get("config") or None})

    def update(self, identifier: str, within: str, entry: JsonObject, changes: Changes) -> tuple[ToolCall, ...]:
        merged = {member: nested(changes, member) or None for member in ("config", "branding")}
        others = {name: changes.get((name,)) for name in ("name", "domains", *_SETTINGS)}
        return (self.call(sso_connectors.UpdateSsoConnector, {"id": identifier} | merged | others),)

    def config_type(self, entry: JsonObject) -> ConnectorType | None:
        return sso_connectors.provider(entry.get("type"))


class SignInEntry(Entry):
    """The sign-in experience of a tenant. Members that are left out stay as they are."""

    social_sign_in_connector_targets: Annotated[
        list[str] | None, Field(description="Targets of the social connectors to show, in order.")
    ] = None
    social_sign_in: Annotated[
        JsonObject | None, Field(description="automaticAccountLinking, skipRequiredIdentifiers.")
    ] = None
    sign_in_mode: Annotated[str | None, Field(description="SignIn, Register or SignInAndRegister.")] = None
    sign_up: Annotated[JsonObject | None, Field(description="How people sign up.")] = None
    sign_in: Annotated[JsonObject | None, Field(description="How people sign in with identifiers.")] = None
    forgot_password_methods: Annotated[list[str] | None, Field(description="Ways to reset a password.")] = None
    single_sign_on_enabled: Annotated[
        bool | None, Field(description="true: SSO connectors alone let their domains in.")
    ] = None


_EXPERIENCE = [name for name in SignInEntry.model_fields if name not in Entry.model_fields]


class SignIn(Kind):
    """The sign-in experience, of which each tenant has one."""

    section, platform, noun = "sign_in", "logto", "sign-in experience"
    entry = SignInEntry
    lists_all = GetSignInExp
    shown: ClassVar = {name: to_camel(name) for name in _EXPERIENCE}
    is_single = True
    lists: ClassVar = {
        "sign_in.methods": keyed("identifier"),
        "sign_up.identifiers": SET,
        "forgot_password_methods": SET,
    }

    def rows(self, data: Any, within: str) -> list[JsonObject]:
        return [members(data)]

    def identify(self, record: JsonObject) -> str:
        return "default"

    def key_of(self, record: JsonObject) -> str:
        return "default"

    def key(self, entry: JsonObject) -> str:
        return "default"

    def also_needs(self, entry: JsonObject, entries: Entries) -> Iterator[str]:
        """The social connectors that are shown: Logto drops targets that no connector has."""
        shown = entry.get("social_sign_in_connector_targets") or ()
        for key, other in entries.get("sign_in_connectors", {}).items():
            made = factory(other.get("type"))
            target = at(other, "metadata.target") or (made.traits.get("target") if made else None)
            if target in shown:
                yield f"sign_in_connectors.{key}"

    def update(self, identifier: str, within: str, entry: JsonObject, changes: Changes) -> tuple[ToolCall, ...]:
        changed = {path[0] for path in changes}
        return (ToolCall(UpdateSignInExp, {name: entry[name] for name in _EXPERIENCE if name in changed}),)


KINDS = (SignInConnectors, SsoConnectors, SignIn)
