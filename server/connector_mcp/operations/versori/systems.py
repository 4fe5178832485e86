"""Versori systems: the APIs that can be connected to, and how each is signed in to (facts: section 5)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.fields import LOCAL_ONLY
from connector_mcp.operations.operation import Effect, ListOperation, Record, Target, at
from connector_mcp.operations.platform import DELETE, GET, POST, PUT
from connector_mcp.operations.situation import ConfigUse, Situation
from connector_mcp.operations.update import Merge, UpdateOperation
from connector_mcp.operations.versori.auth_schemes import V2, ReadScheme, SetScheme
from connector_mcp.operations.versori.platform import (
    EXAMPLE_SCHEME,
    PAGING,
    ULID,
    EmptyAnswer,
    PlatformOperation,
    SystemId,
)

SYSTEMS = "/o/{organisation_id}/systems"
SYSTEM = f"{SYSTEMS}/{{system_id}}"


class System(Record):
    """A system with its auth scheme configs."""

    id: str | None = None
    name: str | None = None
    domain: str | None = None
    template_base_url: str | None = None
    auth_scheme_configs: list[JsonObject] | None = None


class AuthScheme(Record):
    """An auth scheme config: its type, and its settings under the type's own member."""

    type: str | None = None


class ConsentUrl(Record):
    """The address that a person opens to consent."""

    url: str | None = None


class SystemOperation(PlatformOperation):
    """Base of the operations on systems."""

    toolset = "versori.systems"
    output = System


class ListSystems(SystemOperation, ListOperation):
    """List the systems that connections can be made to, with how each is signed in to, a page at a time."""

    http = GET(SYSTEMS)
    by_default = True
    paging = PAGING
    summary = ("id", "name", "domain", "templateBaseUrl", "authSchemeConfigs")
    example = {"search": "acme"}

    search: Annotated[str | None, Field(description="Part of the name or domain.")] = None


class GetSystem(SystemOperation):
    """Get one system with its auth scheme configs; client secrets are withheld."""

    http = GET(SYSTEM)
    effect = Effect.READ
    example = {"system_id": ULID}

    system_id: SystemId


class CreateSystem(SystemOperation):
    """Create a system: the base URL and the auth schemes of an API. Search with versori_list_systems first."""

    http = POST(SYSTEMS)
    by_default = True
    host_arguments = ("template_base_url",)
    effect = Effect.CREATE
    repeatable = False
    reads_back = GetSystem
    example = {
        "name": "Acme CRM",
        "domain": "https://acme.example",
        "template_base_url": "https://api.acme.example/v2",
        "auth_scheme_configs": [EXAMPLE_SCHEME],
    }

    name: Annotated[str, Field(min_length=1, description="Name that people see.")]
    domain: Annotated[str, Field(min_length=1, description="Website of the system, such as https://acme.example.")]
    template_base_url: Annotated[str, Field(min_length=1, description="Where calls to the system go.")]
    auth_scheme_configs: Annotated[
        list[JsonObject] | None, Field(description="Whole configs; keys of connector type auth-scheme-TYPE.")
    ] = None
    labels: Annotated[dict[str, str] | None, Field(description="Names of letters, digits, _.")] = None

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        return V2.uses(self.auth_scheme_configs)

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        return V2.find_all_problems(self.auth_scheme_configs)

    def make_body(self, situation: Situation) -> Any:
        """Make the body; Versori requires the auth scheme configs, if only as an empty list."""
        return {**super().make_body(situation), "authSchemeConfigs": self.auth_scheme_configs or []}

    def find_missing(self, shown: Any) -> list[str]:
        return V2.find_missing(self.auth_scheme_configs, shown)

    def find_next_step(self, data: Any, situation: Situation) -> str:
        if not at(data, "authSchemeConfigs"):
            return "It has no auth scheme yet: versori_upsert_auth_scheme_config."
        return "No project uses it yet: versori_create_connection_template, then versori_create_connection."


class UpdateSystem(SystemOperation, UpdateOperation):
    """Change a system's name, domain or base URL. What is not given keeps its value."""

    http = PUT(SYSTEM)
    acts_on = Target("system", GetSystem)
    strategy = Merge()
    host_arguments = ("template_base_url",)
    consequence = (
        "Changes system {name}; every connection without a base URL of its own calls the new address, "
        "with its stored credentials."
    )
    example = {"system_id": ULID, "name": "Acme CRM (EU)"}

    system_id: SystemId
    name: Annotated[str | None, Field(min_length=1, description="New name that people see.")] = None
    domain: Annotated[str | None, Field(min_length=1, description="New website of the system.")] = None
    template_base_url: Annotated[str | None, Field(min_length=1, description="Where calls go from now on.")] = None

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        if self.given_members():
            return ()
        return (Issue("arguments", "nothing to change", "at least one of name, domain, template_base_url"),)

    def describe_effect(self, situation: Situation) -> str:
        if self.template_base_url is not None:
            return self.consequence
        return "Changes the name or website that people see of system {name}; calls go where they went."


class DeleteSystem(EmptyAnswer, SystemOperation):
    """Delete a system and its auth schemes for good. Versori refuses while a project uses it."""

    http = DELETE(SYSTEM)
    effect = Effect.DESTROY
    acts_on = Target("system", GetSystem)
    consequence = (
        "Deletes system {name} for good, with its auth schemes and their client secrets. "
        "Versori refuses while a project uses it."
    )
    example = {"system_id": ULID}

    system_id: SystemId


class SystemAuthScheme(ReadScheme, SystemOperation):
    """Read one auth scheme of a system."""

    http = GET(SYSTEM)
    part_of = GetSystem.tool_name()

    system_id: SystemId


def _scheme_name(operation: Any, record: Any) -> str:
    return operation.auth_scheme_config_id


class UpsertAuthSchemeConfig(SetScheme, SystemOperation):
    """Add an auth scheme to a system, or replace the one with this id as a whole. A stored client secret is kept
    unless another is given."""

    http = PUT(f"{SYSTEM}/auth-scheme-configs/{{auth_scheme_config_id}}")
    by_default = True
    output = AuthScheme
    acts_on = Target("auth scheme", SystemAuthScheme, name=_scheme_name)
    example = {"system_id": ULID, "auth_scheme_config_id": "key", "config": EXAMPLE_SCHEME}

    system_id: SystemId

    def find_next_step(self, data: Any, situation: Situation) -> str:
        if at(situation.current, "found"):
            return ""
        return "No connection uses it yet: versori_create_connection_template, then versori_create_connection."


class InitialiseOauth2Connection(SystemOperation):
    """Start an OAuth 2.0 sign-in: make the address where a person consents. The browser brings back code and state, for
    a credential of type oauth2-code. Client credentials need none of this."""

    http = POST(f"{SYSTEM}/oauth2/initialise")
    # The browser brings the code there.
    host_arguments = ("redirect_url",)
    effect = Effect.CREATE
    output = ConsentUrl
    repeatable = False
    acts_on = Target("auth scheme", SystemAuthScheme, name=_scheme_name)
    consequence = "Starts a sign-in with auth scheme {auth_scheme_config_id}; a person has to open the address."
    next_step = "A person opens data.url and consents; then versori_create_connection with a credential oauth2-code."
    example = {"system_id": ULID, "auth_scheme_config_id": "oauth", "scopes": ["read"]}

    system_id: SystemId
    auth_scheme_config_id: Annotated[str, Field(description="An oauth2 auth scheme of the system."), LOCAL_ONLY]
    scopes: Annotated[list[str] | None, Field(description="offline_access is added.")] = None
    redirect_url: Annotated[str | None, Field(description="Where the browser brings code and state.")] = None
    prompt: Annotated[str | None, Field(description="login if left out.")] = None
    disable_offline_access: Annotated[bool | None, Field(description="true adds no offline_access.")] = None
    additional_params: Annotated[str | None, Field(description="Further ones of the address, URL-encoded.")] = None

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        if situation.current is None or self._app(situation):
            return ()
        wanted = "an oauth2 auth scheme with grant authorizationCode, an authorizeUrl and a stored client credential"
        got = "another auth scheme" if at(situation.current, "found") else "an id that the system does not have"
        return (Issue("auth_scheme_config_id", got, f"{wanted}: see versori_get_system"),)

    def make_body(self, situation: Situation) -> Any:
        """Make the body from the auth scheme: the caller cannot choose where a person signs in."""
        return {**super().make_body(situation), **self._app(situation)}

    def _app(self, situation: Situation) -> JsonObject:
        settings = V2.settings(at(situation.current, "config"))
        app = at(settings, "grant.authorizationCode")
        url, client = settings.get("authorizeUrl"), at(app, "clientId")
        ids = {"id": at(app, "credentialId"), "organisationId": at(app, "organisationId")}
        if not (url and client and all(ids.values())):
            return {}
        return {"credential": ids, "authorizeUrl": url, "clientId": client}


OPERATIONS = (
    ListSystems,
    GetSystem,
    CreateSystem,
    UpdateSystem,
    DeleteSystem,
    UpsertAuthSchemeConfig,
    InitialiseOauth2Connection,
)
