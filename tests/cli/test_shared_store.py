"""The operator's commands where replicas share a PostgreSQL database."""

import json
from contextlib import aclosing

import pytest

from connector_mcp.composition.http_access import make_access
from connector_mcp.config.settings import Settings
from connector_mcp.sandbox import seed
from tests.postgres_server import PostgresFixture

DELETE = ("call", "logto_delete_connector", "--arg", f"id={seed.LOGTO_GITHUB}", "--sandbox", "--policy")
AWAY = "postgresql://user:hidden-word@/none?host=/nowhere"


def test_the_audit_commands_read_the_log_of_all_replicas(run, postgres: PostgresFixture):
    assert run(*DELETE, "destroy=allow", CONNECTOR_MCP_STATE=postgres.url).exit_code == 0
    assert run(*DELETE, "destroy=block", CONNECTOR_MCP_STATE=postgres.url).exit_code != 0

    shown = json.loads(run("audit", "show", "--sandbox", "--json", CONNECTOR_MCP_STATE=postgres.url).stdout)
    assert [record["outcome"] for record in shown] == ["ok", "blocked"]
    exported = run("audit", "export", "--sandbox", CONNECTOR_MCP_STATE=postgres.url).stdout.splitlines()
    assert [json.loads(line)["class_uid"] for line in exported] == [6003] * 3
    whole = run("audit", "verify", "--sandbox", CONNECTOR_MCP_STATE=postgres.url)
    assert (whole.exit_code, whole.stdout.splitlines()[0]) == (0, "intact: 3 records, numbers 1 to 3")


@pytest.mark.parametrize("address", ["redis://h:6379", "rediss://h", "unix:///s"])
def test_the_address_of_a_redis_names_its_replacement(run, address: str):
    result = run("audit", "show", CONNECTOR_MCP_STATE=address)
    assert result.exit_code == 2
    assert "postgresql://" in result.stderr
    assert "kept in PostgreSQL instead of Redis" in result.stderr


@pytest.mark.parametrize("rest", ["%zz@h/d", "word@h/d?nonsense=1", "word@[h/d"])
def test_an_invalid_address_is_refused_without_its_password(run, rest: str):
    result = run("audit", "show", CONNECTOR_MCP_STATE=f"postgresql://u:hidden-{rest}")
    assert result.exit_code != 0
    assert "CONNECTOR_MCP_STATE" in result.output
    assert "hidden" not in result.output


def test_doctor_checks_that_the_shared_database_can_be_written_and_keeps_what_it_is_given(
    run, postgres: PostgresFixture
):
    report = json.loads(run("doctor", "--json", "--sandbox", CONNECTOR_MCP_STATE=postgres.url).stdout)
    assert report["ok"] is True
    assert report["database"]["usable"] is True
    # The server of the tests does not wait for the disk.
    assert [warning.split(":")[0] for warning in report["database"]["warnings"]] == [
        "fsync is off", "full_page_writes is off", "synchronous_commit is off",
    ]  # fmt: skip


def test_doctor_reports_an_unreachable_database_without_its_password(run):
    result = run("doctor", "--sandbox", CONNECTOR_MCP_STATE=AWAY)
    assert result.exit_code == 1
    assert "Database: none on /nowhere (The database none on /nowhere cannot be used: " in result.stdout
    assert "hidden-word" not in result.output


def test_reads_are_answered_while_the_database_is_away_and_changes_are_not(run):
    read = run("call", "logto_list_connectors", "--sandbox", CONNECTOR_MCP_STATE=AWAY)
    change = run(*DELETE, "destroy=allow", CONNECTOR_MCP_STATE=AWAY)
    assert read.exit_code == 0
    assert change.exit_code != 0
    assert "store_unavailable" in change.output
    assert "hidden-word" not in read.output + change.output


@pytest.mark.anyio
async def test_servers_over_http_count_the_requests_of_a_caller_together(postgres: PostgresFixture) -> None:
    settings = Settings.load({}, state=postgres.url, http_requests_per_minute=2)
    async with aclosing(make_access(settings)) as one, aclosing(make_access(settings)) as two:
        assert [await server.rate.seconds_to_wait("p") for server in (one, two)] == [0, 0]
        assert await one.rate.seconds_to_wait("p") > 0
        assert await two.rate.seconds_to_wait("p") > 0
