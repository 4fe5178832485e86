"""Whether a Logto connector has an effect: a verdict for everything that may be missing."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.errors import ConnectorError, Forbidden, NotFound
from connector_mcp.operations.logto.overview import CHECKS, find_connectors
from connector_mcp.operations.overview import Reads, Verdict

GITHUB: dict[str, Any] = {
    "id": "c", "connectorId": "github-universal", "type": "Social", "target": "github", "name": {"en": "GitHub"},
    "config": {"clientId": "i", "clientSecret": "[redacted]"},
}  # fmt: skip
SMS = {
    "id": "c", "connectorId": "http-sms", "type": "Sms", "config": {"endpoint": "e", "authorization": "[redacted]"},
}  # fmt: skip
EXP: dict[str, Any] = {"id": "default", "socialSignInConnectorTargets": ["github"], "singleSignOnEnabled": True}
PAGE: dict[str, Any] = {"socialConnectors": [{"id": "c"}], "ssoConnectors": [{"id": "c"}]}
SAML: dict[str, Any] = {
    "id": "c", "providerName": "SAML", "connectorName": "Acme", "domains": ["acme.com"],
    "config": {"metadataUrl": "https://idp.acme.com/m"},
    "providerConfig": {"identityProvider": {"isCertificateValid": True, "certificateExpiresAt": 1}},
}  # fmt: skip
OIDC: dict[str, Any] = {
    "id": "c", "providerName": "OIDC", "connectorName": "Acme", "domains": ["acme.com"], "providerConfig": {"a": "b"},
    "config": {"clientId": "i", "clientSecret": "[redacted]", "issuer": "https://idp.acme.com"},
}  # fmt: skip


def drive(reads: Reads[Any], *outcomes: Any) -> Any:
    """Answer the one batch of reads that Logto's checks need."""
    batch = next(reads)
    assert len(batch) == len(outcomes)
    try:
        reads.send(list(outcomes))
    except StopIteration as end:
        return end.value
    raise AssertionError("a second batch")


def check(record: Any, exp: Any = EXP, page: Any = PAGE) -> Verdict:
    kind = "SSO connector" if "providerName" in record else "connector"
    return drive(CHECKS[kind]("c", ""), record, exp, page)


def without(record: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != key}


CODES: list[tuple[dict[str, Any], str]] = [
    ({"signUp": {"identifiers": ["phone"], "verify": True}}, "sign-up"),
    ({"signIn": {"methods": [{"identifier": "phone", "verificationCode": True}]}}, "sign-in"),
    ({"forgotPassword": {"phone": True, "email": False}}, "password reset"),
    ({"mfa": {"factors": ["PhoneVerificationCode"]}}, "MFA"),
]


@pytest.mark.parametrize(
    ("verdict", "works", "reason", "step"),
    [
        (check(GITHUB), True, "People see it on the sign-in page", "a person sign in"),
        (
            check(GITHUB, EXP | {"socialSignInConnectorTargets": ["google"]}),
            False,
            "does not list",
            "update_sign_in_exp",
        ),
        (check(GITHUB, page={"socialConnectors": []}), None, "does not show it yet", "again"),
        (check(GITHUB, EXP | {"signInMode": "Register"}), False, "sign-ups only", "update_sign_in_exp"),
        (check(GITHUB | {"config": {"clientId": "i"}}), False, "lacks clientSecret", "logto_update_connector"),
        (check(SMS), False, "Nothing uses it", "phone"),
        (check(SMS, EXP | CODES[1][0]), None, "does not show that yet", "again"),
        (check(SMS, page=CODES[0][0] | {"signUp": {"identifiers": ["email"], "verify": True}}), False, "Nothing", ""),
        (check(SAML), True, "Addresses of its domains", "a person of a domain"),
        (check(OIDC), True, "Addresses of its domains", "a person of a domain"),
        (check(SAML | {"config": {}}), False, "not complete", "logto_update_sso_connector"),
        (check(OIDC | {"config": {"clientId": "i"}}), False, "not complete", "logto_update_sso_connector"),
        (check(SAML | {"providerConfig": {"serviceProvider": {}}}), False, "cannot read", "address"),
        (check(SAML | {"providerConfig": {"identityProvider": {"isCertificateValid": False}}}), False, "valid", "new"),
        (check(without(OIDC, "providerConfig")), False, "cannot reach the issuer", "is up"),
        (check(SAML | {"domains": []}), False, "no domain", "domains"),
        (check(SAML, EXP | {"singleSignOnEnabled": False}), False, "is off", "single_sign_on_enabled true"),
        (check(SAML, page={"ssoConnectors": []}), None, "does not offer it yet", "again"),
    ],
)
def test_each_switch_that_is_off_is_named(verdict: Verdict, works: bool | None, reason: str, step: str) -> None:
    assert (verdict.works, reason in verdict.reason, step in verdict.next) == (works, True, True), verdict


@pytest.mark.parametrize(("page", "use"), CODES)
def test_each_use_of_codes_counts(page: dict[str, Any], use: str) -> None:
    verdict = check(SMS, page=page)
    assert (verdict.works, verdict.seen["used_for"]) == (True, [use])
    assert "logto_create_connector_test" in verdict.next


@pytest.mark.parametrize("verdict", [check(GITHUB), check(SMS, page=CODES[0][0]), check(SAML), check(OIDC)])
def test_what_logto_never_tries_is_named_beside_the_verdict(verdict: Verdict) -> None:
    assert verdict.works is True
    assert verdict.unproven.startswith("Logto never tries")
    assert verdict.next


@pytest.mark.parametrize("outcome", [NotFound("No.", fix=""), Forbidden("No.", fix="")])
@pytest.mark.parametrize("place", range(3))
def test_nothing_is_said_of_what_could_not_be_read(place: int, outcome: ConnectorError) -> None:
    for kind, record in (("connector", GITHUB), ("SSO connector", SAML)):
        outcomes: list[Any] = [record, EXP, PAGE]
        outcomes[place] = outcome
        with pytest.raises(type(outcome)):
            drive(CHECKS[kind]("c", ""), *outcomes)


def test_connectors_are_found_with_what_the_sign_in_experience_makes_of_them() -> None:
    connectors = [GITHUB, GITHUB | {"target": "google"}, SMS]
    sso: list[dict[str, Any]] = [OIDC, SAML, OIDC | {"domains": []}, without(OIDC, "providerConfig")]
    rows = drive(find_connectors(), connectors, sso, EXP)
    assert [row.status for row in rows] == ["ok", "paused", "unknown", "ok", "ok", "pending", "failing"]
    assert (rows[0].name, rows[3].type, rows[6].error) == ("GitHub", "OIDC", "Logto cannot reach the issuer.")
    off = drive(find_connectors(), connectors, sso, EXP | {"singleSignOnEnabled": False})
    assert off[3].status == "paused"
    unread = drive(find_connectors(), connectors, sso, Forbidden("No.", fix=""))
    assert [row.status for row in unread] == ["unknown"] * 5 + ["pending", "failing"]
