"""`POST /approvals/{id}`: another system decides a parked call by a signed callback.

The signature is the authorization: callers' tokens are not accepted, and an agent has no signing secret. A message is
accepted within minutes of its timestamp and for the one approval that it names. It decides once; delivered again, it is
answered with the decision that it took. Effect, target and differences of an approval never change, so its id
identifies what was shown. The secret differs from that of the webhook, so a webhook message cannot be sent back as a
decision, and a system that may verify webhooks cannot decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import anyio
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connector_mcp.engine.approval.approval_webhook import InvalidSignature, WebhookKey
from connector_mcp.engine.engine import Engine
from connector_mcp.errors import ConfirmationInvalid, ConnectorError, InvalidArguments, StoreUncertain
from connector_mcp.json_values import JsonObject
from connector_mcp.text import clean

OPEN_PATH: Final = "/approvals"
"""Requests below this path need no token."""

MAX_BODY: Final = 16_384
BODY_SECONDS: Final = 10.0
"""Seconds in which a body must arrive."""

_Line = Annotated[str, StringConstraints(max_length=500), AfterValidator(clean)]


class CallbackBody(BaseModel):
    """The body of a callback."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str
    """The approval's id, the same as in the URL, which is not signed."""
    decision: Literal["approve", "deny"]
    by: Annotated[_Line, StringConstraints(min_length=1, max_length=80)]
    """The person who decided, by their name in the other system."""
    reason: _Line | None = None
    """Why. The agent is told the reason of a denial."""


class _Refusal(Exception):
    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        headers = {"Cache-Control": "no-store", **(headers or {})}
        self.response = JSONResponse({"error": f"Not decided: {message}"}, status, headers)


def callback_route(engine: Engine, key: WebhookKey) -> Route:
    """Return the route, to be served below `OPEN_PATH` without bearer authorization, behind the check of Host.

    200 with the decision, also for a message that is delivered again; 202 if it is not known whether the decision was
    saved; 400 for an invalid body, 401 without a valid and recent signature, 404 for an unknown id, 409 for an approval
    that is not pending, 413 and 408 for a body that is too large or too slow, and 503 if the decision was not saved.
    """

    async def handle(request: Request) -> Response:
        try:
            return await _decide(engine, key, request)
        except _Refusal as refusal:
            return refusal.response
        except ClientDisconnect:
            return Response(status_code=400)

    return Route(f"{OPEN_PATH}/{{approval_id}}", handle, methods=["POST"])


async def _decide(engine: Engine, key: WebhookKey, request: Request) -> Response:
    content = await _read_body(request)
    try:
        message_id = key.verify(request.headers.items(), content)
    except InvalidSignature as error:
        raise _Refusal(401, f"{error}.", {"WWW-Authenticate": "StandardWebhooks"}) from None
    try:
        body = CallbackBody.model_validate_json(content)
    except ValidationError as invalid:
        places = sorted({".".join(map(str, issue["loc"])) or "the body" for issue in invalid.errors()})
        raise _Refusal(400, f"invalid value at {', '.join(clean(place, 80) for place in places)}.") from None
    if body.id != request.path_params["approval_id"]:
        raise _Refusal(400, "the URL and the body name different approvals.")
    try:
        approval = await engine.approvals.decide(
            body.id,
            body.decision == "approve",
            f"webhook {body.by}",
            body.reason or None,
            channel="webhook",
            decision_id=f"webhook {message_id}",
        )
    except InvalidArguments:
        raise _Refusal(404, "no parked call has this id.") from None
    except ConfirmationInvalid as error:
        raise _Refusal(409, error.message) from None
    except StoreUncertain as error:
        # Sent again, the same message is answered with what is known then.
        return _answer({"id": body.id, "status": "unknown", "message": error.message}, 202)
    except ConnectorError as error:
        raise _Refusal(503, error.message, {"Retry-After": "5"}) from None
    return _answer({"id": body.id, "status": approval.status})


def _answer(content: JsonObject, status: int = 200) -> Response:
    return JSONResponse(content, status, headers={"Cache-Control": "no-store"})


async def _read_body(request: Request) -> bytes:
    body = b""
    with anyio.move_on_after(BODY_SECONDS):
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise _Refusal(413, f"the body is larger than {MAX_BODY} bytes.", {"Connection": "close"})
        return body
    raise _Refusal(408, "the body did not arrive in time.", {"Connection": "close"})
