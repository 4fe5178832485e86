"""`connector-mcp secrets`: what it stores, shows and never prints."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cli.conftest import PATIENCE, read_until, terminal

Run = Callable[..., Any]


def test_a_piped_value_is_stored_with_its_limits_and_listed_without_it(run: Run) -> None:
    done = run("secrets", "set", "SMTP", "--platform", "logto", "--field", "auth.pass", stdin="the-value\n")
    assert (done.exit_code, done.output) == (0, "secret://SMTP is stored.\n")
    listed = run("secrets", "list", "--json")
    (row,) = json.loads(listed.output)
    assert row.pop("changed").endswith("Z")
    assert row == {"reference": "secret://SMTP", "source": "store", "platforms": ["logto"], "fields": ["auth.pass"]}
    assert "the-value" not in listed.output + run("secrets", "list").output + run("secrets", "check").output


def test_without_file_locks_as_on_windows_it_is_said_where_secrets_can_be_kept(run: Run, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    refused = run("secrets", "set", "A", stdin="value")
    assert (refused.exit_code, refused.stdout) == (2, "")
    for named in ("Windows", "CONNECTOR_MCP_SECRET_NAME", "CONNECTOR_MCP_SECRETS_DIR", "CONNECTOR_MCP_SECRETS_KEYRING"):
        assert named in refused.stderr
    assert run("call", "logto_list_connectors", "--sandbox", CONNECTOR_MCP_SECRET_B="v").exit_code == 0


def test_a_typed_value_is_not_echoed(environment: dict[str, str], run: Run) -> None:
    with terminal(environment, "secrets", "set", "TYPED") as (process, master):
        shown = ""
        # What is typed before a prompt is thrown away there.
        for prompt in ("Value: ", "Once more: "):
            shown += read_until(master, prompt)
            os.write(master, b"typed-value\n")
        shown += read_until(master, "stored")
        assert process.wait(timeout=PATIENCE) == 0
    assert "typed" not in shown
    assert "secret://TYPED" in run("secrets", "list").output


def test_a_removed_secret_is_gone_and_removing_an_unknown_one_fails(run: Run) -> None:
    run("secrets", "set", "A", stdin="value")
    assert run("secrets", "rm", "A").output == "secret://A is removed.\n"
    assert run("secrets", "list").output == "No secret is stored.\n"
    assert run("secrets", "rm", "A").exit_code == 2


def test_an_invalid_name_or_value_is_not_stored_and_not_repeated(run: Run) -> None:
    done = run("secrets", "set", "AKIAABCDEFGHIJKLMNOP", stdin="value")
    assert done.exit_code == 2
    assert "AKIA" not in done.output
    assert run("secrets", "set", "../A", stdin="value").exit_code == 2
    assert run("secrets", "set", "A", stdin="\n").exit_code == 2
    assert run("secrets", "set", "A", stdin="x" * 70_000).exit_code == 2
    assert run("secrets", "set", "A", "--platform", "logtoo", stdin="x").exit_code == 2
    assert run("secrets", "list").output == "No secret is stored.\n"


def test_a_stored_secret_that_another_source_hides_is_reported(run: Run) -> None:
    done = run("secrets", "set", "A", stdin="value", CONNECTOR_MCP_SECRET_A="other")
    assert "the environment has a secret of this name" in done.output


def test_the_check_names_secrets_that_are_unreadable_or_open_to_others(run: Run, tmp_path: Path) -> None:
    run("secrets", "set", "A", stdin="value")
    fine = run("secrets", "check")
    assert (fine.exit_code, fine.output) == (0, "secret://A: fine (store)\nNothing is wrong.\n")
    (tmp_path / "state" / "secrets.enc").chmod(0o644)
    assert "chmod 600" in run("secrets", "check").output
    (tmp_path / "state" / "secrets.enc").chmod(0o600)
    (tmp_path / "state" / "secrets.key").chmod(0o644)
    exposed = run("secrets", "check")
    assert exposed.exit_code == 1
    assert "can be read by others" in exposed.output
    (tmp_path / "state" / "secrets.key").chmod(0o600)
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted" / "EMPTY").write_text("\n")
    empty = run("secrets", "check", CONNECTOR_MCP_SECRETS_DIR=str(tmp_path / "mounted"))
    assert empty.exit_code == 1
    assert "secret://EMPTY: empty (directory)" in empty.output


def test_the_check_names_limits_of_unknown_secrets_and_files_that_others_can_change(run: Run, tmp_path: Path) -> None:
    limits, mounted = tmp_path / "secrets.toml", tmp_path / "mounted"
    limits.write_text('[GONE]\nplatforms = ["logto"]\n')
    limits.chmod(0o666)
    mounted.mkdir()
    mounted.chmod(0o1777)
    done = run("secrets", "check", CONNECTOR_MCP_SECRETS_LIMITS=str(limits), CONNECTOR_MCP_SECRETS_DIR=str(mounted))
    assert done.exit_code == 1
    assert "secret://GONE: has limits, but is not stored" in done.output
    assert f"{limits}: mode 0666 lets other users change it" in done.output
    assert done.output.endswith("Wrong: 2.\n")


def test_the_tool_that_lists_secrets_is_served_only_if_there_are_any(run: Run) -> None:
    assert "list_secrets" not in run("tools", "--sandbox").output
    run("secrets", "set", "A", stdin="value")
    assert "list_secrets" in run("tools", "--sandbox").output
    blocked = run("tools", "--sandbox", "--policy", "list_secrets=block")
    assert blocked.exit_code == 0
    assert "list_secrets" not in blocked.output
