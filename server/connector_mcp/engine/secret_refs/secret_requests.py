"""Requests for secrets: what a person is asked to type into a page, and what must be right for it to be stored.

A request is known by an id that is in the page's address and carries no right by itself: who answers also shows the
code that was shown to the person at the client, and is the one who made the call. It is answered once. No value is
ever in a request.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final, Literal, Protocol

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, ValidationError

from connector_mcp.errors import ConnectorError
from connector_mcp.json_values import JsonObject
from connector_mcp.secrets.reference import SecretLimits
from connector_mcp.secrets.sources import LARGEST
from connector_mcp.state.store import Store, secret_key

TTL: Final = 600.0
"""Seconds in which a request can be answered."""

MOST_TRIES: Final = 5
"""Wrong codes, or answers of somebody else, after which a request is void."""

MOST_OPEN: Final = 16
"""Requests of one principal that are open at the same time."""

_COLLECTION = "secret_requests"
_ID_BYTES = 24
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_CODE_LETTERS = 8

logger = logging.getLogger("connector_mcp.secrets")

Status = Literal["open", "storing", "entered", "void"]
PENDING: Final[frozenset[Status]] = frozenset({"open", "storing"})

Outcome = Literal["entered", "gone", "wrong", "void", "unusable", "stored already"]


class SecretRequest(BaseModel):
    """What is asked for, of whom, and for what. Everything in it may be shown."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    id: str
    name: str
    principal: str
    tool: str
    platform: str
    profile: str
    fields: tuple[str, ...]
    """Where the secret is to be used, and may be used once it is stored."""
    digest: str
    """Of the call that needs it."""
    expires_at: float
    tries: int = 0
    status: Status = "open"


class SecretStore(Protocol):
    """Where secrets that are entered go."""

    def add(self, name: str, value: str, limits: SecretLimits) -> bool:
        """Store a secret where none has this name; False, and no change, where one has. Blocks."""
        ...


class SecretRequests:
    """The requests of all processes that share the store. Every method raises `StoreUnavailable` where that does."""

    def __init__(self, store: Store, secrets_store: SecretStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._secrets = secrets_store
        self._clock = clock
        self._find_pages: Callable[[], Awaitable[str | None]] | None = None

    def have_pages_at(self, find: Callable[[], Awaitable[str | None]]) -> None:
        """From now on there are pages; `find` gives the address under which they are, or None where it has none."""
        self._find_pages = find

    @property
    def have_pages(self) -> bool:
        """Whether a person could answer at all."""
        return self._find_pages is not None

    async def address(self, request: SecretRequest) -> str | None:
        """The page of a request."""
        found = await self._find_pages() if self._find_pages else None
        return f"{found}/secrets/{request.id}" if found else None

    async def code(self, request: SecretRequest) -> str:
        """What the person is shown at their client, and types into the page. Never kept, and never in the address."""
        digest = hmac.new(await secret_key(self._store, "secret-codes"), request.id.encode(), sha256).digest()
        number = int.from_bytes(digest, "big")
        letters = "".join(_LETTERS[number // len(_LETTERS) ** place % len(_LETTERS)] for place in range(_CODE_LETTERS))
        return f"{letters[:4]}-{letters[4:]}"

    async def open(
        self, *, name: str, principal: str, tool: str, platform: str, profile: str, fields: tuple[str, ...], digest: str
    ) -> SecretRequest | None:
        """The request of this call for this secret: the one that is open already, or else a new one.

        None where the principal has too many open.
        """
        theirs = [
            request
            for _, kept in await self._store.entries(_COLLECTION)
            if (request := _read(kept)) and request.principal == principal and request.status == "open"
        ]
        for request in theirs:
            if (request.digest, request.name) == (digest, name):
                return request
        if len(theirs) >= MOST_OPEN:
            return None
        request = SecretRequest(
            id=secrets.token_urlsafe(_ID_BYTES),
            name=name,
            principal=principal,
            tool=tool,
            platform=platform,
            profile=profile,
            fields=fields,
            digest=digest,
            expires_at=self._clock() + TTL,
        )
        await self._store.put_once(_COLLECTION, request.id, _written(request), expires_at=request.expires_at)
        return request

    async def get(self, request_id: str) -> SecretRequest | None:
        """The request with this id, as long as it has not expired."""
        kept = await self._store.get(_COLLECTION, request_id) if len(request_id) <= 4 * _ID_BYTES else None
        return None if kept is None else _read(kept)

    async def withdraw(self, request_id: str) -> None:
        """Let nobody answer the request any more."""
        while (request := await self.get(request_id)) is not None and request.status == "open":
            if await self._replace(request, status="void"):
                return

    async def submit(self, request_id: str, *, code: str, value: str, principal: str | None) -> Outcome:
        """What became of an answer: `entered` where the value was stored.

        `principal` is who answers, as far as it was proved. Both what is wrong with them and a wrong code count as a
        try.

        Raises:
            Misconfigured: The secret store cannot be written. The request stays open.
        """
        request = await self.get(request_id)
        if request is None or request.status != "open":
            return "gone"
        if principal is None or not hmac.compare_digest(principal.encode(), request.principal.encode()):
            logger.warning("somebody else than %s answered their request for the secret %s", *_who(request))
            return await self._wrong(request)
        typed = code.strip().lower().replace("-", "").replace(" ", "")
        due = (await self.code(request)).replace("-", "")
        if not hmac.compare_digest(typed.encode("utf-8", "replace"), due.encode()):
            logger.warning("a wrong code was given to %s's request for the secret %s", *_who(request))
            return await self._wrong(request)
        if not value.strip() or len(value.encode("utf-8", "replace")) > LARGEST:
            return "unusable"
        # From here on nobody else can answer it.
        if not await self._replace(request, status="storing"):
            return "gone"
        return await self._put(request.model_copy(update={"status": "storing"}), value)

    async def _put(self, request: SecretRequest, value: str) -> Outcome:
        limits = SecretLimits((request.platform,), (request.profile,), request.fields)
        try:
            added = await anyio.to_thread.run_sync(self._secrets.add, request.name, value, limits)
        except ConnectorError:
            await self._replace(request, status="open")
            raise
        await self._replace(request, status="entered" if added else "void")
        if not added:
            return "stored already"
        logger.warning(
            "%s entered the secret %s for %s, profile %s, %s, on behalf of %s",
            request.principal,
            request.name,
            request.platform,
            request.profile,
            ", ".join(request.fields),
            request.tool,
        )
        return "entered"

    async def _wrong(self, request: SecretRequest) -> Outcome:
        """Count a try; whoever loses the race for the entry is counted on the next look at it."""
        current: SecretRequest | None = request
        while current is not None and current.status == "open":
            tries = current.tries + 1
            if await self._replace(current, tries=tries, status="void" if tries >= MOST_TRIES else "open"):
                return "void" if tries >= MOST_TRIES else "wrong"
            current = await self.get(request.id)
        return "gone"

    async def _replace(self, request: SecretRequest, **changed: object) -> bool:
        return await self._store.replace(
            _COLLECTION,
            request.id,
            _written(request.model_copy(update=changed)),
            expected=_written(request),
            expires_at=request.expires_at,
        )


def _who(request: SecretRequest) -> tuple[str, str]:
    return request.principal, request.name


def _written(request: SecretRequest) -> JsonObject:
    return request.model_dump(mode="json")


def _read(kept: JsonObject) -> SecretRequest | None:
    """The request that was kept; None where it is damaged, which lets nobody answer it."""
    try:
        return SecretRequest.model_validate(kept)
    except ValidationError:
        return None
