"""How a platform is declared: its address, credentials, tenant and error body; and the request that is sent to it.

This is data only. `upstream.auth` turns credentials into requests, and `config` reads the variables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from connector_mcp.json_values import JsonObject


@dataclass(frozen=True)
class Variable:
    """An environment variable, named as the platform names it."""

    name: str
    help: str
    secret: bool = False
    default: str | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class ApiKey:
    """A static key: `Authorization: <prefix> <key>`."""

    key: Variable
    prefix: Variable | None = None
    """Variable that sets the scheme word; None means `Bearer`."""


@dataclass(frozen=True)
class ClientCredentials:
    """OAuth 2.0 client credentials with id and secret in the form body (RFC 6749 section 4.4)."""

    client_id: Variable
    client_secret: Variable
    token_path: str
    resource: Variable
    scope: str
    default_resource: Callable[[str], str]
    """The resource indicator for a base URL when the variable is not set."""


@dataclass(frozen=True)
class SignedAssertion:
    """Client credentials: an access token, or an id with a secret, which signs an assertion or is sent as it is."""

    client_id: Variable
    client_secret: Variable
    access_token: Variable
    token_path: str
    secret_prefix: str
    """A secret with this prefix holds a private key and signs the assertion; any other is sent."""


Credentials = ApiKey | ClientCredentials | SignedAssertion


@dataclass(frozen=True)
class UpstreamMessage:
    """A parsed error body: the platform's code and message, and further details."""

    code: str | None = None
    message: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class OtherApi:
    """A further API of a platform, at the same origin as the base URL and under another path."""

    name: str
    address: Variable
    """Variable with its address, for where that does not follow from the base URL."""
    base_ending: str
    """The ending of the base URL's path from which its own path follows."""
    path: str
    """What stands in place of that ending."""


@dataclass(frozen=True)
class Platform:
    """One platform. Each of its operations refers to it."""

    name: str
    title: str
    base_url: Variable
    credentials: Credentials
    read_error: Callable[[Any], UpstreamMessage]
    tenant: Variable | None = None
    """Variable that sets the tenant argument, so that calls need not give it."""
    tenant_argument: str | None = None
    options: tuple[Variable, ...] = ()
    requests_per_second: float = 50.0
    """Sustained rate limit: the platform's documented one, if there is one."""
    foreign_variables: frozenset[str] = frozenset()
    """Variables with the platform's prefix that other tools read; setting them is no mistake."""
    secret_keys: frozenset[str] = frozenset()
    """Further key names that hold secrets on this platform, in lower case."""
    holder_keys: frozenset[str] = frozenset()
    """Key names, in lower case, that would name a secret and hold an object here: its members are judged one by one."""
    secret_paths: tuple[str, ...] = ()
    """Endings of dotted paths in answers; every value below them is secret. Such as `credential.data`."""
    empty_answer: JsonObject | None = None
    """What it answers where it has nothing to say: no body, or an empty object."""
    base_url_from: Callable[[Mapping[str, str]], str | None] | None = None
    """Derive the address from the other variables when it is not set."""
    other_apis: tuple[OtherApi, ...] = ()
    """Further APIs that the same credentials are for."""
    blames_credentials: Callable[[UpstreamMessage], bool] = lambda _: True
    """Whether a 401 with this message concerns the account's credentials and not those inside a connector."""

    writing_needs: str = ""
    """What credentials need to change connectors, in the platform's words; empty if it does not say."""
    own_roles_path: str | None = None
    """Path of a read that names the `roles` of the credentials."""

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Every variable of the platform: credentials, tenant, address, options."""
        match self.credentials:
            case ApiKey(key=key, prefix=prefix):
                own = (key,) if prefix is None else (key, prefix)
            case ClientCredentials(client_id=client_id, client_secret=client_secret, resource=resource):
                own = (client_id, client_secret, resource)
            case SignedAssertion(client_id=client_id, client_secret=client_secret, access_token=access_token):
                own = (client_id, client_secret, access_token)
        tenant = () if self.tenant is None else (self.tenant,)
        return (*own, *tenant, self.base_url, *(api.address for api in self.other_apis), *self.options)


def key_of(platform: Platform, variable: Variable) -> str:
    """The key of a platform's variable in a profile: `api_key` of `VECTORIZE_API_KEY`."""
    return variable.name.removeprefix(f"{platform.name.upper()}_").lower()


_PLACEHOLDER: Final = re.compile(r"{(\w+)}")


def path_shape(path: str) -> str:
    """The path without the names of its placeholders, by which paths are compared."""
    return _PLACEHOLDER.sub("{}", path)


@dataclass(frozen=True)
class Http:
    """Method and path of the documented operation; placeholders carry argument names."""

    method: str
    path: str
    placeholders: tuple[str, ...]
    shape: str


def _http(method: str) -> Callable[[str], Http]:
    return lambda path: Http(method, path, tuple(_PLACEHOLDER.findall(path)), path_shape(path))


GET, POST, PUT, PATCH, DELETE = map(_http, ("GET", "POST", "PUT", "PATCH", "DELETE"))


class Absent(Enum):
    """Marks a request without a body; None is the JSON body `null`."""

    NO_BODY = "no body"


NO_BODY: Final = Absent.NO_BODY


@dataclass(frozen=True)
class Request:
    """One HTTP request relative to a platform's base URL.

    `path` is a template whose `{name}` placeholders the sender fills from `path_values`, percent-encoded.
    `repeatable` says that sending it twice does no more than sending it once.
    """

    method: str
    path: str
    path_values: Mapping[str, str] = field(default_factory=dict[str, str])
    query: Mapping[str, str | Sequence[str]] = field(default_factory=dict[str, str | Sequence[str]])
    body: Any = NO_BODY
    repeatable: bool = False
    changes: bool = True
    """Whether the request may change something. If not, a lost answer leaves no unknown outcome."""
    api: OtherApi | None = None
    """The API that it goes to, where that is not the one of the base URL."""


def confirm_empty(answer: Any, confirmation: JsonObject, *, empty: JsonObject | None = None) -> JsonObject:
    """The confirmation of a change that the platform answers with nothing; no record if it answered something else."""
    return confirmation if answer == empty else {}
