"""What may be done without asking, and who is asked otherwise.

A policy is a comma-separated list of rules `KEY=DECISION`. The key is an effect (`destroy`), a glob over tool names
(`logto_*`), or both (`vectorize_*:destroy`). A glob with an effect counts before a glob, a glob before an effect, an
effect before the default; where several rules of one kind fit, the strictest counts. So `logto_*=allow` also allows
what Logto's tools destroy: that is what it says.

A profile's policy stands within the server's: where both have a rule that fits, the stricter counts, and the default
only where neither has one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TypeVar

from connector_mcp.engine.caller import TransportName
from connector_mcp.errors import Misconfigured
from connector_mcp.operations.operation import Effect

SETTING = "CONNECTOR_MCP_POLICY (--policy)"

_Member = TypeVar("_Member", bound=StrEnum)

_GLOB = re.compile(r"[a-z0-9_*?\[\]!-]+")


class Decision(StrEnum):
    """What the gate does with a call, from the most to the least permissive."""

    ALLOW = "allow"
    ASK = "ask"
    APPROVE = "approve"
    BLOCK = "block"

    @property
    def strictness(self) -> int:
        """Position in the order of strictness; `block` is the highest. (As strings they compare by letters.)"""
        return tuple(Decision).index(self)


def strictest(decisions: Iterable[Decision]) -> Decision:
    """The strictest of one or more decisions."""
    return max(decisions, key=lambda decision: decision.strictness)


@dataclass(frozen=True)
class Rule:
    """One rule of a policy. Without a glob it is about all tools, without an effect about all effects."""

    text: str
    decision: Decision
    glob: str | None = None
    effect: Effect | None = None

    @property
    def specificity(self) -> int:
        return 2 * (self.glob is not None) + (self.effect is not None)

    def fits(self, tool: str, effect: Effect) -> bool:
        return (self.effect is None or self.effect is effect) and (self.glob is None or fnmatchcase(tool, self.glob))


@dataclass(frozen=True)
class Ruling:
    """A decision, and the rule or setting that made it: a phrase for the person who wants to change it."""

    decision: Decision
    because: str


@dataclass(frozen=True)
class Policy:
    """What to do with which call on one transport. Immutable; build it with `parse`."""

    rules: tuple[Rule, ...]
    read_only: bool
    transport: TransportName
    profile: str = ""
    """Whose policy it is; empty for the server's."""
    server: Policy | None = None
    """The server's policy, in a profile's."""

    @staticmethod
    def parse(
        text: str,
        *,
        read_only: bool,
        transport: TransportName,
        tools: Collection[str] | None = None,
        setting: str = SETTING,
    ) -> Policy:
        """Read a policy. With the names of the tools that there are, a glob has to match one of them.

        `setting` is how an error names the place of the rules.

        Raises:
            Misconfigured: A rule is malformed, or names an effect, decision or tool that does not exist.
        """
        rules = tuple(_rule(part.strip(), tools, setting) for part in text.split(",")) if text.strip() else ()
        return Policy(rules, read_only, transport)

    def within(self, server: Policy, profile: str) -> Policy:
        """This policy as that of a profile."""
        return replace(self, profile=profile, server=server)

    def decide(self, tool: str, effect: Effect) -> Decision:
        """What the policy wants for a call of this tool that does this."""
        return self.ruling(tool, effect).decision

    def ruling(self, tool: str, effect: Effect) -> Ruling:
        """`decide`, with the reason."""
        found = [self.server._own(tool, effect) if self.server else None, self._own(tool, effect)]
        rulings = [ruling for ruling in found if ruling is not None]
        if not rulings:
            return Ruling(self._default(effect), f"the default for {effect} on {self.transport}")
        return max(rulings, key=lambda ruling: ruling.decision.strictness)

    def _own(self, tool: str, effect: Effect) -> Ruling | None:
        """What these rules alone say; None where none fits."""
        if self.read_only and effect is not Effect.READ:
            return Ruling(Decision.BLOCK, f"read_only of profile {self.profile}" if self.profile else "--read-only")
        fitting = [rule for rule in self.rules if rule.fits(tool, effect)]
        if not fitting:
            return None
        rule = max(fitting, key=lambda rule: (rule.specificity, rule.decision.strictness))
        of = f" of profile {self.profile}" if self.profile else ""
        return Ruling(rule.decision, f"the policy rule {rule.text}{of}")

    def _default(self, effect: Effect) -> Decision:
        if effect is not Effect.DESTROY:
            return Decision.ALLOW
        return Decision.APPROVE if self.transport == "http" else Decision.ASK


def resolve(decision: Decision, *, can_ask: bool, operator_channel: bool) -> Decision:
    """What a decision comes to where nobody can be asked, or no operator be reached. Never a more permissive one."""
    if decision is Decision.ASK and not can_ask:
        decision = Decision.APPROVE
    if decision is Decision.APPROVE and not operator_channel:
        decision = Decision.BLOCK
    return decision


def _rule(text: str, tools: Collection[str] | None, setting: str) -> Rule:
    key, equals, wanted = (part.strip() for part in text.partition("="))
    if not key or not equals:
        raise Misconfigured(
            f"{setting} holds the rule {text!r}, which is not of the form KEY=DECISION.",
            fix="Write rules such as destroy=approve or logto_*=block, separated by single commas.",
        )
    decision = _member(Decision, wanted, text, "decision", setting)
    if key in tuple(Effect):
        return Rule(text, decision, effect=Effect(key))
    glob, colon, effect_name = (part.strip() for part in key.partition(":"))
    effect = _member(Effect, effect_name, text, "effect", setting) if colon else None
    _check_glob(glob, text, tools, setting, alone=not colon)
    return Rule(text, decision, glob=glob, effect=effect)


def _check_glob(glob: str, text: str, tools: Collection[str] | None, setting: str, *, alone: bool) -> None:
    if not _GLOB.fullmatch(glob):
        raise Misconfigured(
            f"{setting} holds the rule {text!r}, in which {glob!r} is no tool name or glob.",
            fix="Write a tool name as `connector-mcp tools` lists it; * stands for any letters.",
        )
    effects = [effect.value for effect in Effect] if alone else []
    if tools is None:
        # Every tool has an underscore in its name, so this can only have been meant as an effect.
        if alone and glob.isalpha():
            _member(Effect, glob, text, "effect", setting)
        return
    if not any(fnmatchcase(tool, glob) for tool in tools):
        raise Misconfigured(
            f"{setting} holds the rule {text!r}, but no tool matches {glob!r}{_nearest(glob, [*effects, *tools])}.",
            fix="Correct or remove the rule; `connector-mcp tools` lists the names.",
        )


def _member(kind: type[_Member], name: str, text: str, noun: str, setting: str) -> _Member:
    try:
        return kind(name)
    except ValueError:
        names = [member.value for member in kind]
        raise Misconfigured(
            f"{setting} holds the rule {text!r}, in which {name!r} is no {noun}{_nearest(name, names)}.",
            fix=f"Use one of: {', '.join(names)}.",
        ) from None


def _nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f" (nearest: {close[0]})" if close else ""
