"""Which connectors there are on Logto, and whether one has an effect (facts, continued: sections 3 and 4).

Visibility is what can be known: Logto tries no credentials, so that every verdict says what a sign-in or a test message
would still have to show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from connector_mcp.json_values import JsonObject, is_object, items, members, text
from connector_mcp.operations.logto.connectors import GetConnector, ListConnectors
from connector_mcp.operations.logto.factories import EXCLUSIVE_TYPES, connector_name, factory
from connector_mcp.operations.logto.sign_in import GetSignInExp, GetSignInExperienceConfig
from connector_mcp.operations.logto.sso_connectors import GetSsoConnector, ListSsoConnectors, config_problems, provider
from connector_mcp.operations.operation import at
from connector_mcp.operations.overview import Check, Read, Reads, Row, Status, Verdict, read, required

_CONNECTOR, _SSO = "connector", "SSO connector"
_LATE: Final = "The sign-in page may lag behind: wait a minute, then call check_connector again."
_CHANNELS: Final[Mapping[str, tuple[str, str]]] = {"Email": ("email", "e-mail"), "Sms": ("phone", "SMS")}


def find_connectors() -> Reads[Sequence[Row]]:
    """List the connectors and the SSO connectors, with whether the sign-in experience uses them."""
    sso = ["id", "providerName", "connectorName", "domains", "config", "providerConfig"]
    connectors, sign_ins, experience = yield [
        read(ListConnectors, limit=100),
        read(ListSsoConnectors, limit=100, fields=sso),
        read(GetSignInExp),
    ]
    # Without it, what is shown cannot be known; the connectors can.
    shown = members(experience) if is_object(experience) else None
    return [
        *(_row(each, shown) for each in map(members, items(required(connectors)))),
        *(_sso_row(each, shown) for each in map(members, items(required(sign_ins)))),
    ]


def _row(connector: JsonObject, experience: JsonObject | None) -> Row:
    targets = items(at(experience, "socialSignInConnectorTargets"))
    status: Status = "unknown"
    if connector.get("type") == "Social" and experience is not None:
        status = "ok" if connector.get("target") in targets else "paused"
    name, kind = connector_name(connector), text(connector.get("connectorId")) or ""
    return Row(_CONNECTOR, text(connector.get("id")) or "", name, kind, status)


def _sso_row(connector: JsonObject, experience: JsonObject | None) -> Row:
    fault = _config_fault(connector)
    status: Status = "unknown"
    if not connector.get("config") or not connector.get("domains"):
        status = "pending"
    elif fault:
        status = "failing"
    elif experience is not None:
        status = "ok" if experience.get("singleSignOnEnabled") is True else "paused"
    name, kind = text(connector.get("connectorName")) or "", text(connector.get("providerName")) or ""
    error = fault[0] if fault and status == "failing" else ""
    return Row(_SSO, text(connector.get("id")) or "", name, kind, status, error)


def _read_with_sign_in(record: Read) -> Reads[list[JsonObject]]:
    """Read a connector, the sign-in experience, and what the sign-in page shows of it."""
    outcomes = yield [record, read(GetSignInExp), read(GetSignInExperienceConfig)]
    return [members(required(each)) for each in outcomes]


def check_connector(identifier: str, within: str) -> Reads[Verdict]:
    """Tell whether people see a social connector, or whether something sends messages through an Email or Sms one."""
    connector, exp, page = yield from _read_with_sign_in(read(GetConnector, id=identifier))
    seen: JsonObject = {key: connector[key] for key in ("type", "target", "connectorId") if key in connector}
    known, config = factory(connector.get("connectorId")), members(connector.get("config"))
    missing = [key for key in (known.config.get("required", ()) if known else ()) if key not in config]
    if missing:
        reason = f"Its config lacks {', '.join(missing)}."
        return Verdict(False, reason, f"logto_update_connector with id {identifier!r} and these keys.", seen)
    if connector.get("type") in EXCLUSIVE_TYPES:
        return _check_messages(str(connector["type"]), exp, page, seen)
    return _check_button(identifier, connector, exp, page, seen)


def _check_button(
    identifier: str, connector: JsonObject, experience: JsonObject, page: JsonObject, seen: JsonObject
) -> Verdict:
    target, targets = connector.get("target"), items(experience.get("socialSignInConnectorTargets"))
    seen |= {"socialSignInConnectorTargets": targets}
    if target not in targets:
        reason = "People do not see it: the sign-in experience does not list its target."
        step = "logto_update_sign_in_exp with social_sign_in_connector_targets: the targets in seen, and its own."
        return Verdict(False, reason, step, seen)
    if all(at(each, "id") != identifier for each in items(page.get("socialConnectors"))):
        reason = "The sign-in experience lists its target, but the sign-in page does not show it yet."
        return Verdict(None, reason, _LATE, seen)
    if experience.get("signInMode") == "Register":
        return Verdict(False, "The sign-in experience takes sign-ups only.", "logto_update_sign_in_exp.", seen)
    step, unproven = "Have a person sign in with it once.", "Logto never tries its credentials: only a sign-in does."
    return Verdict(True, "People see it on the sign-in page.", step, seen, unproven)


def _check_messages(made: str, experience: JsonObject, page: JsonObject, seen: JsonObject) -> Verdict:
    identifier, channel = _CHANNELS[made]
    uses = list(_uses(identifier, experience, page))
    seen |= {"used_for": uses}
    if not uses:
        stored = list(_uses(identifier, experience, experience))
        if stored:
            reason = "The sign-in experience uses it, but the sign-in page does not show that yet."
            return Verdict(None, reason, _LATE, seen)
        reason = f"Nothing uses it: no sign-up, sign-in method or password reset sends a code by {channel}."
        step = f"logto_update_sign_in_exp with sign_up, sign_in and forgot_password_methods for {identifier}."
        return Verdict(False, reason, step, seen)
    reason = f"Logto sends {channel} through it for {', '.join(uses)}."
    step = "logto_create_connector_test with the whole config sends a real message."
    return Verdict(True, reason, step, seen, "Logto never tries its credentials: only a message does.")


def _uses(identifier: str, experience: JsonObject, page: JsonObject) -> list[str]:
    """What sends codes to addresses of this kind, according to the page."""
    method = "EmailVerificationCode" if identifier == "email" else "PhoneVerificationCode"
    ways = map(members, items(at(page, "signIn.methods")))
    uses = {
        "sign-up": at(page, "signUp.verify") is True and identifier in items(at(page, "signUp.identifiers")),
        "sign-in": any(way.get("identifier") == identifier and way.get("verificationCode") is True for way in ways),
        "password reset": at(page, f"forgotPassword.{identifier}") is True
        or (page is experience and method in items(experience.get("forgotPasswordMethods"))),
        "MFA": method in items(at(page, "mfa.factors")),
    }
    return [name for name, is_used in uses.items() if is_used]


def check_sso_connector(identifier: str, within: str) -> Reads[Verdict]:
    """Tell whether the three switches of an SSO connector are on: config, domains, single sign-on."""
    connector, exp, page = yield from _read_with_sign_in(read(GetSsoConnector, id=identifier))
    domains, enabled = items(connector.get("domains")), exp.get("singleSignOnEnabled") is True
    provided = members(at(connector, "providerConfig.identityProvider"))
    seen: JsonObject = {"providerName": connector.get("providerName"), "domains": domains}
    seen |= {"singleSignOnEnabled": enabled}
    seen |= {key: provided[key] for key in ("isCertificateValid", "certificateExpiresAt") if key in provided}
    if fault := _config_fault(connector):
        return Verdict(False, *fault, seen)
    if not domains:
        step = f"logto_update_sso_connector with id {identifier!r} and domains, once the identity provider is ready."
        return Verdict(False, "It has no domain, so that it is offered to no address.", step, seen)
    if not enabled:
        step = "logto_update_sign_in_exp with single_sign_on_enabled true."
        return Verdict(False, "Single sign-on is off in the sign-in experience.", step, seen)
    if all(at(each, "id") != identifier for each in items(page.get("ssoConnectors"))):
        return Verdict(None, "All its switches are on, but the sign-in page does not offer it yet.", _LATE, seen)
    has_secret = "clientSecret" in members(connector.get("config"))
    what = "its client secret" if has_secret else "whether the identity provider lets its users in"
    reason = "Addresses of its domains sign in with it, and Logto has read what the identity provider publishes."
    step = "Have a person of a domain sign in once."
    return Verdict(True, reason, step, seen, f"Logto never tries {what}: only a sign-in does.")


def _config_fault(connector: JsonObject) -> tuple[str, str] | None:
    """Why the config of an SSO connector cannot work, and what to do."""
    config, held = members(connector.get("config")), members(connector.get("providerConfig"))
    known = provider(connector.get("providerName"))
    mend = f"logto_update_sso_connector with id {text(connector.get('id'))!r} and config."
    missing = [key for key in (known.config.get("required", ()) if known else ()) if key not in config]
    if missing or any(config_problems(known, config)):
        return "Its config is not complete.", mend
    if known and known.traits["providerType"] == "saml":
        idp = members(held.get("identityProvider"))
        if not idp:
            return "Logto cannot read the identity provider's metadata.", f"Check its address. {mend}"
        if idp.get("isCertificateValid") is False:
            return "The identity provider's certificate is not valid any more.", f"Ask for a new one. {mend}"
    elif not held:
        return "Logto cannot reach the issuer.", f"Check that the identity provider is up, and the issuer. {mend}"
    return None


CHECKS: Final[Mapping[str, Check]] = {_CONNECTOR: check_connector, _SSO: check_sso_connector}
