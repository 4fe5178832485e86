"""Several accounts on one platform: which of them a call is made under, and that nothing of one counts for another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from connector_mcp.audit.trail import AuditTrail
from connector_mcp.config.settings import Settings
from connector_mcp.engine.accounts import Account, Accounts
from connector_mcp.engine.engine import Engine
from connector_mcp.engine.policy import Policy
from connector_mcp.operations.catalog import PLATFORMS, catalog, platform_folder
from connector_mcp.operations.tool import PROFILE
from connector_mcp.provisioning.calls import CALLS
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.app import Sandbox
from connector_mcp.secrets.collection import Secrets
from connector_mcp.secrets.sources import EnvironmentSource
from connector_mcp.state.sqlite import SqliteDatabase
from connector_mcp.transport.mcp.server import build_server
from tests.engine.conftest import FakeCaller, account_of, yes
from tests.records import audited

pytestmark = pytest.mark.anyio

LIST = "vectorize_get_source_connectors"
DELETE = "vectorize_delete_source_connector"
CREATE = "vectorize_create_source_connector"
UPDATE = "vectorize_update_source_connector"
CRAWLER = {"source_connector_id": seed.VECTORIZE_WEB_CRAWLER}
RENAME = {"connector_id": seed.VERSORI_CRM, "name": "CRM"}
BOTH = "one of production, staging"


@dataclass
class Two:
    """An engine with the profiles production and staging of each platform, each with a sandbox of its own."""

    engine: Engine
    sandboxes: Mapping[str, Sandbox]
    audit: Path

    def sent(self, profile: str, method: str = "*") -> list[str]:
        """What reached the platforms under the profile."""
        made = self.sandboxes[profile].requests
        return [each.raw_path for each in made if method in ("*", each.method) and "token" not in each.raw_path]

    def records(self) -> list[dict[str, Any]]:
        return audited(self.audit)


Maker = Callable[..., Two]


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Maker]:
    async with AsyncExitStack() as stack:

        def make(
            *,
            default: str | None = "production",
            policy: str = "",
            production: str = "",
            staging: str = "",
            read_only: str = "",
            without_tenant: str = "",
            secrets: Mapping[str, frozenset[str] | None] | None = None,
        ) -> Two:
            server = Policy.parse(policy, read_only=read_only == "server", transport="stdio")
            sandboxes = {"production": Sandbox(), "staging": Sandbox()}
            accounts: list[Account] = []
            for platform in (platform_folder(name).platform for name in PLATFORMS):
                for name, rules in (("production", production), ("staging", staging)):
                    values = sandboxes[name].variables(platform.name)
                    if name == without_tenant and platform.tenant:
                        del values[platform.tenant.name]
                    own = Policy.parse(rules, read_only=read_only == name, transport="stdio").within(server, name)
                    options = {"default": name == default, "policy": own, "secrets": (secrets or {}).get(name)}
                    accounts.append(account_of(sandboxes[name], platform.name, values, profile=name, **options))
            database = SqliteDatabase(tmp_path / "records.db")
            engine = Engine(
                Settings(state_dir=tmp_path, sandbox=True),
                catalog(),
                accounts,
                policy=server,
                database=database,
                audit=AuditTrail(database),
                calls=CALLS,
                secrets=Secrets(
                    [EnvironmentSource({f"CONNECTOR_MCP_SECRET_{n}": f"value-of-{n}" for n in ("ONE", "TWO")})]
                ),
            )
            stack.push_async_callback(engine.aclose)
            for sandbox in sandboxes.values():
                stack.callback(sandbox.close)
            return Two(engine, sandboxes, tmp_path)

        yield make


async def run(made: Two, name: str, arguments: Mapping[str, Any], caller: Any = None) -> Any:
    return (await made.engine.call(name, arguments, caller or FakeCaller())).content


def schema(made: Two, name: str) -> dict[str, Any]:
    tool = made.engine.tool(name)
    assert tool is not None
    return tool.input_schema


def test_no_operation_has_a_field_of_the_name_by_which_calls_choose_their_profile() -> None:
    with_field = [operation for operation in catalog().values() if PROFILE in operation.model_fields]
    # The operations across platforms filter by it, and belong to no account.
    assert [operation.tool_name() for operation in with_field if operation.on is not None] == []


def test_the_tool_of_an_operation_is_made_once() -> None:
    accounts, operation = Accounts([]), catalog()["find_connectors"]
    assert accounts.tool(operation) is accounts.tool(operation)


async def test_only_tools_of_platforms_with_two_profiles_take_profile(two: Maker, bench: Any) -> None:
    made, single = two(), bench()
    for name, operation in catalog().items():
        if operation.on is not None:
            assert schema(made, name)["properties"][PROFILE]["enum"] == ["production", "staging"], name
        own = PROFILE in operation.model_fields
        assert (PROFILE in single.engine.tool(name).input_schema["properties"]) == own, name
        assert (PROFILE in schema(made, name)["properties"]) == (own or operation.on is not None), name
        assert "organization_id" not in schema(made, name)["properties"]


@pytest.mark.parametrize(("default", "needed"), [("production", {"destroy"}), (None, {"destroy", "read", "update"})])
async def test_the_schema_requires_profile_without_a_default(two: Maker, default: str | None, needed: set[str]) -> None:
    made = two(default=default)
    for name in (LIST, UPDATE, DELETE):
        assert (PROFILE in schema(made, name).get("required", ())) == (str(catalog()[name].effect) in needed)


async def test_a_tenant_that_one_profile_fixes_is_optional_and_checked_with_the_profile(two: Maker) -> None:
    made = two(without_tenant="staging")
    caller = FakeCaller()
    assert schema(made, LIST)["properties"]["organization_id"]["type"] == "string"
    assert "organization_id" not in schema(made, LIST).get("required", ())
    fixed = await run(made, LIST, {}, caller)
    other = await run(made, LIST, {"organization_id": "org_of_others"}, caller)
    missing = await run(made, LIST, {"profile": "staging"}, caller)
    given = await run(made, LIST, {"profile": "staging", "organization_id": fixed["meta"]["tenant"]}, caller)
    assert "configuration fixes it" in other["error"]["message"]
    assert missing["error"]["issues"][0]["path"] == "organization_id"
    assert given["data"] == fixed["data"]


async def test_a_read_goes_to_the_profile_named_or_to_the_default_and_says_which(two: Maker) -> None:
    made = two()
    first = await run(made, LIST, {})
    assert (first["meta"]["profile"], len(made.sent("production")), made.sent("staging")) == ("production", 1, [])
    second = await run(made, LIST, {"profile": "staging"})
    assert (second["meta"]["profile"], len(made.sent("production")), len(made.sent("staging"))) == ("staging", 1, 1)
    assert [record["profile"] for record in made.records()] == ["production", "staging"]


async def test_without_a_default_a_call_that_names_none_is_refused_with_all_names(two: Maker) -> None:
    made = two(default=None)
    content = await run(made, LIST, {})
    assert content["error"]["code"] == "invalid_arguments"
    assert content["error"]["issues"] == [{"path": "profile", "got": "nothing", "wanted": BOTH}]
    assert made.sent("production") + made.sent("staging") == []
    assert [(r["platform"], r["profile"], r["outcome"]) for r in made.records()] == [
        ("vectorize", None, "invalid_arguments")
    ]


@pytest.mark.parametrize("name", ["prod", "", None, 7, ["staging"], "Production", "staging\n"])
async def test_an_unknown_profile_is_refused_without_a_default(two: Maker, name: Any) -> None:
    made = two()
    content = await run(made, LIST, {"profile": name})
    assert content["error"]["code"] == "invalid_arguments"
    assert content["error"]["issues"][0]["wanted"].endswith(BOTH)
    assert made.sent("production") + made.sent("staging") == []


async def test_the_nearest_profile_is_told(two: Maker) -> None:
    content = await run(two(), LIST, {"profile": "stagign"})
    assert content["error"]["issues"][0]["wanted"].startswith("staging (closest match)")


async def test_with_one_profile_the_argument_is_as_unknown_as_any_other(bench: Any) -> None:
    content = await run(bench(), LIST, {"profile": "default"})
    assert content["error"]["issues"][0]["got"] == "an unknown argument"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_deletion_without_a_profile_is_refused_with_both_names_in_either_era(two: Maker, mode: str) -> None:
    made = two(policy="destroy=allow")
    server = build_server(made.engine, request_state_key=b"k" * 32)
    async with Client(server, mode=mode) as client:
        refused = await client.call_tool(DELETE, CRAWLER)
        assert made.sent("production") + made.sent("staging") == []
        done = await client.call_tool(DELETE, {**CRAWLER, "profile": "staging"})
    assert refused.is_error
    assert refused.structured_content is not None
    assert "production, staging" in refused.structured_content["error"]["fix"]
    assert BOTH in refused.structured_content["error"]["message"]
    assert not done.is_error
    assert (made.sent("production", "DELETE"), len(made.sent("staging", "DELETE"))) == ([], 1)


async def test_an_update_that_turns_out_to_destroy_must_name_its_profile(two: Maker) -> None:
    made = two(policy="destroy=allow")
    replacing = {
        "connector_id": seed.VERSORI_CRM, "name": "Acme CRM", "protocol": "http",
        "base_url": "https://api.acme.example", "replace": True,
    }  # fmt: skip
    refused = await run(made, "versori_update_connector", replacing)
    harmless = await run(made, "versori_update_connector", RENAME)
    assert refused["error"]["code"] == "invalid_arguments"
    assert "production, staging, because the call destroys something" in refused["error"]["message"]
    assert refused["error"]["profile"] == "production"
    assert harmless["meta"]["profile"] == "production"
    assert len(made.sent("production", "PUT")) == 1
    done = await run(made, "versori_update_connector", {**replacing, "profile": "staging"})
    assert done["meta"]["profile"] == "staging"
    assert (len(made.sent("production", "PUT")), len(made.sent("staging", "PUT"))) == (1, 1)


async def test_the_policy_of_one_profile_does_not_count_under_another(two: Maker) -> None:
    made = two(production="destroy=block,update=block", staging="destroy=allow")
    blocked = await run(made, DELETE, {**CRAWLER, "profile": "production"})
    allowed = await run(made, DELETE, {**CRAWLER, "profile": "staging"})
    default = await run(made, "versori_update_connector", RENAME)
    other = await run(made, "versori_update_connector", {**RENAME, "profile": "staging"})
    assert (blocked["error"]["code"], default["error"]["code"]) == ("blocked", "blocked")
    assert "policy rule destroy=block of profile production" in blocked["error"]["fix"]
    assert allowed["meta"]["profile"] == other["meta"]["profile"] == "staging"
    assert made.sent("production") == []
    assert [r["decision"] for r in made.records() if r["phase"] == "ended"] == ["block", "allow", "block", "allow"]


async def test_a_tool_is_listed_as_long_as_one_profile_permits_it_and_with_no_other_profile(two: Maker) -> None:
    def listed(**rules: str) -> list[str]:
        tools = [tool for tool in two(**rules).engine.tools() if tool.name == DELETE]
        return [name for tool in tools for name in tool.listed_schema["properties"][PROFILE]["enum"]]

    assert listed() == ["production", "staging"]
    assert listed(production="destroy=block") == ["staging"]
    assert listed(staging="destroy=block") == ["production"]
    assert not listed(production="destroy=block", staging="vectorize_*=block")
    assert not listed(policy="destroy=block", staging="destroy=allow")
    assert listed(read_only="staging")
    assert not listed(read_only="server", staging="destroy=allow")


async def test_read_only_of_one_profile_leaves_the_other_as_it_is(two: Maker) -> None:
    made = two(read_only="production", policy="destroy=allow")
    kept = await run(made, DELETE, {**CRAWLER, "profile": "production"})
    gone = await run(made, DELETE, {**CRAWLER, "profile": "staging"})
    assert "read_only of profile production" in kept["error"]["fix"]
    assert gone["meta"]["profile"] == "staging"


async def test_an_approval_for_one_profile_releases_nothing_under_another(two: Maker) -> None:
    made = two(policy="destroy=approve")
    staging, production = {**CRAWLER, "profile": "staging"}, {**CRAWLER, "profile": "production"}
    parked = await run(made, DELETE, staging)
    await made.engine.approvals.decide(parked["error"]["approval"]["id"], True, "operator")
    other = await run(made, DELETE, production)
    same = await run(made, DELETE, staging)
    assert other["error"]["code"] == "approval_required"
    assert other["error"]["approval"]["id"] != parked["error"]["approval"]["id"]
    assert same["meta"]["profile"] == "staging"
    assert made.sent("production", "DELETE") == []


async def test_the_person_who_is_asked_is_told_the_profile(two: Maker, bench: Any) -> None:
    caller, alone = FakeCaller(yes("no such name")), FakeCaller(yes("nothing"))
    await run(two(), DELETE, {**CRAWLER, "profile": "staging"}, caller)
    await run(bench(), DELETE, CRAWLER, alone)
    assert "\nOn vectorize in the sandbox, profile staging, tenant" in caller.questions[0].message
    assert "\nOn vectorize in the sandbox, profile default, tenant" in alone.questions[0].message


async def test_a_secret_is_for_the_profiles_that_list_it(two: Maker) -> None:
    made = two(secrets={"production": frozenset({"ONE"}), "staging": frozenset()})

    async def create(secret: str, profile: str) -> Any:
        keys = {"secret-key": f"secret://{secret}", "access-key": "secret://ONE"}
        connector = {"name": "S3", "type": "AWS_S3", "config": {**keys, "bucket-name": "b", "archiver": True}}
        return await run(made, CREATE, {"connectors": [connector], "profile": profile})

    (issue,) = (await create("TWO", "production"))["error"]["issues"]
    assert issue == {
        "path": "connectors[0].config.secret-key",
        "got": "secret://TWO, which may not be used here",
        "wanted": "a secret of profile production: ONE",
    }
    none = await create("ONE", "staging")
    assert none["error"]["issues"][0]["wanted"] == "a secret of profile staging: it has none"
    assert (await create("ONE", "production"))["meta"]["profile"] == "production"
    assert (len(made.sent("production", "POST")), made.sent("staging", "POST")) == (1, [])


async def test_a_caller_that_is_bound_to_a_profile_acts_under_no_other(two: Maker) -> None:
    here = two(policy="destroy=allow")
    bound = FakeCaller(profiles=frozenset({"staging", "unknown"}))
    for tool in here.engine.tools(bound):
        assert "production" not in str(tool.input_schema), tool.name
    for arguments in ({}, {PROFILE: "staging"}):
        assert not (await here.engine.call(LIST, arguments, bound)).is_error
    refused = await here.engine.call(LIST, {PROFILE: "production"}, bound)
    assert refused.content["error"]["issues"][0]["wanted"] == "one of staging"
    for tool, given in ((DELETE, CRAWLER), (UPDATE, CRAWLER | {"config": {"seed-urls": ["https://a.example"]}})):
        refused = await here.engine.call(tool, {PROFILE: "production", **given}, bound)
        assert refused.is_error
    # With a single profile that is possible, a deletion need not name it.
    assert not (await here.engine.call(DELETE, CRAWLER, bound)).is_error
    found = await here.engine.call("find_connectors", {}, bound)
    assert {row[PROFILE] for row in found.content["data"]} == {"staging"}
    assert here.sent("production") == []


async def test_what_callers_bound_to_other_profiles_changed_is_not_shown(two: Maker) -> None:
    here = two(policy="destroy=allow")
    await here.engine.call(DELETE, {PROFILE: "production", **CRAWLER}, FakeCaller())
    await here.engine.call(DELETE, CRAWLER, FakeCaller(profiles=frozenset({"staging"})))
    shown = {
        name: {row[PROFILE] for row in (await here.engine.call("recent_changes", {}, caller)).content["data"]}
        for name, caller in (("all", FakeCaller()), ("one", FakeCaller(profiles=frozenset({"staging"}))))
    }
    assert shown == {"all": {"production", "staging"}, "one": {"staging"}}


async def test_a_check_needs_the_profile_where_there_are_several(two: Maker) -> None:
    here, check = two(), {"platform": "vectorize", "id": seed.VECTORIZE_S3}
    (issue,) = (await here.engine.call("check_connector", check, FakeCaller())).content["error"]["issues"]
    assert (issue["path"], issue["wanted"]) == (PROFILE, "one of production, staging")
    assert here.sent("production") == here.sent("staging") == []
    found = await here.engine.call("check_connector", check | {PROFILE: "staging"}, FakeCaller())
    assert found.content["data"]["works"] == "yes"
    assert here.sent("production") == []


async def test_a_caller_that_is_bound_to_no_profile_there_is_reaches_no_platform(two: Maker) -> None:
    here = two()
    stranger = FakeCaller(profiles=frozenset({"elsewhere"}))
    assert all(tool.operation.on is None for tool in here.engine.tools(stranger))
    check = {"platform": "vectorize", "id": seed.VECTORIZE_S3}
    across = ("find_connectors", {}), ("find_connectors", {"platform": "vectorize"}), ("check_connector", check)
    for name, arguments in ((LIST, {}), (DELETE, {}), (CREATE, {}), *across):
        refused = await here.engine.call(name, arguments, stranger)
        assert refused.content["error"]["code"] == "blocked"
    assert here.sent("production") == here.sent("staging") == []
