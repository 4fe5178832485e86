"""`deploy/`, the Dockerfile and their page work together, as far as tests can check that without containers.

The proxy, PostgreSQL and two replicas run as processes, by the commands of the page, with the compose file's settings.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import check_jsonschema
import httpx
import pytest
from click.testing import CliRunner
from cryptography import x509
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from connector_mcp import __version__
from connector_mcp.cli.main import cli
from connector_mcp.composition.http_access import make_access
from connector_mcp.composition.storage import open_database
from connector_mcp.config.settings import PREFIX, Settings
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.sandbox import seed
from connector_mcp.transport.http.host_guard import Reach
from tests.console_blocks import steps
from tests.documents import BY_NAME, ROOT, dockerfile
from tests.end_to_end.faces import INITIALIZE, META, message, modern
from tests.nginx import NGINX_RUNS, free_port, nginx, until_said
from tests.postgres_server import program, user
from tests.upstream.test_transport_tls import make_certificate

DEPLOY = ROOT / "deploy"
PAGE = BY_NAME["docs/deploy.md"]
HOST = "localhost"
"""The public host name: the certificate names it, and the replicas know it only from the public address."""

READ = "vectorize_get_source_connectors"
DELETE = "vectorize_delete_source_connector"
S3 = {"source_connector_id": seed.VECTORIZE_S3}
SESSION = {"mcp-protocol-version": "2025-11-25"}


# Files ---------------------------------------------------------------------------------------------------------------


@cache
def compose() -> dict[str, Any]:
    return YAML(typ="safe").load(DEPLOY / "compose.yaml")


@cache
def manifests() -> dict[tuple[str, str], dict[str, Any]]:
    """The objects of the kustomization by kind and name."""
    folder = DEPLOY / "kubernetes"
    names = YAML(typ="safe").load(folder / "kustomization.yaml")["resources"]
    objects = [each for name in names for each in YAML(typ="safe").load_all(folder / name)]
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}


def image_settings() -> dict[str, str]:
    (line,) = dockerfile("ENV")
    return {name: value for name, _, value in (word.partition("=") for word in line.split())}


def health_command() -> list[str]:
    (line,) = dockerfile("HEALTHCHECK")
    return json.loads(line.partition(" CMD ")[2])


def filled(text: str, values: Mapping[str, str]) -> str:
    """Fill in `${NAME}` and `${NAME:?why}`."""
    return re.sub(r"\$\{(\w+)(?::\?[^}]*)?\}", lambda match: values[match[1]], text)


def own(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(PREFIX)}


def replica_settings() -> dict[str, str]:
    given = compose()["services"]["replica-a"]["environment"]
    return {name: filled(value, {"PUBLIC_HOST": HOST}) for name, value in given.items()}


def container() -> dict[str, Any]:
    (found,) = manifests()["Deployment", "connector-mcp"]["spec"]["template"]["spec"]["containers"]
    return found


def test_the_compose_file_matches_the_compose_specification() -> None:
    bundled = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = Draft202012Validator(json.loads(bundled.read_text()))
    assert list(schema.iter_errors(compose())) == []
    assert list(schema.iter_errors({"services": {"a": {"imagee": "b"}}}))


def test_files_networks_and_volumes_of_the_compose_file_exist() -> None:
    services = compose()["services"]
    networks, volumes = set(compose()["networks"]), set(compose()["volumes"])
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        assert set(service["networks"]) <= networks
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            made = {"./access", "./connector-secrets", "./certificates"}
            assert source in volumes | made or (DEPLOY / source).is_file(), source
    assert services["replica-a"] == services["replica-b"]
    assert services["replica-a"]["image"] == f"connector-mcp:{__version__}"
    mounts = [volume.split(":")[1] for volume in services["replica-a"]["volumes"]]
    for name in ("TOKENS_FILE", "OPERATORS_FILE", "SECRETS_DIR"):
        path = replica_settings()[PREFIX + name]
        assert any(path == mount or path.startswith(f"{mount}/") for mount in mounts)
    for service in services.values():
        assert set(service.get("secrets", ())) <= set(compose()["secrets"])
    state = {name: value for name, value in replica_settings().items() if name.startswith(f"{PREFIX}STATE")}
    assert services["audit-log"]["environment"] == state
    assert state[f"{PREFIX}STATE_PASSWORD_FILE"] == services["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"]
    assert services["audit-log"]["image"] == services["replica-a"]["image"]
    ignored = set((ROOT / ".gitignore").read_text().splitlines())
    made = ("platforms.env", "access/", "connector-secrets/", "certificates/", "state-password")
    assert ignored >= {f"deploy/{name}" for name in made}
    assert compose()["secrets"]["state-password"]["file"] == "./state-password"
    assert services["postgres"]["networks"] == ["inside"]
    assert compose()["networks"]["inside"] == {"internal": True}


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_every_setting_is_one_that_the_server_takes(where: str) -> None:
    given = replica_settings() if where == "compose" else manifests()["ConfigMap", "connector-mcp"]["data"]
    settings = Settings.load({**own(image_settings()), **given})
    assert set(given) <= {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert given.keys() == compose()["services"]["replica-a"]["environment"].keys()
    (port,) = map(int, dockerfile("EXPOSE"))
    assert (settings.host, settings.port) == ("0.0.0.0", port)  # noqa: S104
    backends = compose()["services"]["proxy"]["environment"]
    assert {backends["REPLICA_A"], backends["REPLICA_B"]} == {f"replica-a:{port}", f"replica-b:{port}"}


def test_records_are_kept_durably_and_the_image_can_reach_them() -> None:
    wanted = {"fsync=on", "synchronous_commit=on", "full_page_writes=on"}
    (pod,) = manifests()["StatefulSet", "postgres"]["spec"]["template"]["spec"]["containers"]
    assert wanted <= set(pod["args"])
    assert wanted <= set(compose()["services"]["postgres"]["command"])
    assert pod["image"] == compose()["services"]["postgres"]["image"]
    (install,) = [line for line in dockerfile("RUN") if "pip install" in line]
    assert "postgres" in install


def test_the_image_serves_over_http_as_a_user_without_rights_and_keeps_its_state_in_memory() -> None:
    assert image_settings()[f"{PREFIX}STATE_DIR"] in compose()["services"]["replica-a"]["tmpfs"]
    assert dockerfile("USER", "ENTRYPOINT", "CMD") == ["10001:10001", '["connector-mcp"]', '["serve", "--http"]']


def test_the_manifests_agree_with_each_other() -> None:
    for kind, name in (("Deployment", "connector-mcp"), ("StatefulSet", "postgres"), ("Deployment", "audit-log")):
        spec = manifests()[kind, name]["spec"]
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"] == {"app": labels["app"]} == {"app": name}
        ports = {port["name"] for port in spec["template"]["spec"]["containers"][0].get("ports", ())}
        if ports:
            service = manifests()["Service", name]["spec"]
            assert service["selector"] == {"app": name}
            assert {port["targetPort"] for port in service["ports"]} <= ports
        made = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())}
        volumes = made | {volume["name"] for volume in spec["template"]["spec"].get("volumes", ())}
        assert {mount["name"] for mount in spec["template"]["spec"]["containers"][0]["volumeMounts"]} == volumes
    budget = manifests()["PodDisruptionBudget", "connector-mcp"]["spec"]["selector"]["matchLabels"]
    assert budget == {"app": "connector-mcp"}
    allowed = manifests()["NetworkPolicy", "postgres"]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    for name in ("connector-mcp", "audit-log"):
        labels = manifests()["Deployment", name]["spec"]["template"]["metadata"]["labels"]
        assert labels == {"app": name, **allowed}
    assert allowed == {"state": "connector-mcp"}
    assert container()["image"] == f"connector-mcp:{__version__}"
    rule = manifests()["Ingress", "connector-mcp"]["spec"]["rules"][0]
    data = manifests()["ConfigMap", "connector-mcp"]["data"]
    assert data[f"{PREFIX}PUBLIC_URL"] == f"https://{rule['host']}"
    for path in rule["http"]["paths"]:
        service = path["backend"]["service"]
        known = manifests()["Service", service["name"]]["spec"]["ports"]
        assert service["port"]["name"] in {port["name"] for port in known}
    assert "/metrics" not in {path["path"] for path in rule["http"]["paths"]}


def test_the_page_makes_the_secrets_that_the_manifests_name() -> None:
    commands = "\n".join(block.text for block in PAGE.blocks("sh"))
    made = set(re.findall(r"create secret (?:generic|tls) (\S+)", commands))
    pod = manifests()["Deployment", "connector-mcp"]["spec"]["template"]["spec"]
    named = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    assert {"state-password"} == {
        volume["name"]
        for kind, name in (("StatefulSet", "postgres"), ("Deployment", "audit-log"))
        for volume in manifests()[kind, name]["spec"]["template"]["spec"]["volumes"]
        if volume.get("secret") == {"secretName": "connector-mcp-state"}
    }
    named |= {source["secretRef"]["name"] for source in container()["envFrom"] if "secretRef" in source}
    named |= {entry["secretName"] for entry in manifests()["Ingress", "connector-mcp"]["spec"]["tls"]}
    assert made == named
    used = {"kubernetes", "platforms.env", "access", "connector-secrets", "certificates", "state-password"}
    assert set(re.findall(r"deploy/([\w-]+(?:\.env)?)", commands)) == used
    assert ("Namespace", "connector-mcp") in manifests()


def test_a_probe_names_a_host_that_the_server_answers_to() -> None:
    settings = Settings.load({**own(image_settings()), f"{PREFIX}PUBLIC_URL": "https://mcp.example.com"})
    reach = Reach.for_address(settings.host, settings.port, hosts=make_access(settings).hosts)
    paths: list[str] = []
    for name in ("livenessProbe", "readinessProbe"):
        probe = container()[name]["httpGet"]
        (header,) = probe["httpHeaders"]
        assert (header["name"], header["value"] in reach.hosts, probe["port"]) == ("Host", True, "http")
        paths.append(probe["path"])
    assert paths == ["/healthz", "/readyz"]


# Processes -----------------------------------------------------------------------------------------------------------


@dataclass
class Deployment:
    """A proxy, and two replicas behind it that share their records."""

    environ: dict[str, str]
    replicas: list[subprocess.Popen[str]]
    ports: list[int]
    public: str
    trusted: ssl.SSLContext
    token: str

    def client(self, **options: Any) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.token}", "accept": "application/json, text/event-stream"}
        return httpx.AsyncClient(base_url=self.public, verify=self.trusted, headers=headers, timeout=60, **options)

    def is_healthy(self, port: int) -> bool:
        command = [sys.executable, *health_command()[1:]]
        return subprocess.run(command, env={f"{PREFIX}PORT": str(port)}, stderr=subprocess.DEVNULL).returncode == 0


def certify(folder: Path) -> ssl.SSLContext:
    """Write `tls.crt` and `tls.key` for the public name, and return a context that trusts them."""
    folder.mkdir()
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = make_certificate(folder / "tls.crt", HOST, x509.DNSName(HOST), address)
    shutil.copy(certificate, folder / "tls.key")
    return ssl.create_default_context(cafile=certificate)


def proxy_configuration(folder: Path, listen: str, ports: list[int]) -> str:
    given = compose()["services"]["proxy"]["environment"]
    values = {name: filled(value, {"PUBLIC_HOST": HOST}) for name, value in given.items()}
    values |= {"LISTEN": listen, "CERTIFICATES": str(folder / "certificates")}
    values |= {"REPLICA_A": f"127.0.0.1:{ports[0]}", "REPLICA_B": f"127.0.0.1:{ports[1]}"}
    return filled((DEPLOY / "nginx.conf.template").read_text(), values)


@contextmanager
def deployment(folder: Path) -> Iterator[Deployment]:
    """Start everything with the commands of the page, on free ports, with the settings of the compose file."""
    for name in ("initdb", "postgres"):
        program(name)
    access = folder / "access"
    access.mkdir()
    tokens: dict[str, str] = {}
    for step in (step for block in PAGE.blocks("console") for step in steps(block.text)):
        arguments = shlex.split(step.command)[1:]
        file = access / arguments.pop()
        tokens[file.name] = CliRunner().invoke(cli, [*arguments, str(file)]).stdout.strip()
    given = {name: value.replace("/etc/connector-mcp", str(access)) for name, value in replica_settings().items()}
    (folder / "secrets").mkdir()
    (folder / "state-password").write_text("password")
    given |= {f"{PREFIX}SECRETS_DIR": str(folder / "secrets")}
    given |= {f"{PREFIX}STATE_PASSWORD_FILE": str(folder / "state-password")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**given, "PATH": path, f"{PREFIX}APPROVAL_WAIT": "300", "PYTHONWARNINGS": "error"}

    shown = next(block.text for block in PAGE.blocks("sh") if "initdb" in block.text)
    ports = {number: str(free_port()) for number in ("5432", "8765", "8766")}
    commands = re.sub("|".join(ports), lambda match: ports[match[0]], shown).splitlines()
    replicas: list[subprocess.Popen[str]] = []
    with ExitStack() as stack:
        # PostgreSQL refuses root, and its user may not enter the folders of the tests.
        records = stack.enter_context(tempfile.TemporaryDirectory(prefix="records-"))
        if own_user := user():
            os.chown(records, own_user["user"], own_user["group"])

        def start(command: list[str], **options: Any) -> subprocess.Popen[str]:
            options = {"cwd": folder, **options}
            process = stack.enter_context(subprocess.Popen(command, env=environ, text=True, **options))
            stack.callback(process.kill)
            return process

        for line in commands:
            name, *words = shlex.split(line.removesuffix(" &"))
            if name == "export":
                environ |= dict([words[0].split("=", 1)])
            elif name in ("initdb", "postgres"):
                process = start([program(name), *words], stderr=subprocess.PIPE, cwd=records, **user())
                if name == "initdb":
                    assert process.wait() == 0
                else:
                    until_said(process, "ready to accept connections")
            else:
                environ |= {f"{PREFIX}STATE_DIR": str(folder / words[-1])}
                replicas.append(start([name, *words], stderr=subprocess.PIPE))
        for process in replicas:
            until_said(process, "Serving http")
        trusted, public = certify(folder / "certificates"), free_port()
        own_ports = [int(ports["8765"]), int(ports["8766"])]
        configuration = proxy_configuration(folder, f"127.0.0.1:{public}", own_ports)
        until_said(start(nginx(folder, configuration), stderr=subprocess.PIPE), NGINX_RUNS)
        yield Deployment(environ, replicas, own_ports, f"https://{HOST}:{public}", trusted, tokens["tokens.toml"])


async def call_modern(client: httpx.AsyncClient, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    sent = message("tools/call", name=tool, arguments=arguments, _meta=META)
    answer = await client.post("/mcp", json=sent, headers=modern(tool))
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


async def begin_session(client: httpx.AsyncClient) -> dict[str, str]:
    begun = await client.post("/mcp", json=message("initialize", **INITIALIZE))
    session = {"mcp-session-id": begun.headers["mcp-session-id"], **SESSION}
    told = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await client.post("/mcp", json=told, headers=session)).status_code == 202
    return session


async def owner_of(session: dict[str, str], running: Deployment) -> int:
    """Return the index of the replica that has the session; the other does not know it."""
    statuses: list[int] = []
    for port in running.ports:
        async with running.client() as client:
            ping = await client.post(f"http://127.0.0.1:{port}/mcp", json=message("ping"), headers=session)
            statuses.append(ping.status_code)
    assert sorted(statuses) == [200, 404]
    return statuses.index(200)


@pytest.mark.slow
@pytest.mark.anyio
async def test_the_commands_of_the_page_and_the_proxy_template_run_two_replicas_as_one(tmp_path: Path) -> None:
    with deployment(tmp_path) as running, anyio.fail_after(600):
        async with running.client() as client, httpx.AsyncClient() as stranger:
            assert [running.is_healthy(port) for port in running.ports] == [True, True]
            for port in running.ports:
                for path in ("/healthz", "/readyz"):
                    assert (await stranger.get(f"http://127.0.0.1:{port}{path}")).status_code == 200
            doctor = partial(CliRunner().invoke, cli, ["doctor", "--sandbox"], env=running.environ)
            checked = await anyio.to_thread.run_sync(doctor)
            assert checked.exit_code == 0, checked.output
            assert "token in the file of tokens" in checked.output
            assert "warning" not in checked.output

            # Who may what, from outside.
            for _ in range(6):
                assert not (await call_modern(client, READ, {}))["isError"]
            assert (await client.post("/mcp", json={}, headers={"authorization": ""})).status_code == 401
            for path in ("/metrics", "/metrics/", "//metrics", "/%6detrics"):
                assert (await client.get(path)).status_code == 404
            login = await client.get("/console", headers={"authorization": ""}, follow_redirects=True)
            assert (login.status_code, 'type="password"' in login.text) == (200, True)

            # A session stays where it is, and what comes on a stream comes at once.
            session = await begin_session(client)
            pings = [await client.post("/mcp", json=message("ping"), headers=session) for _ in range(6)]
            assert {ping.status_code for ping in pings} == {200}
            owner = await owner_of(session, running)
            parked = message("tools/call", name=DELETE, arguments=S3, _meta={"progressToken": 1})
            async with client.stream("POST", "/mcp", json=parked, headers=session) as answer:
                lines = answer.aiter_lines()
                while "notifications/progress" not in await anext(lines):
                    pass

                # The call waits for an operator when its replica is told to end.
                running.replicas[owner].send_signal(signal.SIGTERM)
                told = [json.loads(line.removeprefix("data: ")) async for line in lines if line.startswith("data: ")]
            error = told[-1]["result"]["structuredContent"]["error"]
            assert error["code"] == "approval_required"
            assert running.replicas[owner].wait() == 0
            assert [running.is_healthy(port) for port in running.ports] == [owner == 1, owner == 0]

            async with aclosing(open_database(Settings.load(own(running.environ), sandbox=True))) as database:
                await Approvals(database, ttl=60.0).decide(error["approval"]["id"], True, "operator ana")
            assert not (await call_modern(client, DELETE, S3))["isError"]
            assert "not_found" in json.dumps(await call_modern(client, DELETE, S3))
            for _ in range(6):
                assert not (await call_modern(client, READ, {}))["isError"]
            assert (await client.post("/mcp", json=message("ping"), headers=session)).status_code == 404
            assert await begin_session(client)
