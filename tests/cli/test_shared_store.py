"""The operator's commands where replicas share a Redis."""

import json
from contextlib import aclosing

import pytest

from connector_mcp.composition.http_access import make_access
from connector_mcp.config.settings import Settings
from connector_mcp.sandbox import seed
from tests.redis_server import RedisServer, redis_server

DELETE = ("call", "logto_delete_connector", "--arg", f"id={seed.LOGTO_GITHUB}", "--sandbox", "--policy")
AWAY = "unix://:hidden-word@/nowhere/socket"


def test_the_audit_commands_read_the_log_of_all_replicas(run, redis: RedisServer):
    assert run(*DELETE, "destroy=allow", CONNECTOR_MCP_STATE=redis.url).exit_code == 0
    assert run(*DELETE, "destroy=block", CONNECTOR_MCP_STATE=redis.url).exit_code != 0

    shown = json.loads(run("audit", "show", "--json", CONNECTOR_MCP_STATE=redis.url).stdout)
    assert [record["outcome"] for record in shown] == ["ok", "blocked"]
    exported = run("audit", "export", CONNECTOR_MCP_STATE=redis.url).stdout.splitlines()
    assert [json.loads(line)["class_uid"] for line in exported] == [6003] * 3
    whole = run("audit", "verify", CONNECTOR_MCP_STATE=redis.url)
    assert (whole.exit_code, whole.stdout.splitlines()[0]) == (0, "intact: 3 records, numbers 1 to 3")

    with redis.client() as client:
        stream = "{connector-mcp}:audit:lines"
        client.xdel(stream, client.xrange(stream)[1][0])
    broken = run("audit", "verify", CONNECTOR_MCP_STATE=redis.url)
    assert broken.exit_code == 1
    assert "record 2 is missing" in broken.stdout


def test_an_operator_decides_on_any_machine_that_may_reach_redis(run, redis: RedisServer):
    assert run(*DELETE, "destroy=approve", CONNECTOR_MCP_STATE=redis.url).exit_code != 0
    (waiting,) = json.loads(run("approvals", "list", "--json", CONNECTOR_MCP_STATE=redis.url).stdout)
    assert waiting["tool"] == "logto_delete_connector"
    assert json.loads(run("approvals", "list", "--json").stdout) == []


def test_doctor_accepts_a_store_that_keeps_everything(run, redis: RedisServer):
    report = json.loads(run("doctor", "--json", "--sandbox", CONNECTOR_MCP_STATE=redis.url).stdout)
    assert report["ok"] is True
    store = {"address": redis.url.removeprefix("unix://"), "reachable": True, "detail": "", "warnings": []}
    assert report["store"] == store


def test_doctor_warns_of_a_store_that_may_forget(run):
    with redis_server("--maxmemory-policy", "allkeys-lru", "--appendonly", "no") as server:
        result = run("doctor", "--sandbox", CONNECTOR_MCP_STATE=server.url)
    assert result.exit_code == 0
    assert "maxmemory-policy is allkeys-lru" in result.stdout
    assert "appendonly is off" in result.stdout


def test_doctor_reports_an_unreachable_store_without_its_password(run):
    result = run("doctor", "--sandbox", CONNECTOR_MCP_STATE=AWAY)
    assert result.exit_code == 1
    assert "The Redis store at /nowhere/socket cannot be reached." in result.stdout
    assert "hidden-word" not in result.output


def test_a_server_does_not_start_while_the_store_is_away(spawn):
    result = spawn("serve", "--http", "--port", "0", "--sandbox", CONNECTOR_MCP_STATE=AWAY)
    assert result.status != 0
    assert "The Redis store at /nowhere/socket cannot be reached." in result.err
    assert "CONNECTOR_MCP_STATE" in result.err
    assert "hidden-word" not in result.out + result.err
    assert "Traceback" not in result.err


def test_reads_are_answered_while_the_store_is_away_and_changes_are_not(run):
    read = run("call", "logto_list_connectors", "--sandbox", CONNECTOR_MCP_STATE=AWAY)
    change = run(*DELETE, "destroy=allow", CONNECTOR_MCP_STATE=AWAY)
    assert read.exit_code == 0
    assert change.exit_code != 0
    assert "store_unavailable" in change.output
    assert "hidden-word" not in read.output + change.output


@pytest.mark.anyio
async def test_servers_over_http_count_the_requests_of_a_caller_together(redis: RedisServer) -> None:
    settings = Settings.load({}, state=redis.url, http_requests_per_minute=2)
    async with aclosing(make_access(settings)) as one, aclosing(make_access(settings)) as two:
        assert [await server.rate.seconds_to_wait("p") for server in (one, two)] == [0, 0]
        assert await one.rate.seconds_to_wait("p") > 0
        assert await two.rate.seconds_to_wait("p") > 0
