"""The guides are true: recipes decide as shown, entries are those of the command, backups can be restored."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from connector_mcp.cli.commands.install import CLIENTS
from connector_mcp.cli.main import cli
from connector_mcp.composition.accounts import missing, profile_policy
from connector_mcp.composition.engine import server_policy
from connector_mcp.composition.health import examine_platforms
from connector_mcp.config.settings import PREFIX, Settings
from connector_mcp.engine.caller import TransportName
from connector_mcp.engine.policy import resolve
from connector_mcp.operations.catalog import PLATFORMS, catalog, platform_folder
from connector_mcp.operations.operation import Effect
from connector_mcp.sandbox.app import Sandbox
from tests.documents import BY_NAME, Block, settings_shown
from tests.end_to_end.faces import served
from tests.postgres_server import PostgresFixture, program

TRANSPORTS: tuple[TransportName, ...] = ("stdio", "http")
_RECIPE = re.compile(r"^\| `(\w+)`(?: under `(\w+)`)? \| `(\w+)` \| (\w+) \| (\w+) \|$", re.MULTILINE)
_DECISIONS = {"allowed": "allow", "asked": "ask", "approved": "approve", "blocked": "block"}
RECIPES = BY_NAME["docs/policy-recipes.md"].text.split("\n## ")[1:]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.partition("\n")[0])
def test_a_recipe_for_a_policy_decides_as_its_table_says(recipe: str, tmp_path: Path) -> None:
    (shown,) = re.findall(r"^```toml\n(.*?)^```$", recipe, re.MULTILINE | re.DOTALL)
    settings = settings_shown(Block("toml", shown), tmp_path, CONNECTOR_MCP_STATE_DIR=str(tmp_path))
    rows = _RECIPE.findall(recipe)
    assert len(rows) == recipe.count("\n| ") - 1 >= 3
    for tool, profile, effect, *expected in rows:
        for transport, wanted in zip(TRANSPORTS, expected, strict=True):
            policy = server_policy(settings, transport)
            if profile:
                (own,) = (each for each in settings.profiles if each.name == profile)
                policy = profile_policy(own, policy)
            effects = {Effect(effect), catalog()[tool].effect}
            decision = max((policy.decide(tool, each) for each in effects), key=lambda each: each.strictness)
            assert resolve(decision, can_ask=True, operator_channel=settings.approvals) == _DECISIONS[wanted], tool


@pytest.mark.parametrize("name", CLIENTS)
def test_the_entries_on_the_page_of_a_client_are_those_that_the_command_writes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = BY_NAME[f"docs/clients/{name}.md"]
    for variable in ("VECTORIZE_API_KEY", "VECTORIZE_ORGANIZATION_ID"):
        monkeypatch.setenv(variable, "given")
    assert CLIENTS[name].path().name in page.prose
    blocks = page.blocks()
    installs = [at for at, block in enumerate(blocks) if block.text.startswith(f"connector-mcp install {name} ")]
    assert len(installs) == 2
    for at in installs:
        printed = CliRunner().invoke(cli, [*blocks[at].text.split()[1:], "--print"], catch_exceptions=False).stdout
        read = tomllib.loads if CLIENTS[name].path().suffix == ".toml" else json.loads
        written, shown = read(printed), read(blocks[at + 1].text)
        (entry,) = written[CLIENTS[name].member].values()
        entry |= {"command": "connector-mcp", "args": entry["args"][entry["args"].index("serve") :]}
        assert shown == written


def test_the_clients_that_have_a_page_are_those_that_the_command_knows() -> None:
    pages = {Path(name).stem for name in BY_NAME if name.startswith("docs/clients/")}
    assert pages - {"index", "http"} == set(CLIENTS)


@pytest.mark.parametrize("name", PLATFORMS)
def test_the_page_of_a_platform_sets_what_it_needs_and_checks_it(name: str) -> None:
    page = BY_NAME[f"docs/platforms/{name}.md"]
    (shown,) = (block.text for block in page.blocks("sh"))
    # The address of a tenant may follow from its client id.
    exported = dict.fromkeys(re.findall(r"^export (\w+)=", shown, re.MULTILINE), "fox-1@acme.conductor.one/pcc")
    assert exported
    assert not missing(platform_folder(name).platform, exported)
    assert f"\nconnector-mcp doctor --platforms {name}\n" in shown


@pytest.mark.anyio
async def test_the_pages_of_the_platforms_name_what_doctor_says_of_wrong_credentials(tmp_path: Path) -> None:
    sandbox, settings = Sandbox(), Settings.load({"CONNECTOR_MCP_STATE_DIR": str(tmp_path)})
    secret = {each.name for name in PLATFORMS for each in platform_folder(name).platform.variables if each.secret}
    async with served(sandbox.app()) as origin:
        right = {key: value for name in PLATFORMS for key, value in sandbox.variables(name, origin).items()}
        wrong = {key: "wrong" if key in secret else value for key, value in right.items()}
        accepted, refused = [await examine_platforms(settings, environ) for environ in (right, wrong)]
    sandbox.close()
    assert all(report.fine for report in accepted)
    for name, report in zip(PLATFORMS, refused, strict=True):
        assert f"\n| `{report.detail.partition(':')[0]}` | " in BY_NAME[f"docs/platforms/{name}.md"].text


@pytest.mark.slow
def test_the_records_in_postgresql_are_saved_and_restored_by_the_commands_that_are_shown(
    postgres: PostgresFixture, tmp_path: Path
) -> None:
    save, restore = (block.text for block in BY_NAME["docs/upgrade.md"].blocks("sh"))
    folders = (str(Path(sys.executable).parent), str(Path(program("pg_restore")).parent), os.environ["PATH"])
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environ |= {"CONNECTOR_MCP_STATE": postgres.url, "CONNECTOR_MCP_SANDBOX": "true"}
    environ |= {"CONNECTOR_MCP_STATE_DIR": str(tmp_path), "PATH": os.pathsep.join(folders)}

    def run(*lines: str) -> str:
        command = ["sh", "-euc", "\n".join(lines)]
        ended = subprocess.run(command, env=environ, cwd=tmp_path, check=True, capture_output=True, text=True)
        return ended.stdout

    read = "connector-mcp call logto_list_connectors"
    run(read, save, read)
    later = run("connector-mcp audit verify").split()[-1]
    assert "intact: 1 record," in run(restore)
    # The check alone cannot see what is missing.
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run(f"connector-mcp audit verify --seen {later}")
    assert "NOT intact" in failed.value.stdout
    assert "intact: 2 records," in run(read, "connector-mcp audit verify")
