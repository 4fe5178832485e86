"""Logto, emulated: connectors, their factories and the token endpoint (facts: sections 2 to 6).

It reproduces the platform's traps: secrets come back in clear text, PATCH replaces config and metadata whole, empty
values vanish before anything is stored, creating an Email or Sms connector deletes every other one of that type, and
lists carry guides and logos of many kilobytes. A test message with a credential that begins with `invalid-` fails.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.json_values import JsonObject, is_object, items
from connector_mcp.sandbox.emulator import Emulator, PlatformError, TokenIssuer, form_fields, json_response
from connector_mcp.sandbox.logto.emails import EmailTemplates
from connector_mcp.sandbox.logto.factories import Factory, factories
from connector_mcp.sandbox.logto.sign_in import PUBLIC, SignInExperience
from connector_mcp.sandbox.logto.sso import SsoConnectors
from connector_mcp.sandbox.logto.wire import (
    FLAG,
    TEXT,
    body_schema,
    error,
    guarded,
    not_found,
    without_empty_values,
    zod_report,
)
from connector_mcp.sandbox.seed import LOGTO_APP_ID, LOGTO_APP_SECRET, LOGTO_RESOURCE
from connector_mcp.sandbox.world import World

CONNECTORS = "logto.connectors"
STORED_TOKENS = "logto.stored_tokens"
"""Third-party tokens of users: `{id, connectorId}` with the instance id they belong to."""
SENT_MESSAGES = "logto.sent_messages"
"""What the test operation delivered: `{id, factoryId, to, locale}`."""

_TOKEN_SECONDS = 3600


_ID: JsonObject = {"type": "string", "minLength": 1, "maxLength": 128}
_LOGOS: JsonObject = {"logo": TEXT, "logoDark": {"anyOf": [TEXT, {"type": "null"}]}}
_CHANGES: JsonObject = {
    "config": {"type": "object"},
    "metadata": body_schema({"target": TEXT, "name": body_schema({"en": TEXT}, "en"), **_LOGOS}),
    "syncProfile": FLAG,
    "enableTokenStorage": FLAG,
}
_CREATE = body_schema({"connectorId": _ID, "id": _ID, **_CHANGES}, "connectorId")
_UPDATE = body_schema(_CHANGES)
_RECIPIENTS: JsonObject = {
    "phone": {"type": "string", "pattern": r"^[0-9]+$"},
    "email": {"type": "string", "pattern": r"^\S+@\S+\.\S+$"},
}
_TEST = body_schema({"config": {"type": "object"}, "locale": TEXT, **_RECIPIENTS}, "config")
_AUTHORIZATION = body_schema({"state": TEXT, "redirectUri": TEXT}, "state", "redirectUri")


class LogtoEmulator(Emulator):
    """The connector, factory and token operations of one self-hosted tenant."""

    def __init__(self, world: World) -> None:
        routes = (
            Route("/api/connectors", self._list, methods=["GET"]),
            Route("/api/connectors", self._create, methods=["POST"]),
            Route("/api/connectors/{id}", self._get, methods=["GET"]),
            Route("/api/connectors/{id}", self._update, methods=["PATCH"]),
            Route("/api/connectors/{id}", self._delete, methods=["DELETE"]),
            Route("/api/connectors/{id}/test", self._test, methods=["POST"]),
            Route("/api/connectors/{id}/authorization-uri", self._authorization_uri, methods=["POST"]),
            Route("/api/connector-factories", self._list_factories, methods=["GET"]),
            Route("/api/connector-factories/{id}", self._get_factory, methods=["GET"]),
        )
        self._sign_in = SignInExperience(world, self._shown_connectors)
        parts = (self._sign_in, SsoConnectors(world), EmailTemplates(world))
        super().__init__(world, [*routes, *(route for part in parts for route in part.routes)])
        self.tokens = TokenIssuer(world)

    async def respond_outside_api(self, request: Request) -> Response | None:
        is_token = (request.method, request.scope["path"]) == ("POST", "/oidc/token")
        return await self._token(request) if is_token else None

    def authorize(self, request: Request) -> None:
        if request.scope["path"] == PUBLIC:
            return
        header = request.headers.get("authorization", "")
        if not header:
            raise error(401, "auth.authorization_header_missing", "Authorization header is missing.")
        scheme, _, token = header.partition(" ")
        if scheme != "Bearer":
            raise error(401, "auth.authorization_token_type_not_supported", "Authorization type is not supported.")
        grant = self.tokens.grant(token)
        if grant is None or grant.audience != LOGTO_RESOURCE:
            raise error(401, "auth.unauthorized", "Unauthorized. Please check credentials and its scope.")
        if grant.scope != "all":
            raise error(403, "auth.forbidden", "Forbidden. Please check your user roles and permissions.")

    def error_response(self, status: int) -> Response:
        if status == 404:
            return json_response({"message": "Not Found"}, status)
        if status >= 500:
            return json_response({"message": "Internal server error."}, status)
        return error(status, "sandbox.injected", "Injected by the sandbox.").response

    async def _token(self, request: Request) -> Response:
        form = await form_fields(request)
        basic = request.headers.get("authorization", "")
        if form.get("grant_type") != "client_credentials":
            return _oauth_error(400, "unsupported_grant_type", "unsupported grant_type requested")
        if basic and "client_secret" in form:
            return _oauth_error(400, "invalid_request", "client authentication must be provided in one way only")
        given = _basic_credentials(basic) if basic else (form.get("client_id"), form.get("client_secret"))
        if given != (LOGTO_APP_ID, LOGTO_APP_SECRET):
            return _oauth_error(401, "invalid_client", "client authentication failed")
        resource = form.get("resource", "")
        if resource not in ("", LOGTO_RESOURCE):
            return _oauth_error(400, "invalid_target", "resource indicator is missing, or unknown")
        scope = "all" if "all" in form.get("scope", "").split() else ""
        token = self.tokens.issue(seconds=_TOKEN_SECONDS, scope=scope, audience=resource)
        granted = {"access_token": token, "expires_in": _TOKEN_SECONDS, "token_type": "Bearer", "scope": scope}
        response = json_response(granted)
        response.headers["cache-control"] = "no-store"
        return response

    async def _list(self, request: Request) -> Response:
        targets = request.query_params.getlist("target")
        if len(targets) > 1:
            report = zod_report({"type": "string"}, targets)
            raise error(400, "guard.invalid_input", "The request query is invalid.", report)
        wanted = targets[0] if targets else ""
        shown = [_view(each) for each in self._world.all(CONNECTORS) if wanted in ("", _target(each))]
        return json_response(shown)

    async def _create(self, request: Request) -> Response:
        body = await guarded(request, _CREATE)
        kind = factories().get(body["connectorId"])
        if kind is None or kind.is_demo:
            raise error(422, "connector.not_found_with_connector_id", "No factory has this id.")
        existing = self._world.all(CONNECTORS)
        if kind.is_standard and not body.get("metadata", {}).get("target"):
            raise error(400, "connector.should_specify_target", "You should specify the target.")
        if kind.type == "Social" and not kind.is_standard and "metadata" in body:
            raise _metadata_error()
        _check_token_storage(kind, body)
        if "config" in body:
            _check_config(kind, body["config"])
        if kind.type == "Social":
            _check_other_social_connectors(kind, body, existing)
        instance: str = body.get("id") or secrets.token_hex(6)
        if any(each["id"] == instance for each in existing):
            return json_response({"message": "Internal server error."}, 500)
        connector: JsonObject = {
            "id": instance,
            "connectorId": kind.id,
            "config": without_empty_values(body.get("config", {})),
            "metadata": without_empty_values(body.get("metadata", {})),
            "syncProfile": body.get("syncProfile", False),
            "enableTokenStorage": body.get("enableTokenStorage", False),
        }
        self._world.put(CONNECTORS, instance, connector)
        if kind.type in ("Email", "Sms"):
            for other in existing:
                if _factory_of(other).type == kind.type:
                    self._world.delete(CONNECTORS, other["id"])
        return json_response(_view(connector))

    async def _get(self, request: Request) -> Response:
        return json_response(_view(self._connector(request)))

    async def _update(self, request: Request) -> Response:
        body = await guarded(request, _UPDATE)
        connector = self._connector(request)
        kind = _factory_of(connector)
        if "metadata" in body:
            if not kind.is_standard:
                raise _metadata_error()
            if body["metadata"].get("target") != connector["metadata"].get("target"):
                raise error(400, "connector.can_not_modify_target", "The connector 'target' cannot be modified.")
        if body.get("syncProfile") and kind.type != "Social":
            code = "connector.invalid_type_for_syncing_profile"
            raise error(422, code, "Only social connectors can sync the user profile.")
        _check_token_storage(kind, body)
        if "config" in body:
            _check_config(kind, body["config"])
        changes = {key: body[key] for key in _CHANGES if key in body}
        if not changes:
            raise error(422, "entity.invalid_input", "Invalid input. Value list must not be empty.")
        for key in ("config", "metadata"):
            if key in changes:
                changes[key] = without_empty_values(changes[key])
        connector |= changes
        self._world.put(CONNECTORS, connector["id"], connector)
        if body.get("enableTokenStorage") is False:
            self._drop_stored_tokens(connector["id"])
        return json_response(_view(connector))

    async def _delete(self, request: Request) -> Response:
        connector = self._world.find(CONNECTORS, request.path_params["id"], not_found())
        self._world.delete(CONNECTORS, connector["id"])
        self._drop_stored_tokens(connector["id"])
        self._sign_in.drop_unknown_targets()
        return Response(status_code=204)

    def _shown_connectors(self) -> list[JsonObject]:
        return list(map(_view, self._world.all(CONNECTORS)))

    def _drop_stored_tokens(self, instance: str) -> None:
        for each in self._world.all(STORED_TOKENS):
            if each["connectorId"] == instance:
                self._world.delete(STORED_TOKENS, each["id"])

    async def _test(self, request: Request) -> Response:
        body = await guarded(request, _TEST)
        recipient = body.get("phone") or body.get("email")
        if not recipient:
            raise error(400, "guard.invalid_input", "The request is invalid.")
        kind = factories().get(request.path_params["id"])
        if kind is None or kind.is_demo or kind.type == "Social":
            raise error(400, "connector.not_found", "Cannot find any available connector for this type.")
        if kind.type != ("Sms" if "phone" in body else "Email"):
            raise error(400, "connector.unexpected_type", "The connector's type is unexpected.")
        _check_config(kind, body["config"])
        if any(text.startswith("invalid-") for text in _texts(body["config"])):
            raise error(401, "connector.authorization_failed", "The provider refused the credentials.")
        sent = secrets.token_hex(6)
        message: JsonObject = {"id": sent, "factoryId": kind.id, "to": recipient, "locale": body.get("locale")}
        self._world.put(SENT_MESSAGES, sent, message)
        return Response(status_code=204)

    async def _authorization_uri(self, request: Request) -> Response:
        body = await guarded(request, _AUTHORIZATION)
        if not body["state"] or not body["redirectUri"]:
            raise error(400, "session.insufficient_info", "Insufficient sign-in info.")
        connector = self._connector(request)
        kind = _factory_of(connector)
        if kind.type != "Social":
            raise error(400, "connector.unexpected_type", "The connector's type is unexpected.")
        if not kind.gives_authorization_uri:
            raise error(501, "connector.not_implemented", "The method is not implemented yet.")
        _check_config(kind, connector["config"])
        query = {
            "client_id": connector["config"].get("clientId", kind.id),
            "redirect_uri": body["redirectUri"],
            "response_type": "code",
            "state": body["state"],
            "scope": connector["config"].get("scope", "openid"),
        }
        return json_response({"redirectTo": f"{kind.authorization_endpoint}?{urlencode(query, errors='replace')}"})

    async def _list_factories(self, _request: Request) -> Response:
        return json_response([each.view for each in factories().values()])

    async def _get_factory(self, request: Request) -> Response:
        kind = factories().get(request.path_params["id"])
        if kind is None:
            raise not_found()
        return json_response(kind.view)

    def _connector(self, request: Request) -> JsonObject:
        connector = self._world.find(CONNECTORS, request.path_params["id"], not_found())
        if _factory_of(connector).is_demo:
            raise error(400, "connector.not_found", "Cannot find any available connector for this type.")
        return connector


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for part in value.values() if is_object(value) else items(value):
        yield from _texts(part)


def _factory_of(connector: JsonObject) -> Factory:
    found = factories().get(connector["connectorId"])
    if found is None:
        raise error(500, "entity.not_found", "The factory of a stored connector is gone.")
    return found


def _target(connector: JsonObject) -> str:
    # A demo connector occupies the target of the provider that it demonstrates.
    demonstrated = connector["config"].get("provider") if _factory_of(connector).is_demo else None
    return connector["metadata"].get("target") or demonstrated or _factory_of(connector).target


def _view(connector: JsonObject) -> JsonObject:
    kind = _factory_of(connector)
    hidden: JsonObject = {"config": {}} if kind.is_demo else {}
    return {**kind.view, **connector["metadata"], **connector, **hidden, "target": _target(connector), "extraInfo": {}}


def _check_config(kind: Factory, config: JsonObject) -> None:
    report = zod_report(kind.guard, config)
    if report is not None:
        raise error(400, "connector.invalid_config", "The connector's config is invalid.", report)


def _check_token_storage(kind: Factory, body: JsonObject) -> None:
    if body.get("enableTokenStorage") and not kind.stores_tokens:
        code = "connector.token_storage_not_supported"
        raise error(422, code, "Token storage is not supported by the given connector.")


def _check_other_social_connectors(kind: Factory, body: JsonObject, existing: list[JsonObject]) -> None:
    if not kind.is_standard and any(each["connectorId"] == kind.id for each in existing):
        code = "connector.multiple_instances_not_supported"
        raise error(422, code, "Only one connector of this factory can exist.")
    target = body.get("metadata", {}).get("target") or kind.target
    for each in existing:
        other = _factory_of(each)
        if other.type == "Social" and (_target(each), other.platform) == (target, kind.platform):
            code = "connector.multiple_target_with_same_platform"
            raise error(422, code, "Another social connector has this target on this platform.")


def _basic_credentials(header: str) -> tuple[str, str]:
    encoded = re.sub(r"^basic +", "", header, flags=re.IGNORECASE)
    try:
        name, _, secret = base64.b64decode(encoded).decode().partition(":")
    except ValueError:
        return "", ""
    return unquote_plus(name), unquote_plus(secret)


def _metadata_error() -> PlatformError:
    code = "connector.cannot_overwrite_metadata_for_non_standard_connector"
    return error(400, code, "This connector's metadata cannot be overwritten.")


def _oauth_error(status: int, error: str, description: str) -> Response:
    return json_response({"error": error, "error_description": description}, status)
