"""The accounts on each platform, and which of them a call uses.

Where a platform has several accounts (profiles), its tools take the argument `profile`. A call that destroys something
must name the profile: a default never decides what is lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from connector_mcp.engine.checks.issues import describe, likely_values, one_of
from connector_mcp.engine.policy import Policy
from connector_mcp.errors import Blocked, InvalidArguments, Issue
from connector_mcp.operations.operation import Effect, Operation
from connector_mcp.operations.platform import Platform
from connector_mcp.operations.tool import PROFILE, ProfileChoice, Tool, tool_of
from connector_mcp.upstream.client import UpstreamClient

BIND = "The operator of the server can bind the caller's token to a profile; an agent cannot."


@dataclass(frozen=True, eq=False)
class Account:
    """A named account (profile) on a platform and the client that acts as it. Compared by identity."""

    platform: Platform
    client: UpstreamClient
    options: Mapping[str, str]
    """The platform's variables that are not secret, by name."""
    profile: str = "default"
    sandbox: bool = False
    default: bool = False
    """Whether calls that destroy nothing may leave the profile out."""
    policy: Policy | None = None
    """The policy for calls under this profile; None means the server's policy."""
    secrets: frozenset[str] | None = None
    """The secrets that calls under this profile may refer to. None means any secret, within its own limits."""

    @property
    def tenant(self) -> str | None:
        """The tenant set in the configuration."""
        return self.options.get(self.platform.tenant.name) if self.platform.tenant else None

    def tenant_of(self, operation: Operation) -> str | None:
        """Return the tenant of a call: that of the configuration, or the one among the arguments."""
        return self.tenant or getattr(operation, self.platform.tenant_argument or "", None)

    @property
    def fixed(self) -> dict[str, str]:
        """The arguments set in the configuration, which calls leave out."""
        argument, tenant = self.platform.tenant_argument, self.tenant
        return {argument: tenant} if argument and tenant else {}


class Accounts:
    """All accounts, grouped by platform."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self.all = tuple(accounts)
        self._by_platform: dict[str, tuple[Account, ...]] = {}
        for account in self.all:
            name = account.platform.name
            self._by_platform[name] = (*self._by_platform.get(name, ()), account)
        self._tools: dict[type[Operation], Tool] = {}

    def get(self, operation: type[Operation], profiles: Collection[str] | None = None) -> tuple[Account, ...]:
        """Return the accounts the operation can run under; none for an operation without a platform.

        With `profiles` only those of a caller that is bound to these.
        """
        accounts = self._by_platform[operation.on.name] if operation.on else ()
        return accounts if profiles is None else tuple(each for each in accounts if each.profile in profiles)

    def label(self, account: Account | None) -> str:
        """Describe the account for a person. Empty where the platform has only one."""
        if account is None or len(self._by_platform[account.platform.name]) < 2:
            return ""
        return f"the profile {account.profile} of {account.platform.title}"

    def tool(self, operation: type[Operation]) -> Tool:
        """Return the operation's tool, without the arguments that every account fixes."""
        # Its schemas take a millisecond to make, and the calls across platforms ask for it with each read.
        if operation not in self._tools:
            self._tools[operation] = self._make_tool(operation)
        return self._tools[operation]

    def _make_tool(self, operation: type[Operation]) -> Tool:
        accounts = self.get(operation)
        fixed = {name for account in accounts for name in account.fixed}
        choice = ProfileChoice(tuple(account.profile for account in accounts), _default_profile(accounts))
        return tool_of(
            operation,
            hidden=[name for name in fixed if all(name in account.fixed for account in accounts)],
            optional=fixed,
            profiles=choice if len(accounts) > 1 else None,
        )

    def choose(
        self, tool: Tool, arguments: Mapping[str, Any], profiles: Collection[str] | None = None
    ) -> tuple[Account | None, Mapping[str, Any], bool]:
        """Return the account of a call, the arguments that remain for the operation, and whether the account was named.

        It is the one that the arguments name, or the default one where that is enough. The only one counts as named.
        With `profiles` only those of a caller that is bound to these count.

        Raises:
            InvalidArguments: The profile does not exist, or is missing where it is required.
            Blocked: The caller may not act under any profile of the platform.
        """
        accounts = self.get(tool.operation, profiles)
        if not accounts and tool.operation.on:
            raise Blocked(
                f"This caller may not act under any profile of {tool.operation.on.title}. Nothing was sent.",
                fix=BIND,
            )
        if len(self.get(tool.operation)) < 2:
            return accounts[0] if accounts else None, arguments, True
        by_profile = {account.profile: account for account in accounts}
        if PROFILE in arguments:
            others = {name: value for name, value in arguments.items() if name != PROFILE}
            given = arguments[PROFILE]
            if not isinstance(given, str) or given not in by_profile:
                near = likely_values(by_profile, given)
                issue = Issue(PROFILE, describe(given), one_of(by_profile, given), candidates=near)
                raise InvalidArguments(tool.name, [issue])
            return by_profile[given], others, True
        if len(accounts) == 1:
            return accounts[0], arguments, True
        default = _default_profile(accounts)
        if default is None or tool.operation.effect is Effect.DESTROY:
            raise self.profile_required(tool, profiles)
        return by_profile[default], arguments, False

    def profile_required(self, tool: Tool, profiles: Collection[str] | None) -> InvalidArguments:
        """Make the error for a call that has to name its profile and does not."""
        accounts = self.get(tool.operation, profiles)
        names = ", ".join(account.profile for account in accounts)
        why = "" if _default_profile(accounts) is None else ", because the call destroys something"
        return InvalidArguments(
            tool.name,
            [Issue(PROFILE, "nothing", f"one of {names}{why}")],
            fix=f"Call again with {PROFILE}, one of {names}. Ask the person you work for which one is meant.",
        )


def _default_profile(accounts: Iterable[Account]) -> str | None:
    return next((account.profile for account in accounts if account.default), None)
