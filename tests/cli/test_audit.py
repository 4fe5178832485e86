"""`connector-mcp audit`: what an operator learns of the calls that were made."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from connector_mcp.audit.chain import LogPaths
from connector_mcp.audit.files import AuditLog
from connector_mcp.audit.record import AuditRecord
from connector_mcp.cli.options import load_settings
from connector_mcp.composition.storage import audit_path
from connector_mcp.sandbox import seed

DELETE = ("call", "logto_delete_connector", "--arg", f"id={seed.LOGTO_GITHUB}", "--sandbox", "--policy=destroy=allow")
HOSTILE = "evil\x1b[2J\x1b]0;x\x07\u202e\u200b\r\n2026 fake"


def keep(*records):
    log = AuditLog(audit_path(load_settings()))
    for members in records:
        given = {
            "call_id": "c1", "principal": "agent-7", "client": "assistant 1.2", "transport": "http",
            "platform": "logto", "profile": "default", "tool": "logto_delete_connector", "effect": "destroy",
            "decision": "approve", "decided_by": "operator ops", "channel": "approvals", "outcome": "ok",
            "duration_ms": 12.4,
        }  # fmt: skip
        log.write(AuditRecord(**(given | members)))
    log.close()


def shown(run, *arguments):
    return [record["call_id"] for record in json.loads(run("audit", "show", "--json", *arguments).stdout)]


def test_a_call_is_one_line_however_many_records_it_has(run):
    assert run(*DELETE).exit_code == 0
    run("call", "logto_list_connectors", "--sandbox")
    header, *rows = run("audit", "show").stdout.splitlines()
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
    now = datetime.now(UTC).isoformat()
    keep(
        {"call_id": "old", "time": "2026-01-01T00:00:00.000Z"},
        {"call_id": "read", "tool": "versori_get_connector", "time": now},
        {"call_id": "mallory", "principal": "mallory", "time": now},
        {"call_id": "failed", "outcome": "not_found", "time": now},
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


def test_an_invalid_line_of_the_log_is_left_out_with_a_notice(run):
    keep({})
    path = audit_path(load_settings())
    with path.open("a") as file:
        file.write(path.read_text().replace("agent-7", "agent-8"))
    result = run("audit", "show", "--json")
    assert [record["principal"] for record in json.loads(result.stdout)] == ["agent-7"]
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

    path = audit_path(load_settings())
    path.write_text(path.read_text().replace('"ok"', '"no"', 1))
    harmed = run("audit", "verify")
    assert harmed.exit_code == 1
    assert harmed.stdout.startswith("problem: audit.jsonl line 1: its hash does not fit")
    assert "NOT intact" in harmed.stdout
    assert json.loads(run("audit", "verify", "--json").stdout)["intact"] is False


def test_a_log_that_cannot_be_checked_is_not_reported_as_intact(run):
    missing = run("audit", "verify")
    assert missing.exit_code not in (0, 1)
    assert "there is none" in missing.stderr
    keep({})
    LogPaths(audit_path(load_settings())).key.unlink()
    assert run("audit", "verify").exit_code not in (0, 1)


def test_a_log_file_is_rotated_at_the_configured_size(run, environment):
    for _ in range(2):
        for _ in range(3):
            keep({"arguments": {"filler": "x" * 30_000}})
        run("call", "logto_list_connectors", "--sandbox", CONNECTOR_MCP_AUDIT_FILE_BYTES="65536")
    assert len(list(Path(environment["CONNECTOR_MCP_STATE_DIR"]).glob("audit*.jsonl"))) == 3
    assert run("audit", "verify").exit_code == 0
    assert len(shown(run, "--tool", "logto_list_connectors")) == 2


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
