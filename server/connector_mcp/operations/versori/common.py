"""What the operations of Versori's Platform API v2 share: ids, records, and the two configs of a connection.

An auth scheme config says how a system wants to be called; a credential is what a connection brings for it. Both are
configs of the types that describe_connector_type lists (`auth-scheme-…`, `credential-…`), and are checked as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, is_array, items, members
from connector_mcp.operations.connector_types import connector_type, connector_types
from connector_mcp.operations.fields import ShownBy
from connector_mcp.operations.hosts import hosts_in
from connector_mcp.operations.operation import Operation, Record, at
from connector_mcp.operations.situation import ConfigUse, Destination
from connector_mcp.operations.versori.connectors import VersoriOperation
from connector_mcp.operations.versori.platform import PLATFORM_V2, VERSORI

SystemId = Annotated[str, Field(description="System id. See versori_list_systems."), ShownBy("versori_get_system")]
ProjectId = Annotated[
    str, Field(description="Project id. See versori_list_projects."), ShownBy("versori_list_projects")
]
EnvironmentId = Annotated[
    str,
    Field(description="Environment id, not its name. See versori_list_projects."),
    ShownBy("versori_list_projects", ids=("environments.id",)),
]
EnvironmentName = Annotated[str, Field(min_length=1, description="Environment name, not its id.")]
SHOWN_AS_TEMPLATE = ShownBy("versori_list_project_connection_templates", ids=("connectionTemplateId",))
TemplateId = Annotated[str, Field(description="connectionTemplateId, not id (the system's)."), SHOWN_AS_TEMPLATE]
ConnectionId = Annotated[str, Field(description="Connection id. See versori_list_connections.")]
BaseUrl = Annotated[str | None, Field(description="Where its calls go, if not to the system's URL.")]

ULID = "01J2ABCDEF0123456789ABCDEF"
"""An id for examples."""
NO_ID = "0" * 26
"""What stands for the id of a credential that does not exist yet: Versori requires one."""

SCHEME = "auth-scheme-"
CREDENTIAL = "credential-"
_SETTINGS = {"api-key": "apiKey", "basic-auth": "basicAuth"}
"""Member with the settings of an auth scheme, where it is not named like the type."""

_FITTING: dict[str, tuple[str, ...]] = {
    "none": ("none",),
    "api-key": ("string",),
    "basic-auth": ("basic-auth",),
    "certificate": ("certificate",),
    "oauth1": ("oauth1", "oauth1-token"),
    "clientCredentials": ("oauth2-client",),
    "password": ("oauth2-password",),
    "authorizationCode": ("oauth2-code", "oauth2-token"),
}
"""The credential types that fit a type of auth scheme or, of OAuth 2.0, a grant."""

EXAMPLE_SCHEME: JsonObject = {
    "type": "api-key",
    "apiKey": {"id": "key", "description": "API key", "name": "X-Api-Key", "in": "header"},
}
EXAMPLE_CREDENTIAL: JsonObject = {
    "auth_scheme_config": EXAMPLE_SCHEME,
    "type": "string",
    "data": {"value": "<value>"},
}


class PlatformOperation(VersoriOperation):
    """Base of the operations of the Platform API v2."""

    api = PLATFORM_V2
    by_default = False


class Confirmed(Record):
    """Confirmation of a change that Versori answers without a body."""

    id: str | None = None
    done: bool | None = None


class EmptyAnswer(Operation):
    """Base of the operations that Versori answers without a body."""

    output = Confirmed
    confirms = "done"


class FoundRecord(Record):
    """One row of a list, read as the target of a change. `found` is false where the list does not have it."""

    found: bool | None = None


def pick(rows: Any, member: str, wanted: str) -> JsonObject | None:
    """The row with this value, as a `FoundRecord`. None where there is no list, so that nothing is concluded."""
    if not is_array(rows):
        return None
    row = next((row for row in map(members, rows) if row.get(member) == wanted), None)
    return {"found": row is not None, **(row or {})}


# Auth scheme configs -------------------------------------------------------------------------------------------------


def settings_of(config: Any) -> JsonObject:
    """The settings inside an auth scheme config: those under the member that belongs to its type."""
    kind = members(config).get("type")
    return members(members(config).get(_SETTINGS.get(str(kind), str(kind))))


def scheme_id(config: Any) -> str:
    """The id of an auth scheme config."""
    return str(settings_of(config).get("id", ""))


def missing_schemes(configs: Sequence[JsonObject] | None, shown: Any) -> list[str]:
    """The auth schemes that were sent and that a system or connector lacks."""
    stored = {scheme_id(each) for each in items(at(shown, "authSchemeConfigs"))}
    return [f"auth scheme {scheme_id(each)}" for each in configs or () if scheme_id(each) not in stored]


def scheme_use(config: JsonObject, path: str, *, prefix: str = SCHEME, type_at: str = "type") -> ConfigUse:
    """An auth scheme config among the arguments."""
    kind = f"{prefix}{config.get(type_at)}"
    return ConfigUse(path, kind, connector_type(VERSORI.name, kind), config)


def unknown_scheme(config: JsonObject, path: str, *, prefix: str = SCHEME, type_at: str = "type") -> Iterator[Issue]:
    """Find a type of auth scheme that is missing, or that has no published shape."""
    kind = config.get(type_at)
    if connector_type(VERSORI.name, f"{prefix}{kind}") is None:
        known = [name.removeprefix(prefix) for name in connector_types(VERSORI.name) if name.startswith(prefix)]
        got = "nothing" if kind is None else "a type without a published shape"
        yield Issue(f"{path}.{type_at}", got, f"one of {', '.join(known)}", "api-key", unknown=kind is not None)


def half_credential(grant: Any, path: str) -> Iterator[Issue]:
    """Find one of the two ids of a stored client credential without the other, which Versori refuses."""
    held = [name for name in ("credentialId", "organisationId") if members(grant).get(name)]
    if len(held) == 1:
        yield Issue(path, f"{held[0]} alone", "credentialId and organisationId together, or neither")


# Credentials ---------------------------------------------------------------------------------------------------------


class CredentialInput(BaseModel):
    """A credential, and the auth scheme config that says how it is used."""

    model_config = ConfigDict(extra="forbid", strict=True)

    auth_scheme_config: Annotated[JsonObject, Field(description="One of the template's, whole.")]
    type: Annotated[str, Field(description="Credential type: string for api-key, basic-auth, oauth2-client…")]
    data: Annotated[JsonObject, Field(description="Keys of connector type credential-TYPE.")]


Credentials = Annotated[list[CredentialInput], Field(min_length=1, description="What it signs in with, usually one.")]


class ConnectionInput(BaseModel):
    """A connection to make."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, description="Name that no other connection has.")]
    credentials: Credentials
    base_url: BaseUrl = None


def credential_uses(credentials: Sequence[CredentialInput], path: str) -> Iterator[ConfigUse]:
    """The configs of credentials, with their places."""
    for index, each in enumerate(credentials):
        yield scheme_use(each.auth_scheme_config, f"{path}[{index}].auth_scheme_config")
        kind = f"{CREDENTIAL}{each.type}"
        yield ConfigUse(f"{path}[{index}].data", kind, connector_type(VERSORI.name, kind), each.data)


def credential_destinations(
    credentials: Sequence[CredentialInput], path: str, base_url: str | None, target: str, *, is_stored: bool = False
) -> Iterator[Destination]:
    """Where the credentials go: to the hosts of their auth schemes, and to that of the connection's base URL.

    Without a base URL that is the host of its system, which `target` leads to and no argument shows. It counts as
    chosen by the caller, as does a base URL, unless it `is_stored`.
    """
    for index, each in enumerate(credentials):
        for host in hosts_in(each.auth_scheme_config):
            yield Destination(host, f"{path}[{index}]")
    named = [*hosts_in(base_url, "host")]
    for host in named or [f"the host of {target}"]:
        yield Destination(host, path, is_chosen=not is_stored)


def credential_problems(credentials: Sequence[CredentialInput], path: str) -> Iterator[Issue]:
    """Find unknown auth schemes, and credentials that do not fit theirs."""
    for index, each in enumerate(credentials):
        yield from unknown_scheme(each.auth_scheme_config, f"{path}[{index}].auth_scheme_config")
        kind = each.auth_scheme_config.get("type")
        grant = settings_of(each.auth_scheme_config).get("grant")
        fitting = _FITTING.get(str(at(grant, "type") if kind == "oauth2" else kind))
        known = [name.removeprefix(CREDENTIAL) for name in connector_types(VERSORI.name) if name.startswith(CREDENTIAL)]
        if each.type not in (fitting or known):
            got = "one that does not fit the auth scheme" if each.type in known else "an unknown credential type"
            yield Issue(f"{path}[{index}].type", got, f"one of {', '.join(fitting or known)}", (fitting or known)[0])


def credential_bodies(
    credentials: Sequence[CredentialInput], organisation_id: str, stored: Any = None
) -> list[JsonObject]:
    """The credentials as Versori takes them, each with the ids of the stored one for the same auth scheme."""
    known = {scheme_id(each.get("authSchemeConfig")): each for each in map(members, items(stored))}
    bodies: list[JsonObject] = []
    for each in credentials:
        held = known.get(scheme_id(each.auth_scheme_config), {})
        kind = connector_type(VERSORI.name, f"{CREDENTIAL}{each.type}")
        credential: JsonObject = {
            "id": at(held, "credential.id") or NO_ID,
            "organisationId": organisation_id,
            "type": each.type,
        }
        if kind is not None and each.type != "none":
            credential["data"] = {kind.traits["field"]: each.data}
        bodies.append(
            {"id": held.get("id") or NO_ID, "authSchemeConfig": each.auth_scheme_config, "credential": credential}
        )
    return bodies


def connection_body(connection: ConnectionInput, organisation_id: str) -> JsonObject:
    """A new connection as Versori takes it."""
    body: JsonObject = {
        "name": connection.name,
        "credentials": credential_bodies(connection.credentials, organisation_id),
    }
    return body if connection.base_url is None else body | {"baseUrl": connection.base_url}


def credential_errors(connection: Any) -> list[str] | None:
    """What Versori found wrong with a connection's credentials; empty if it found them valid, None if it never looked.

    The texts come from Versori and from the systems that it calls.
    """
    found: list[str] = []
    checked = False
    for each in items(at(connection, "credentials")):
        errors = at(each, "credential.errors")
        checked = checked or is_array(errors)
        found += map(str, items(errors))
    return found if checked else None
