"""What a plan looks like at the gate: one call with all effects, losses and changes of its actions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from connector_mcp.engine.accounts import Account
from connector_mcp.engine.approval.gate import Gate, Part
from connector_mcp.engine.approval.wording import Candidate, tell_disclosures
from connector_mcp.engine.preview import Change
from connector_mcp.errors import Blocked
from connector_mcp.operations.operation import Effect, Operation
from connector_mcp.operations.provisioning.tools import APPLY_PLAN
from connector_mcp.provisioning.differences import references_in
from connector_mcp.provisioning.plan import Action, Plan


def check_destructive(plan: Plan, most: int) -> None:
    """Refuse a plan with more destructive actions than the operator lets one plan have.

    Raises:
        Blocked: It has more.
    """
    if len(plan.destructive) <= most:
        return
    names = ", ".join(f"{action.entry} “{action.name}”" for action in plan.destructive)
    raise Blocked(
        f"The plan {plan.id} has {len(plan.destructive)} actions that destroy ({names}), and one plan may have {most}. "
        "Nothing was changed.",
        fix="Split it into several manifests. The operator of the server can set CONNECTOR_MCP_PLAN_MAX_DESTRUCTIVE; "
        "an agent cannot.",
    )


def check_served(plan: Plan, operations: Collection[str]) -> None:
    """Refuse a plan that needs a tool which this server does not serve.

    Raises:
        Blocked: It does.
    """
    missing = sorted({action.tool for action in plan.steps if action.tool} - {*operations})
    if missing:
        raise Blocked(
            f"The plan {plan.id} needs {', '.join(missing)}, which this server does not serve. Nothing was changed.",
            fix="The operator of the server can serve more tools with CONNECTOR_MCP_TOOLSETS; an agent cannot.",
        )


def parts_of(
    plan: Plan,
    accounts: Mapping[int, Account],
    gates: Mapping[Account | None, Gate],
    operations: Mapping[str, type[Operation]],
) -> list[Part]:
    """Return what policy decides about: each tool with its effect and with what it would do here."""
    parts: list[Part] = []
    for action in plan.steps:
        tool, gate = action.tool or "", gates[accounts[action.number]]
        effects = (operations[tool].effect, action.effect, *([Effect.DISCLOSE] if action.disclosed else []))
        parts += [Part(gate, tool, effect) for effect in effects]
    return list(dict.fromkeys(parts))


def candidate_of(plan: Plan, accounts: Sequence[Account], *, declared: Effect, client: str | None) -> Candidate:
    """Describe the plan as one call that waits for a decision. Its digest covers all actions."""
    steps = plan.steps
    effects = {action.effect for action in steps} | {Effect.DISCLOSE for action in steps if action.disclosed}
    disclosures = tell_disclosures(list(dict.fromkeys(each for action in steps for each in action.disclosed)))
    return Candidate(
        tool=APPLY_PLAN,
        declared=declared,
        platform=", ".join(dict.fromkeys(account.platform.title for account in accounts)),
        profile=", ".join(dict.fromkeys(account.profile for account in accounts)),
        tenant=", ".join(dict.fromkeys(filter(None, (account.tenant for account in accounts)))) or None,
        address=", ".join(dict.fromkeys(account.client.base_url for account in accounts)),
        sandbox=plan.sandbox,
        principal=plan.principal,
        client=client,
        digest=plan.digest,
        fingerprint=plan.digest,
        effect=" ".join(filter(None, (sentence_of(plan), disclosures))),
        effects=tuple(effect for effect in Effect if effect in effects),
        losses=tuple(loss for action in steps for loss in losses_of(action)),
        target=plan.manifest,
        deletes=bool(plan.destructive),
        diff=tuple(
            Change(f"{action.entry}: {change.field}", change.before, change.after)
            for action in steps
            for change in action.diff
        ),
        arguments={"plan_id": plan.id, "actions": list(map(_line, steps))},
        hosts=tuple(dict.fromkeys(host for action in steps for host in action.hosts)),
        secrets=tuple(dict.fromkeys(name for each in steps for name in references_in(each.arguments).values())),
        disclosures=disclosures,
    )


def sentence_of(plan: Plan) -> str:
    """Say in one sentence what the plan would do."""
    counts = plan.counts()
    told = [f"{verb} {counts[verb]}" for verb in ("create", "update", "rotate", "replace", "delete") if verb in counts]
    return f"Applies the plan {plan.id} of “{plan.manifest}”: {', '.join(told) or 'nothing to change'}."


def losses_of(action: Action) -> tuple[str, ...]:
    """Say what an action destroys, with the name of the thing."""
    if action.effect is not Effect.DESTROY:
        return action.losses
    if action.verb == "delete":
        return (action.sentence or f"Deletes {action.entry} “{action.name}”", *action.losses)
    return tuple(f"{action.entry} “{action.name}”: {loss}" for loss in action.losses)


def _line(action: Action) -> str:
    return f"{action.verb} {action.entry} “{action.name}” ({action.platform})"
