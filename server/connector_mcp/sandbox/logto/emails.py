"""Logto's e-mail templates, emulated: PUT adds or replaces by language and type, PATCH of details merges."""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.json_values import JsonObject
from connector_mcp.sandbox.emulator import json_response, query_value
from connector_mcp.sandbox.logto.wire import TEXT, body_schema, guarded, not_found
from connector_mcp.sandbox.world import World

EMAIL_TEMPLATES = "logto.email_templates"

_TYPES = (
    "SignIn", "Register", "ForgotPassword", "OrganizationInvitation", "Generic", "UserPermissionValidation",
    "BindNewIdentifier", "MfaVerification", "BindMfa",
)  # fmt: skip
_DETAILS: JsonObject = {
    "subject": TEXT,
    "content": TEXT,
    "contentType": {"enum": ["text/html", "text/plain"]},
    "replyTo": TEXT,
    "sendFrom": TEXT,
}
_TEMPLATE = body_schema(
    {
        "languageTag": {"type": "string", "minLength": 1, "maxLength": 16},
        "templateType": {"enum": [*_TYPES]},
        "details": body_schema(_DETAILS, "subject", "content"),
    },
    "languageTag", "templateType", "details",
)  # fmt: skip
_REPLACE = body_schema({"templates": {"type": "array", "minItems": 1, "items": _TEMPLATE}}, "templates")


class EmailTemplates:
    """The operations on e-mail templates."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.routes = (
            Route("/api/email-templates", self._list, methods=["GET"]),
            Route("/api/email-templates", self._replace, methods=["PUT"]),
            Route("/api/email-templates/{id}", self._get, methods=["GET"]),
            Route("/api/email-templates/{id}/details", self._update, methods=["PATCH"]),
        )

    async def _list(self, request: Request) -> Response:
        wanted = {name: query_value(request, name) for name in ("languageTag", "templateType")}
        shown = [
            each
            for each in self._world.all(EMAIL_TEMPLATES)
            if all(value in (None, each[name]) for name, value in wanted.items())
        ]
        return json_response(shown)

    async def _replace(self, request: Request) -> Response:
        body = await guarded(request, _REPLACE)
        made: list[JsonObject] = []
        for template in body["templates"]:
            key = (template["languageTag"], template["templateType"])
            stored = next(
                (
                    each
                    for each in self._world.all(EMAIL_TEMPLATES)
                    if (each["languageTag"], each["templateType"]) == key
                ),
                None,
            )
            fresh: JsonObject = {
                "tenantId": "default",
                "id": secrets.token_hex(6),
                "languageTag": key[0],
                "templateType": key[1],
                "createdAt": int(self._world.now().timestamp() * 1000),
            }
            details = {name: template["details"][name] for name in _DETAILS if name in template["details"]}
            document: JsonObject = (stored or fresh) | {"details": details}
            self._world.put(EMAIL_TEMPLATES, document["id"], document)
            made.append(document)
        return json_response(made)

    async def _get(self, request: Request) -> Response:
        return json_response(self._template(request))

    async def _update(self, request: Request) -> Response:
        body = await guarded(request, body_schema(_DETAILS))
        template = self._template(request)
        template["details"] |= {name: body[name] for name in _DETAILS if name in body}
        self._world.put(EMAIL_TEMPLATES, template["id"], template)
        return json_response(template)

    def _template(self, request: Request) -> JsonObject:
        return self._world.find(EMAIL_TEMPLATES, request.path_params["id"], not_found())
