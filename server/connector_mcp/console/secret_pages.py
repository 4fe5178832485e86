"""The pages on which a person enters a secret that a call is missing, under `/secrets`.

They see to their own authorization: who submits shows the code from their client and, where callers need a token, their
own. Whatever is not open, for whichever reason, looks the same.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router

from connector_mcp.console.login_throttle import Attempts
from connector_mcp.console.problem import Problem
from connector_mcp.console.rendering import Renderer, Secured
from connector_mcp.console.requests import (
    insist_on_privacy,
    keep_session_key,
    network_of,
    read_form,
    session_key,
)
from connector_mcp.engine.secret_refs.secret_requests import SecretRequest, SecretRequests
from connector_mcp.errors import ConnectorError
from connector_mcp.transport.auth.static_tokens import CannotTell

logger = logging.getLogger("connector_mcp.secrets")

HOME = "/secrets"

LONGEST_FORM = 262_144
"""Bytes: three for each of the largest value, as forms encode it, and room for the rest."""

_COOKIE = "connector-mcp-secret"

Identify = Callable[[str], Awaitable[str | None]]


def secret_pages(requests: SecretRequests, *, identify: Identify | None, nobody: str) -> list[BaseRoute]:
    """The routes under `/secrets`.

    `identify` gives the principal whose token it is shown, and raises `CannotTell` where it cannot; without it no token
    is asked for, and whoever knows the code is taken for the principal `nobody`.
    """
    pages = _Pages(requests, identify, nobody)
    router = Router(
        [
            Route(f"{HOME}/static/{{name}}", pages.asset, methods=["GET"]),
            Route(f"{HOME}/{{id}}", pages.show, methods=["GET"]),
            Route(f"{HOME}/{{id}}", pages.submit, methods=["POST"]),
            Route(f"{HOME}/{{rest:path}}", pages.nothing),
        ],
        redirect_slashes=False,
    )
    return [Route(f"{HOME}/{{rest:path}}", Secured(router))]


class _Pages:
    def __init__(self, requests: SecretRequests, identify: Identify | None, nobody: str) -> None:
        self._requests = requests
        self._identify = identify
        self._nobody = nobody
        self._renderer = Renderer(home=HOME)
        self._attempts = Attempts()

    async def asset(self, request: Request) -> Response:
        return self._renderer.asset(request.path_params["name"]) or self._closed(404)

    async def nothing(self, request: Request) -> Response:
        return self._closed(404)

    async def show(self, request: Request) -> Response:
        try:
            wanted = await self._requests.get(request.path_params["id"])
        except ConnectorError as error:
            return self._failed(Problem(503, "The store is away", error.message))
        if wanted is None or wanted.status != "open":
            return self._closed(410 if wanted else 404)
        return self._form(request, wanted)

    async def submit(self, request: Request) -> Response:
        try:
            return await self._submitted(request)
        except Problem as problem:
            return self._failed(problem)
        except CannotTell as unknown:
            problem = Problem(503, "Nobody can tell who you are", "Try again.", retry_after=unknown.retry_after)
            return self._failed(problem)
        except ConnectorError as error:
            logger.error("a secret that was entered could not be stored: %s", error.message)
            return self._failed(Problem(503, "It could not be stored", "Tell whoever runs the server."))

    async def _submitted(self, request: Request) -> Response:
        form = await read_form(request, longest=LONGEST_FORM)
        insist_on_privacy(request)
        network = network_of(request)
        self._attempts.check(network)
        wanted = await self._requests.get(request.path_params["id"])
        if wanted is None or wanted.status != "open":
            return self._closed(410 if wanted else 404)
        key = session_key(request, _COOKIE)
        if not key or not hmac.compare_digest(_form_token(key, wanted).encode(), form.get("form_token", "").encode()):
            raise Problem(403, "Sent from elsewhere", "This form is not of a page that your browser was shown.")
        value = _value(form)
        if value is None:
            return self._form(request, wanted, wrong="Fill in one of the two fields, not both.", status=400)
        principal = self._nobody if self._identify is None else await self._identify(form.get("token", "").strip())
        outcome = await self._requests.submit(wanted.id, code=form.get("code", ""), value=value, principal=principal)
        match outcome:
            case "entered":
                return self._renderer.page("secret_done", name=wanted.name)
            case "wrong":
                self._attempts.failed(network)
                what = "code" if self._identify is None else "code or token"
                return self._form(request, wanted, wrong=f"That is not the right {what}.", status=403)
            case "void":
                self._attempts.failed(network)
                return self._closed(410)
            case "unusable":
                return self._form(
                    request, wanted, wrong="The value is empty or larger than 64 KiB. Nothing was stored.", status=400
                )
            case "gone" | "stored already":
                return self._closed(410)

    def _form(self, request: Request, wanted: SecretRequest, *, wrong: str = "", status: int = 200) -> Response:
        key = session_key(request, _COOKIE) or secrets.token_urlsafe(32)
        response = self._renderer.page(
            "secret",
            status=status,
            wanted=wanted,
            form_token=_form_token(key, wanted),
            signs_in=self._identify is not None,
            wrong=wrong,
        )
        keep_session_key(request, response, key, name=_COOKIE, home=HOME)
        return response

    def _closed(self, status: int) -> Response:
        return self._renderer.page("secret_closed", status=status)

    def _failed(self, problem: Problem) -> Response:
        headers = {"Retry-After": str(problem.retry_after)} if problem.retry_after else None
        return self._renderer.page("secret_problem", status=problem.status, headers=headers, title=problem.title)


def _form_token(key: str, wanted: SecretRequest) -> str:
    """What the form of this request carries in this browser; no other page can know it."""
    return hmac.new(key.encode("utf-8", "replace"), f"secret form {wanted.id}".encode(), sha256).hexdigest()


def _value(form: dict[str, str]) -> str | None:
    """What was typed, in whichever of the two fields; None where both hold something.

    Browsers end the lines of a text with two characters, and people with one too many.
    """
    line, text = form.get("value", ""), form.get("lines", "")
    if line and text:
        return None
    return line or text.replace("\r\n", "\n").rstrip("\n")
