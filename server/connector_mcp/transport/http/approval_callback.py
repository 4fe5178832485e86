"""`POST /approvals/{id}`: another system decides a parked call, by a signed call-back.

The signature is the authorization: the callers' tokens open nothing here, and an agent holds no such secret. A message
counts once, soon after it was made, and for the one approval that it names; the effect, target and differences under
an approval's id never change, so to name the id is to name what was shown. Its secret is not that of announcements,
so that neither can an announcement be sent back as a decision, nor does who may read them decide.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Final, Literal

import anyio
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connector_mcp.engine.approval.webhook_signature import TOLERANCE, SigningKey, Unsigned
from connector_mcp.engine.engine import Engine
from connector_mcp.errors import ConfirmationInvalid, ConnectorError, InvalidArguments, StoreUnavailable
from connector_mcp.text import clean

OPEN_PATH: Final = "/approvals"
"""What lies under it needs no token of the callers'."""

MAX_BODY: Final = 16_384
BODY_SECONDS: Final = 10.0
"""How long a body may take to arrive."""

_USED: Final = "callbacks"
_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")


def _line(text: str) -> str:
    return clean(text)


_Line = Annotated[str, StringConstraints(max_length=500), AfterValidator(_line)]


class CallBack(BaseModel):
    """The body of a call-back."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str
    """The approval's; the same as in the address, which is not signed."""
    decision: Literal["approve", "deny"]
    by: Annotated[_Line, StringConstraints(min_length=1, max_length=80)]
    """Who decided, as the other system knows them."""
    reason: _Line | None = None
    """Why; the agent is told of a denial's."""


class _Refusal(Exception):
    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = JSONResponse(
            {"error": message}, status, headers={"Cache-Control": "no-store", **(headers or {})}
        )


def callback_route(engine: Engine, key: SigningKey, *, clock: Callable[[], float] = time.time) -> Route:
    """The route; to be served under `OPEN_PATH` without the callers' authorization, behind the check of Host.

    200 with the decision; 400 for a body that is none, 401 without a right and fresh signature, 404 for an id that no
    parked call has, 409 for a message that came before or an approval that is not pending, 413, 408, and 503 where the
    store cannot keep a decision.
    """

    async def called_back(request: Request) -> Response:
        try:
            return await _decide(engine, key, request, clock())
        except _Refusal as refusal:
            return refusal.response
        except ClientDisconnect:
            return Response(status_code=400)

    return Route(f"{OPEN_PATH}/{{approval_id}}", called_back, methods=["POST"])


async def _decide(engine: Engine, key: SigningKey, request: Request, now: float) -> Response:
    body = await _body(request)
    try:
        message_id = key.check({name: request.headers.getlist(name) for name in _HEADERS}, body, now)
    except Unsigned as unsigned:
        raise _Refusal(401, f"Not decided: {unsigned}.", {"WWW-Authenticate": "StandardWebhooks"}) from None
    try:
        told = CallBack.model_validate_json(body)
    except ValidationError as invalid:
        places = sorted({".".join(map(str, issue["loc"])) or "the body" for issue in invalid.errors()})
        raise _Refusal(400, f"Not decided: not valid at {', '.join(clean(place, 80) for place in places)}.") from None
    if told.id != request.path_params["approval_id"]:
        raise _Refusal(400, "Not decided: the address and the body name different approvals.")
    try:
        await _spend(engine, message_id, now)
        decided = await _take(engine, told, message_id)
    except InvalidArguments:
        raise _Refusal(404, "Not decided: no parked call has this id.") from None
    except ConfirmationInvalid as error:
        raise _Refusal(409, error.message) from None
    except ConnectorError as error:
        raise _Refusal(503, f"Not decided: {error.message}", {"Retry-After": "5"}) from None
    return JSONResponse(decided, headers={"Cache-Control": "no-store"})


async def _spend(engine: Engine, message_id: str, now: float) -> None:
    # A message is fresh for the tolerance to both sides of its timestamp; afterwards its age refuses it.
    if not await engine.store.put_once(_USED, message_id, {"at": now}, expires_at=now + 2 * TOLERANCE):
        raise _Refusal(409, "Not decided: a message with this webhook-id came before.")


async def _take(engine: Engine, told: CallBack, message_id: str) -> dict[str, str]:
    try:
        approval = await engine.approvals.decide(
            told.id, told.decision == "approve", f"webhook {told.by}", told.reason or None, channel="webhook"
        )
    except StoreUnavailable:
        # The sender may repeat the message as it is.
        with suppress(StoreUnavailable):
            await engine.store.remove(_USED, message_id)
        raise
    return {"id": approval.id, "status": approval.status}


async def _body(request: Request) -> bytes:
    body = b""
    with anyio.move_on_after(BODY_SECONDS):
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise _Refusal(413, f"Not decided: the body is larger than {MAX_BODY} bytes.", {"Connection": "close"})
        return body
    raise _Refusal(408, "Not decided: the body did not arrive in time.", {"Connection": "close"})
