"""The answer of an apply: what was done, what was not and why, and what is unknown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from connector_mcp.json_values import JsonObject
from connector_mcp.provisioning.journal import PlanStep
from connector_mcp.provisioning.plan import Action, Plan

SHOWN: Final = 50
"""Rows of each list of an answer."""

_REPEATED: Final = ("code", "fix", "differences", "issues", "upstream")
"""Members of a failure that an answer repeats."""

_NEXT: Final = {
    "in_progress": "Call apply_plan again with plan_id {plan}: it goes on.",
    "incomplete": "Mend what not_done says and make a new plan. Or call apply_plan again with plan_id {plan}: it looks "
    "up what is unknown, and tries again what was not done.",
}

Steps = Mapping[int, PlanStep]


def report(plan: Plan, steps: Steps, *, has_stopped: bool) -> JsonObject:
    """Make the answer. `has_stopped` says that a failure ended the apply."""
    rows: dict[str, list[JsonObject]] = {"done": [], "not_done": [], "unknown": []}
    actions = {action.number: action for action in plan.actions}
    is_waiting: dict[int, bool] = {}
    for action in plan.actions:
        if action.verb == "unchanged":
            continue
        step = steps.get(action.number, PlanStep(action.number))
        row: JsonObject = {"number": action.number, "verb": action.verb, "entry": action.entry}
        if step.state == "done":
            shown = {key: step.verdict[key] for key in ("works", "reason", "unproven", "next") if key in step.verdict}
            row |= {"id": step.identifier or action.identifier} | shown
            rows["done"].append(row)
            continue
        is_unknown = step.state in ("begun", "unknown")
        missing = [actions[need] for need in action.needs if not is_ended(actions[need], steps)]
        # Actions stand in an order in which they can run, so what this one needs was looked at before.
        is_waiting[action.number] = step.state == "waiting" and all(is_waiting[each.number] for each in missing)
        told = {key: step.outcome[key] for key in _REPEATED if key in step.outcome and not is_waiting[action.number]}
        rows["unknown" if is_unknown else "not_done"].append(row | {"why": _why(step, missing)} | told)
    if all(is_ended(action, steps) for action in plan.actions):
        status = "done"
    else:
        status = "in_progress" if any(is_waiting.values()) and not has_stopped else "incomplete"
    rows["done"].sort(key=lambda row: row.get("works") != "no")
    counts = {kind: len(found) for kind, found in rows.items()}
    counts |= {f"works_{works}": count for works, count in Counter(_works(rows["done"])).items()}
    answer: JsonObject = {"status": status, "counts": counts}
    answer |= {kind: found[:SHOWN] for kind, found in rows.items() if found}
    if status in _NEXT:
        answer["next"] = _NEXT[status].format(plan=plan.id)
    return answer


def is_ended(action: Action, steps: Steps) -> bool:
    """Check whether an action is done or has nothing to do."""
    step = steps.get(action.number)
    return action.verb == "unchanged" or (step is not None and step.state == "done")


def _works(rows: list[JsonObject]) -> Iterator[str]:
    return (row["works"] for row in rows if "works" in row)


def _why(step: PlanStep, missing: list[Action]) -> str:
    if step.state in ("begun", "unknown"):
        return str(step.outcome.get("message", "It was sent, and its outcome is not known."))
    if missing:
        return f"It needs {', '.join(action.entry for action in missing)}."
    return str(step.outcome.get("message", "It was not begun."))
