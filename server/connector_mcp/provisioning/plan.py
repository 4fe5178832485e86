"""The plan: the actions that make the platforms match a manifest. A decision is bound to all of them.

A plan holds no secret. Its arguments have references (`secret://NAME`) in the places of secrets, and
`${section.entry.id}` in the places of ids that exist only once an earlier action has run.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from connector_mcp.engine.preview import Change
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.operation import Effect

Verb = Literal["create", "update", "rotate", "replace", "delete", "adopt", "unchanged"]
"""What an action does. `replace` creates the new thing of a pair of which another action deletes the old one; `adopt`
and `unchanged` call no tool."""

SecretState = Literal["unchanged", "rotated", "unknown"]
"""What is known of a secret: it is what was last written, it has another value now, or it was set outside."""


ADOPTED = "$adopted"
"""Member of `Action.declared`, and so of what is kept of the entry: the manifest did not make the thing, and so never
prunes it."""


class Action(BaseModel):
    """One step of a plan: at most one call of one tool."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    """Counts from 1, in an order in which the actions can run one after the other."""
    verb: Verb
    entry: str
    """The entry of the manifest, as `section.name`, or the identity it had when it was made."""
    platform: str
    profile: str
    name: str
    """The name that a person knows the thing by."""
    because: str = ""
    """Why: for a replacement what cannot be changed, for a deletion who asked for it."""
    tool: str | None = None
    arguments: JsonObject = {}
    identifier: str | None = None
    """The id of the thing, where it exists."""
    within: str = ""
    """The id of what it belongs to, where its own id does not suffice to read it."""
    fingerprint: str = ""
    """The fingerprint of the target when the plan was made; empty where there is none."""
    effect: Effect = Effect.READ
    sentence: str = ""
    """What it would do, for a person."""
    losses: tuple[str, ...] = ()
    diff: tuple[Change, ...] = ()
    """What changes, member by member, redacted."""
    snapshot: JsonObject = {}
    """The target's members by path, redacted, when the plan was made. A later difference is named from it."""
    hosts: tuple[str, ...] = ()
    """The hosts that the platform would send credentials to."""
    disclosed: tuple[tuple[str, str], ...] = ()
    """Names of secrets, each with a host that the manifest chooses and to which it would be sent."""
    secrets: dict[str, SecretState] = {}
    """What is known of each secret, by its path in `declared`."""
    declared: JsonObject = {}
    """The entry as the manifest has it, with references for secrets. It is kept once it was applied, for drift."""
    needs: tuple[int, ...] = ()
    """The actions that must have succeeded before."""

    @property
    def calls(self) -> bool:
        """Whether it calls a tool."""
        return self.tool is not None


class Plan(BaseModel):
    """A stored plan. Times are epoch seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    digest: str = ""
    """Keyed digest of all actions and of who planned them. A decision is bound to it."""
    principal: str
    manifest: str
    """Name of the manifest. What was made for another manifest is never pruned by this one."""
    sandbox: bool = False
    actions: tuple[Action, ...]
    warnings: tuple[str, ...] = ()
    created_at: float = 0.0
    expires_at: float = 0.0

    @cached_property
    def steps(self) -> tuple[Action, ...]:
        """The actions that call a tool."""
        return tuple(action for action in self.actions if action.calls)

    @property
    def destructive(self) -> tuple[Action, ...]:
        """The actions that may destroy."""
        return tuple(action for action in self.actions if action.effect is Effect.DESTROY)

    def counts(self) -> dict[str, int]:
        """Count the actions of each verb."""
        verbs: list[Any] = [action.verb for action in self.actions]
        return {verb: verbs.count(verb) for verb in dict.fromkeys(verbs)}
