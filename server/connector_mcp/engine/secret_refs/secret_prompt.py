"""Has a person enter the secrets that a call refers to and nobody has stored.

They are sent to a page of this server (URL-mode elicitation): no secret passes through the client or the model. Only
where nothing else is wrong with the call; whatever fails on the way leaves it refused, with the command to run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from connector_mcp.engine.account import Account
from connector_mcp.engine.approval.approval_hold import ApprovalWait
from connector_mcp.engine.caller import Caller, CannotAsk, Visit
from connector_mcp.engine.secret_refs.secret_references import Followed
from connector_mcp.engine.secret_refs.secret_requests import PENDING, SecretRequest, SecretRequests
from connector_mcp.errors import InvalidArguments, Refused
from connector_mcp.secrets.reference import SCHEME

TICKET: Final = "secret:"
"""How the tickets of these questions begin; those of confirmations never do."""


def brings_visit(caller: Caller) -> bool:
    """Whether the answer that a call brings is one to a question of this kind, and so confirms nothing."""
    return caller.resumed is not None and caller.resumed.ticket.startswith(TICKET)


@dataclass(frozen=True)
class Missing:
    """The call that refers to missing secrets; `digest` is what makes another call the same call."""

    caller: Caller
    tool: str
    account: Account
    digest: str


class SecretAsking:
    """Asks for the missing secrets of calls, one after the other. One for an engine."""

    def __init__(self, requests: SecretRequests | None, wait: ApprovalWait, seconds: float) -> None:
        """`seconds` is how long a call is held for each; without `requests` nobody is asked."""
        self._requests = requests
        self._wait = wait
        self._seconds = seconds

    def is_possible(self, caller: Caller) -> bool:
        """Whether there are pages, and a client that opens them."""
        return self._requests is not None and self._requests.have_pages and caller.can_send

    async def obtain(self, call: Missing, followed: Followed, follow: Callable[[], Awaitable[Followed]]) -> Followed:
        """What became of the references after the person was asked; `follow` looks at them again.

        Raises:
            AnswerDue: The question is on its way to the person.
            Refused: The person does not want to.
            InvalidArguments: The secret was not entered in time.
            StoreUnavailable: Nobody can be asked.
        """
        if self._requests is None:
            return followed
        round_of = _Round(self._requests, call)
        asked: set[str] = set()
        while followed.lacks_only_secrets and (name := followed.missing[0].name) not in asked:
            asked.add(name)
            fields = tuple(dict.fromkeys(each.field_of_one for each in followed.missing if each.name == name))
            answered = await round_of.ask(name, fields, followed)
            if answered is None:
                return followed
            request, visit = answered
            await self._held(request, call.caller)
            followed = await follow()
            await call.caller.visited(visit)
            if any(each.name == name for each in followed.missing):
                raise not_entered(call.tool, followed)
        return followed

    async def _held(self, request: SecretRequest, caller: Caller) -> None:
        requests = self._requests
        assert requests is not None  # noqa: S101 - asked of those who have been asked already

        async def is_pending() -> bool:
            now = await requests.get(request.id)
            return now is not None and now.status in PENDING

        await self._wait.hold(is_pending, f"Waiting for {request.name} to be entered", caller, self._seconds)


class _Round:
    """One round of a call: what it brings, and what it asks."""

    def __init__(self, requests: SecretRequests, call: Missing) -> None:
        self._requests = requests
        self._call = call

    async def ask(self, name: str, fields: tuple[str, ...], followed: Followed) -> tuple[SecretRequest, Visit] | None:
        """The request that the person agreed to answer, and where; None where they could not be asked.

        Raises what `SecretAsking.obtain` does.
        """
        call = self._call
        brought = await self._brought()
        if brought is not None and brought.name == name and brought.status in PENDING:
            reply, request = call.caller.resumed.reply if call.caller.resumed else None, brought
        elif brings_visit(call.caller) and (brought is None or brought.status != "entered"):
            # Void or expired: to ask anew at once would let a client go on for ever.
            raise not_entered(call.tool, followed)
        else:
            reply, request = None, await self._open(name, fields)
        visit = await self._visit(request) if request else None
        if request is None or visit is None:
            return None
        if reply is None:
            try:
                reply = await call.caller.send_to(visit, TICKET + request.id)
            except CannotAsk:
                await self._requests.withdraw(request.id)
                return None
        if reply.action != "accept":
            await self._requests.withdraw(request.id)
            raise Refused(
                f"The person at the client did not want to enter {SCHEME}{name}. Nothing was sent.",
                fix=followed.fix or "Do not repeat the call unless the person you work for wants it.",
            )
        return request, visit

    async def _brought(self) -> SecretRequest | None:
        """The live request whose answer this call brings, if it is this call's."""
        call = self._call
        if call.caller.resumed is None or not brings_visit(call.caller):
            return None
        request = await self._requests.get(call.caller.resumed.ticket.removeprefix(TICKET))
        same = request is not None and (request.digest, request.principal) == (call.digest, call.caller.principal)
        return request if same else None

    async def _open(self, name: str, fields: tuple[str, ...]) -> SecretRequest | None:
        call = self._call
        return await self._requests.open(
            name=name,
            principal=call.caller.principal,
            tool=call.tool,
            platform=call.account.platform.name,
            profile=call.account.profile,
            fields=fields,
            digest=call.digest,
        )

    async def _visit(self, request: SecretRequest) -> Visit | None:
        url = await self._requests.address(request)
        if url is None:
            return None
        code = await self._requests.code(request)
        return Visit(
            request.id,
            f"{request.tool} needs the secret {request.name}, which is not stored yet, for {', '.join(request.fields)} "
            f"on {request.platform} (profile {request.profile}). Open the page to enter it there. "
            f"The page asks for this code: {code}",
            url,
        )


def not_entered(tool: str, followed: Followed) -> InvalidArguments:
    """The answer to a call whose secret nobody entered in time."""
    name = followed.missing[0].name
    return InvalidArguments(
        tool,
        followed.issues,
        fix="The secret was not entered in time, or its page was used up. Make the same call again to have the person "
        f"asked again, or ask the operator to run `connector-mcp secrets set {name}` in a terminal.",
    )
