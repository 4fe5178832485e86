"""Policies: which calls run without asking, and who decides about the others.

A policy is a comma-separated list of rules `KEY=DECISION`. The key is an effect (`destroy`), a tool pattern
(`logto_*`), or both (`vectorize_*:destroy`). The most specific rule wins: pattern and effect, then pattern, then
effect, then the default. Among equally specific rules the strictest wins. So `logto_*=allow` also allows Logto's
deletions.

A profile's policy can only tighten the server's: where rules of both match, the stricter decision applies. The default
applies only where neither has a matching rule.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TypeVar

from connector_mcp.engine.caller import TransportName
from connector_mcp.errors import Misconfigured
from connector_mcp.operations.operation import Effect
from connector_mcp.suggest import did_you_mean

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
        """Position in the order of strictness; `block` is the highest. (Comparing the strings would be alphabetic.)"""
        return tuple(Decision).index(self)


@dataclass(frozen=True)
class Rule:
    """One rule of a policy. Without a glob it applies to all tools; without an effect, to all effects."""

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
    """A decision and its reason: the rule or setting that someone would have to change."""

    decision: Decision
    because: str


@dataclass(frozen=True)
class Policy:
    """The decisions for calls on one transport. Immutable; build it with `parse`."""

    rules: tuple[Rule, ...]
    read_only: bool
    transport: TransportName
    profile: str = ""
    """The profile it belongs to; empty for the server's policy."""
    server: Policy | None = None
    """For a profile's policy: the server's."""

    @staticmethod
    def parse(
        text: str,
        *,
        read_only: bool,
        transport: TransportName,
        tools: Collection[str] | None = None,
        setting: str = SETTING,
    ) -> Policy:
        """Parse a policy. With `tools` given, each glob must match at least one of them.

        `setting` names the source of the rules in errors.

        Raises:
            Misconfigured: A rule is malformed, or names an effect, decision or tool that does not exist.
        """
        rules = tuple(_rule(part.strip(), tools, setting) for part in text.split(",")) if text.strip() else ()
        return Policy(rules, read_only, transport)

    def within(self, server: Policy, profile: str) -> Policy:
        """Return this policy as a profile's, limited by the server's."""
        return replace(self, profile=profile, server=server)

    def decide(self, tool: str, effect: Effect) -> Decision:
        """Decide on a call of this tool with this effect."""
        return self.ruling(tool, effect).decision

    def ruling(self, tool: str, effect: Effect) -> Ruling:
        """Decide, and give the reason."""
        own, servers = self._own(tool, effect), self.server._own(tool, effect) if self.server else None
        if own and servers:
            return own if own.decision.strictness > servers.decision.strictness else servers
        if ruling := own or servers:
            return ruling
        decision = Decision.ALLOW
        if effect in (Effect.DESTROY, Effect.DISCLOSE):
            decision = Decision.APPROVE if self.transport == "http" else Decision.ASK
        return Ruling(decision, f"the default for {effect} on {self.transport}")

    def _own(self, tool: str, effect: Effect) -> Ruling | None:
        """Apply these rules alone; None if none matches."""
        if self.read_only and effect is not Effect.READ:
            return Ruling(Decision.BLOCK, f"read_only of profile {self.profile}" if self.profile else "--read-only")
        fitting = [rule for rule in self.rules if rule.fits(tool, effect)]
        if not fitting:
            return None
        rule = max(fitting, key=lambda rule: (rule.specificity, rule.decision.strictness))
        of = f" of profile {self.profile}" if self.profile else ""
        return Ruling(rule.decision, f"the policy rule {rule.text}{of}")


def resolve(decision: Decision, *, can_ask: bool, operator_channel: bool) -> Decision:
    """Adapt a decision to the channels available. The result is never more permissive."""
    if decision is Decision.ASK and not can_ask:
        decision = Decision.APPROVE
    if decision is Decision.APPROVE and not operator_channel:
        decision = Decision.BLOCK
    return decision


def _rule(text: str, tools: Collection[str] | None, setting: str) -> Rule:
    key, equals, wanted = (part.strip() for part in text.partition("="))
    if not key or not equals:
        raise Misconfigured(
            f"{setting} contains the rule {text!r}, which does not have the form KEY=DECISION.",
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
            f"{setting} contains the rule {text!r}, but {glob!r} is not a tool name or pattern.",
            fix="Use a tool name from `connector-mcp tools`; * matches any characters.",
        )
    effects = [effect.value for effect in Effect] if alone else []
    if tools is None:
        # Every tool name has an underscore, so a plain word must be a misspelled effect.
        if alone and glob.isalpha():
            _member(Effect, glob, text, "effect", setting)
        return
    if not any(fnmatchcase(tool, glob) for tool in tools):
        raise Misconfigured(
            f"{setting} contains the rule {text!r}, but no tool matches {glob!r}."
            + did_you_mean(glob, [*effects, *tools], cutoff=0.4),
            fix="Correct or remove the rule; `connector-mcp tools` lists the names.",
        )


def _member(kind: type[_Member], name: str, text: str, noun: str, setting: str) -> _Member:
    try:
        return kind(name)
    except ValueError:
        names = [member.value for member in kind]
        raise Misconfigured(
            f"{setting} contains the rule {text!r}, but {name!r} is not a valid {noun}." + did_you_mean(name, names),
            fix=f"Use one of: {', '.join(names)}.",
        ) from None
