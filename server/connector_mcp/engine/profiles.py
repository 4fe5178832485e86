"""Which account a call is made under, and the argument by which it says so.

The argument is the tool's, not the operation's, and is there only where the platform has more than one profile. A call
that destroys something must name the profile: no default decides what is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from connector_mcp.engine.account import Account
from connector_mcp.engine.arguments import describe
from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.operations.operation import Effect, Operation
from connector_mcp.operations.tool import PROFILE, ProfileChoice, Tool, tool_of


class Choice(NamedTuple):
    """The account of a call and the arguments that are left for the operation."""

    account: Account | None
    arguments: Mapping[str, Any]
    named: bool = True
    """Whether the caller named the profile, or there was none to choose."""


class Profiles:
    """The accounts by platform."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self.accounts = tuple(accounts)
        self._of: dict[str, tuple[Account, ...]] = {}
        for account in self.accounts:
            name = account.platform.name
            self._of[name] = (*self._of.get(name, ()), account)

    def of(self, operation: type[Operation]) -> tuple[Account, ...]:
        """The accounts that the operation may be called under; none where it belongs to no platform."""
        return self._of[operation.on.name] if operation.on else ()

    def only(self, operation: type[Operation]) -> Account | None:
        """The account where there is just one."""
        accounts = self.of(operation)
        return accounts[0] if len(accounts) == 1 else None

    def tool(self, operation: type[Operation]) -> Tool:
        """The operation's tool, less the arguments that every account fixes."""
        accounts = self.of(operation)
        fixed = {name for account in accounts for name in account.fixed}
        default = _default(accounts)
        choice = ProfileChoice(tuple(account.profile for account in accounts), default.profile if default else None)
        return tool_of(
            operation,
            hidden=[name for name in fixed if all(name in account.fixed for account in accounts)],
            optional=fixed,
            profiles=choice if len(accounts) > 1 else None,
        )

    def choose(self, tool: Tool, arguments: Mapping[str, Any]) -> Choice:
        """The account that the arguments name, or the default one where nothing need be named.

        Raises:
            InvalidArguments: There is no such profile, or none is named where one must be.
        """
        accounts = self.of(tool.operation)
        if len(accounts) < 2:
            return Choice(accounts[0] if accounts else None, arguments)
        if PROFILE in arguments:
            others = {name: value for name, value in arguments.items() if name != PROFILE}
            return Choice(_named(tool, accounts, arguments[PROFILE]), others)
        default = _default(accounts)
        if default is None or tool.operation.effect is Effect.DESTROY:
            raise unnamed(tool, accounts)
        return Choice(default, arguments, named=False)


def unnamed(tool: Tool, accounts: Sequence[Account]) -> InvalidArguments:
    """The refusal of a call that has to name its profile and does not."""
    names = ", ".join(account.profile for account in accounts)
    why = "" if _default(accounts) is None else ", because the call destroys something"
    return InvalidArguments(
        tool.name,
        [Issue(PROFILE, "nothing", f"one of {names}{why}")],
        fix=f"Call again with {PROFILE}, one of {names}. Ask the person you work for which one is meant.",
    )


def _named(tool: Tool, accounts: Sequence[Account], name: Any) -> Account:
    known = {account.profile: account for account in accounts}
    if isinstance(name, str) and name in known:
        return known[name]
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.5) if isinstance(name, str) else []
    hint = f"{near[0]}, perhaps; " if near else ""
    raise InvalidArguments(tool.name, [Issue(PROFILE, describe(name), f"{hint}one of {', '.join(known)}")])


def _default(accounts: Sequence[Account]) -> Account | None:
    return next((account for account in accounts if account.default), None)
