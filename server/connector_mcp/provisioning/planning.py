"""Compare a manifest with the platforms: read them, match each entry with a thing, and find what differs.

A read that fails, or an entry that matches several things, ends the plan with an error: a plan that knows only a part
would create things that exist.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from connector_mcp.engine.accounts import Account
from connector_mcp.engine.across import side_by_side
from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.overview import Read
from connector_mcp.operations.provisioning.kinds import Kind
from connector_mcp.provisioning.differences import Difference, find_differences, references_in
from connector_mcp.provisioning.journal import Identity, WrittenSecret, account_key
from connector_mcp.provisioning.manifest import ID, Manifest, ManifestEntry, plain, referenced, with_texts
from connector_mcp.provisioning.plan import SecretState

ReadRecords = Callable[[Account, Read], Awaitable[Any]]
"""Sends a read, of a list all pages, and returns the data as the platform gave it."""

TOOL = "plan_connectors"


@dataclass
class Thing:
    """An entry and the thing on its platform that it describes."""

    entry: ManifestEntry
    account: Account
    identity: Identity | None = None
    record: JsonObject | None = None
    """None if the thing does not exist yet."""
    identifier: str | None = None
    within: str = ""
    values: JsonObject = field(default_factory=dict[str, Any])
    """The entry's members with the ids of things that exist."""
    observed: JsonObject = field(default_factory=dict[str, Any])
    differences: list[Difference] = field(default_factory=list[Difference])
    secrets: dict[str, SecretState] = field(default_factory=dict[str, SecretState])
    is_replaced: bool = False

    @property
    def kind(self) -> Kind:
        return self.entry.kind

    @property
    def applied(self) -> JsonObject:
        """The entry as it was last applied."""
        return self.identity.declared if self.identity else {}


class _Listing:
    """The records of one list."""

    def __init__(self, kind: Kind, rows: list[JsonObject]) -> None:
        self.rows = rows
        self.by_id: dict[str | None, list[JsonObject]] = defaultdict(list)
        self.by_key: dict[str, list[JsonObject]] = defaultdict(list)
        for row in rows:
            self.by_id[kind.identify(row)].append(row)
            self.by_key[kind.key_of(row)].append(row)


class Matcher:
    """Finds the thing of each entry. Each list is read once, and the lists of one round concurrently."""

    def __init__(self, read: ReadRecords, identities: Mapping[tuple[str, str], Identity]) -> None:
        self._read = read
        self._identities = identities
        self._lists: dict[tuple[Account, str, str], _Listing] = {}
        self.issues: list[Issue] = []
        self.warnings: list[str] = []
        self.things: dict[str, Thing] = {}

    async def match(self, manifest: Manifest, accounts: Mapping[str, Account]) -> dict[str, Thing]:
        """Match all entries. Problems are added to `issues`."""
        waiting = dict(manifest.entries)
        while waiting:
            places = {address: self._place_of(entry, waiting) for address, entry in waiting.items()}
            ready = {address: place for address, place in places.items() if place is not None}
            there = [(address, place) for address, place in ready.items() if place != _MISSING]
            await self._read_lists({(accounts[address], waiting[address].kind, place) for address, place in there})
            for address, place in ready.items():
                self._match_one(waiting.pop(address), accounts[address], place)
        self.things = {address: self.things[address] for address in manifest.entries}
        self._check_claims()
        await self._read_whole()
        return self.things

    async def rows(self, account: Account, kind: Kind, within: str) -> list[JsonObject]:
        """Return all records of a kind."""
        await self._read_lists({(account, kind, within)})
        return self._lists[account, kind.section, within].rows

    def _place_of(self, entry: ManifestEntry, waiting: Mapping[str, ManifestEntry]) -> str | None:
        """The ids of what the entry belongs to; None while one is not known, `_MISSING` where it does not exist."""
        ids: list[str] = []
        for member in entry.kind.parents:
            given = entry.values.get(member)
            target = referenced(given)
            if target is not None and target[0] in waiting:
                return None
            parent = self.things.get(target[0]) if target else None
            known = str(given) if target is None else parent.identifier if parent else None
            if known is None:
                return _MISSING
            ids.append(known)
        return "/".join(ids)

    async def _read_lists(self, wanted: Iterable[tuple[Account, Kind, str]]) -> None:
        async def read(account: Account, kind: Kind, within: str) -> None:
            data = await self._read(account, kind.listing(within))
            self._lists[account, kind.section, within] = _Listing(kind, kind.rows(data, within))

        unread = [each for each in wanted if (each[0], each[1].section, each[2]) not in self._lists]
        await side_by_side(partial(read, *each) for each in unread)

    def _match_one(self, entry: ManifestEntry, account: Account, within: str) -> None:
        thing = Thing(entry, account, self._identities.get((account_key(account), entry.address)))
        self.things[entry.address] = thing
        if within == _MISSING:
            return
        thing.within = within
        kind, listing = entry.kind, self._lists[account, entry.kind.section, within]
        if entry.id is not None:
            found = listing.by_id[entry.id]
            if not found:
                self.issues.append(
                    Issue(f"{entry.address}.id", f"an id that no {kind.noun} has", "an id of one, or none")
                )
        else:
            known = thing.identity.identifier if thing.identity else None
            found = listing.by_id[known]
            if known is not None and not found:
                self.warnings.append(f"{entry.address} was made as {known}, which is no longer there.")
            found = found or listing.by_key[kind.key(plain(entry.values))]
        if len(found) > 1:
            ids = ", ".join(map(kind.identify, found))
            wanted = f"{entry.address}.id with the one that is meant: {ids}"
            self.issues.append(Issue(entry.address, f"a name that {len(found)} things have", wanted))
        elif found:
            thing.record, thing.identifier = found[0], kind.identify(found[0])
            if thing.identity and thing.identity.identifier != thing.identifier:
                # Another thing has taken its name: nothing is known of its secrets.
                thing.identity = None

    def _check_claims(self) -> None:
        """Report things that two entries claim."""
        claimed: dict[tuple[Any, ...], str] = {}
        for address, thing in self.things.items():
            claim = (thing.account, thing.kind.section, thing.within, thing.identifier)
            if thing.identifier is not None and claimed.setdefault(claim, address) != address:
                got = f"the same {thing.kind.noun} as {claimed[claim]}: {thing.identifier}"
                self.issues.append(Issue(address, got, "each thing once"))

    async def _read_whole(self) -> None:
        """Read those things of which the list shows only a part."""
        found = [(thing, thing.record) for thing in self.things.values() if thing.record is not None]
        rows = [(thing.account, thing.kind, thing.within, record) for thing, record in found]
        for (thing, _), record in zip(found, await read_whole(self._read, rows), strict=True):
            thing.record = record


async def read_whole(read: ReadRecords, rows: Sequence[tuple[Account, Kind, str, JsonObject]]) -> list[JsonObject]:
    """Return the records of rows, read one by one where a list shows only a part."""
    whole = [row for *_, row in rows]

    async def read_one(index: int, account: Account, reading: Read) -> None:
        whole[index] = await read(account, reading)

    readings = ((account, kind.reading(kind.identify(row), within)) for account, kind, within, row in rows)
    await side_by_side(
        partial(read_one, index, account, reading) for index, (account, reading) in enumerate(readings) if reading
    )
    return whole


_MISSING = "\0"
"""The place of what belongs to a thing that does not exist yet."""


def compare(things: Mapping[str, Thing]) -> None:
    """Find the differences of each thing. A thing comes after those that it needs."""
    for thing in things.values():
        thing.values = with_ids(thing.entry.values, things)
        if thing.record is None or thing.entry.is_absent:
            continue
        thing.observed = thing.kind.observe(thing.record, thing.within)
        applied = with_ids(thing.applied, things)
        thing.differences = find_differences(thing.kind, thing.values, thing.observed, applied)
        thing.is_replaced = bool(fixed_differences(thing))


def fixed_differences(thing: Thing) -> list[Difference]:
    """The differences that no call can remove."""
    if not thing.differences:
        return []
    kind, changes = thing.kind, {each.path: each.after for each in thing.differences}
    fixed = [each for each in thing.differences if each.path[0] in kind.fixed]
    is_changeable = bool(kind.update(thing.identifier or "", thing.within, thing.values, changes))
    return fixed or ([] if is_changeable else list(thing.differences))


def with_ids(value: Any, things: Mapping[str, Thing]) -> Any:
    """Unescape a value and fill in the ids of things that exist and are not replaced."""

    def fill(text: str) -> str:
        target = referenced(text)
        thing = things.get(target[0]) if target and target[1] == ID else None
        return plain(text) if thing is None or thing.identifier is None or thing.is_replaced else thing.identifier

    return with_texts(value, fill)


async def compare_secrets(
    thing: Thing, digest_of: Callable[[Account, str, str], Awaitable[str | None]], rotated: bool
) -> None:
    """Find the state of each secret. `digest_of` returns the digest of the present value of a reference."""
    written: Mapping[str, WrittenSecret] = thing.identity.secrets if thing.identity else {}
    for path, name in references_in(thing.values).items():
        last = written.get(path)
        if rotated:
            thing.secrets[path] = "rotated"
        elif last is None:
            thing.secrets[path] = "unknown"
        else:
            now = await digest_of(thing.account, path, name)
            same = last.name == name and last.digest == now
            thing.secrets[path] = "unchanged" if same else "unknown" if now is None else "rotated"


def choose_accounts(
    manifest: Manifest, accounts: Sequence[Account], profiles: frozenset[str] | None
) -> tuple[dict[str, Account], list[Issue]]:
    """The account of each entry, and the entries that name none."""
    chosen: dict[str, Account] = {}
    issues: list[Issue] = []
    own = [account for account in accounts if profiles is None or account.profile in profiles]
    for entry in manifest.entries.values():
        there = [account for account in own if account.platform.name == entry.kind.platform]
        if entry.profile is not None:
            fitting = [account for account in there if account.profile == entry.profile]
        else:
            fitting = there if len(there) == 1 else [account for account in there if account.default]
        if len(fitting) == 1:
            chosen[entry.address] = fitting[0]
        elif not there:
            platforms = dict.fromkeys(account.platform.name for account in own)
            wanted = f"one of {', '.join(platforms)}" if platforms else "a platform that is served"
            issues.append(Issue(entry.address, f"a thing on {entry.kind.platform}, which is not served", wanted))
        else:
            names = ", ".join(account.profile for account in there)
            got = "nothing" if entry.profile is None else "an unknown profile"
            issues.append(Issue(f"{entry.address}.profile", got, f"one of {names}"))
    for address, account in chosen.items():
        for needed in manifest.entries[address].needs & chosen.keys():
            other = chosen[needed]
            if other.platform.name == account.platform.name and other is not account:
                got = f"a reference to {needed}, which is in profile {other.profile}"
                issues.append(Issue(address, got, f"a thing in profile {account.profile}"))
    return chosen, issues


def in_manifest(issues: Iterable[Issue], entry: ManifestEntry) -> list[Issue]:
    """Turn issues of a call's arguments into issues of the entry."""
    placed: list[Issue] = []
    names = sorted(entry.kind.argument_names.items(), key=lambda pair: -len(pair[0]))
    for issue in issues:
        path = issue.path
        for argument, member in names:
            if path == argument or path.startswith((f"{argument}.", f"{argument}[")):
                path = member + path[len(argument) :]
                break
        place = f"{entry.address}.{path.lstrip('.')}" if path.lstrip(".") else entry.address
        placed.append(replace(issue, path=place))
    return placed


def refuse(issues: Sequence[Issue]) -> None:
    """Raise all issues at once, if there are any.

    Raises:
        InvalidArguments: There are issues.
    """
    if issues:
        unique = list({(issue.path, issue.got): issue for issue in issues}.values())
        raise InvalidArguments(TOOL, unique, fix="Correct the manifest where issues say so, and plan again.")
