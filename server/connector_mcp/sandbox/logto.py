"""Logto, emulated: connectors, their factories and the token endpoint (facts: sections 2 to 6).

Its traps are real here: secrets come back in clear text, PATCH replaces config and metadata whole, empty values vanish
before anything is stored, creating an Email or Sms connector deletes every other one of that type, and lists carry
guides and logos of many kilobytes.
"""

from __future__ import annotations

import base64
import re
import secrets
from typing import Any
from urllib.parse import unquote_plus, urlencode

from connector_mcp.json_values import JsonObject, is_array, is_object
from connector_mcp.sandbox.clock import Clock
from connector_mcp.sandbox.logto_factories import Factory, factories, factory
from connector_mcp.sandbox.seed import LOGTO_APP_ID, LOGTO_APP_SECRET, LOGTO_RESOURCE
from connector_mcp.sandbox.tokens import TokenDesk
from connector_mcp.sandbox.wire import Answer, Call, RefusalError, Route, Routes, json_answer
from connector_mcp.sandbox.world import World
from connector_mcp.sandbox.zod import zod_details, zod_report

CONNECTORS = "logto.connectors"
STORED_TOKENS = "logto.stored_tokens"
"""Third-party tokens of users: `{id, connectorId}` with the instance id they belong to."""
SENT_MESSAGES = "logto.sent_messages"
"""What the test operation delivered: `{id, factoryId, to, locale}`."""

_TOKEN_SECONDS = 3600
_PLAIN = {"type": "boolean"}
_METADATA: JsonObject = {
    "type": "object",
    "properties": {
        "target": {"type": "string"},
        "name": {"type": "object", "properties": {"en": {"type": "string"}}, "required": ["en"]},
        "logo": {"type": "string"},
        "logoDark": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
}
_CHANGES: JsonObject = {
    "config": {"type": "object"},
    "metadata": _METADATA,
    "syncProfile": _PLAIN,
    "enableTokenStorage": _PLAIN,
}
_ID: JsonObject = {"type": "string", "minLength": 1, "maxLength": 128}
_CREATE: JsonObject = {
    "type": "object",
    "properties": {"connectorId": _ID, "id": _ID, **_CHANGES},
    "required": ["connectorId"],
}
_UPDATE: JsonObject = {"type": "object", "properties": _CHANGES}
_TEST: JsonObject = {
    "type": "object",
    "properties": {
        "config": {"type": "object"},
        "phone": {"type": "string", "pattern": r"^[0-9]+$"},
        "email": {"type": "string", "pattern": r"^\S+@\S+\.\S+$"},
        "locale": {"type": "string"},
    },
    "required": ["config"],
}
_AUTHORIZATION: JsonObject = {
    "type": "object",
    "properties": {"state": {"type": "string"}, "redirectUri": {"type": "string"}},
    "required": ["state", "redirectUri"],
}


class LogtoEmulator:
    """Answers the connector, factory and token operations of one self-hosted tenant."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self.tokens = TokenDesk(clock)
        self._routes = Routes(
            (
                Route("GET", "/api/connectors", self._list),
                Route("POST", "/api/connectors", self._create),
                Route("GET", "/api/connectors/{id}", self._get),
                Route("PATCH", "/api/connectors/{id}", self._update),
                Route("DELETE", "/api/connectors/{id}", self._delete),
                Route("POST", "/api/connectors/{id}/test", self._test),
                Route("POST", "/api/connectors/{id}/authorization-uri", self._authorization_uri),
                Route("GET", "/api/connector-factories", self._list_factories),
                Route("GET", "/api/connector-factories/{id}", self._get_factory),
            )
        )

    def handle(self, call: Call) -> Answer:
        if (call.method, call.path) == ("POST", "/oidc/token"):
            return self._token(call)
        try:
            self._authorise(call)
            found = self._routes.find(call)
            if found is None:
                return json_answer({"message": "Not Found"}, 404)
            handler, call = found
            with self._world.transaction():
                return handler(call)
        except RefusalError as refusal:
            return refusal.answer

    def failure(self, status: int) -> Answer:
        if status >= 500:
            return json_answer({"message": "Internal server error."}, status)
        return _refuse(status, "sandbox.injected", "Injected by the sandbox.").answer

    def _token(self, call: Call) -> Answer:
        form = call.form()
        basic = call.header("authorization")
        if form.get("grant_type") != "client_credentials":
            return _oauth_error(400, "unsupported_grant_type", "unsupported grant_type requested")
        if basic and "client_secret" in form:
            return _oauth_error(400, "invalid_request", "client authentication must be provided in one way only")
        if (_basic_credentials(basic) if basic else (form.get("client_id"), form.get("client_secret"))) != (
            LOGTO_APP_ID,
            LOGTO_APP_SECRET,
        ):
            return _oauth_error(401, "invalid_client", "client authentication failed")
        resource = form.get("resource", "")
        if resource not in ("", LOGTO_RESOURCE):
            return _oauth_error(400, "invalid_target", "resource indicator is missing, or unknown")
        scope = "all" if "all" in form.get("scope", "").split() else ""
        token = self.tokens.issue(seconds=_TOKEN_SECONDS, scope=scope, audience=resource)
        answer = {"access_token": token, "expires_in": _TOKEN_SECONDS, "token_type": "Bearer", "scope": scope}
        return json_answer(answer, headers={"cache-control": "no-store"})

    def _authorise(self, call: Call) -> None:
        header = call.header("authorization")
        if not header:
            raise _refuse(401, "auth.authorization_header_missing", "Authorization header is missing.")
        scheme, _, token = header.partition(" ")
        if scheme != "Bearer":
            raise _refuse(401, "auth.authorization_token_type_not_supported", "Authorization type is not supported.")
        grant = self.tokens.grant(token)
        if grant is None or grant.audience != LOGTO_RESOURCE:
            raise _refuse(401, "auth.unauthorized", "Unauthorized. Please check credentials and its scope.")
        if grant.scope != "all":
            raise _refuse(403, "auth.forbidden", "Forbidden. Please check your user roles and permissions.")

    def _list(self, call: Call) -> Answer:
        targets = call.query_values("target")
        if len(targets) > 1:
            report = zod_report({"type": "string"}, targets)
            raise _refuse(400, "guard.invalid_input", "The request query is invalid.", report)
        wanted = targets[0] if targets else ""
        shown = [_view(each) for each in self._world.all(CONNECTORS) if wanted in ("", _target(each))]
        return json_answer(shown)

    def _create(self, call: Call) -> Answer:
        body = _guarded(call, _CREATE)
        kind = factory(body["connectorId"])
        if kind is None or kind.is_demo:
            raise _refuse(422, "connector.not_found_with_connector_id", "No factory has this id.")
        existing = self._world.all(CONNECTORS)
        if kind.is_standard and not body.get("metadata", {}).get("target"):
            raise _refuse(400, "connector.should_specify_target", "You should specify the target.")
        if kind.type == "Social" and not kind.is_standard and "metadata" in body:
            raise _metadata_refused()
        _check_token_storage(kind, body)
        if "config" in body:
            _check_config(kind, body["config"])
        if kind.type == "Social":
            _check_social_neighbours(kind, body, existing)
        instance: str = body.get("id") or secrets.token_hex(6)
        if any(each["id"] == instance for each in existing):
            return json_answer({"message": "Internal server error."}, 500)
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
        return json_answer(_view(connector))

    def _get(self, call: Call) -> Answer:
        return json_answer(_view(self._connector(call)))

    def _update(self, call: Call) -> Answer:
        body = _guarded(call, _UPDATE)
        connector = self._connector(call)
        kind = _factory_of(connector)
        if "metadata" in body:
            if not kind.is_standard:
                raise _metadata_refused()
            if body["metadata"].get("target") != connector["metadata"].get("target"):
                raise _refuse(400, "connector.can_not_modify_target", "The connector 'target' cannot be modified.")
        if body.get("syncProfile") and kind.type != "Social":
            raise _refuse(
                422, "connector.invalid_type_for_syncing_profile", "Only social connectors can sync the user profile."
            )
        _check_token_storage(kind, body)
        if "config" in body:
            _check_config(kind, body["config"])
        changes = {key: body[key] for key in _CHANGES if key in body}
        if not changes:
            raise _refuse(422, "entity.invalid_input", "Invalid input. Value list must not be empty.")
        for key in ("config", "metadata"):
            if key in changes:
                changes[key] = without_empty_values(changes[key])
        connector |= changes
        self._world.put(CONNECTORS, connector["id"], connector)
        if body.get("enableTokenStorage") is False:
            self._drop_stored_tokens(connector["id"])
        return json_answer(_view(connector))

    def _delete(self, call: Call) -> Answer:
        connector = self._world.get(CONNECTORS, call.parameters["id"])
        if connector is None:
            raise _not_found()
        self._world.delete(CONNECTORS, connector["id"])
        self._drop_stored_tokens(connector["id"])
        return Answer(204)

    def _drop_stored_tokens(self, instance: str) -> None:
        for each in self._world.all(STORED_TOKENS):
            if each["connectorId"] == instance:
                self._world.delete(STORED_TOKENS, each["id"])

    def _test(self, call: Call) -> Answer:
        body = _guarded(call, _TEST)
        recipient = body.get("phone") or body.get("email")
        if not recipient:
            raise _refuse(400, "guard.invalid_input", "The request is invalid.")
        kind = factory(call.parameters["id"])
        if kind is None or kind.is_demo or kind.type == "Social":
            raise _refuse(400, "connector.not_found", "Cannot find any available connector for this type.")
        if kind.type != ("Sms" if "phone" in body else "Email"):
            raise _refuse(400, "connector.unexpected_type", "The connector's type is unexpected.")
        _check_config(kind, body["config"])
        message: JsonObject = {
            "id": secrets.token_hex(6),
            "factoryId": kind.id,
            "to": recipient,
            "locale": body.get("locale"),
        }
        self._world.put(SENT_MESSAGES, message["id"], message)
        return Answer(204)

    def _authorization_uri(self, call: Call) -> Answer:
        body = _guarded(call, _AUTHORIZATION)
        if not body["state"] or not body["redirectUri"]:
            raise _refuse(400, "session.insufficient_info", "Insufficient sign-in info.")
        connector = self._connector(call)
        kind = _factory_of(connector)
        if kind.type != "Social":
            raise _refuse(400, "connector.unexpected_type", "The connector's type is unexpected.")
        if not kind.gives_authorization_uri:
            raise _refuse(501, "connector.not_implemented", "The method is not implemented yet.")
        _check_config(kind, connector["config"])
        query = {
            "client_id": connector["config"].get("clientId", kind.id),
            "redirect_uri": body["redirectUri"],
            "response_type": "code",
            "state": body["state"],
            "scope": connector["config"].get("scope", "openid"),
        }
        return json_answer({"redirectTo": f"{kind.authorization_endpoint}?{urlencode(query, errors='replace')}"})

    def _list_factories(self, _call: Call) -> Answer:
        return json_answer([each.view for each in factories()])

    def _get_factory(self, call: Call) -> Answer:
        kind = factory(call.parameters["id"])
        if kind is None:
            raise _not_found()
        return json_answer(kind.view)

    def _connector(self, call: Call) -> JsonObject:
        connector = self._world.get(CONNECTORS, call.parameters["id"])
        if connector is None:
            raise _not_found()
        if _factory_of(connector).is_demo:
            raise _refuse(400, "connector.not_found", "Cannot find any available connector for this type.")
        return connector


def without_empty_values(value: Any) -> Any:
    """The value without members that are `""`, null, `[]` or `{}`, at any depth, as the server stores it."""
    if is_object(value):
        cleaned = {key: without_empty_values(member) for key, member in value.items()}
        return {key: member for key, member in cleaned.items() if not _is_empty(member)}
    if is_array(value):
        return [member for member in (without_empty_values(each) for each in value) if not _is_empty(member)]
    return value


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _factory_of(connector: JsonObject) -> Factory:
    found = factory(connector["connectorId"])
    if found is None:
        raise _refuse(500, "entity.not_found", "The factory of a stored connector is gone.")
    return found


def _target(connector: JsonObject) -> str:
    return connector["metadata"].get("target") or _factory_of(connector).target


def _view(connector: JsonObject) -> JsonObject:
    kind = _factory_of(connector)
    return {
        **kind.view,
        **connector["metadata"],
        **connector,
        "target": _target(connector),
        "extraInfo": {},
    }


def _check_config(kind: Factory, config: JsonObject) -> None:
    report = zod_report(kind.guard, config)
    if report is not None:
        raise _refuse(400, "connector.invalid_config", "The connector's config is invalid.", report)


def _check_token_storage(kind: Factory, body: JsonObject) -> None:
    if body.get("enableTokenStorage") and not kind.stores_tokens:
        raise _refuse(
            422, "connector.token_storage_not_supported", "Token storage is not supported by the given connector."
        )


def _check_social_neighbours(kind: Factory, body: JsonObject, existing: list[JsonObject]) -> None:
    if not kind.is_standard and any(each["connectorId"] == kind.id for each in existing):
        raise _refuse(
            422,
            "connector.multiple_instances_not_supported",
            "Only one connector of this factory can exist.",
        )
    target = body.get("metadata", {}).get("target") or kind.target
    for each in existing:
        other = _factory_of(each)
        if other.type == "Social" and (_target(each), other.platform) == (target, kind.platform):
            raise _refuse(
                422,
                "connector.multiple_target_with_same_platform",
                "Another social connector has this target on this platform.",
            )


def _guarded(call: Call, schema: JsonObject) -> JsonObject:
    """The body when it fits the schema; malformed JSON and misfits are answered as the server does."""
    try:
        body: Any = call.json()
    except ValueError as error:
        raise RefusalError(json_answer({"message": "The request body is not valid JSON."}, 400)) from error
    if body is None:
        body = JsonObject()
    report = zod_report(schema, body)
    if report is not None or not is_object(body):
        raise _refuse(400, "guard.invalid_input", "The request body is invalid.", report)
    return body


def _basic_credentials(header: str) -> tuple[str, str]:
    encoded = re.sub(r"^basic +", "", header, flags=re.IGNORECASE)
    try:
        name, _, secret = base64.b64decode(encoded).decode().partition(":")
    except ValueError:
        return "", ""
    return unquote_plus(name), unquote_plus(secret)


def _not_found() -> RefusalError:
    return _refuse(404, "entity.not_found", "The resource does not exist.")


def _metadata_refused() -> RefusalError:
    code = "connector.cannot_overwrite_metadata_for_non_standard_connector"
    return _refuse(400, code, "This connector's metadata cannot be overwritten.")


def _oauth_error(status: int, error: str, description: str) -> Answer:
    return json_answer({"error": error, "error_description": description}, status)


def _refuse(status: int, code: str, message: str, report: JsonObject | None = None) -> RefusalError:
    body: JsonObject = {"code": code, "message": message}
    if report is not None:
        body |= {"data": report, "details": zod_details(report)}
    return RefusalError(json_answer(body, status))
