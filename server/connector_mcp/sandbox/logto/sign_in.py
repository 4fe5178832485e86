"""Logto's sign-in experience, emulated (facts, continued: sections 2 and 3).

It reproduces the platform's traps: PATCH replaces each property whole, unknown targets vanish silently, and the public
page may lag: the first read after a change still shows what was before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.json_values import JsonObject
from connector_mcp.sandbox.emulator import PlatformError, json_response
from connector_mcp.sandbox.logto.sso import SSO_CONNECTORS, is_offered
from connector_mcp.sandbox.logto.wire import FLAG, TEXT, body_schema, error, guarded
from connector_mcp.sandbox.world import World

SIGN_IN_EXP = "logto.sign_in_exp"
PUBLIC = "/api/.well-known/sign-in-exp"
_DEFAULT, _BEFORE = "default", "before"
"""Ids of the sign-in experience, and of the one that the page shows once more after a change."""

_IDENTIFIER: JsonObject = {"enum": ["username", "email", "phone"]}
_NEEDED = {"email": ("Email",), "phone": ("Sms",), "emailOrPhone": ("Email", "Sms")}
_METHOD = body_schema(
    {"identifier": _IDENTIFIER, "password": FLAG, "verificationCode": FLAG, "isPasswordPrimary": FLAG},
    "identifier", "password", "verificationCode", "isPasswordPrimary",
)  # fmt: skip
_SECONDARY = body_schema({"identifier": {"enum": ["username", *_NEEDED]}, "verify": FLAG}, "identifier")
_RESETS = {"EmailVerificationCode": "Email", "PhoneVerificationCode": "Sms"}
_PROPERTIES: JsonObject = {
    "socialSignInConnectorTargets": {"type": "array", "items": TEXT},
    "socialSignIn": body_schema({"automaticAccountLinking": FLAG, "skipRequiredIdentifiers": FLAG}),
    "signInMode": {"enum": ["SignIn", "Register", "SignInAndRegister"]},
    "signUp": body_schema(
        {
            "identifiers": {"type": "array", "items": _IDENTIFIER},
            "password": FLAG,
            "verify": FLAG,
            "secondaryIdentifiers": {"type": "array", "items": _SECONDARY},
        },
        "identifiers", "password", "verify",
    ),
    "signIn": body_schema({"methods": {"type": "array", "items": _METHOD}}, "methods"),
    "forgotPasswordMethods": {"anyOf": [{"type": "array", "items": {"enum": [*_RESETS]}}, {"type": "null"}]},
    "verificationCodePolicy": body_schema(
        {
            "expirationDuration": {"type": "integer", "minimum": 60, "maximum": 3600},
            "maxRetryAttempts": {"type": "integer", "minimum": 1, "maximum": 100},
        }
    ),
    "passwordExpiration": body_schema({"enabled": FLAG}),
    "singleSignOnEnabled": FLAG,
    "languageInfo": body_schema({"autoDetect": FLAG, "fallbackLanguage": TEXT}, "autoDetect", "fallbackLanguage"),
}  # fmt: skip
_UPDATE = body_schema(_PROPERTIES)


class SignInExperience:
    """The sign-in experience of the tenant, and the page that shows it. `connectors` lists the connectors in full."""

    def __init__(self, world: World, connectors: Callable[[], list[JsonObject]]) -> None:
        self._world = world
        self._connectors = connectors
        self.routes = (
            Route("/api/sign-in-exp", self._get, methods=["GET"]),
            Route("/api/sign-in-exp", self._update, methods=["PATCH"]),
            Route(PUBLIC, self._show_page, methods=["GET"]),
        )

    def drop_unknown_targets(self) -> None:
        """Take the targets of deleted connectors out of the list."""
        stored = self._stored()
        kept = self._known(stored["socialSignInConnectorTargets"])
        if kept != stored["socialSignInConnectorTargets"]:
            self._world.put(SIGN_IN_EXP, _DEFAULT, stored | {"socialSignInConnectorTargets": kept})

    async def _show_page(self, _request: Request) -> Response:
        """What anyone may load without a token."""
        before = self._world.get(SIGN_IN_EXP, _BEFORE)
        if before is not None:
            self._world.delete(SIGN_IN_EXP, _BEFORE)
        shown = before or self._stored()
        shown["id"] = _DEFAULT
        targets, types = shown["socialSignInConnectorTargets"], self._types()
        resets = shown.pop("forgotPasswordMethods")
        social = [
            {key: each[key] for key in ("id", "target", "platform", "name", "logo", "logoDark")}
            for target in targets
            for each in self._connectors()
            if each["type"] == "Social" and each["target"] == target
        ]
        offered = [
            each for each in self._world.all(SSO_CONNECTORS) if shown["singleSignOnEnabled"] and is_offered(each)
        ]
        sso = [
            {"id": each["id"], "connectorName": each["branding"].get("displayName") or each["providerName"], "logo": ""}
            for each in offered
        ]
        usable = {kind for method, kind in _RESETS.items() if kind in types and (resets is None or method in resets)}
        recovery = {"email": "Email" in usable, "phone": "Sms" in usable}
        page = {"socialConnectors": social, "ssoConnectors": sso, "forgotPassword": recovery}
        return json_response(shown | page | {"isDevelopmentTenant": False})

    async def _get(self, _request: Request) -> Response:
        return json_response(self._stored())

    async def _update(self, request: Request) -> Response:
        body = await guarded(request, _UPDATE)
        stored, types = self._stored(), self._types()
        changes = {key: body[key] for key in _PROPERTIES if key in body}
        if "socialSignInConnectorTargets" in changes:
            changes["socialSignInConnectorTargets"] = self._known(changes["socialSignInConnectorTargets"])
        sign_up = changes.get("signUp", stored["signUp"])
        for refusal in (
            *(_sign_up_errors(sign_up, types) if "signUp" in changes else ()),
            *(_sign_in_errors(changes["signIn"]["methods"], sign_up, types) if "signIn" in changes else ()),
            *_other_errors(changes, types),
        ):
            raise refusal
        self._world.put(SIGN_IN_EXP, _BEFORE, stored | {"id": _BEFORE})
        self._world.put(SIGN_IN_EXP, _DEFAULT, stored | changes)
        return json_response(stored | changes)

    def _stored(self) -> JsonObject:
        return self._world.find(SIGN_IN_EXP, _DEFAULT, error(404, "entity.not_found", "The resource does not exist."))

    def _types(self) -> set[str]:
        return {each["type"] for each in self._connectors()}

    def _known(self, targets: Sequence[str]) -> list[str]:
        social = {each["target"] for each in self._connectors() if each["type"] == "Social"}
        return [target for target in targets if target in social]


def _refusal(name: str, message: str, status: int = 400) -> PlatformError:
    return error(status, f"sign_in_experiences.{name}", message)


def _missing_connectors(names: Sequence[str], types: set[str]) -> Iterator[PlatformError]:
    for kind in (kind for name in names for kind in _NEEDED.get(name, ()) if kind not in types):
        yield _refusal("enabled_connector_not_found", f"Enabled {kind} connector not found.")


def _sign_up_errors(sign_up: JsonObject, types: set[str]) -> Iterator[PlatformError]:
    first, second = sign_up["identifiers"], sign_up.get("secondaryIdentifiers", [])
    names = [*first, *(each["identifier"] for each in second)]
    yield from _missing_connectors(names, types)
    unverified = [each for each in second if each["identifier"] != "username" and not each.get("verify")]
    if unverified or (not sign_up["verify"] and any(each != "username" for each in first)):
        yield _refusal("passwordless_requires_verify", "Verification is required for passwordless identifiers.")
    if second and not first:
        yield _refusal("missing_sign_up_identifiers", "The primary sign-up identifiers are missing.")
    if len(set(names)) < len(names) or ("emailOrPhone" in names and {"email", "phone"} & set(names)):
        yield _refusal("duplicated_sign_up_identifiers", "An identifier is there twice.")


def _sign_in_errors(methods: list[Any], sign_up: JsonObject, types: set[str]) -> Iterator[PlatformError]:
    yield from _missing_connectors([each["identifier"] for each in methods if each["verificationCode"]], types)
    for each in methods:
        if not each["password"] and not each["verificationCode"]:
            yield _refusal("at_least_one_authentication_factor", "Select at least one authentication factor.")
        needs_code = sign_up["verify"] and not sign_up["password"] and each["identifier"] != "username"
        if needs_code and not each["verificationCode"]:
            yield _refusal("code_sign_in_must_be_enabled", "Verification code sign-in must be enabled.")


def _other_errors(changes: JsonObject, types: set[str]) -> Iterator[PlatformError]:
    if any(_RESETS[method] not in types for method in changes.get("forgotPasswordMethods") or ()):
        yield _refusal("forgot_password_method_requires_connector", "The method requires a connector.")
    expiry = changes.get("passwordExpiration", {})
    days = expiry.get("validPeriodDays")
    if expiry.get("enabled") and (not isinstance(days, int) or days < 1):
        yield _refusal("password_expiration_invalid_period_days", "The period must be at least one day.", 422)
