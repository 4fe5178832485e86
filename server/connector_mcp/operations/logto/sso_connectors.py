"""Logto's enterprise SSO connectors (facts, continued: section 2, traps 7 to 17).

Three switches decide whether one is offered: its config is valid, it has a domain, and single sign-on is on in the
sign-in experience. From then on its domains have no other way to sign in by e-mail address.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.connector_types import ConnectorType, connector_type, kept_masks
from connector_mcp.operations.fields import ArgumentObject
from connector_mcp.operations.logto.factories import Fields, LogtoOperation
from connector_mcp.operations.logto.sign_in import GetSignInExp
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
from connector_mcp.operations.situation import ConfigUse, Loss, Situation
from connector_mcp.operations.update import Merge, UpdateOperation

SSO_CONNECTORS = "/api/sso-connectors"
SSO_CONNECTOR = f"{SSO_CONNECTORS}/{{id}}"
EXAMPLE_ID = "q1w2e3r4t5y6"
PUBLIC_DOMAINS = frozenset({
    "gmail.com", "yahoo.com", "hotmail.com", "outlook.com", "live.com", "icloud.com", "aol.com", "yandex.com",
    "mail.com", "protonmail.com", "yanex.com", "gmx.com", "mail.ru", "zoho.com", "qq.com", "163.com", "126.com",
    "sina.com", "sohu.com",
})  # fmt: skip
"""Mail domains that anyone can have an address of; Logto refuses them."""

ProviderName = Literal["OIDC", "SAML", "AzureAD", "AzureAdOidc", "GoogleWorkspace", "Okta"]
SsoConnectorId = Annotated[str, Field(description="Id of the SSO connector. logto_list_sso_connectors lists them.")]
ConnectorName = Annotated[
    str, Field(min_length=1, max_length=128, description="Internal name, which no other SSO connector has.")
]
Config = Annotated[JsonObject | None, Field(description="Config keys. describe_connector_type gives them by provider.")]
Domains = Annotated[
    list[str] | None,
    Field(description="All e-mail domains, added last: while single sign-on is on, they have no other sign-in."),
]
SyncProfile = Annotated[bool | None, Field(description="true updates the user's profile at each sign-in.")]
TokenStorage = Annotated[bool | None, Field(description="true stores the provider's tokens of users; not for SAML.")]


class SsoBranding(ArgumentObject):
    """How the connector shows itself on the sign-in page."""

    display_name: Annotated[str | None, Field(description="Text of the button, by default the provider's.")] = None
    logo: Annotated[str | None, Field(description="URL of the logo on light pages.")] = None
    dark_logo: Annotated[str | None, Field(description="URL of the logo on dark pages.")] = None


Branding = Annotated[SsoBranding | None, Field(description="Text and logos of the button.")]


class SsoConnectorRecord(Record):
    """An SSO connector. `providerConfig` has what Logto fetched, and what the identity provider must be given."""

    id: str | None = None
    provider_name: str | None = None
    connector_name: str | None = None
    config: JsonObject | None = None
    domains: list[str] | None = None
    branding: JsonObject | None = None
    sync_profile: bool | None = None
    enable_token_storage: bool | None = None
    provider_config: JsonObject | None = None


class SsoOperation(LogtoOperation):
    """Base of the operations that answer with SSO connectors; the answers hold each secret twice (trap 10)."""

    toolset = "logto.sso"
    output = SsoConnectorRecord
    stored_config = StoredConfig(at="config", type_at="providerName")
    heavy = LogtoOperation.heavy | {"providerLogo", "providerLogoDark", "tenantId"}


class ListSsoConnectors(SsoOperation, ListOperation):
    """List the enterprise SSO connectors with their providers and domains. Logto asks each identity provider for it,
    so that it may be slow."""

    http = GET(SSO_CONNECTORS)
    paging = Paging(items="")
    summary = ("id", "providerName", "connectorName", "domains", "branding")
    known_by = ("connectorName",)
    example = {"limit": 20}


class GetSsoConnector(SsoOperation):
    """Get an SSO connector with its config and, in providerConfig, the values that the administrator of the identity
    provider needs. Without providerConfig the provider could not be reached."""

    http = GET(SSO_CONNECTOR)
    effect = Effect.READ
    example = {"id": EXAMPLE_ID}

    id: SsoConnectorId
    fields: Fields = None


def provider(name: Any) -> ConnectorType | None:
    """The connector type of an SSO provider."""
    known = connector_type("logto", name)
    return known if known and known.traits.get("isEnterprise") else None


def config_problems(known: ConnectorType | None, config: JsonObject) -> Iterator[Issue]:
    """Find forms of a SAML config beside each other, of which Logto keeps one, and required keys that are missing."""
    if known is None:
        return
    forms: Sequence[Sequence[str]] = known.traits.get("forms", ())
    chosen = [form for form in forms if any(key in config for key in form)]
    wanted = "one of metadataUrl, metadata, or entityId with signInEndpoint and x509Certificate"
    if forms and not chosen:
        yield Issue("config.metadataUrl", "nothing", wanted)
    for form in chosen[1:]:
        yield Issue(f"config.{next(key for key in form if key in config)}", "a second form", f"only {wanted}")
    for form in chosen[:1]:
        for key in form:
            if key not in config:
                yield Issue(f"config.{key}", "nothing", f"a value, which goes with {form[0]}")


def domain_problems(domains: Sequence[str] | None) -> Iterator[Issue]:
    """Find domains that Logto refuses: public ones, and those named twice."""
    seen: set[str] = set()
    for index, domain in enumerate(domains or ()):
        name, path = domain.lower(), f"domains[{index}]"
        if name in PUBLIC_DOMAINS:
            yield Issue(path, "a public mail domain", "a domain of the organization's own", "acme.com")
        elif name in seen:
            yield Issue(path, "a domain twice", "each domain once")
        elif "." not in name or "@" in name or "/" in name:
            yield Issue(path, "no domain", "the part of an address after the @", "acme.com")
        seen.add(name)


def lost_sign_in(domain: str, *, is_on: bool | None) -> Loss:
    """What a domain loses once a connector holds it."""
    when = {True: "at once", False: "as soon as single sign-on is switched on", None: "while single sign-on is on"}
    said = f"Shuts password, code and social sign-in for e-mail addresses of {domain} {when[is_on]}"
    return Loss(said, ("domains",))


def unproven(config: JsonObject | None) -> str:
    """What a stored config does not prove: Logto fetches the issuer or metadata, and tries no credentials."""
    return "" if config is None else "Only a sign-in shows whether the identity provider takes this config."


class CreateSsoConnector(SsoOperation):
    """Create an enterprise SSO connector. Give name and provider only: the values that the identity provider needs
    contain the new id. Add config, and last the domains, with logto_update_sso_connector."""

    http = POST(SSO_CONNECTORS)
    effect = Effect.CREATE
    acts_on = Target(
        "sign-in experience", GetSignInExp, name=lambda _operation, _record: "sign-in experience",
        select=lambda _operation, situation: {"singleSignOnEnabled": at(situation.current, "singleSignOnEnabled")},
    )  # fmt: skip
    can_destroy = True
    repeatable = False
    reports = ("providerConfig",)
    consequence = "Creates SSO connector {connector_name}; people see it once it has a config and a domain."
    conflict_codes = frozenset({"single_sign_on.duplicate_connector_name"})
    reads_back = GetSsoConnector
    example = {"provider_name": "SAML", "connector_name": "Acme"}

    provider_name: Annotated[ProviderName, Field(description="Kind of identity provider; AzureAD is Entra by SAML.")]
    connector_name: ConnectorName
    config: Config = None
    domains: Domains = None
    branding: Branding = None
    sync_profile: SyncProfile = None
    enable_token_storage: TokenStorage = None

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        if self.config is None:
            return ()
        return (ConfigUse("config", self.provider_name, provider(self.provider_name), self.config),)

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        """Find what Logto would refuse of config, domains and settings."""
        known = provider(self.provider_name)
        if self.config is not None:
            yield from config_problems(known, self.config)
            if self.config.get("signAuthnRequest") is True:
                wanted = "false or nothing: a new connector has no signing key yet"
                yield Issue("config.signAuthnRequest", "true", wanted, "false")
        yield from domain_problems(self.domains)
        if self.enable_token_storage:
            yield from _token_problems(known)

    def find_losses(self, situation: Situation) -> Iterator[Loss]:
        enabled = at(situation.current, "singleSignOnEnabled")
        is_on = enabled if isinstance(enabled, bool) else None
        return (lost_sign_in(domain, is_on=is_on) for domain in self.domains or ())

    def is_rival(self, row: JsonObject) -> bool:
        return row.get("connectorName") == self.connector_name

    def find_unproven(self, data: Any) -> str:
        return unproven(self.config)

    def find_missing(self, shown: Any) -> list[str]:
        """The domains that were not taken; Logto stores them in lower case."""
        stored = items(at(shown, "domains"))
        return [f"domain {each}" for each in self.domains or () if each.lower() not in stored]

    def find_next_step(self, data: Any, situation: Situation) -> str:
        """Say which of config and domains is still to come."""
        identifier = at(data, "id")
        if self.config is None:
            return (
                "Give the administrator of the identity provider the values of providerConfig.serviceProvider, or the "
                f"redirect URI <endpoint>/callback/{identifier}; then logto_update_sso_connector with the config."
            )
        return "" if self.domains else f"logto_update_sso_connector with id {identifier!r} and the domains, last."

    def target_read(self) -> Operation | None:
        return GetSignInExp() if self.domains else None


def _token_problems(known: ConnectorType | None) -> Iterator[Issue]:
    if known and not known.traits["isTokenStorageSupported"]:
        yield Issue("enable_token_storage", "true", f"false: {known.type} has no tokens to store")


SSO_TARGET = Target("SSO connector", GetSsoConnector, name="connectorName", volatile=frozenset({"providerConfig"}))


class UpdateSsoConnector(SsoOperation, UpdateOperation):
    """Change an SSO connector. Config and branding are merged with what is stored, secrets too; domains are replaced.
    Add domains last: their addresses then have no other way to sign in."""

    http = PATCH(SSO_CONNECTOR)
    acts_on = SSO_TARGET
    # Logto replaces both as a whole (trap 11).
    strategy = Merge(completed=("config", "branding"))
    consequence = "Changes SSO connector {name} (id {id}); people of its domains sign in with the new settings at once."
    example = {"id": EXAMPLE_ID, "domains": ["acme.com"]}

    id: SsoConnectorId
    connector_name: Annotated[
        str | None, Field(min_length=1, max_length=128, description="New internal name, which no other one has.")
    ] = None
    config: Config = None
    domains: Domains = None
    branding: Branding = None
    sync_profile: SyncProfile = None
    enable_token_storage: Annotated[
        bool | None, Field(description="true stores the provider's tokens of users; false also deletes those stored.")
    ] = None

    def complete_members(self, current: JsonObject) -> JsonObject:
        """The merged members; of a SAML config only the form that is given."""
        known, given = provider(current.get("providerName")), self.config or {}
        forms: Sequence[Sequence[str]] = known.traits.get("forms", ()) if known else ()
        if any(given.get(key) is not None for form in forms for key in form):
            others = {key for form in forms if not any(given.get(each) is not None for each in form) for key in form}
            stored = members(current.get("config"))
            current = current | {"config": {key: value for key, value in stored.items() if key not in others}}
        completed = super().complete_members(current)
        if self.domains is not None:
            completed["domains"] = [domain.lower() for domain in self.domains]
        return completed

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        if self.config is None:
            return ()
        current = members(situation.current)
        known = provider(current.get("providerName"))
        if known is None:
            return (ConfigUse("config", None, None, self.config, complete=False),)
        merged = members(self.complete_members(current)["config"])
        return (ConfigUse("config", known.type, known, self.config, complete=False, merged=merged),)

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        """Find nothing to change, and what Logto would refuse of the merged connector."""
        if all(value == {} for value in self.given_members().values()):
            yield Issue("config", "nothing", "at least one of config, domains, branding or a setting")
            return
        known = provider(at(situation.current, "providerName"))
        yield from domain_problems(self.domains)
        if self.config is not None and known is not None:
            stored = members(at(situation.current, "config"))
            merged = members(self.complete_members(members(situation.current))["config"])
            for path in kept_masks(stored, merged, known.secret_paths):
                yield Issue(f"config.{path}", "nothing", "the value itself: Logto shows only a mask of it")
            for key in known.config.get("required", ()):
                # Logto takes no part of a config. A key that is stored may be left out.
                if key not in merged:
                    wanted = f"a value, which {known.type} requires and Logto does not have yet"
                    yield Issue(f"config.{key}", "nothing", wanted)
            yield from config_problems(known, {key: self.config.get(key, merged[key]) for key in merged})
        if self.enable_token_storage:
            yield from _token_problems(known)

    def find_hidden_losses(self, situation: Situation) -> Iterator[Loss]:
        """What domains gain and lose, and the tokens that are deleted when their storage is switched off."""
        if self.domains is not None:
            before = [str(domain) for domain in items(at(situation.current, "domains"))]
            after = [domain.lower() for domain in self.domains]
            yield from (lost_sign_in(domain, is_on=None) for domain in after if domain not in before)
            for domain in before:
                if domain not in after:
                    yield Loss(f"Takes single sign-on away from {domain}", ("domains",), domain)
        if self.enable_token_storage is False and at(situation.current, "enableTokenStorage") is not False:
            yield Loss("Deletes the provider's tokens stored for users", ("enableTokenStorage",), True)

    def find_unproven(self, data: Any) -> str:
        return unproven(self.config)

    def find_next_step(self, data: Any, situation: Situation) -> str:
        if not items(at(data, "domains")):
            return f"logto_update_sso_connector with id {self.id!r} and the domains, once the config is tried."
        return f"check_connector with id {self.id!r} and kind 'SSO connector' tells whether people see it."


class DeleteSsoConnector(LogtoOperation):
    """Delete an SSO connector for good, with the SSO identities of its users, signing keys and stored tokens. Users
    stay, but may have no way left to sign in."""

    toolset = "logto.sso"
    by_default = False
    http = DELETE(SSO_CONNECTOR)
    effect = Effect.DESTROY
    output = Deleted
    acts_on = SSO_TARGET
    consequence = (
        "Deletes SSO connector {name} (id {id}) with its config, signing keys, stored tokens and the SSO identities of "
        "its users, who may have no way left to sign in. It cannot be undone."
    )
    confirms = "deleted"
    example = {"id": EXAMPLE_ID}

    id: SsoConnectorId


class SsoProviderRecord(Record):
    """A kind of identity provider; `providerName` is that of logto_create_sso_connector."""

    provider_name: str | None = None
    provider_type: str | None = None
    name: str | None = None


class ListSsoConnectorProviders(LogtoOperation, ListOperation):
    """List the identity providers that SSO connectors can be made for. describe_connector_type gives the config keys
    of each."""

    toolset = "logto.sso"
    by_default = False
    http = GET("/api/sso-connector-providers")
    output = SsoProviderRecord
    paging = Paging(items="")
    summary = ("providerName", "providerType", "name")
    example = {"limit": 10}


OPERATIONS = (
    ListSsoConnectors,
    CreateSsoConnector,
    GetSsoConnector,
    UpdateSsoConnector,
    DeleteSsoConnector,
    ListSsoConnectorProviders,
)
