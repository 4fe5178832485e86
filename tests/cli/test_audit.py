"""`connector-mcp audit`: what an operator learns of the calls that were made."""

import json
import re
import time
from contextlib import closing
from datetime import UTC, datetime

import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from connector_mcp.audit.reader import AuditReader
from connector_mcp.cli.options import load_settings
from connector_mcp.errors import StoreUnavailable
from connector_mcp.sandbox import seed
from connector_mcp.state.sqlite import SqliteDatabase
from tests.records import a_record, append, rows

DELETE = ("call", "logto_delete_connector", "--arg", f"id={seed.LOGTO_GITHUB}", "--sandbox", "--policy=destroy=allow")
HOSTILE = "evil\x1b[2J\x1b]0;x\x07\u202e\u200b\r\n2026 fake"


def database(at=None):
    return SqliteDatabase(load_settings().state_dir / "records.db", wall_clock=time.time if at is None else lambda: at)


def change(sql):
    with closing(database()) as opened:
        rows(opened, sql)


def keep(*records, at=None):
    given = {
        "principal": "agent-7", "client": "assistant 1.2", "transport": "http", "tool": "logto_delete_connector",
        "effect": "destroy", "decision": "approve", "decided_by": "operator ops", "channel": "approvals",
        "duration_ms": 12.4,
    }  # fmt: skip
    with closing(database(at)) as opened:
        append(opened, *[a_record(**(given | members)) for members in records])


def shown(run, *arguments):
    return [record["call_id"] for record in json.loads(run("audit", "show", "--json", *arguments).stdout)]


def test_a_call_is_one_line_however_many_records_it_has(run):
    assert run(*DELETE).exit_code == 0
    run("call", "logto_list_connectors", "--sandbox")
    header, *rows = run("audit", "show", "--sandbox").stdout.splitlines()
    assert header.split() == ["time", "who", "tool", "effect", "decision", "outcome", "call"]
    assert [re.split(r"\s{2,}", row)[1:-1] for row in rows] == [
        ["local", "logto_delete_connector (sandbox)", "destroy", "allow by policy", "ok"],
        ["local", "logto_list_connectors (sandbox)", "read", "allow", "ok"],
    ]


def test_a_call_without_an_end_is_shown_as_such(run):
    keep({"phase": "begun", "outcome": "begun"}, {"call_id": "c2"})
    assert "no end" in run("audit", "show").stdout
    assert shown(run, "--outcome", "begun") == ["c1"]
    assert "c1" in run("audit", "verify").stdout


def test_records_are_chosen_by_time_tool_caller_and_outcome(run):
    keep({"call_id": "old"}, at=datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    keep(
        {"call_id": "read", "tool": "versori_get_connector"},
        {"call_id": "mallory", "principal": "mallory"},
        {"call_id": "failed", "outcome": "not_found"},
    )

    assert shown(run) == ["old", "read", "mallory", "failed"]
    assert shown(run, "--since", "1h") == ["read", "mallory", "failed"]
    assert shown(run, "--since", "2025-12-31T23:59Z") == shown(run)
    assert shown(run, "--since", "1d", "--tool", "logto_*", "--principal", "agent-7") == ["failed"]
    assert shown(run, "--outcome", "not_found") == ["failed"]
    assert run("audit", "show", "--outcome", "refused").stdout == "No record matches.\n"


@pytest.mark.parametrize("when", ["yesterday", "5y", "2026-13-01"])
def test_an_invalid_time_is_refused_with_the_expected_form(run, when):
    result = run("audit", "show", "--since", when)
    assert result.exit_code == 2
    assert "expected 24h" in result.stderr


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("logto_*", ["c_b", "c%b"]), ("*_c?b", ["c_b", "c%b"]), ("l*[_]c[%]b", ["c%b"]), ("LOGTO_*", []), ("a!b", ["!"])],
)
def test_a_pattern_of_tools_is_matched_exactly(run, pattern, found):
    tools = {"c_b": "logto_c_b", "c%b": "logto_c%b", "!": "a!b", "other": "versori_x"}
    keep(*({"call_id": call, "tool": tool} for call, tool in tools.items()))
    assert shown(run, "--tool", pattern) == found


def test_the_last_calls_are_shown_and_all_are_exported(run, monkeypatch):
    monkeypatch.setattr("connector_mcp.audit.reader.PAGE", 3)
    monkeypatch.setattr("connector_mcp.audit.reader._WINDOW", 4)
    keep(*({"call_id": str(number), "phase": phase} for number in range(10) for phase in ("begun", "ended")))
    assert shown(run) == list("0123456789")
    assert shown(run, "--limit", "3") == list("789")
    assert "--limit shows more" in run("audit", "show", "--limit", "3").stderr
    exported = [json.loads(line)["metadata"]["sequence"] for line in run("audit", "export").stdout.splitlines()]
    assert exported == list(range(1, 21))
    assert shown(run, "-n", "1") == ["9"]
    after = run("audit", "export", "--after", "18", "--tool", "logto_*").stdout.splitlines()
    assert [json.loads(line)["metadata"]["sequence"] for line in after] == [19, 20]


def test_a_record_by_its_number_or_a_call_by_its_id_is_shown_whole(run):
    keep({"phase": "begun", "outcome": "begun", "arguments": {"id": HOSTILE}}, {"call_id": "c2"}, {"tenant": "org-1"})
    assert [record["seq"] for record in json.loads(run("audit", "show", "c1", "--json").stdout)] == [1, 3]
    (whole,) = json.loads(run("audit", "show", "3", "--json").stdout)
    assert (whole["tenant"], len(whole["hash"])) == ("org-1", 64)
    for asked, numbers in (("c1", ["1", "3"]), ("2", ["2"])):
        text = run("audit", "show", asked).stdout
        assert re.findall(r"^seq +(\d+)$", text, re.MULTILINE) == numbers
        assert len(re.findall(rf"^(?:{'|'.join(whole)}) ", text, re.MULTILINE)) == len(whole) * len(numbers)
    for unknown in ("4", "c9"):
        refused = run("audit", "show", unknown)
        assert refused.exit_code == 1
        assert f"no record of the {'number 4' if unknown == '4' else 'call c9'}." in refused.stderr


def test_the_probes_of_doctor_are_told_from_calls_of_agents(run):
    run("doctor", "--sandbox")
    run("call", "logto_list_connectors", "--sandbox")
    _, *rows, last = run("audit", "show", "--sandbox").stdout.splitlines()
    assert [re.split(r"\s{2,}", row)[1] for row in (*rows, last)] == ["local (probe)"] * len(rows) + ["local"]
    assert rows


@pytest.mark.parametrize("together", [1, 5_000])
def test_an_export_with_a_cursor_goes_on_after_a_restart(run, monkeypatch, together):
    def exported(*arguments):
        printed = run("audit", "export", "--cursor", *arguments).stdout.splitlines()
        return "".join(json.loads(line)["metadata"]["correlation_uid"] for line in printed)

    monkeypatch.setattr("connector_mcp.cli.commands.audit._TOGETHER", together)
    monkeypatch.setattr("connector_mcp.cli.commands.audit.time.sleep", interrupt)
    keep(*({"call_id": call} for call in "abc"))
    assert exported("shipper", "--follow") == "abc"
    assert exported("shipper", "--follow") == ""
    keep({"call_id": "d"}, {"call_id": "e"})
    assert [exported("shipper"), exported("other"), exported("shipper")] == ["de", "abcde", ""]
    assert run("audit", "export", "--cursor", "shipper", "--after", "1").exit_code == 2


def interrupt(_):
    raise KeyboardInterrupt


def test_what_was_not_printed_is_exported_again(run, monkeypatch):
    keep({"call_id": "a"}, {"call_id": "b"})
    with monkeypatch.context() as patched:
        patched.setattr("connector_mcp.cli.commands.audit.as_ocsf_event", interrupt)
        run("audit", "export", "--cursor", "shipper")
    assert len(run("audit", "export", "--cursor", "shipper").stdout.splitlines()) == 2


def test_following_prints_new_records_and_survives_a_database_that_is_away(run, monkeypatch):
    def wait(_):
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    steps = iter((
        lambda: keep({"call_id": "a"}),
        lambda: keep({"call_id": "b"}, {"call_id": "c"}),
        lambda: monkeypatch.setattr(AuditReader, "end", away),
        lambda: monkeypatch.setattr(AuditReader, "end", end),
        lambda: keep({"call_id": "d"}),
        lambda: None,
    ))  # fmt: skip
    end = AuditReader.end

    def away(*_):
        raise StoreUnavailable("The database is away.", fix="")

    monkeypatch.setattr("connector_mcp.cli.commands.audit.time.sleep", wait)
    result = run("audit", "export", "--follow")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["metadata"]["correlation_uid"] for event in events] == list("abcd")
    assert result.stderr.count("Waiting: ") == 2


def test_following_ends_with_an_error_if_the_database_came_back_older(run, monkeypatch):
    keep({"call_id": "a"}, {"call_id": "b"})

    def wait(_):
        (load_settings().state_dir / "records.db").unlink()
        keep({"call_id": "other"})

    monkeypatch.setattr("connector_mcp.cli.commands.audit.time.sleep", wait)
    result = run("audit", "export", "--follow")
    assert result.exit_code == 5
    assert "came back older" in result.stderr
    assert "came back older" in run("audit", "export", "--after", "9").stderr


def test_old_records_are_archived_and_checked_with_the_rest(run, tmp_path):
    keep({"call_id": "old"}, at=datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    keep({"call_id": "new"})
    moved = run("audit", "archive", "--before", "2026-02-01", "--to", str(tmp_path / "old")).stdout
    assert moved.startswith("Records 1 to 1 are in ")
    (file,) = (tmp_path / "old").iterdir()
    assert shown(run) == ["new"]
    assert run("audit", "verify").exit_code == 0
    assert "3 records, numbers 1 to 3" in run("audit", "verify", "--archive", str(file)).stdout
    assert run("audit", "archive", "--before", "2026-02-01").stdout == "No record is that old.\n"


def test_an_invalid_line_of_the_log_is_left_out_with_a_notice(run):
    keep({}, {"call_id": "c2"})
    change("UPDATE audit SET line = replace(line, 'agent-7', 'agent-8') WHERE seq = 2")
    result = run("audit", "show", "--json")
    assert [record["principal"] for record in json.loads(result.stdout)] == ["agent-7"]
    assert result.stderr == "1 line is left out: run `connector-mcp audit verify`.\n"


def test_a_line_that_was_made_up_far_from_the_others_does_not_hold_up_the_commands(run):
    keep({}, {"call_id": "c2"})
    change(f"INSERT INTO audit (seq, at, call_id, phase, tool, line) VALUES ({2**63 - 2}, 0, 'x', 'ended', 'x', 'x')")
    assert shown(run) == shown(run, "--tool", "logto_*") == ["c1", "c2"]
    for chosen in ((), ("--tool", "logto_*")):
        assert len(run("audit", "export", *chosen).stdout.splitlines()) == 2
    keep({"call_id": "c3"})
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        keep({"call_id": "c4"})


def test_a_record_of_the_log_itself_that_claims_to_be_a_call_is_left_out(run):
    keep({})
    change("UPDATE audit_chain SET head = ''")
    keep({"call_id": "c2"})
    change("UPDATE audit SET call_id = 'c3', tool = 'logto_x', phase = 'ended' WHERE seq = 2")
    for arguments in (("show", "--json"), ("show", "--json", "--tool", "logto_*"), ("export", "--tool", "logto_*")):
        result = run("audit", *arguments)
        assert re.findall('"(?:call_id|correlation_uid)": ?"(..)"', result.stdout) == ["c1", "c2"]
        assert result.stderr == "1 line is left out: run `connector-mcp audit verify`.\n"


def test_text_from_callers_cannot_control_the_operators_terminal(run):
    keep({
        "principal": HOSTILE, "client": HOSTILE, "decided_by": HOSTILE, "call_id": HOSTILE, "outcome": "begun",
        "phase": "begun", "arguments": {HOSTILE: HOSTILE}, "upstream_request_id": HOSTILE, "tenant": HOSTILE,
    })  # fmt: skip
    for arguments in (("show",), ("show", "--json"), ("export",), ("verify",), ("verify", "--json")):
        written = run("audit", *arguments).stdout
        assert "evil" in written
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e]", written)
        assert "\n2026 fake" not in written


def test_the_exit_status_says_whether_the_log_is_intact(run):
    keep({}, {"call_id": "c2"})
    intact = run("audit", "verify")
    assert intact.exit_code == 0
    assert intact.stdout.startswith("intact: 2 records, numbers 1 to 2\nlast hash: ")

    change("UPDATE audit SET line = replace(line, '\"ok\"', '\"no\"') WHERE seq = 1")
    harmed = run("audit", "verify")
    assert harmed.exit_code == 1
    assert harmed.stdout.startswith("problem: record 1: its hash does not fit")
    assert "NOT intact" in harmed.stdout
    assert json.loads(run("audit", "verify", "--json").stdout)["intact"] is False


def test_a_log_that_cannot_be_checked_is_not_reported_as_intact(run):
    missing = run("audit", "verify")
    assert missing.exit_code not in (0, 1)
    assert "there is none" in missing.stderr
    keep({})
    change("DELETE FROM keys")
    assert run("audit", "verify").exit_code not in (0, 1)


def test_an_export_has_an_event_of_the_api_activity_class_for_every_record(run):
    keep(
        {"phase": "begun", "outcome": "begun", "arguments": {"id": "g", "note": None}},
        {"upstream_status": 204, "upstream_request_id": "r1", "tenant": "org-1", "arguments": {"id": "g"}},
        {"outcome": "not_found", "effect": "update", "upstream_status": 404},
        {"tool": "describe_connector_type", "platform": None, "client": None, "effect": "read"},
    )

    begun, ended, failed, read = map(json.loads, run("audit", "export").stdout.splitlines())
    assert {event["class_uid"] for event in (begun, ended, failed, read)} == {6003}
    kinds = [(event["activity_id"], event["type_uid"]) for event in (begun, failed, read)]
    assert kinds == [(4, 600304), (3, 600303), (2, 600302)]
    assert [event["status_id"] for event in (begun, ended, failed, read)] == [0, 1, 2, 1]
    assert begun["metadata"]["correlation_uid"] == ended["metadata"]["correlation_uid"] == "c1"
    assert [event["metadata"]["sequence"] for event in (begun, ended)] == [1, 2]
    assert begun["api"]["request"]["data"] == {"id": "g", "note": None}
    assert ended["api"] == {
        "operation": "logto_delete_connector",
        "service": {"name": "logto"},
        "request": {"uid": "c1", "data": {"id": "g"}},
        "response": {"code": 204, "data": {"request_id": "r1"}},
    }
    assert ended["metadata"]["tenant_uid"] == "org-1"
    assert ended["actor"] == {"user": {"name": "agent-7"}, "app_name": "assistant 1.2"}
    assert (ended["unmapped"]["decided_by"], ended["unmapped"]["channel"]) == ("operator ops", "approvals")
    assert (ended["duration"], ended["status_code"]) == (12, "ok")
    assert read["src_endpoint"] == {"name": "http"}
    published = OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.3.0")).get_class_schema("api_activity")
    check = Draft202012Validator(published)
    assert [error.message for event in (begun, ended, failed, read) for error in check.iter_errors(event)] == []
