"""Secrets and the hosts that arguments choose: what is decided by whom, and what the limits of a secret allow."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.errors import Misconfigured
from connector_mcp.operations.catalog import PLATFORMS, catalog
from connector_mcp.operations.hosts import host_of, hosts_in
from connector_mcp.sandbox import seed
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.reference import SecretLimits, Use, parse_limits
from connector_mcp.secrets.sources import EnvironmentSource
from tests.end_to_end.test_nothing_is_destroyed_undecided import SMTP_CONFIG
from tests.engine.conftest import BenchMaker, FakeCaller

pytestmark = pytest.mark.anyio

NAME = "MAIL"
REFERENCE = f"secret://{NAME}"
CHOSEN = "chosen.example"


def smtp(**config: Any) -> dict[str, Any]:
    auth = {"type": "login", "user": "u", "pass": REFERENCE}
    return SMTP_CONFIG | {"host": CHOSEN, "auth": auth} | config


# Each sends the secret to a host that the arguments choose.
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "smtp test": (
        "logto_create_connector_test",
        {"factory_id": "simple-mail-transfer-protocol", "email": "a@example.com", "config": smtp()},
    ),
    "http sms": (
        "logto_create_connector_test",
        {
            "factory_id": "http-sms",
            "phone": "491701234567",
            "config": {"endpoint": f"https://{CHOSEN}/send", "authorization": REFERENCE},
        },
    ),
    "oidc": (
        "logto_create_connector",
        {
            "connector_id": "oauth2",
            "metadata": {"target": "idp", "name": {"en": "IdP"}},
            "config": {
                "clientId": "id",
                "clientSecret": REFERENCE,
                "authorizationEndpoint": "https://login.example/authorize",
                "tokenEndpoint": f"https://{CHOSEN}/token",
                "userInfoEndpoint": f"https://{CHOSEN}/me",
            },
        },
    ),
    "s3 endpoint": (
        "vectorize_create_source_connector",
        {
            "connectors": [
                {
                    "name": "s3",
                    "type": "AWS_S3",
                    "config": {
                        "access-key": "key",
                        "secret-key": REFERENCE,
                        "bucket-name": "b",
                        "archiver": False,
                        "endpoint": f"https://{CHOSEN}",
                    },
                }
            ]
        },
    ),
    "base url": (
        "versori_update_connector",
        {
            "connector_id": seed.VERSORI_CRM,
            "base_url": f"https://{CHOSEN}",
            "connection_variables": [{"name": "apiKey", "value": REFERENCE}],
        },
    ),
    "okta domain": (
        "conductorone_update_connector",
        {
            "app_id": seed.CONDUCTORONE_APP_ID,
            "id": seed.CONDUCTORONE_OKTA,
            "config": {"okta_v2_domain": CHOSEN, "okta_v2_api_token": REFERENCE},
        },
    ),
}


def kept(limits: SecretLimits | None = None) -> Secrets:
    environ = {f"CONNECTOR_MCP_SECRET_{NAME}": "the-value-of-the-secret"}
    return Secrets([EnvironmentSource(environ)], {NAME: limits} if limits else {})


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("hosts", "policy", "expected"),
    [
        ((), "destroy=allow", "approval_required"),
        ((), "destroy=allow,disclose=allow", "sent"),
        ((), "destroy=allow,disclose=block", "blocked"),
        ((CHOSEN,), "destroy=allow", "sent"),
        (("*.example",), "destroy=allow", "sent"),
        (("other.example",), "destroy=allow,disclose=allow", "invalid_arguments"),
        (("hosen.example", "*.chosen.example"), "destroy=allow", "invalid_arguments"),
    ],
)
async def test_a_secret_goes_to_a_chosen_host_only_by_its_limits_or_a_decision(
    bench: BenchMaker, call: str, hosts: tuple[str, ...], policy: str, expected: str
) -> None:
    tool, arguments = CALLS[call]
    made = bench(policy=policy, secrets=kept(SecretLimits(hosts=hosts)))
    content = (await made.engine.call(tool, arguments, FakeCaller())).content
    sent = [path for method, path in made.requests() if method != "GET" and "connectorcatalog" not in path]
    told = content.get("error", {})
    assert told.get("code", "sent") == expected, content
    assert bool(sent) == (expected == "sent")
    if expected == "approval_required":
        approval = await made.engine.approvals.get(told["approval"]["id"])
        assert "disclose" in approval.effects
        assert f"ends the secret {NAME} to {CHOSEN}" in approval.effect
        assert (approval.secrets, CHOSEN in approval.hosts) == ((NAME,), True)
        assert f"ends the secret {NAME} to {CHOSEN}" in told["message"]
    if expected == "invalid_arguments":
        assert hosts[0] in told["message"]


async def test_a_secret_for_certain_hosts_is_not_used_where_no_host_is_named(bench: BenchMaker) -> None:
    made = bench(secrets=kept(SecretLimits(hosts=(CHOSEN,))))
    arguments = {"connector_id": "discord-universal", "config": {"clientId": "i", "clientSecret": REFERENCE}}
    content = (await made.engine.call("logto_create_connector", arguments, FakeCaller())).content
    assert content["error"]["code"] == "invalid_arguments"
    assert made.requests("POST") == []


async def test_a_new_secret_for_a_stored_host_is_no_disclosure_and_obeys_the_limits(bench: BenchMaker) -> None:
    update = {"id": seed.LOGTO_SMTP, "config": {"auth": {"pass": REFERENCE}}}
    stored = "smtp.sandbox.example"
    for hosts, is_sent in (((), True), ((stored,), True), (("x.example",), False)):
        made = bench(secrets=kept(SecretLimits(hosts=hosts)))
        record = made.sandbox.world.get("logto.connectors", seed.LOGTO_SMTP) or {}
        record = {**record, "config": {**record["config"], "host": stored}}
        made.sandbox.world.put("logto.connectors", seed.LOGTO_SMTP, record)
        assert (await made.engine.call("logto_update_connector", update, FakeCaller())).is_error != is_sent


async def test_a_secret_without_a_host_among_the_arguments_goes_without_a_question(bench: BenchMaker) -> None:
    made = bench(secrets=kept())
    arguments = {"connector_id": "discord-universal", "config": {"clientId": "i", "clientSecret": REFERENCE}}
    assert not (await made.engine.call("logto_create_connector", arguments, FakeCaller())).is_error


def test_every_argument_that_names_an_address_is_declared_or_known_to_get_no_credentials() -> None:
    harmless = {"redirect_uri", "documentation_url", "image_url", "logo", "logo_dark"}
    for name, kind in catalog(PLATFORMS).items():
        named = {field for field in kind.model_fields if list(hosts_in({field: "https://a.example"}))}
        addresses = {field for field in named if field.rpartition("_")[2] in ("url", "uri", "host", "endpoint")}
        assert addresses - harmless == set(kind.host_arguments), name


ADDRESSES = {
    "https://Smtp.Acme.example:443/x": "smtp.acme.example",
    "smtp.acme.example:587": "smtp.acme.example",
    "https://user:pass@h.example": "h.example",
    " https://h.example. ": "h.example",
    "//h.example/x": "h.example",
    "https://evil.example#@good.example": "evil.example",
    "https://ex\u00e4mple.com": "xn--exmple-cua.com",
}


@pytest.mark.parametrize(("address", "host"), ADDRESSES.items())
def test_the_host_of_an_address_is_the_one_that_is_connected_to(address: str, host: str) -> None:
    assert host_of(address) == host
    assert list(hosts_in({"endpoint": address})) == [host]


@pytest.mark.parametrize(
    "address",
    [
        "https://good.example\\@evil.example",
        "https:evil.example",
        "https:/evil.example",
        "ht\ttps://good.example",
        "a b",
    ],
)
def test_an_address_that_programs_read_differently_is_allowed_by_no_limit(address: str) -> None:
    limits = SecretLimits(hosts=("good.example", "evil.example", "*.example"))
    assert limits.refusal(Use("logto", "default", "config.pass", tuple(hosts_in({"host": address})))) is not None
    assert "@" not in host_of(address)


@pytest.mark.parametrize("host", ["https://h.example", "h.example:25", "h.example/x", "H.example", "*", "*.", "a b"])
def test_a_limit_that_could_never_match_is_an_error(host: str) -> None:
    assert parse_limits({"hosts": ["h.example", "*.h.example", "::1"]}, "x", ()).hosts
    with pytest.raises(Misconfigured):
        parse_limits({"hosts": [host]}, "x", ())
