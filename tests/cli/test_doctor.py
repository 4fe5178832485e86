"""`connector-mcp doctor` and `connector-mcp sandbox`, each the other's proof."""

import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from connector_mcp.composition.health import check_state_directory, describe_role
from connector_mcp.engine.accounts import Account
from connector_mcp.operations.conductorone.platform import CONDUCTORONE
from connector_mcp.operations.logto.platform import LOGTO
from connector_mcp.operations.vectorize.platform import VECTORIZE
from connector_mcp.operations.versori.platform import VERSORI
from connector_mcp.upstream.client import UpstreamClient
from tests.end_to_end.faces import served as serving

from .conftest import COMMAND, OURS, PATIENCE


@pytest.fixture(scope="module")
def served() -> Iterator[dict[str, str]]:
    """The variables that a running `connector-mcp sandbox` prints. Tests share it, and change nothing in it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    with subprocess.Popen(
        [*COMMAND, "sandbox", "--port", "0"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        # Written after the variables, so these are complete by then.
        assert process.stderr.readline().startswith("Sandbox at http://127.0.0.1:")
        descriptor = process.stdout.fileno()
        lines = os.read(descriptor, 65_536).decode().splitlines()
        yield dict(shlex.split(line)[1].split("=", 1) for line in lines)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0


def test_a_real_configuration_is_fine_when_every_platform_answers(run, served):
    result = run("doctor", "--json", **served)
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert report["ok"] is True
    assert {each["platform"]: each["state"] for each in report["platforms"]} == dict.fromkeys(
        ("vectorize", "logto", "versori", "conductorone"), "fine"
    )


def test_it_says_whether_the_credentials_may_write_as_far_as_the_platform_shows_it(run, served):
    roles = {
        each["platform"]: each["role"] for each in json.loads(run("doctor", "--json", **served).stdout)["platforms"]
    }
    assert roles == {
        "vectorize": "Vectorize does not show whether the credentials may write.",
        "logto": "The credentials may write: the access token has the scope `all`.",
        "versori": "Versori does not show whether the credentials may write.",
        "conductorone": "Roles of the credentials: Super Administrator. Writing needs the role Connector "
        "Administrator or Super Administrator (for applications that they own, Application Administrator), and "
        "credentials with the full scope.",
    }
    shown = run("doctor", **served).stdout
    assert all(f"  role: {role}\n" in shown for role in roles.values())


TOKEN = {"access_token": "t", "expires_in": 600, "token_type": "Bearer"}
CREDENTIALS = {
    "logto": {"LOGTO_ENDPOINT": "https://a.logto.app", "LOGTO_APP_ID": "i", "LOGTO_APP_SECRET": "s"},
    "conductorone": {"CONDUCTORONE_CLIENT_ID": "n@acme.conductor.one/pcc", "CONDUCTORONE_CLIENT_SECRET": "s"},
    "vectorize": {"VECTORIZE_API_KEY": "k"},
    "versori": {"VERSORI_API_KEY": "k"},
}


@pytest.mark.parametrize(
    ("platform", "token", "answer", "told"),
    [
        (LOGTO, TOKEN | {"scope": "all"}, {}, "The credentials may write:"),
        (LOGTO, TOKEN, {}, "The credentials may write:"),
        (LOGTO, TOKEN | {"scope": ""}, {}, "The credentials may not write: the access token lacks the scope `all`."),
        (
            LOGTO,
            TOKEN | {"scope": "read"},
            {},
            "The credentials may not write: the access token lacks the scope `all`.",
        ),
        (LOGTO, {"error": "invalid_client"}, {}, "Logto does not show whether the credentials may write."),
        (
            CONDUCTORONE,
            TOKEN,
            {"roles": ["Read\u202e-Only", 7]},
            "Roles of the credentials: Read-Only, 7. Writing needs",
        ),
        (
            CONDUCTORONE,
            TOKEN,
            {"roles": []},
            "ConductorOne does not show whether the credentials may write. Writing needs",
        ),
        (CONDUCTORONE, TOKEN, {"roles": None}, "ConductorOne does not show"),
        (CONDUCTORONE, TOKEN, ["roles"], "ConductorOne does not show"),
        (CONDUCTORONE, TOKEN, 403, "ConductorOne does not show"),
        (CONDUCTORONE, TOKEN, 404, "ConductorOne does not show"),
        (VECTORIZE, TOKEN, {}, "Vectorize does not show whether the credentials may write."),
        (VERSORI, TOKEN, {}, "Versori does not show whether the credentials may write."),
    ],
)
def test_what_the_credentials_may_do_is_read_and_never_tried(platform, token, answer, told):
    sent: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        if request.url.path.endswith("/token"):
            return httpx.Response(200 if "access_token" in token else 401, json=token)
        return httpx.Response(answer) if isinstance(answer, int) else httpx.Response(200, json=answer)

    async def describe() -> str:
        transport = httpx.MockTransport(respond)
        async with UpstreamClient(platform, CREDENTIALS[platform.name], transport=transport) as client:
            return await describe_role(Account(platform, client, {}))

    assert anyio.run(describe).startswith(told)
    assert {(each.method, each.url.path) for each in sent} <= {
        ("POST", "/oidc/token"),
        ("POST", "/auth/v1/token"),
        ("GET", "/api/v1/auth/introspect"),
    }


@pytest.mark.parametrize(
    ("variable", "value", "told", "reached"),
    [
        ("LOGTO_APP_SECRET", "marked-wrong", "unauthenticated: ", True),
        ("VERSORI_API_KEY", "marked-wrong", "unauthenticated: ", True),
        ("VECTORIZE_ORGANIZATION_ID", "marked-wrong", "", True),
        ("VERSORI_ORGANISATION_ID", "marked-wrong", "", True),
        ("CONDUCTORONE_BASE_URL", "http://127.0.0.1:9", "unreachable: ", False),
    ],
)
def test_a_wrong_variable_is_named_with_its_platform_and_no_value(run, served, variable, value, told, reached):
    result = run("doctor", "--json", **(served | {variable: value}))
    reports = {each["platform"]: each for each in json.loads(result.stdout)["platforms"]}
    wrong = reports.pop(variable.partition("_")[0].lower())
    assert result.exit_code == 1
    assert (wrong["state"], wrong["reached"], wrong["detail"][: len(told)]) == ("failed", reached, told)
    assert variable in wrong["fix"]
    assert all((each["state"], each["reached"]) == ("fine", True) for each in reports.values())
    assert not [name for name, text in served.items() if ("KEY" in name or "SECRET" in name) and text in result.output]
    assert "marked-wrong" not in result.output


def test_a_tenant_that_is_not_set_leaves_the_platform_unchecked(run, served):
    variables = {name: value for name, value in served.items() if name.startswith("VERSORI_")}
    del variables["VERSORI_ORGANISATION_ID"]
    result = run("doctor", **variables)
    assert result.exit_code == 1
    assert "VERSORI_ORGANISATION_ID is not set" in result.stdout


def test_in_the_sandbox_everything_is_fine(run):
    result = run("doctor", "--sandbox")
    assert result.exit_code == 0
    assert result.stdout.startswith("Sandbox: every platform is emulated.\n")


@pytest.mark.parametrize("there", [True, False])
def test_the_keys_of_the_identity_provider_are_fetched(run, there: bool):
    async def check() -> None:
        keys = Route("/keys", lambda _: JSONResponse({"keys": [{"kty": "RSA"}] if there else []}))
        async with serving(Starlette(routes=[keys])) as origin:
            settings = {"CONNECTOR_MCP_OAUTH_ISSUER": origin, "CONNECTOR_MCP_OAUTH_JWKS_URL": f"{origin}/keys"}
            result = await anyio.to_thread.run_sync(lambda: run("doctor", "--sandbox", "--json", **settings))
            report = json.loads(result.stdout)
            assert (result.exit_code, report["ok"]) == (0 if there else 1, there)
            assert report["identity_provider"]["usable"] is there
            assert ("1 key" if there else "holds no keys") in report["identity_provider"]["detail"]
            shown = await anyio.to_thread.run_sync(lambda: run("doctor", "--sandbox", **settings))
            assert f"Identity provider: {origin}: {'usable' if there else 'failed'}" in shown.stdout

    anyio.run(check)


def test_with_no_platform_it_reports_what_is_missing_and_fails(run):
    result = run("doctor", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 2
    assert {each["state"] for each in report["platforms"]} == {"not configured"}
    assert report["platforms"][0]["missing"] == ["VECTORIZE_API_KEY"]
    assert "No platform is configured" in result.stderr


def test_the_policy_in_force_is_reported_for_both_transports(run):
    report = json.loads(run("doctor", "--sandbox", "--json", "--policy", "create=ask", "--platforms", "logto").stdout)
    assert report["policy"]["stdio"] == {
        "read": "allow",
        "create": "ask",
        "update": "allow",
        "disclose": "ask",
        "destroy": "ask",
    }
    assert report["policy"]["http"]["destroy"] == "approve"
    assert [each["platform"] for each in report["platforms"]] == ["logto"]


def test_a_state_directory_that_cannot_be_made_or_written_is_found(run, tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("")
    link.symlink_to(tmp_path / "none" / "state")
    assert check_state_directory(tmp_path / "new" / "state")["writable"] is True
    assert not (tmp_path / "new").exists()
    for wrong in (file, file / "state", file / "state" / "deeper", link, Path("/proc/1/state")):
        checked, examined = (run(*c, CONNECTOR_MCP_STATE_DIR=str(wrong)) for c in (("config", "check"), ("doctor",)))
        assert (checked.exit_code, examined.exit_code) == (2, 2)
        assert f"The state directory {wrong} cannot be written: " in checked.stdout
        assert f"State directory: {wrong} (cannot be written: " in examined.stdout
        assert all("  fix: Set CONNECTOR_MCP_STATE_DIR to" in each.stdout for each in (checked, examined))


def test_the_sandbox_listens_on_loopback_only(run):
    result = run("sandbox", "--host", "0.0.0.0")  # noqa: S104
    assert result.exit_code == 2
    assert "loopback" in result.stderr


def test_a_sandbox_whose_port_is_taken_ends_with_the_general_status(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("sandbox", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 1
    assert "Cannot listen on 127.0.0.1" in result.stderr


MACHINE = [
    ("HTTPS_PROXY", "socks5://proxy.example:1080"),
    ("ALL_PROXY", "ftp://proxy.example"),
    ("https_proxy", "http://proxy.example:99999"),
    ("SSL_CERT_FILE", "/no/such/ca.pem"),
    ("SSL_CERT_FILE", '"/etc/ssl/ca.pem"'),
    ("SSL_CERT_DIR", "/no/such/directory"),
]


@pytest.mark.parametrize(("name", "value"), MACHINE)
def test_a_wrong_setting_of_the_machine_is_named_by_every_command_and_spends_no_approval(run, name, value, monkeypatch):
    for other in ("https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(other, raising=False)
        monkeypatch.delenv(other.upper(), raising=False)
    environ = {
        "VECTORIZE_API_KEY": "k",
        "VECTORIZE_ORGANIZATION_ID": "o",
        "VECTORIZE_BASE_URL": "https://api.field.invalid/v1",
        name: value,
    }
    for command in (["config", "check"], ["doctor"]):
        ended = run(*command, **environ)
        assert ended.exit_code in (1, 2)
        assert name in ended.stdout
    crawler = {"name": "n", "type": "WEB_CRAWLER", "config": {"seed-urls": ["https://a.example"]}}
    create = ["vectorize_create_source_connector", "--json", json.dumps({"connectors": [crawler]})]
    for call in (["vectorize_get_source_connectors"], create, [*create, "--policy", "create=approve"]):
        ended = run("call", *call, **environ)
        error = json.loads(ended.stdout)["error"]
        assert (ended.exit_code, error["code"]) == (2, "misconfigured")
        assert name in error["message"]
        assert "nothing was sent" in error["message"] or "quotation marks" in error["message"]
