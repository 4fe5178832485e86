"""Ask a person to enter a missing secret on a page of this server (URL-mode elicitation, or a link in the answer).

No secret passes through the client or the model. A request has an id, which is in the page's address and grants nothing
by itself: the person who answers must be the caller, and must type the code shown beside the link. A request is
answered once. It never contains the value.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import Final, Literal

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connector_mcp.engine.accounts import Account
from connector_mcp.engine.approval.hold import ApprovalHold
from connector_mcp.engine.caller import Caller, CannotAsk, Visit
from connector_mcp.engine.secret_refs.resolver import ResolvedReferences
from connector_mcp.errors import InvalidArguments, Refused, StoreUnavailable, StoreUncertain
from connector_mcp.secrets.encrypted import EncryptedFile
from connector_mcp.secrets.reference import SCHEME, SecretLimits
from connector_mcp.secrets.sources import LARGEST
from connector_mcp.state.database import Database, Row, Transaction, Value
from connector_mcp.state.keys import secret_key
from connector_mcp.text import LETTERS

TTL: Final = 600.0
"""Seconds for which a request can be answered."""

LONGEST_HOLD: Final = 40.0
"""Seconds for which a call waits at most while a person enters a secret: some clients give up after 60."""

MOST_TRIES: Final = 5
"""Wrong codes, or answers by another person, after which a request is void."""

MOST_OPEN: Final = 16
"""Requests that one principal may have open at the same time."""

_LIVE = "SELECT request FROM secret_requests WHERE {} AND expires_at > epoch()"
_ID_BYTES = 24
_CODE_LETTERS = 8

logger = logging.getLogger("connector_mcp.secrets")

RequestStatus = Literal["open", "entered", "void"]

SubmitOutcome = Literal["entered", "gone", "wrong", "void", "unusable", "stored already"]


class SecretRequest(BaseModel):
    """A request for one secret. Everything in it may be shown."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    id: str = Field(default_factory=lambda: secrets.token_urlsafe(_ID_BYTES))
    name: str
    principal: str
    tool: str
    platform: str
    profile: str
    fields: tuple[str, ...]
    """The fields that need the secret. Once stored, it may be used in these only."""
    digest: str
    """The digest of the call that needs it."""
    tries: int = 0
    status: RequestStatus = "open"


class SecretRequests:
    """The requests of all processes that share the database. Every method may raise `StoreUnavailable`."""

    def __init__(self, database: Database, secrets_store: EncryptedFile) -> None:
        self._database = database
        self._secrets = secrets_store
        self._find_pages: Callable[[], Awaitable[str | None]] | None = None

    def have_pages_at(self, find: Callable[[], Awaitable[str | None]]) -> None:
        """Set how to find the address of the pages. `find` returns None if there is none."""
        self._find_pages = find

    @property
    def have_pages(self) -> bool:
        """Whether a person could answer a request."""
        return self._find_pages is not None

    async def address(self, request: SecretRequest) -> str | None:
        """Return the address of a request's page."""
        found = await self._find_pages() if self._find_pages else None
        return f"{found}/secrets/{request.id}" if found else None

    async def code(self, request: SecretRequest) -> str:
        """Return the code that is shown at the client and typed into the page. It is never stored or in the address."""
        digest = hmac.new(await secret_key(self._database, "secret-codes"), request.id.encode(), sha256).digest()
        number = int.from_bytes(digest, "big")
        letters = "".join(LETTERS[number // len(LETTERS) ** place % len(LETTERS)] for place in range(_CODE_LETTERS))
        return f"{letters[:4]}-{letters[4:]}"

    async def open(self, request: SecretRequest) -> SecretRequest | None:
        """Return the call's open request for the same secret, or else open this one.

        None if the principal has too many open.
        """
        values: dict[str, Value] = {
            "id": request.id, "principal": request.principal, "request": request.model_dump_json(), "ttl": TTL,
        }  # fmt: skip

        def work(tx: Transaction) -> SecretRequest | None:
            tx.execute("DELETE FROM secret_requests WHERE expires_at <= epoch()")
            rows = tx.execute(_LIVE.format("principal = :principal AND status = 'open'"), values).all()
            theirs = [each for row in rows if (each := _read(row)) is not None]
            for each in theirs:
                if (each.digest, each.name) == (request.digest, request.name):
                    return each
            if len(theirs) >= MOST_OPEN:
                return None
            tx.execute(
                "INSERT INTO secret_requests (id, principal, status, request, expires_at) "
                "VALUES (:id, :principal, 'open', :request, epoch() + :ttl)",
                values,
            )
            return request

        return await self._database.write(work)

    async def get(self, request_id: str) -> SecretRequest | None:
        """Return the request with this id unless it has expired."""
        if len(request_id) > 4 * _ID_BYTES:
            return None
        row = await self._database.read(lambda tx: tx.execute(_LIVE.format("id = :id"), {"id": request_id}).first())
        return None if row is None else _read(row)

    async def is_pending(self, request_id: str) -> bool:
        """Check that the secret may still be entered."""
        request = await self.get(request_id)
        return request is not None and request.status == "open"

    async def withdraw(self, request_id: str) -> None:
        """Void the request if it is open."""
        while (request := await self.get(request_id)) is not None and request.status == "open":
            if await self._replace(request, status="void"):
                return

    async def submit(self, request_id: str, *, code: str, value: str, principal: str | None) -> SubmitOutcome:
        """Check an answer and store its value; `entered` means that it was stored.

        `principal` is the authenticated person who answers. Another person and a wrong code each count as a try.

        Raises:
            Misconfigured: The secret store cannot be written. The request stays open.
        """
        request = await self.get(request_id)
        if request is None or request.status != "open":
            return "gone"
        if principal is None or not hmac.compare_digest(principal.encode(), request.principal.encode()):
            logger.warning("another person answered %s's request for the secret %s", request.principal, request.name)
            return await self._wrong(request)
        typed = code.strip().lower().replace("-", "").replace(" ", "")
        due = (await self.code(request)).replace("-", "")
        if not hmac.compare_digest(typed.encode("utf-8", "replace"), due.encode()):
            logger.warning("a wrong code was given to %s's request for the secret %s", request.principal, request.name)
            return await self._wrong(request)
        if not value.strip() or len(value.encode("utf-8", "replace")) > LARGEST:
            return "unusable"
        limits = SecretLimits((request.platform,), (request.profile,), request.fields)
        # Of several answers one is added: the store replaces nothing.
        added = await anyio.to_thread.run_sync(partial(self._secrets.put, request.name, value, limits, replace=False))
        # The secret is stored even if that cannot be noted here: the waiting call looks for the secret itself.
        with suppress(StoreUnavailable):
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

    async def _wrong(self, request: SecretRequest) -> SubmitOutcome:
        """Count a try. After losing a race for the entry, count again."""
        current: SecretRequest | None = request
        while current is not None and current.status == "open":
            tries = current.tries + 1
            if await self._replace(current, tries=tries, status="void" if tries >= MOST_TRIES else "open"):
                return "void" if tries >= MOST_TRIES else "wrong"
            current = await self.get(request.id)
        return "gone"

    async def _replace(self, request: SecretRequest, **changed: object) -> bool:
        """Change the request unless it changed meanwhile."""
        after = request.model_copy(update=changed)
        values: dict[str, Value] = {
            "id": request.id, "status": after.status, "before": request.model_dump_json(),
            "after": after.model_dump_json(),
        }  # fmt: skip

        def work(tx: Transaction) -> bool:
            sql = (
                "UPDATE secret_requests SET status = :status, request = :after "
                "WHERE id = :id AND request = :before AND expires_at > epoch() RETURNING id"
            )
            # A call that is held looks at its request again.
            tx.notify()
            return tx.execute(sql, values).first() is not None

        try:
            return await self._database.write(work)
        except StoreUncertain:
            if await self.get(request.id) != after:
                raise
            return True


def _read(row: Row) -> SecretRequest | None:
    """Decode a stored request; None if it is damaged, so it cannot be answered."""
    try:
        return SecretRequest.model_validate_json(row["request"])
    except ValidationError:
        return None


TICKET: Final = "secret:"
"""The prefix of these questions' tickets. Tickets of confirmations never have it."""


def brings_visit(caller: Caller) -> bool:
    """Check whether a call brings the answer to a question of this kind, which confirms nothing else."""
    return caller.resumed is not None and caller.resumed.ticket.startswith(TICKET)


class SecretPrompt:
    """Asks for the missing secrets of calls, one after the other. An engine has one."""

    def __init__(self, requests: SecretRequests | None, hold: ApprovalHold, seconds: float) -> None:
        """A call waits for each secret for `seconds`, up to `LONGEST_HOLD`. Without `requests` no person is asked."""
        self._requests = requests
        self._hold = hold
        self._seconds = min(seconds, LONGEST_HOLD)

    @property
    def is_possible(self) -> bool:
        """Whether there are pages on which a person can enter a secret."""
        return self._requests is not None and self._requests.have_pages

    async def obtain(
        self,
        caller: Caller,
        tool: str,
        account: Account,
        digest: str,
        resolved: ResolvedReferences,
        resolve_again: Callable[[], Awaitable[ResolvedReferences]],
    ) -> ResolvedReferences:
        """Ask the person for each missing secret, and return what the references resolve to then.

        `digest` identifies the call when it comes again.

        Raises:
            AnswerDue: The question is on its way to the person.
            Refused: The client answered no.
            InvalidArguments: The secret was not entered yet, or the client cannot open pages. The error has the link.
            StoreUnavailable: No request can be made.
        """
        requests, asked = self._requests, set[str]()
        if requests is None:
            return resolved
        while resolved.lacks_only_secrets and (name := resolved.missing[0].name) not in asked:
            asked.add(name)
            brought = await self._brought(requests, caller, digest)
            if brought is not None and brought.name == name and brought.status == "open":
                request = brought
            elif brings_visit(caller) and (brought is None or brought.status != "entered"):
                # Void or expired. Asking again at once would let a client go on forever.
                raise _not_entered(tool, resolved)
            else:
                brought = None
                fields = tuple(dict.fromkeys(each.field_of_one for each in resolved.missing if each.name == name))
                request = await requests.open(
                    SecretRequest(
                        name=name,
                        principal=caller.principal,
                        tool=tool,
                        platform=account.platform.name,
                        profile=account.profile,
                        fields=fields,
                        digest=digest,
                    )
                )
            url = await requests.address(request) if request else None
            if request is None or url is None:
                return resolved
            code = await requests.code(request)
            visit = _visit(request, url, code)
            try:
                answered = caller.resumed.reply if brought and caller.resumed else None
                reply = answered or await caller.send_to(visit, TICKET + request.id)
            except CannotAsk:
                raise _not_entered(tool, resolved, _offer(url, code)) from None
            if reply.action != "accept":
                await requests.withdraw(request.id)
                raise Refused(
                    f"The client answered that {SCHEME}{name} is not entered. Nothing was sent.",
                    fix=resolved.fix or "Do not repeat the call unless the person you work for wants it.",
                )
            waiting = f"Waiting for {name} to be entered"
            await self._hold.hold(partial(requests.is_pending, request.id), waiting, caller, self._seconds)
            resolved = await resolve_again()
            await caller.visited(visit)
            if any(each.name == name for each in resolved.missing):
                is_open = await requests.is_pending(request.id)
                raise _not_entered(tool, resolved, _remind(url) if is_open else "")
        return resolved

    async def _brought(self, requests: SecretRequests, caller: Caller, digest: str) -> SecretRequest | None:
        """Return the request that this call brings the answer to, if it belongs to this call."""
        if caller.resumed is None or not brings_visit(caller):
            return None
        request = await requests.get(caller.resumed.ticket.removeprefix(TICKET))
        same = request is not None and (request.digest, request.principal) == (digest, caller.principal)
        return request if same else None


def _visit(request: SecretRequest, url: str, code: str) -> Visit:
    return Visit(
        request.id,
        f"{request.tool} needs the secret {request.name}, which is not stored yet, for {', '.join(request.fields)} "
        f"on {request.platform} (profile {request.profile}). Open the page to enter it there. "
        f"The page asks for this code: {code}",
        url,
    )


def _offer(url: str, code: str) -> str:
    return f"Give the person you work for this link, to enter the secret there: {url} (code: {code})."


def _remind(url: str) -> str:
    # The code stays where only the person sees it. If the client did not show it, the next call shows it again.
    return f"It was not entered yet. The person can still do so at {url} with the code that the client showed."


def _not_entered(tool: str, resolved: ResolvedReferences, offer: str = "") -> InvalidArguments:
    first = offer or "The secret was not entered in time, or its page was used up."
    return InvalidArguments(
        tool,
        resolved.issues,
        fix=f"{first} Then make the same call again"
        f"{'' if offer else ' to ask the person once more'}. Or the operator runs "
        f"`connector-mcp secrets set {resolved.missing[0].name}` in a terminal.",
    )
