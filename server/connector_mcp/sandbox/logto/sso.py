"""Logto's enterprise SSO connectors and their signing keys, emulated (facts, continued: sections 2 and 3).

It reproduces the platform's traps: secrets come back twice, config and domains are replaced whole, the first form of a
SAML config wins, and an identity provider that is down shows as a missing `providerConfig`. A host that begins with
`invalid-` cannot be reached, and one that begins with `expired-` has a certificate that is not valid any more.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.json_values import JsonObject
from connector_mcp.operations.connector_types import ConnectorType, connector_types
from connector_mcp.operations.logto.sso_connectors import PUBLIC_DOMAINS
from connector_mcp.sandbox.emulator import PlatformError, json_response, page_size
from connector_mcp.sandbox.logto.wire import FLAG, TEXT, body_schema, error, guarded, not_found, zod_report
from connector_mcp.sandbox.world import World

SSO_CONNECTORS = "logto.sso_connectors"
SIGNING_KEYS = "logto.sso_signing_keys"
UNREACHABLE = "logto.unreachable"
"""Hosts of identity providers that are down, by id."""

_ENDPOINT = "https://auth.acme.example"
_NAME: JsonObject = {"type": "string", "minLength": 1, "maxLength": 128}
_CHANGES: JsonObject = {
    "connectorName": _NAME,
    "config": {"type": "object"},
    "domains": {"type": "array", "items": TEXT},
    "branding": body_schema({"displayName": TEXT, "logo": TEXT, "darkLogo": TEXT}),
    "syncProfile": FLAG,
    "enableTokenStorage": FLAG,
}
_CREATE = body_schema({"providerName": _NAME, **_CHANGES}, "providerName", "connectorName")
_UPDATE = body_schema(_CHANGES)
_LOGO = "data:image/svg+xml;base64," + "PHN2Zy8+" * 64
_KEY_YEARS = timedelta(days=3 * 365)
_ONLY_GOOGLE = "https://accounts.google.com"


def providers() -> dict[str, ConnectorType]:
    """The kinds of identity providers."""
    return {key: each for key, each in connector_types("logto").items() if each.traits.get("isEnterprise")}


def is_offered(connector: JsonObject) -> bool:
    """Whether the connector has what it needs to be offered while single sign-on is on."""
    return bool(connector["domains"] and connector["config"])


class SsoConnectors:
    """The operations on SSO connectors, their providers and signing keys."""

    def __init__(self, world: World) -> None:
        self._world = world
        one, keys = "/api/sso-connectors/{id}", "/api/sso-connectors/{id}/signing-keys"
        self.routes = (
            Route("/api/sso-connector-providers", self._list_providers, methods=["GET"]),
            Route("/api/sso-connectors", self._list, methods=["GET"]),
            Route("/api/sso-connectors", self._create, methods=["POST"]),
            Route(one, self._get, methods=["GET"]),
            Route(one, self._update, methods=["PATCH"]),
            Route(one, self._delete, methods=["DELETE"]),
            Route(keys, self._list_keys, methods=["GET"]),
            Route(keys, self._create_key, methods=["POST"]),
            Route(f"{keys}/{{key}}", self._update_key, methods=["PATCH"]),
        )

    async def _list_providers(self, _request: Request) -> Response:
        shown = [
            {"providerName": key, "providerType": each.traits["providerType"], "name": each.name}
            | {"description": each.notes[0], "logo": _LOGO, "logoDark": _LOGO}
            for key, each in providers().items()
        ]
        return json_response(shown)

    async def _list(self, request: Request) -> Response:
        shown, query = [self._view(each) for each in self._world.all(SSO_CONNECTORS)], request.query_params
        if "page" not in query and "page_size" not in query:
            return json_response(shown)
        invalid = error(400, "guard.invalid_pagination", "The pagination is invalid.")
        size = page_size(query.get("page_size"), 20, 100, invalid)
        page = page_size(query.get("page"), 1, 10_000, invalid)
        response = json_response(shown[(page - 1) * size : page * size])
        response.headers["total-number"] = str(len(shown))
        return response

    async def _create(self, request: Request) -> Response:
        body = await guarded(request, _CREATE)
        kind = providers().get(body["providerName"])
        if kind is None:
            raise error(422, "connector.not_found", "Cannot find any available connector for this provider.")
        connector: JsonObject = {
            "tenantId": "default",
            "id": secrets.token_hex(6),
            "providerName": kind.type,
            "connectorName": body["connectorName"],
            "config": {},
            "domains": [],
            "branding": {},
            "syncProfile": False,
            "enableTokenStorage": False,
            "createdAt": int(self._world.now().timestamp() * 1000),
        }
        connector |= self._checked(connector, kind, {key: body[key] for key in _CHANGES if key in body})
        self._world.put(SSO_CONNECTORS, connector["id"], connector)
        return json_response(connector)

    async def _get(self, request: Request) -> Response:
        return json_response(self._view(self._connector(request)))

    async def _update(self, request: Request) -> Response:
        body = await guarded(request, _UPDATE)
        connector = self._connector(request)
        kind = providers()[connector["providerName"]]
        connector |= self._checked(connector, kind, {key: body[key] for key in _CHANGES if key in body})
        self._world.put(SSO_CONNECTORS, connector["id"], connector)
        return json_response(self._view(connector))

    async def _delete(self, request: Request) -> Response:
        connector = self._connector(request)
        self._world.delete(SSO_CONNECTORS, connector["id"])
        for key in self._keys(connector["id"]):
            self._world.delete(SIGNING_KEYS, key["id"])
        return Response(status_code=204)

    def _checked(self, connector: JsonObject, kind: ConnectorType, changes: JsonObject) -> JsonObject:
        """The changes as they are stored, once all of the server's checks are passed."""
        others = [each for each in self._world.all(SSO_CONNECTORS) if each["id"] != connector["id"]]
        if any(each["connectorName"] == changes.get("connectorName") for each in others):
            raise error(409, "single_sign_on.duplicate_connector_name", "The connector name is in use.")
        if "domains" in changes:
            changes["domains"] = _checked_domains(changes["domains"])
        if changes.get("enableTokenStorage") and not kind.traits["isTokenStorageSupported"]:
            raise error(400, "connector.token_storage_not_supported", "Token storage is not supported.")
        if "config" in changes:
            changes["config"] = config = _checked_config(kind, changes["config"])
            if self._fetch(kind, connector, config) is None:
                data = {"ssoErrorCode": "invalid_metadata", "message": "fail_to_fetch_config"}
                raise error(400, "connector.invalid_config", "The configuration cannot be fetched.", data=data)
            active = any(key["active"] for key in self._keys(connector["id"]))
            if config.get("signAuthnRequest") and not active:
                code = "single_sign_on.active_signing_key_required"
                raise error(400, code, "An active signing key is required.")
        return changes

    def _view(self, connector: JsonObject) -> JsonObject:
        kind = providers()[connector["providerName"]]
        shown = connector | {"name": kind.name, "providerType": kind.traits["providerType"]}
        shown |= {"providerLogo": _LOGO, "providerLogoDark": _LOGO}
        config = connector["config"]
        fetched = self._fetch(kind, connector, config) if config else None
        if kind.traits["providerType"] == "oidc":
            return shown if fetched is None else shown | {"providerConfig": fetched}
        provided: JsonObject = {
            "defaultAttributeMapping": {"id": "nameID", "email": "email", "name": "name"},
            "serviceProvider": {
                "entityId": f"{_ENDPOINT}/enterprise-sso/{connector['id']}",
                "assertionConsumerServiceUrl": f"{_ENDPOINT}/api/authn/single-sign-on/saml/{connector['id']}",
            },
        }
        return shown | {"providerConfig": provided | ({} if fetched is None else {"identityProvider": fetched})}

    def _fetch(self, kind: ConnectorType, connector: JsonObject, config: JsonObject) -> JsonObject | None:
        """What the server reads of the identity provider; None if that cannot be reached."""
        address = config.get("issuer") or config.get("metadataUrl") or config.get("entityId") or _ONLY_GOOGLE
        host = urlsplit(str(address)).hostname or ""
        if "metadata" not in config and (host.startswith("invalid-") or self._world.get(UNREACHABLE, host) or not host):
            return None
        if kind.traits["providerType"] == "oidc":
            paths = {"authorizationEndpoint": "authorize", "tokenEndpoint": "token", "userinfoEndpoint": "userinfo"}
            found = {key: f"{address}/{path}" for key, path in (paths | {"jwksUri": "jwks"}).items()}
            own = {key: config[key] for key in ("clientId", "clientSecret")}
            return {**found, "issuer": address, **own}
        lasts = timedelta(days=-1 if host.startswith("expired-") else 365)
        expires = connector["createdAt"] + int(lasts.total_seconds() * 1000)
        return {
            "entityId": config.get("entityId", f"https://{host}"),
            "signInEndpoint": config.get("signInEndpoint", f"https://{host}/sso"),
            "x509Certificate": config.get("x509Certificate", "MIIC"),
            "certificateExpiresAt": expires,
            "isCertificateValid": self._world.now().timestamp() * 1000 < expires,
        }

    # Signing keys ------------------------------------------------------------------------------------------------

    async def _list_keys(self, request: Request) -> Response:
        return json_response([_key_view(key) for key in self._keys(self._saml(request)["id"])])

    async def _create_key(self, request: Request) -> Response:
        body = await guarded(request, body_schema({"active": FLAG}))
        connector, now = self._saml(request), self._world.now()
        identifier, digest = secrets.token_hex(6), secrets.token_hex(32).upper()
        formatted = ":".join(digest[each : each + 2] for each in range(0, len(digest), 2))
        key: JsonObject = {
            "id": identifier,
            "connectorId": connector["id"],
            "certificate": f"-----BEGIN CERTIFICATE-----\n{digest}\n-----END CERTIFICATE-----",
            "createdAt": int(now.timestamp() * 1000),
            "expiresAt": int((now + _KEY_YEARS).timestamp() * 1000),
            "active": False,
            "fingerprints": {"sha256": {"formatted": formatted, "unformatted": digest}},
        }
        self._world.put(SIGNING_KEYS, identifier, key)
        if body.get("active"):
            key = self._activate(connector["id"], identifier)
        return json_response(_key_view(key), 201)

    async def _update_key(self, request: Request) -> Response:
        body = await guarded(request, body_schema({"active": FLAG}, "active"))
        connector = self._saml(request)
        key = next((each for each in self._keys(connector["id"]) if each["id"] == request.path_params["key"]), None)
        if key is None:
            raise not_found()
        if body["active"]:
            return json_response(_key_view(self._activate(connector["id"], key["id"])))
        if key["active"] and connector["config"].get("signAuthnRequest"):
            code = "single_sign_on.can_not_deactivate_signing_key_in_use"
            raise error(400, code, "The signing key is in use.")
        key["active"] = False
        self._world.put(SIGNING_KEYS, key["id"], key)
        return json_response(_key_view(key))

    def _activate(self, connector_id: str, key_id: str) -> JsonObject:
        """Make one key active, and all others of the connector inactive."""
        for key in self._keys(connector_id):
            self._world.put(SIGNING_KEYS, key["id"], key | {"active": key["id"] == key_id})
        return next(key for key in self._keys(connector_id) if key["id"] == key_id)

    def _keys(self, connector_id: str) -> list[JsonObject]:
        return [key for key in self._world.all(SIGNING_KEYS) if key["connectorId"] == connector_id]

    def _connector(self, request: Request) -> JsonObject:
        return self._world.find(SSO_CONNECTORS, request.path_params["id"], not_found())

    def _saml(self, request: Request) -> JsonObject:
        connector = self._connector(request)
        if providers()[connector["providerName"]].traits["providerType"] != "saml":
            raise error(404, "connector.not_found", "Only SAML connectors have signing keys.")
        return connector


def _key_view(key: JsonObject) -> JsonObject:
    return {name: value for name, value in key.items() if name != "connectorId"}


def _checked_domains(domains: list[str]) -> list[str]:
    lower = [domain.lower() for domain in domains]
    refused: list[tuple[str, list[str]]] = [
        ("forbidden_domains", [domain for domain in lower if domain in PUBLIC_DOMAINS]),
        ("duplicated_domains", sorted({domain for domain in lower if lower.count(domain) > 1})),
    ]
    for name, found in refused:
        if found:
            raise error(422, f"single_sign_on.{name}", "These domains cannot be used.", data=found)
    return lower


def _checked_config(kind: ConnectorType, config: JsonObject) -> JsonObject:
    """The known members of a config. Of several SAML forms the first one wins."""
    known: JsonObject = kind.config["properties"]
    forms: list[list[str]] = kind.traits.get("forms", [])
    wanted: JsonObject = {"type": "object", "properties": known, "required": kind.config.get("required", [])}
    if forms:
        complete = next((form for form in forms if all(key in config for key in form)), None)
        if complete is None:
            raise _invalid_config({"type": "object", "properties": known, "required": forms[0]}, config)
        dropped = {key for form in forms for key in form} - set(complete)
        config = {key: value for key, value in config.items() if key not in dropped}
    if zod_report(wanted, config) is not None:
        raise _invalid_config(wanted, config)
    return {key: value for key, value in config.items() if key in known}


def _invalid_config(schema: Any, config: JsonObject) -> PlatformError:
    return error(400, "connector.invalid_config", "The connector's config is invalid.", zod_report(schema, config))
