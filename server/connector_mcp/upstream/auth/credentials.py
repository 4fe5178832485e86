"""How a request proves who sends it: a credential declaration and the values of its variables, turned into a header."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from connector_mcp.errors import Misconfigured
from connector_mcp.operations.platform import ApiKey, ClientCredentials, Platform, SignedAssertion, Variable
from connector_mcp.upstream.auth.client_assertion import ASSERTION_TYPE, NONCE_BYTES, read_signing_key, sign_assertion
from connector_mcp.upstream.auth.tokens import Token, TokenCache

HEADER_SAFE: Final = re.compile(r"[\x21-\x7e]+")
_SCHEME_WORD: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_BEARER: Final = re.compile(r"^bearer[ :]\s*", re.IGNORECASE)


def strip_bearer(token: str) -> str:
    """`token` without the scheme word that some tools write in front of it."""
    return _BEARER.sub("", token)


@dataclass(frozen=True)
class Proof:
    """The value of the Authorization header, and the minted token it came from, if any."""

    header: str = field(repr=False)
    token: Token | None = None


@dataclass(frozen=True)
class Ask:
    """What to ask a token endpoint for."""

    path: str
    form: Mapping[str, str] = field(repr=False)
    scope: str | None = None


class Authorizer(Protocol):
    """One account's way of signing in."""

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables that a refusal is to be blamed on."""
        ...

    def secrets(self) -> tuple[str, ...]:
        """Every value that must not be seen, the current token included."""
        ...

    async def prove(self) -> Proof:
        """The proof to send. Raises a ConnectorError where a token is needed and cannot be had."""
        ...

    async def renew(self, refused: Proof) -> Proof | None:
        """Another proof after a 401, or None where there is no other to be had."""
        ...


Mint = Callable[[Ask], Awaitable[Token]]
"""Posts to the token endpoint; raises a ConnectorError unless it gets a token."""


@dataclass(frozen=True)
class Environment:
    """What signing in takes from the outside: the host called, the mint, clocks and chance."""

    base_url: str
    host: str
    mint: Mint
    clock: Callable[[], float]
    now: Callable[[], float]
    nonce: Callable[[], bytes] = lambda: secrets.token_bytes(NONCE_BYTES)


class FixedProof:
    """A key or ready token that never changes."""

    def __init__(self, header: str, secret: str, variables: tuple[str, ...]) -> None:
        self._proof = Proof(header)
        self._secret = secret
        self.variables = variables

    def secrets(self) -> tuple[str, ...]:
        return (self._secret,)

    async def prove(self) -> Proof:
        return self._proof

    async def renew(self, refused: Proof) -> Proof | None:
        return None


class MintedProof:
    """Bearer tokens from the platform's token endpoint."""

    def __init__(
        self, ask: Callable[[], Ask], environment: Environment, hidden: tuple[str, ...], variables: tuple[str, ...]
    ) -> None:
        async def fetch() -> Token:
            return await environment.mint(ask())

        self._cache = TokenCache(fetch, environment.clock)
        self._proof: Proof | None = None
        self._hidden = hidden
        self.variables = variables

    def secrets(self) -> tuple[str, ...]:
        token = self._cache.known
        return self._hidden if token is None else (*self._hidden, token.value)

    async def prove(self) -> Proof:
        return self._wrap(await self._cache.get())

    async def renew(self, refused: Proof) -> Proof | None:
        return None if refused.token is None else self._wrap(await self._cache.replace(refused.token))

    def _wrap(self, token: Token) -> Proof:
        proof = self._proof
        if proof is None or proof.token is not token:
            proof = self._proof = Proof(f"Bearer {token.value}", token)
        return proof


def make_authorizer(platform: Platform, values: Mapping[str, str], environment: Environment) -> Authorizer:
    """The way of signing in that the platform declares and the values allow.

    Raises:
        Misconfigured: A variable is missing or cannot be what it should be; it is named, its value is not.
    """
    match platform.credentials:
        case ApiKey() as declared:
            return _use_key(platform, declared, values)
        case ClientCredentials() as declared:
            return _use_client_credentials(platform, declared, values, environment)
        case SignedAssertion() as declared:
            return _use_assertion(platform, declared, values, environment)


def _use_key(platform: Platform, declared: ApiKey, values: Mapping[str, str]) -> Authorizer:
    key = _require(platform, declared.key, values)
    variables, word = (declared.key.name,), "Bearer"
    if declared.prefix is not None:
        word = values.get(declared.prefix.name) or declared.prefix.default or word
        variables = (declared.key.name, declared.prefix.name)
        if not _SCHEME_WORD.fullmatch(word):
            raise _unusable(platform, declared.prefix, "is not a single word such as Bearer")
    return FixedProof(f"{word} {key}", key, variables)


def _use_client_credentials(
    platform: Platform, declared: ClientCredentials, values: Mapping[str, str], environment: Environment
) -> Authorizer:
    client_id = _require(platform, declared.client_id, values)
    client_secret = _require(platform, declared.client_secret, values)
    resource = values.get(declared.resource.name) or declared.default_resource(environment.base_url)
    form = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": client_secret,
        "resource": resource,
        "scope": declared.scope,
    }
    ask = Ask(declared.token_path, form, declared.scope)
    variables = (declared.client_id.name, declared.client_secret.name, declared.resource.name)
    return MintedProof(lambda: ask, environment, (client_secret,), variables)


def _use_assertion(
    platform: Platform, declared: SignedAssertion, values: Mapping[str, str], environment: Environment
) -> Authorizer:
    if values.get(declared.access_token.name):
        ready = strip_bearer(_require(platform, declared.access_token, values, spaces=True))
        if not HEADER_SAFE.fullmatch(ready):
            raise _unusable(platform, declared.access_token, "holds characters that no token has")
        return FixedProof(f"Bearer {ready}", ready, (declared.access_token.name,))

    client_id = _require(platform, declared.client_id, values, instead=declared.access_token)
    client_secret = _require(platform, declared.client_secret, values, instead=declared.access_token)
    variables = (declared.client_id.name, declared.client_secret.name)
    form = {"grant_type": "client_credentials", "client_id": client_id}
    if not client_secret.startswith(declared.secret_prefix):
        plain = Ask(declared.token_path, {**form, "client_secret": client_secret})
        return MintedProof(lambda: plain, environment, (client_secret,), variables)
    try:
        key = read_signing_key(client_secret)
    except ValueError as fault:
        raise _unusable(platform, declared.client_secret, str(fault)) from None

    def ask() -> Ask:
        assertion = sign_assertion(
            key, client_id=client_id, host=environment.host, now=environment.now(), nonce=environment.nonce()
        )
        proof = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        return Ask(declared.token_path, {**form, **proof})

    # The last part alone is the private key.
    return MintedProof(ask, environment, (client_secret, client_secret.rpartition(":")[2]), variables)


def _require(
    platform: Platform,
    variable: Variable,
    values: Mapping[str, str],
    *,
    instead: Variable | None = None,
    spaces: bool = False,
) -> str:
    value = values.get(variable.name)
    if not value:
        other = f", or {instead.name} instead" if instead else ""
        raise Misconfigured(
            f"{platform.title}: {variable.name} is not set.", fix=f"Set {variable.name}{other}. {variable.help}"
        )
    if not HEADER_SAFE.fullmatch(value.replace(" ", "") if spaces else value):
        raise _unusable(platform, variable, "holds spaces, control or non-ASCII characters")
    return value


def _unusable(platform: Platform, variable: Variable, wrong: str) -> Misconfigured:
    return Misconfigured(
        f"{platform.title}: {variable.name} {wrong}.", fix=f"Copy {variable.name} again. {variable.help}"
    )
