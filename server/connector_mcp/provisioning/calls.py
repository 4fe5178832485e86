"""The calls that plan and export. Each read of a platform is a call of its own, as in `engine/across.py`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from connector_mcp.engine.accounts import Account
from connector_mcp.engine.across import AcrossCall, side_by_side
from connector_mcp.engine.caller import Caller, CallResult
from connector_mcp.engine.checks.issues import likely_values
from connector_mcp.engine.engine_call import CallServices, EngineCall
from connector_mcp.engine.secret_refs.resolver import FoundSecrets, Reference
from connector_mcp.errors import Blocked, InvalidArguments, Issue, NotFound, TimedOut
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.overview import Read
from connector_mcp.operations.provisioning.kinds import Kind, ToolCall
from connector_mcp.operations.provisioning.tools import ApplyPlan, ExportConnectors, PlanConnectors
from connector_mcp.operations.tool import Tool
from connector_mcp.provisioning.actions import Draft, Drafts, number_actions
from connector_mcp.provisioning.applying import ApplyCall
from connector_mcp.provisioning.differences import references_in
from connector_mcp.provisioning.exporting import Exporter
from connector_mcp.provisioning.journal import Identity, Journal, account_key, secret_digest
from connector_mcp.provisioning.manifest import (
    Manifest,
    ManifestEntry,
    all_kinds,
    parse_manifest,
    plain,
    referenced,
    text_places,
)
from connector_mcp.provisioning.plan import ADOPTED, Action, Plan
from connector_mcp.provisioning.planning import (
    Matcher,
    Thing,
    choose_accounts,
    compare,
    compare_secrets,
    in_manifest,
    refuse,
)
from connector_mcp.provisioning.rehearsal import Rehearsal, SharedReads, read_records
from connector_mcp.state.keys import secret_key

SECONDS = 50.0
"""How long a plan may take for a client. Some give up on a call after 60 seconds."""
LIFETIME = 3_600.0
"""Seconds within which a plan can be applied."""
EXPORTED = "exported"
"""Name of an exported manifest."""
AT_ONCE = 32
"""Previews that are made side by side. Each platform's own limits hold beside it."""
_SHOWN = 100
"""Actions that a result shows in full."""
_TOLD = {
    "number", "verb", "entry", "name", "platform", "profile", "effect", "because", "identifier", "sentence", "losses",
    "diff", "secrets", "needs", "tool",
}  # fmt: skip
"""Members of an action that a result shows, unless they are empty."""


class ProvisioningCall(AcrossCall):
    """What planning and exporting share: reads of whole records, all of which have to succeed."""

    async def run_steps(self, arguments: Mapping[str, Any]) -> CallResult:
        self.validate(arguments)
        seconds = None if self.caller.transport == "cli" else SECONDS
        with anyio.move_on_after(seconds):
            return self.success(await self.answer())
        raise TimedOut(
            f"The platforms did not answer all reads in {SECONDS:.0f} s. Nothing was planned or changed.",
            fix="Split the manifest into several with names of their own, such as one a platform, and plan each. "
            "Or run `connector-mcp plan FILE` and `connector-mcp apply FILE` in a terminal, which wait longer.",
        )

    @abstractmethod
    async def answer(self) -> JsonObject:
        """Make the data of the result."""

    async def _read(self, account: Account, read: Read) -> Any:
        return await read_records(read, account, self.caller, self._services)


class PlanCall(ProvisioningCall):
    """The call that makes a plan."""

    def __init__(self, tool: Tool, caller: Caller, services: CallServices) -> None:
        super().__init__(tool, caller, services)
        self._lists = SharedReads()
        self._inspected: dict[str, Rehearsal] = {}
        """The creation of each entry."""

    async def answer(self) -> JsonObject:
        operation = self.operation
        assert isinstance(operation, PlanConnectors)  # noqa: S101 - made for this operation only
        plan = await self.plan(operation.manifest, prune=operation.prune, rotate=operation.rotate or [])
        return describe_plan(plan)

    async def plan(self, data: JsonObject, *, prune: bool, rotate: Sequence[str]) -> Plan:
        """Make and store the plan.

        Raises:
            InvalidArguments: The manifest is wrong, or does not fit what is there. All issues at once.
            ConnectorError: A platform could not be read.
        """
        manifest, issues = parse_manifest(data)
        self.arguments = {"manifest": manifest.name, "entries": len(manifest.entries), "prune": prune}
        with_secrets = [address for address, entry in manifest.entries.items()
                        if references_in(entry.values) and not entry.is_absent]  # fmt: skip
        for index, each in enumerate(rotate):
            if each not in manifest.entries:
                wanted = next(iter(likely_values(manifest.entries, each)), "section.key of an entry")
                issues.append(Issue(f"rotate[{index}]", "an entry that is not there", wanted))
            elif each not in with_secrets:
                wanted = f"one of {', '.join(with_secrets[:_SHOWN])}" if with_secrets else "none: no entry has secrets"
                issues.append(Issue(f"rotate[{index}]", f"{each}, which has no secrets to write", wanted))
        accounts, unplaced = choose_accounts(manifest, self._services.accounts.all, self.caller.profiles)
        fatal, doubtful = await self._inspect(manifest, accounts)
        if issues or unplaced or fatal:
            # Which entries are created is not known yet, and only a creation needs a member such as `selected_files`.
            told = [each for several in doubtful.values() for each in several
                    if each.got != "nothing" or each.path.count(".") != 2]  # fmt: skip
            refuse([*issues, *unplaced, *fatal, *told])
        journal = Journal(self._services.database)
        identities = await journal.remembered(manifest.name, self.own_accounts())
        matcher = Matcher(self._read, identities)
        things = await matcher.match(manifest, accounts)
        compare(things)
        for thing in things.values():
            await compare_secrets(thing, self._digest_of, thing.entry.address in rotate)
        orphans = await self._orphans(manifest, matcher, identities, prune=prune)
        drafts = Drafts(things.values(), orphans)
        issues = [*matcher.issues, *drafts.issues]
        issues += [each for address, thing in things.items() if thing.record is None and not thing.entry.is_absent
                   for each in doubtful.get(address, ())]  # fmt: skip
        ordered = drafts.all()
        issues += await self._rehearse(ordered)
        refuse(issues)
        for warning in matcher.warnings:
            self.meta.warn(warning)
        actions = list(number_actions(ordered, self.scrubber.value))
        self._warn_of_policy(ordered)
        return await journal.store(
            actions,
            principal=self.caller.principal,
            manifest=manifest.name,
            ttl=LIFETIME,
            sandbox=any(account.sandbox for account in accounts.values()),
            warnings=self.meta.warnings,
        )

    async def _inspect(
        self, manifest: Manifest, accounts: Mapping[str, Account]
    ) -> tuple[list[Issue], dict[str, list[Issue]]]:
        """Check the arguments of each creation. Return the issues of any call, and those of a creation by entry."""
        fatal: list[Issue] = []
        doubtful: dict[str, list[Issue]] = {}
        for address, account in accounts.items():
            entry = manifest.entries[address]
            call = None if entry.is_absent else entry.kind.create(plain(entry.values))
            if call is not None:
                # Other calls go on meanwhile, and this one ends in time.
                await checkpoint()
                rehearsal = self._inspected[address] = self._rehearsal(call)
                always, created = rehearsal.inspect(call.arguments | self.account_arguments(account))
                fatal += in_manifest(always, entry)
                doubtful[address] = in_manifest(created, entry)
        return fatal, doubtful

    def _rehearsal(self, call: ToolCall) -> Rehearsal:
        return Rehearsal(self._services.accounts.tool(call.operation), self.caller, self._services, self._lists)

    async def _digest_of(self, account: Account, path: str, name: str) -> str | None:
        """Return the digest of the present value of a reference; None where it cannot be used."""
        found = FoundSecrets((), {}, hides=False, is_final=True)
        found.references.append(Reference((path,), name))
        resolved = await self._services.resolver.resolve(found, account)
        value = next(iter(resolved.values.values()), None)
        return None if value is None else await secret_digest(self._services.database, value)

    async def _orphans(
        self,
        manifest: Manifest,
        matcher: Matcher,
        identities: Mapping[tuple[str, str], Identity],
        *,
        prune: bool,
    ) -> list[Thing]:
        """Find the things that the manifest made and no longer has. Without `prune`, a warning names them."""
        claimed = {(account_key(each.account), each.identifier) for each in matcher.things.values()}
        accounts = {account_key(account): account for account in self.own_accounts()}
        found: list[Thing] = []
        for (account, address), identity in identities.items():
            kind = all_kinds().get(address.partition(".")[0])
            kept = address in manifest.entries or (account, identity.identifier) in claimed
            if kept or kind is None or kind.is_single or ADOPTED in identity.declared:
                continue
            with suppress(NotFound):  # What it belonged to is gone, and it with that.
                rows = await matcher.rows(accounts[account], kind, identity.within)
                if any(kind.identify(row) == identity.identifier for row in rows):
                    found.append(_orphan(kind, accounts[account], identity))
        if found and not prune:
            names = ", ".join(f"{each.entry.address} ({each.entry.name})" for each in found)
            self.meta.warn(f"This manifest made what it no longer has: {names}. It stays, unless prune is true.")
            return []
        return found

    async def _rehearse(self, drafts: Sequence[Draft]) -> list[Issue]:
        """Preview every call. Return the issues for which calls would be refused."""
        issues: list[list[Issue]] = [[] for _ in drafts]
        key = await secret_key(self._services.database, "digest")
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def rehearse(index: int, draft: Draft, call: ToolCall) -> None:
            async with limiter:
                arguments = call.arguments | self.account_arguments(draft.thing.account)
                try:
                    rehearsal = self._inspected.get(draft.address)
                    if rehearsal is None or rehearsal.tool.operation is not call.operation:
                        rehearsal = self._rehearsal(call)
                    draft.rehearsed = await rehearsal.rehearse(arguments, key)
                except InvalidArguments as error:
                    issues[index] = in_manifest(error.issues, draft.thing.entry)

        await side_by_side(
            partial(rehearse, index, draft, draft.call) for index, draft in enumerate(drafts) if draft.call
        )
        return [each for several in issues for each in several]

    def _warn_of_policy(self, drafts: Sequence[Draft]) -> None:
        """Name the tools that an apply of the plan could not call."""
        for draft in drafts:
            if draft.call is None:
                continue
            name = draft.call.operation.tool_name()
            effect = draft.rehearsed.effect if draft.rehearsed else draft.call.operation.effect
            if name not in self._services.operations:
                self.meta.warn(
                    f"{name} is not served, so that an apply cannot call it. The operator can add its toolset."
                )
                continue
            try:
                self._services.gates[draft.thing.account].decide(name, effect, self.caller.scopes)
            except Blocked as blocked:
                self.meta.warn(f"It cannot be applied as it is: {blocked.message}")


class ExportCall(ProvisioningCall):
    """The call that writes a manifest of what exists."""

    async def answer(self) -> JsonObject:
        operation = self.operation
        assert isinstance(operation, ExportConnectors)  # noqa: S101 - made for this operation only
        self.arguments = operation.model_dump(exclude_unset=True)
        accounts = self._accounts(operation.platform, operation.profile)
        labels = {account: account.profile for account in accounts if self._services.accounts.label(account)}
        exporter = Exporter(self._read, self.scrubber.value)
        data = await exporter.export(EXPORTED, accounts, labels, operation.sections)
        for warning in exporter.warnings:
            self.meta.warn(warning)
        return data


def _orphan(kind: Kind, account: Account, identity: Identity) -> Thing:
    """Make the entry and the thing of an identity that the manifest no longer has."""
    targets = (referenced(text) for _, text in text_places(identity.declared))
    needs = frozenset(target[0] for target in targets if target)
    key = identity.entry.partition(".")[2]
    entry = ManifestEntry(kind, key, identity.declared, is_absent=True, needs=needs)
    return Thing(entry, account, identity, identifier=identity.identifier, within=identity.within)


def describe_plan(plan: Plan) -> JsonObject:
    """The data of a result that shows a plan."""
    changed = [action for action in plan.actions if action.calls]
    rows = [_describe_action(action) for action in plan.actions if action.verb != "unchanged" or action.because]
    data: JsonObject = {"plan_id": plan.id, "changes": len(changed), "counts": plan.counts(), "actions": rows[:_SHOWN]}
    if len(rows) > _SHOWN:
        deleted = [f"{action.entry} ({action.name})" for action in plan.actions if action.verb == "delete"]
        data |= {"more": len(rows) - _SHOWN} | ({"deletes": deleted} if deleted else {})
    data["expires_in_s"] = round(plan.expires_at - plan.created_at)
    return data


def _describe_action(action: Action) -> JsonObject:
    row = action.model_dump(mode="json", include=_TOLD)
    return {"id" if name == "identifier" else name: value for name, value in row.items() if value}


CALLS: Mapping[Any, type[EngineCall]] = {
    PlanConnectors: PlanCall,
    ApplyPlan: ApplyCall,
    ExportConnectors: ExportCall,
}
"""The calls of the tools of this part, by operation."""
