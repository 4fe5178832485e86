"""`connector-mcp approvals`: the operator's channel."""

import json
import re
from contextlib import aclosing
from functools import partial

import anyio
import pytest

from connector_mcp.cli.options import load_settings
from connector_mcp.composition.storage import open_database
from connector_mcp.engine.approval.parked_call import ParkedCall
from connector_mcp.engine.approval.queue import Approvals
from connector_mcp.engine.preview import Change
from connector_mcp.sandbox import seed

DELETE = ("call", "logto_delete_connector", "--arg", f"id={seed.LOGTO_GITHUB}", "--sandbox")


def parked(**members) -> str:
    """Park a call as a server would, and give the id of its approval."""
    call = {
        "digest": "d1", "tool": "versori_update_connector", "platform": "versori", "profile": "default",
        "principal": "agent-7", "client": "assistant 1.2", "effect": "Changes connector “Acme CRM”. Unsets imageURL.",
        "target": "Acme CRM", "losses": ("Unsets imageURL (now https://acme.example/crm.png)",),
        "diff": (
            Change(field="name", before="Acme CRM", after="Acme"),
            Change(field="imageURL", before="x", after=None),
        ),
        "arguments": {"connector_id": "01J", "replace": True, "api_key": "[redacted]"},
    }  # fmt: skip

    async def park() -> str:
        async with aclosing(open_database(load_settings())) as database:
            return (await Approvals(database, ttl=3600.0).park(ParkedCall.model_validate(call | members))).id

    return anyio.run(park)


@pytest.fixture
def status(run):
    """The status of an approval, as `list --all` gives it."""

    def look(approval_id: str) -> str:
        listed = json.loads(run("approvals", "list", "--all", "--json").stdout)
        return {approval["id"]: approval["status"] for approval in listed}[approval_id]

    return look


def test_an_empty_queue_is_a_sentence_or_an_empty_array(run):
    assert run("approvals", "list").stdout == "No call waits for an operator.\n"
    assert json.loads(run("approvals", "list", "--json").stdout) == []


def test_the_list_names_what_waits_without_needing_any_platform(run):
    approval = parked()
    lines = run("approvals", "list").stdout.splitlines()
    shown = [approval, "pending", "real", "versori_update_connector", "default", "Acme CRM", "agent-7"]
    assert re.split(r"\s{2,}", lines[1])[:7] == shown


def test_the_list_can_be_limited_to_the_oldest_or_the_newest(run, monkeypatch):
    monkeypatch.setattr("connector_mcp.cli.commands.approvals._READ", 2)
    ids = [parked(digest=f"d{number}") for number in range(5)]

    def listed(*options):
        return [approval["id"] for approval in json.loads(run("approvals", "list", "--json", *options).stdout)]

    assert listed() == listed("--all") == ids
    assert listed("--limit", "3") == ids[:3]
    assert listed("--all", "--limit", "3") == ids[2:]


def test_the_json_leaves_out_what_only_the_engine_compares(run):
    parked(fingerprint="f1", snapshot={"name": "Acme CRM"})
    (approval,) = json.loads(run("approvals", "list", "--json").stdout)
    assert approval["effect"] == "Changes connector “Acme CRM”. Unsets imageURL."
    assert not {"digest", "fingerprint", "snapshot", "decision_id"} & approval.keys()


def test_show_tells_effect_losses_changes_who_and_until_when(run):
    shown = run("approvals", "show", parked()).stdout

    for text in (
        "Changes connector “Acme CRM”. Unsets imageURL.",
        "  - Unsets imageURL (now https://acme.example/crm.png)",
        "  name: Acme CRM → Acme",
        "  imageURL: x → (unset)",
        "  api_key: [redacted]",
        "asked by  agent-7 through assistant 1.2",
    ):
        assert text in shown
    assert re.search(r"^expires .*\(in 59 min\)$", shown, re.MULTILINE)


def test_text_from_callers_cannot_control_the_operators_terminal(run):
    hostile = "Acme\x1b[2J\x1b]0;x\x07\u202e\u200b\r\nid  ap-fake"
    members = dict.fromkeys(("target", "effect", "principal", "client"), hostile)
    diff = (Change(field=hostile, before=hostile, after=[hostile]),)
    approval = parked(losses=(hostile,), diff=diff, arguments={hostile: hostile}, **members)

    for arguments in (("list",), ("list", "--json"), ("show", approval)):
        written = run("approvals", *arguments).stdout
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e]", written)
        assert "\nid  ap-fake" not in written


def test_an_unknown_id_is_refused_with_the_nearest_one(run):
    approval = parked()
    result = run("approvals", "show", approval[:-1])
    assert result.exit_code == 2
    assert approval in result.stderr


@pytest.mark.parametrize("real", [False, True])
def test_an_unknown_id_is_compared_with_the_calls_of_the_sandbox_too(run, real):
    if real:
        parked(digest="another")
    run(*DELETE)
    sandboxed = json.loads(run("approvals", "list", "--json").stdout)[-1]["id"]
    result = run("approvals", "show", f"{sandboxed}x")
    assert result.exit_code == 2
    assert f"closest match: {sandboxed}" in result.stderr
    assert "there are none" not in result.stderr


@pytest.mark.parametrize("verb", ["approve", "deny"])
def test_from_a_pipe_nothing_is_decided(spawn, status, verb):
    approval = parked()
    ended = spawn("approvals", verb, approval, stdin="Acme CRM\ny\n")
    assert ended.status == 3
    assert "no terminal" in ended.err
    assert status(approval) == "pending"


def test_approving_takes_the_name_of_the_target_and_keeps_the_reason(run, in_terminal, status):
    approval = parked()
    ended = in_terminal("approvals", "approve", approval, "--reason", "agreed in the meeting", typed="Acme CRM\n")
    assert ended.status == 0, ended.out
    assert "  imageURL: " in ended.out
    assert status(approval) == "approved"
    assert "agreed in the meeting" in run("approvals", "show", approval).stdout


@pytest.mark.parametrize("typed", ["\n", "y\n", "acme crm\n", "\x04"])
def test_anything_but_the_name_or_the_id_decides_nothing(in_terminal, status, typed):
    approval = parked()
    ended = in_terminal("approvals", "approve", approval, typed=typed)
    assert ended.status != 0
    assert status(approval) == "pending"


def test_denying_ends_it_and_a_decided_call_cannot_be_decided_again(in_terminal, status):
    approval = parked()
    assert in_terminal("approvals", "deny", approval, "--reason", "not now", typed="y\n").status == 0
    assert status(approval) == "denied"
    again = in_terminal("approvals", "approve", approval, typed="Acme CRM\n")
    assert again.status == 3
    assert "is denied" in again.out


def test_an_approved_call_runs_once(run, in_terminal, tmp_path):
    delete = partial(run, *DELETE, "--data", str(tmp_path / "sandbox.db"))
    first = json.loads(delete().stdout)["error"]["approval"]["id"]
    in_terminal("approvals", "approve", first, typed=f"{first}\n")
    assert delete().exit_code == 0
    assert json.loads(run("approvals", "list", "--json").stdout) == []
    assert json.loads(run("approvals", "list", "--all", "--json").stdout)[0]["status"] == "used"
