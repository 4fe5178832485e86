"""Write a manifest of what exists. Planning it shows no change.

Secrets become references with names made of the entry and the key; their values are never read into the manifest. Ids
of things that are in the manifest become references to their entries, so that it can be planned for another account.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import chain, count
from typing import Any

from connector_mcp.engine.accounts import Account
from connector_mcp.engine.across import side_by_side
from connector_mcp.engine.checks.issues import likely_names, value_at
from connector_mcp.engine.redaction.redactor import by_name, names_a_secret, redact_config, replaced
from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.json_values import JsonObject, is_object
from connector_mcp.operations.overview import Read
from connector_mcp.operations.provisioning.kinds import Kind
from connector_mcp.provisioning.manifest import ID, all_kinds, escaped, is_secret_place, plain_path, text_places
from connector_mcp.provisioning.planning import ReadRecords, read_whole
from connector_mcp.secrets.reference import LONGEST_NAME, SCHEME

_LONGEST_KEY = 48


class Exporter:
    """Reads accounts and makes entries of what is there."""

    def __init__(self, read: ReadRecords, redact: Callable[[Any], Any]) -> None:
        self._read = read
        self._redact = redact
        self.warnings: list[str] = []
        self._entries: dict[str, dict[str, JsonObject]] = {}
        self._ids: dict[tuple[Account, str, str], str] = {}
        """Account, section and id of what is exported, and its address."""
        self._places: list[tuple[Account, Kind, str]] = []
        self._secrets: list[str] = []

    async def export(
        self, name: str, accounts: Sequence[Account], labels: Mapping[Account, str], sections: Collection[str] | None
    ) -> JsonObject:
        """Make the manifest and the list of its secrets. `labels` has the profiles that have to be named.

        Raises:
            InvalidArguments: No platform of these accounts has such a section.
            ConnectorError: A platform could not be read.
        """
        platforms = {account.platform.name: account.platform for account in accounts}
        known = [section for section, kind in all_kinds().items() if kind.platform in platforms]
        for section in sections or ():
            if section not in known:
                got = "an unknown section"
                if section in all_kinds():
                    titles = " and ".join(platform.title for platform in platforms.values())
                    got = f"{section}, which {titles} {'does' if len(platforms) == 1 else 'do'} not have"
                near = likely_names(section, known)
                issue = Issue("sections", got, f"one of {', '.join(known)}", candidates=near)
                raise InvalidArguments("export_connectors", [issue])
        single = Counter(account.platform.name for account in accounts)
        profiles = {each.platform.name: labels[each] for each in labels if single[each.platform.name] == 1}
        for account in accounts:
            label = None if account.platform.name in profiles else labels.get(account)
            await self._export_account(account, label, sections)
        self._link()
        manifest: JsonObject = {"name": name} | ({"profiles": profiles} if profiles else {})
        return {"manifest": manifest | self._entries, "secrets": self._secrets}

    async def _export_account(self, account: Account, label: str | None, sections: Collection[str] | None) -> None:
        lists: dict[tuple[str, str], list[JsonObject]] = {}

        async def read(kind: Kind, within: str, reading: Read) -> None:
            lists[kind.section, within] = kind.rows(await self._read(account, reading), within)

        kinds = [kind for kind in all_kinds().values() if kind.platform == account.platform.name]
        wanted = [kind for kind in kinds if sections is None or kind.section in sections]
        for kind in kinds:
            # A kind stands after those that its things belong to.
            await side_by_side(partial(read, kind, within, kind.listing(within)) for within in _places_of(kind, lists))
        for (section, within), rows in sorted(lists.items(), key=lambda item: [*all_kinds()].index(item[0][0])):
            kind = all_kinds()[section]
            if kind in wanted:
                records = await read_whole(self._read, [(account, kind, within, row) for row in rows])
                self._add(account, label, kind, within, records)

    def _add(self, account: Account, label: str | None, kind: Kind, within: str, records: Sequence[JsonObject]) -> None:
        known = Counter(map(kind.key_of, records))
        entries = self._entries.setdefault(kind.section, {}) if records else {}
        for record in records:
            identifier, observed = kind.identify(record), kind.observe(record, within)
            name = str(observed.get("name") or kind.key_of(record))
            key = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST_KEY].rstrip("-") or "thing"
            key = _free(key, entries, _LONGEST_KEY)
            values = {name: value for name, value in observed.items() if value not in (None, "", {})}
            entry = self._without_secrets(account, kind, key, values)
            if known[kind.key_of(record)] > 1:
                entry[ID] = identifier
            if label is not None:
                entry["profile"] = label
            entries[key] = entry
            self._ids[account, kind.section, identifier] = f"{kind.section}.{key}"
            self._places.append((account, kind, key))

    def _without_secrets(self, account: Account, kind: Kind, key: str, values: JsonObject) -> JsonObject:
        """Put references in the places of secrets, also of those that the type requires and no read shows."""
        platform, member = account.platform, kind.config_member
        known, config = kind.config_type(values), values.get(member)
        shown: JsonObject = by_name({name: value for name, value in values.items() if name != member}, platform)
        if is_object(config):
            if known is None:
                self.warnings.append(f"{kind.section}.{key} has a config of an unknown type, which is left out.")
                values = {name: value for name, value in values.items() if name != member}
            else:
                dropped = [
                    name for name in config if name in {*kind.computed, *known.traits.get("mayContainSecrets", ())}
                ]
                values = values | {member: {name: value for name, value in config.items() if name not in dropped}}
                shown[member] = redact_config(values[member], known, platform)
        entry: JsonObject = escaped(values)
        for steps, text in list(text_places(values)):
            is_secret = is_secret_place(kind, values, steps) or value_at(shown, steps) != text
            if is_secret and text:
                may_refer = is_secret_place(kind, values, steps) or names_a_secret(str(steps[-1]), platform)
                if not may_refer:
                    self.warnings.append(f"{kind.section}.{key}: {plain_path(steps)} looks secret and is left out.")
                entry = replaced(entry, steps, self._reference(key, steps) if may_refer else "")
        for steps in kind.lacking(entry):
            entry = with_value(entry, steps, self._reference(key, steps))
        return self._redact(entry)

    def _reference(self, key: str, steps: Sequence[str | int]) -> str:
        path = plain_path(steps).removeprefix("config.")
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{key}-{path}").strip("_-")[-LONGEST_NAME:]
        name = _free(name.lstrip("_-") or "secret", self._secrets, LONGEST_NAME - 4)
        self._secrets.append(name)
        return f"{SCHEME}{name}"

    def _link(self) -> None:
        """Replace the ids of exported things by references to their entries."""
        for account, kind, key in self._places:
            entry = self._entries[kind.section][key]
            for steps, text in list(text_places(entry)):
                section = kind.refers.get(plain_path(steps))
                address = self._ids.get((account, section, text)) if section else None
                if address is not None:
                    entry = replaced(entry, steps, f"${{{address}.id}}")
            self._entries[kind.section][key] = entry


def _places_of(kind: Kind, lists: Mapping[tuple[str, str], list[JsonObject]]) -> list[str]:
    """Return the places of a kind: the ids of everything that its things may belong to."""
    if not kind.parents:
        return [""]
    section = kind.refers[kind.parents[-1]]
    identify = all_kinds()[section].identify
    found = [(place, identify(row)) for (listed, place), rows in lists.items() if listed == section for row in rows]
    return ["/".join([*place.split("/"), own][-len(kind.parents) :]) for place, own in found]


def with_value(entry: JsonObject, steps: Sequence[str | int], value: Any) -> JsonObject:
    """Copy the entry with a value in a place. Missing objects on the way are added."""
    copied = deepcopy(entry)
    holder: Any = copied
    for step in steps[:-1]:
        holder = holder[step] if isinstance(step, int) else holder.setdefault(step, {})
    holder[steps[-1]] = value
    return copied


def _free(name: str, taken: Collection[str], longest: int) -> str:
    """Return the name, or the name with the lowest number that is not taken."""
    numbered = (f"{name[:longest]}-{number}" for number in count(2))
    return next(each for each in chain([name], numbered) if each not in taken)
