"""Pages below `/secrets` on which a person enters a secret that a call is missing.

They do their own authorization: a person enters the code from their client and, if callers need a token, their own
token. A page that is closed looks the same whatever the reason.
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

from connector_mcp.console.access import (
    LoginThrottle,
    Problem,
    read_form,
    require_private_connection,
    session_key,
    set_session_key,
)
from connector_mcp.console.rendering import Renderer, SecurityHeaders
from connector_mcp.engine.secret_refs.secret_requests import SecretRequest, SecretRequests
from connector_mcp.errors import ConnectorError
from connector_mcp.transport.auth.principal import VerificationUnavailable

logger = logging.getLogger("connector_mcp.secrets")

HOME = "/secrets"

MAX_FORM_BYTES = 262_144
"""Three bytes for each byte of the largest value, as forms encode it, and some for the rest."""

_COOKIE = "connector-mcp-secret"

Identify = Callable[[str], Awaitable[str | None]]


def secret_pages(
    requests: SecretRequests, *, identify: Identify | None, anonymous: str, prefix: str = ""
) -> list[BaseRoute]:
    """Return the routes below `/secrets`.

    `identify` returns the principal that holds a token, and raises `VerificationUnavailable` if it cannot check it.
    Without it no token is asked for, and a person who enters the code counts as the principal `anonymous`. `prefix` is
    the path of the server's public address.
    """
    pages = _SecretPages(requests, identify, anonymous, prefix)
    router = Router(
        [
            Route(f"{HOME}/static/{{name}}", pages.asset, methods=["GET"]),
            Route(f"{HOME}/{{id}}", pages.show, methods=["GET"]),
            Route(f"{HOME}/{{id}}", pages.submit, methods=["POST"]),
            Route(f"{HOME}/{{rest:path}}", pages.not_found),
        ],
        redirect_slashes=False,
    )
    return [Route(f"{HOME}/{{rest:path}}", SecurityHeaders(router))]


class _SecretPages:
    def __init__(self, requests: SecretRequests, identify: Identify | None, anonymous: str, prefix: str) -> None:
        self._requests = requests
        self._identify = identify
        self._anonymous = anonymous
        self._renderer = Renderer(home=HOME, prefix=prefix)
        self._throttle = LoginThrottle()

    async def asset(self, request: Request) -> Response:
        return self._renderer.asset(request.path_params["name"]) or self._closed(404)

    async def not_found(self, request: Request) -> Response:
        return self._closed(404)

    async def show(self, request: Request) -> Response:
        try:
            wanted = await self._requests.get(request.path_params["id"])
        except ConnectorError as error:
            return self._failed(Problem(503, "The store is unavailable", error.message))
        if wanted is None or wanted.status != "open":
            return self._closed(410 if wanted else 404)
        return self._form(request, wanted)

    async def submit(self, request: Request) -> Response:
        try:
            return await self._store(request)
        except Problem as problem:
            return self._failed(problem)
        except VerificationUnavailable as error:
            title, sentence = "Your token cannot be checked", "Try again."
            return self._failed(Problem(503, title, sentence, retry_after=error.retry_after))
        except ConnectorError as error:
            logger.error("a secret that was entered could not be stored: %s", error.message)
            return self._failed(Problem(503, "The secret could not be stored", "Tell the operator of the server."))

    async def _store(self, request: Request) -> Response:
        form = await read_form(request, max_bytes=MAX_FORM_BYTES)
        require_private_connection(request)
        self._throttle.check(request)
        wanted = await self._requests.get(request.path_params["id"])
        if wanted is None or wanted.status != "open":
            return self._closed(410 if wanted else 404)
        key = session_key(request, _COOKIE)
        if not key or not hmac.compare_digest(_form_token(key, wanted).encode(), form.get("form_token", "").encode()):
            raise Problem(403, "Sent from another page", "This form is not from a page that your browser was shown.")
        value = _entered_value(form)
        if value is None:
            return self._form(request, wanted, wrong="Fill in one of the two fields, not both.", status=400)
        principal = self._anonymous if self._identify is None else await self._identify(form.get("token", "").strip())
        outcome = await self._requests.submit(wanted.id, code=form.get("code", ""), value=value, principal=principal)
        match outcome:
            case "entered":
                return self._renderer.page("secret_done", name=wanted.name)
            case "wrong":
                self._throttle.count_failure(request)
                what = "code" if self._identify is None else "code or token"
                return self._form(request, wanted, wrong=f"That is not the right {what}.", status=403)
            case "void":
                self._throttle.count_failure(request)
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
        set_session_key(request, response, key, name=_COOKIE, path=HOME)
        return response

    def _closed(self, status: int) -> Response:
        return self._renderer.page("secret_closed", status=status)

    def _failed(self, problem: Problem) -> Response:
        return self._renderer.page(
            "secret_problem", status=problem.status, headers=problem.headers, title=problem.title
        )


def _form_token(key: str, wanted: SecretRequest) -> str:
    """The value that the form of this request carries in this browser; no other page can know it."""
    return hmac.new(key.encode("utf-8", "replace"), f"secret form {wanted.id}".encode(), sha256).hexdigest()


def _entered_value(form: dict[str, str]) -> str | None:
    """The value from either of the two fields; None if both are filled in.

    Browsers end the lines of a text area with two characters, and people often paste one line break too many.
    """
    line, text = form.get("value", ""), form.get("lines", "")
    if line and text:
        return None
    return line or text.replace("\r\n", "\n").rstrip("\n")
