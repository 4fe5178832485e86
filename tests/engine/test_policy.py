import pytest

from connector_mcp.engine.caller import TransportName
from connector_mcp.engine.policy import Decision, Policy, resolve
from connector_mcp.errors import Misconfigured
from connector_mcp.operations.operation import Effect

TOOLS = (
    "vectorize_get_source_connectors", "vectorize_delete_source_connector", "logto_list_connectors",
    "logto_delete_connector", "versori_update_connector",
)  # fmt: skip


def policy(text: str = "", *, read_only: bool = False, transport: TransportName = "stdio") -> Policy:
    return Policy.parse(text, read_only=read_only, transport=transport, tools=TOOLS)


@pytest.mark.parametrize(("transport", "destroy"), [("stdio", "ask"), ("cli", "ask"), ("http", "approve")])
def test_without_rules_destruction_and_disclosure_need_a_decision(transport: TransportName, destroy: str):
    decided = {effect: policy(transport=transport).decide("logto_delete_connector", effect) for effect in Effect}
    assert decided == {"read": "allow", "create": "allow", "update": "allow", "disclose": destroy, "destroy": destroy}


@pytest.mark.parametrize(
    ("text", "tool", "effect", "expected"),
    [
        ("destroy=allow", "logto_delete_connector", Effect.DESTROY, "allow"),
        ("destroy=allow", "logto_delete_connector", Effect.UPDATE, "allow"),
        ("read=block", "logto_list_connectors", Effect.READ, "block"),
        ("destroy=allow,logto_*=block", "logto_delete_connector", Effect.DESTROY, "block"),
        ("logto_*=block,destroy=allow", "logto_delete_connector", Effect.DESTROY, "block"),
        ("destroy=allow,logto_*=block", "vectorize_delete_source_connector", Effect.DESTROY, "allow"),
        ("logto_*=block,logto_*:read=allow", "logto_list_connectors", Effect.READ, "allow"),
        ("logto_*=block,logto_*:read=allow", "logto_list_connectors", Effect.UPDATE, "block"),
        ("update=block,logto_*=allow", "logto_delete_connector", Effect.UPDATE, "allow"),
        ("*=ask,logto_*=allow", "logto_list_connectors", Effect.READ, "ask"),
        ("logto_*=allow,*_list_*=approve,*=ask", "logto_list_connectors", Effect.READ, "approve"),
        ("*:destroy=allow,logto_*:destroy=approve", "logto_delete_connector", Effect.DESTROY, "approve"),
        ("destroy=block,destroy=allow", "logto_delete_connector", Effect.DESTROY, "block"),
        (" destroy = approve , logto_* : read = ask ", "logto_list_connectors", Effect.READ, "ask"),
        ("versori_update_connector=approve", "versori_update_connector", Effect.UPDATE, "approve"),
    ],
)
def test_the_most_specific_rule_counts_and_of_equals_the_strictest(text: str, tool: str, effect: Effect, expected: str):
    assert policy(text).decide(tool, effect) == expected


def test_read_only_bounds_every_rule():
    bounded = policy("*=allow,*:destroy=allow,destroy=allow,*:read=ask", read_only=True)
    decided = {effect: bounded.decide("logto_list_connectors", effect) for effect in Effect}
    assert decided == {"read": "ask", "create": "block", "update": "block", "disclose": "block", "destroy": "block"}


def test_a_ruling_names_what_made_it():
    ruled = policy("logto_*=block").ruling("logto_list_connectors", Effect.READ)
    assert ruled.because == "the policy rule logto_*=block"
    assert policy().ruling("logto_list_connectors", Effect.READ).because == "the default for read on stdio"
    assert policy(read_only=True).ruling("logto_delete_connector", Effect.DESTROY).because == "--read-only"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("destory=allow", "destroy"), ("*:destory=allow", "destroy"), ("destroy=alow", "allow"), ("destroy=", "''"),
        ("destroy", "KEY=DECISION"), ("=allow", "KEY=DECISION"), ("destroy=allow,", "KEY=DECISION"),
        ("destroy=allow,,read=ask", "KEY=DECISION"), ("destroy=allow=block", "allow=block"), ("logto_*:=allow", "''"),
        (":destroy=allow", "not a tool name"), ("logto *=allow", "not a tool name"),
        ("logto_*:read:read=allow", "read:read"), ("logot_*=block", "logto_"),
        ("versori_updat_connector=block", "versori_update_connector"), ("LOGTO_*=block", "not a tool name"),
        ("Destroy=block", "not a tool name"),
    ],
)  # fmt: skip
def test_a_rule_that_is_not_understood_ends_the_start(text: str, named: str):
    with pytest.raises(Misconfigured) as caught:
        policy(text)
    assert named in caught.value.message
    assert "CONNECTOR_MCP_POLICY" in caught.value.message


def test_a_glob_may_match_anything_where_the_tools_are_not_known():
    unchecked = Policy.parse("fifth_*=block", read_only=False, transport="stdio")
    assert unchecked.decide("fifth_create_thing", Effect.READ) is Decision.BLOCK
    with pytest.raises(Misconfigured, match="destroy"):
        Policy.parse("destory=block", read_only=False, transport="stdio")


def test_decisions_are_ordered_by_strictness():
    assert sorted(Decision, key=lambda decision: decision.strictness) == ["allow", "ask", "approve", "block"]


# What becomes of a decision, by whether the person can be asked and whether an operator can be reached. Written out:
# (asked and operator, asked only, operator only, neither).
TRUTH = {
    "allow": ("allow", "allow", "allow", "allow"),
    "ask": ("ask", "ask", "approve", "block"),
    "approve": ("approve", "block", "approve", "block"),
    "block": ("block", "block", "block", "block"),
}

# Whether a client that declares elicitation can be asked, by transport and protocol era: a legacy client over HTTP has
# a back-channel only while its session's stream is open.
CARRIES = {
    ("stdio", "2026-07-28"): True,
    ("stdio", "legacy"): True,
    ("http", "2026-07-28"): True,
    ("http", "legacy"): True,
    ("http", "legacy without a stream"): False,
    ("cli", "2026-07-28"): True,
}

YES_NO_TWICE = [(True, True), (True, False), (False, True), (False, False)]

POLICIES = {
    "": {"stdio": "ask", "cli": "ask", "http": "approve"},
    "destroy=allow": dict.fromkeys(("stdio", "cli", "http"), "allow"),
    "destroy=ask": dict.fromkeys(("stdio", "cli", "http"), "ask"),
    "logto_*=approve": dict.fromkeys(("stdio", "cli", "http"), "approve"),
    "*:destroy=block": dict.fromkeys(("stdio", "cli", "http"), "block"),
}


@pytest.mark.parametrize("text", POLICIES)
@pytest.mark.parametrize(("transport", "era"), CARRIES)
@pytest.mark.parametrize(("declared", "operator"), YES_NO_TWICE)
def test_decisions_match_the_truth_table(text: str, transport: TransportName, era: str, declared: bool, operator: bool):
    can_ask = declared and CARRIES[transport, era]
    wanted = policy(text, transport=transport).decide("logto_delete_connector", Effect.DESTROY)
    resolved = resolve(wanted, can_ask=can_ask, operator_channel=operator)
    column = {(True, True): 0, (True, False): 1, (False, True): 2, (False, False): 3}[can_ask, operator]
    assert wanted == POLICIES[text][transport]
    assert resolved == TRUTH[wanted][column]
    assert resolved.strictness >= wanted.strictness


@pytest.mark.parametrize(("transport", "era"), CARRIES)
@pytest.mark.parametrize(("declared", "operator"), YES_NO_TWICE)
@pytest.mark.parametrize("effect", [Effect.CREATE, Effect.UPDATE, Effect.DESTROY])
def test_read_only_blocks_everything(
    transport: TransportName, era: str, declared: bool, operator: bool, effect: Effect
):
    wanted = policy("*=allow", read_only=True, transport=transport).decide("logto_delete_connector", effect)
    assert resolve(wanted, can_ask=declared and CARRIES[transport, era], operator_channel=operator) == "block"


@pytest.mark.parametrize(
    ("server", "own", "expected"),
    [
        ("", "", "ask"),
        ("", "destroy=allow", "allow"),
        ("destroy=approve", "", "approve"),
        ("destroy=approve", "destroy=allow", "approve"),
        ("destroy=allow", "destroy=block", "block"),
        ("destroy=block", "logto_delete_connector:destroy=allow", "block"),
        ("logto_*=allow", "destroy=approve", "approve"),
        ("vectorize_*=block", "destroy=allow", "allow"),
    ],
)
def test_a_profiles_policy_stands_within_the_servers(server: str, own: str, expected: str):
    profile = policy(own).within(policy(server), "production")
    assert profile.decide("logto_delete_connector", Effect.DESTROY) == expected


def test_read_only_of_the_server_is_read_only_under_every_profile():
    profile = policy("destroy=allow").within(policy(read_only=True), "production")
    assert profile.ruling("logto_delete_connector", Effect.DESTROY).because == "--read-only"
    assert profile.decide("logto_list_connectors", Effect.READ) is Decision.ALLOW


def test_the_reason_for_a_decision_names_the_profile_of_the_rule():
    profile = policy("destroy=block").within(policy("update=ask"), "production")
    because = {effect: profile.ruling("logto_delete_connector", effect).because for effect in Effect}
    assert because[Effect.DESTROY] == "the policy rule destroy=block of profile production"
    assert because[Effect.UPDATE] == "the policy rule update=ask"


def test_a_wrong_rule_is_named_by_the_place_that_holds_it():
    with pytest.raises(Misconfigured, match=r"^c\.toml: profiles\.logto\.x\.policy contains the rule 'destory=block'"):
        Policy.parse("destory=block", read_only=False, transport="stdio", setting="c.toml: profiles.logto.x.policy")
