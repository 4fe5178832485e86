"""What is true of a whole platform: its address, its credentials, its tenant, its error body.

Data only. `upstream.credentials` turns a credential declaration into requests; `settings` reads the variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final


@dataclass(frozen=True)
class Variable:
    """An environment variable of the platform's own naming."""

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
    """Where the scheme word can be set; `Bearer` otherwise."""


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
    """Client credentials: a ready access token, or else an id with a secret that signs an assertion or is sent."""

    client_id: Variable
    client_secret: Variable
    access_token: Variable
    token_path: str
    secret_prefix: str
    """A secret that starts so holds a private key and is signed with; any other is sent as it is."""


Credentials = ApiKey | ClientCredentials | SignedAssertion


@dataclass(frozen=True)
class UpstreamMessage:
    """A platform's error body, read: its own code and message, and what else may help."""

    code: str | None = None
    message: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Platform:
    """One platform, as every operation of it refers to it."""

    name: str
    title: str
    base_url: Variable
    credentials: Credentials
    read_error: Callable[[Any], UpstreamMessage]
    tenant: Variable | None = None
    """The variable that fixes the tenant argument, so that no call needs to give it."""
    tenant_argument: str | None = None
    options: tuple[Variable, ...] = ()
    requests_per_second: float = 50.0
    """Sustained rate this client keeps to; the platform's own where it documents one."""
    foreign_variables: frozenset[str] = frozenset()
    """Variables with the platform's prefix that other tools read; their presence is no mistake."""
    secret_keys: frozenset[str] = frozenset()
    """Key names that hold secrets on this platform although nothing in the name says so; lower case."""
    secret_paths: tuple[str, ...] = ()
    """Ends of dotted paths in answers under which every value is secret, such as `credential.data`."""
    base_url_from: Callable[[Mapping[str, str]], str | None] | None = None
    """Derives the address from the other variables when it is not set."""
    blames_credentials: Callable[[UpstreamMessage], bool] = lambda _: True
    """Whether a 401 with this message is about our credentials rather than about those inside a connector."""

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Every variable of the platform, in the order a reader wants them."""
        match self.credentials:
            case ApiKey(key=key, prefix=prefix):
                own = (key,) if prefix is None else (key, prefix)
            case ClientCredentials(client_id=client_id, client_secret=client_secret, resource=resource):
                own = (client_id, client_secret, resource)
            case SignedAssertion(client_id=client_id, client_secret=client_secret, access_token=access_token):
                own = (client_id, client_secret, access_token)
        tenant = () if self.tenant is None else (self.tenant,)
        return (*own, *tenant, self.base_url, *self.options)


def key_of(platform: Platform, variable: Variable) -> str:
    """The key of a platform's variable in a profile: `api_key` of `VECTORIZE_API_KEY`."""
    return variable.name.removeprefix(f"{platform.name.upper()}_").lower()


class Absent(Enum):
    """The body of a request that has none, so that None can stay JSON's null."""

    NO_BODY = "no body"


NO_BODY: Final = Absent.NO_BODY


@dataclass(frozen=True)
class Request:
    """One HTTP request relative to a platform's base URL.

    `path` is a template whose `{name}` placeholders are filled from `path_values`, percent-encoded by the sender.
    `repeatable` says that sending it twice does no more than sending it once.
    """

    method: str
    path: str
    path_values: Mapping[str, str] = field(default_factory=dict[str, str])
    query: Mapping[str, str | Sequence[str]] = field(default_factory=dict[str, str | Sequence[str]])
    body: Any = NO_BODY
    repeatable: bool = False
    changes: bool = True
    """Whether it may change anything: of a request that does not, a lost answer leaves nothing to wonder about."""
