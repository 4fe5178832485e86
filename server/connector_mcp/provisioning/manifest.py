"""The manifest: the things that should exist on the platforms.

`parse_manifest` reports all errors that can be found without reading the platforms. `${section.key.id}` refers to
another entry, `${variables.name}` to a variable, and `$${` is a plain `${`. A secret is always a reference
`secret://NAME`, because manifests are files and plans are stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Any, Final

from pydantic import ValidationError

from connector_mcp.engine.checks.arguments import form_issue
from connector_mcp.engine.checks.issues import describe, known_names, likely_names, path_of, safe_key
from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, is_array, is_object, members
from connector_mcp.operations.catalog import PLATFORMS, platform_folder
from connector_mcp.operations.operation import at
from connector_mcp.operations.provisioning.kinds import Kind
from connector_mcp.operations.schema import portable_schema
from connector_mcp.secrets.reference import SCHEME, referenced_name

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_REFERENCE: Final = re.compile(r"(?<!\$)\$\{([^{}]*)\}")
_VARIABLE: Final = re.compile(r"(?<!\$)\$\{variables\.([^{}]*)\}")
_ESCAPED, _PLAIN = "$${", "${"
"""An escaped `${`, and the plain text that it means."""
_COMPARED, _AMONG, _NAMED = 20, 500, 40
"""Limits: unknown names that are compared, known names in each comparison, and known names that an issue lists."""
_LONGEST_CHAIN: Final = 50
"""Entries that may need each other in a row."""
_OF_EVERY: Final = ("id", "profile", "state")
_TOP: Final = ("name", "variables", "profiles")
ID: Final = "id"


@dataclass(frozen=True)
class ManifestEntry:
    """An entry of a manifest, with its variables filled in."""

    kind: Kind
    key: str
    values: JsonObject
    """Its members, with `${section.key.id}` for ids, `secret://NAME` for secrets, and `$${` for a plain `${`."""
    profile: str | None = None
    id: str | None = None
    is_absent: bool = False
    needs: frozenset[str] = frozenset()
    """The addresses of the entries that must exist before it."""

    @property
    def address(self) -> str:
        """The name by which other entries refer to it: `section.key`."""
        return f"{self.kind.section}.{self.key}"

    @property
    def name(self) -> str:
        """The name that a person knows it by."""
        return str(plain(self.values.get("name") or self.key))


@dataclass(frozen=True)
class Manifest:
    """A manifest. Every entry comes after those that it needs."""

    name: str
    entries: Mapping[str, ManifestEntry] = field(default_factory=dict[str, ManifestEntry])
    """By address."""


@cache
def all_kinds() -> Mapping[str, Kind]:
    """The kinds of all platforms, by section."""
    return {kind.section: kind for name in PLATFORMS for kind in platform_folder(name).kinds}


def parse_manifest(data: JsonObject) -> tuple[Manifest, list[Issue]]:
    """Parse a manifest. If there are issues, the manifest holds only the entries without any."""
    return _Parser(data).parse()


def referenced(text: Any) -> tuple[str, str] | None:
    """The address and member that a text refers to, if it is a reference to an entry and nothing else."""
    found = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    section, _, rest = found[1].partition(".")
    key, _, member = rest.partition(".")
    return (f"{section}.{key}", member) if section != "variables" and member else None


def with_texts(value: Any, change: Callable[[str], Any]) -> Any:
    """Copy a value, with each text in it replaced by what `change` returns."""
    if is_object(value):
        return {key: with_texts(member, change) for key, member in value.items()}
    if is_array(value):
        return [with_texts(member, change) for member in value]
    return change(value) if isinstance(value, str) else value


def escaped(value: Any, needs: Collection[str] = ()) -> Any:
    """Escape a value for a manifest. Only references to the entries in `needs` stay references."""

    def escape(text: str) -> str:
        target = referenced(text)
        return text if target and target[0] in needs else text.replace(_PLAIN, _ESCAPED)

    return with_texts(value, escape)


def plain(value: Any) -> Any:
    """Undo `escaped`. References stay."""
    return with_texts(value, lambda text: text.replace(_ESCAPED, _PLAIN))


def text_places(value: Any, steps: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield every text in a value with its place."""
    if is_object(value):
        for key, member in value.items():
            yield from text_places(member, (*steps, key))
    elif is_array(value):
        for index, member in enumerate(value):
            yield from text_places(member, (*steps, index))
    elif isinstance(value, str):
        yield steps, value


def plain_path(steps: Sequence[str | int]) -> str:
    """Write a place as a dotted path without indexes."""
    return ".".join(step for step in steps if isinstance(step, str))


def is_secret_place(kind: Kind, entry: JsonObject, steps: Sequence[str | int]) -> bool:
    """Check whether a place in an entry is for a secret, by its kind and the type of its config."""
    path = plain_path(steps)
    known, start = kind.config_type(entry), f"{kind.config_member}."
    within = known.secret_paths if known and path.startswith(start) else ()
    return any(_is_inside(path, f"{start}{each}") for each in within) or any(
        _is_inside(path, each) for each in kind.secret_members(entry)
    )


def _is_inside(path: str, outer: str) -> bool:
    return path == outer or path.startswith(f"{outer}.")


class _Parser:
    def __init__(self, data: JsonObject) -> None:
        self._data = data
        self._issues: list[Issue] = []
        self._raw: dict[str, dict[str, JsonObject]] = {}
        self._compared = 0

    def parse(self) -> tuple[Manifest, list[Issue]]:
        self._check_top()
        for section, kind in all_kinds().items():
            for key, entry in self._section(section):
                if (values := self._entry(kind, key, entry)) is not None:
                    self._raw.setdefault(section, {})[key] = values
        entries: dict[str, ManifestEntry] = {}
        for section, raw in self._raw.items():
            for key, values in raw.items():
                made = self._made(all_kinds()[section], key, values)
                entries[made.address] = made
        ordered = self._ordered(entries)
        self._check_doubles(entries)
        manifest = Manifest(str(self._data.get("name")), {each: entries[each] for each in ordered})
        return manifest, self._issues

    def _report(self, path: str, got: str, wanted: str, **more: Any) -> None:
        self._issues.append(Issue(path, got, wanted, **more))

    def _report_name(self, path: str, got: str, name: str, known: Iterable[str], holder: str) -> None:
        """Report a name that is not known, with those that may be meant."""
        among = list(islice(known, _AMONG))
        near = likely_names(name, among) if self._may_compare() else []
        self._report(path, got, known_names(near, among[:_NAMED], holder=holder), candidates=near)

    def _may_compare(self) -> bool:
        """Check whether one more unknown name may be compared with the known ones, which takes long."""
        self._compared += 1
        return self._compared <= _COMPARED

    def _check_top(self) -> None:
        known = [*_TOP, *all_kinds()]
        for name in self._data:
            if name not in known:
                self._report_name(safe_key(name), "an unknown section", name, known, "a manifest")
        name = self._data.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            wanted = "a name of letters, digits, _, . and -; what was made for it is known by it"
            self._report("name", "nothing" if name is None else describe(name), wanted, example="ingestion")
        for member in ("variables", "profiles"):
            held = self._data.get(member, {})
            if not is_object(held):
                self._report(member, describe(held), "an object")
        for name, value in members(self._data.get("variables")).items():
            if is_object(value) or is_array(value) or value is None:
                self._report(f"variables.{safe_key(name)}", describe(value), "a text, a number, or true or false")
        for platform, profile in members(self._data.get("profiles")).items():
            if platform not in PLATFORMS:
                place = f"profiles.{safe_key(platform)}"
                self._report_name(place, "an unknown platform", platform, PLATFORMS, "profiles")
            elif not isinstance(profile, str):
                self._report(f"profiles.{platform}", describe(profile), "the name of a profile")

    def _section(self, section: str) -> Iterator[tuple[str, JsonObject]]:
        held = self._data.get(section)
        if held is None:
            return
        if not is_object(held):
            self._report(section, describe(held), "an object with an entry for each thing, by a key of your choice")
            return
        for key, entry in held.items():
            if not _KEY.fullmatch(key):
                self._report(f"{section}.{safe_key(key)}", "a key that cannot be used", "letters, digits, _ and -")
            elif not is_object(entry):
                self._report(f"{section}.{key}", describe(entry), "an object")
            else:
                yield key, entry

    def _entry(self, kind: Kind, key: str, entry: JsonObject) -> JsonObject | None:
        """Return the entry with variables filled in; None if its kind does not allow it."""
        path = f"{kind.section}.{key}"
        filled = self._filled(kind.section, key, entry)
        try:
            kind.entry.model_validate(filled)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            found = [each for each in problems if not _is_needless(kind, filled, each["type"], each["loc"])]
            for problem in found:
                compares = problem["type"] == "extra_forbidden" and self._may_compare()
                within = (kind.section, key)
                issue = form_issue(problem, portable_schema(kind.entry), filled, within=within, compares=compares)
                self._issues.append(issue)
            if found:
                return None
        if kind.is_single and filled.get("state") == "absent":
            self._report(f"{path}.state", "absent", f"present: the {kind.noun} is always there")
            return None
        return {name: value for name, value in filled.items() if value is not None}

    def _filled(self, section: str, key: str, entry: JsonObject) -> Any:
        """The entry with variables filled in: with their type where one is the whole value."""
        known = members(self._data.get("variables"))
        for steps, text in text_places(entry):
            for name in _VARIABLE.findall(text):
                if name not in known:
                    place = path_of((section, key, *steps))
                    self._report_name(place, "a variable that is not declared", name, known, "variables")

        def fill(text: str) -> Any:
            whole = _VARIABLE.fullmatch(text)
            return _value(whole) if whole else _VARIABLE.sub(lambda found: str(_value(found)), text)

        def _value(found: re.Match[str]) -> Any:
            return known.get(found[1], "undeclared")

        return with_texts(entry, fill)

    def _made(self, kind: Kind, key: str, values: JsonObject) -> ManifestEntry:
        path, needs, is_absent = f"{kind.section}.{key}", set[str](), values.get("state") == "absent"
        completed = values if is_absent else kind.normalize(kind.complete(values, self._raw))
        for steps, text in text_places(values):
            place = path_of((kind.section, key, *steps))
            if is_secret_place(kind, values, steps) and text and referenced_name(text) is None:
                self._report(place, "a secret in clear text", f"{SCHEME}NAME", example=f"{SCHEME}NAME")
            for found in _REFERENCE.findall(text):
                if (address := self._check_reference(kind, steps, text, found, place, is_absent)) is not None:
                    needs.add(address)
        needs |= set() if is_absent else set(kind.also_needs(completed, self._raw)) - {path}
        own = {name: value for name, value in completed.items() if name not in _OF_EVERY}
        profile = values.get("profile") or members(self._data.get("profiles")).get(kind.platform)
        return ManifestEntry(
            kind, key, with_texts(own, self._static), profile, values.get(ID), is_absent, frozenset(needs)
        )

    def _static(self, text: str) -> Any:
        """Return the value that a reference to a member other than the id stands for; any other text as it is."""
        target = referenced(text)
        if target is None or target[1] == ID:
            return text
        section, _, key = target[0].partition(".")
        return at(self._raw.get(section, {}).get(key), target[1])

    def _check_reference(
        self, kind: Kind, steps: Sequence[str | int], text: str, name: str, place: str, is_absent: bool
    ) -> str | None:
        """Report a reference that leads nowhere; return the address that another leads to."""
        target = referenced(text)
        if name.startswith("variables."):
            return None
        if target is None:
            self._report(place, "a reference that cannot be read", "${section.key.id} as the whole value")
            return None
        section, _, key = target[0].partition(".")
        expected = kind.refers.get(plain_path(steps))
        if section not in all_kinds() or key not in members(self._data.get(section)):
            known = (f"{each}.{one}" for each in all_kinds() for one in members(self._data.get(each)))
            self._report_name(place, "a reference to an entry that is not there", target[0], known, "it")
            return None
        if target[1] != ID and at(members(self._data[section])[key], target[1]) is None:
            self._report(place, "a reference to a member that the entry does not have", "id, or a member of the entry")
            return None
        if expected and section != expected and target[1] == ID:
            self._report(place, f"a reference to one of {section}", f"one of {expected}")
            return None
        if at(members(self._data[section])[key], "state") == "absent" and not is_absent:
            self._report(place, "a reference to an entry that is to be absent", "an entry that is to be there")
            return None
        return target[0]

    def _ordered(self, entries: Mapping[str, ManifestEntry]) -> list[str]:
        """The addresses, each after those that it needs. Every cycle is reported once."""
        ordered, reported = dict[str, None](), set[frozenset[str]]()

        def add(address: str, trail: tuple[str, ...]) -> None:
            if address in trail:
                cycle = trail[trail.index(address) :]
                if frozenset(cycle) not in reported:
                    reported.add(frozenset(cycle))
                    shown = " → ".join((*cycle, address))
                    self._report(cycle[0], f"a cycle of references: {shown}", "references that end somewhere")
                return
            if address in ordered or address not in entries:
                return
            if len(trail) == _LONGEST_CHAIN:
                self._report(trail[0], f"more than {_LONGEST_CHAIN} references in a row", "a shorter chain")
                return
            for needed in sorted(entries[address].needs):
                add(needed, (*trail, address))
            ordered[address] = None

        for address in entries:
            add(address, ())
        return list(ordered)

    def _check_doubles(self, entries: Mapping[str, ManifestEntry]) -> None:
        """Report entries that describe the same thing."""
        seen: dict[tuple[Any, ...], str] = {}
        for address, entry in entries.items():
            kind, values = entry.kind, entry.values
            known = (kind.section, entry.profile, entry.id or (*map(values.get, kind.parents), kind.key(values)))
            if known in seen:
                self._report(address, f"the same {kind.noun} as {seen[known]}", "each thing once, with its own name")
            seen.setdefault(known, address)


def _is_needless(kind: Kind, entry: JsonObject, problem: str, location: Sequence[str | int]) -> bool:
    """Check whether a problem is none: to be deleted, a thing with an id needs only the ids of its parents."""
    is_found = entry.get("state") == "absent" and isinstance(entry.get(ID), str)
    return is_found and problem == "missing" and len(location) == 1 and location[0] not in kind.parents


def manifest_schema() -> JsonObject:
    """Make the JSON Schema of a manifest, for editors and for programs that write manifests."""
    sections: JsonObject = {}
    definitions: JsonObject = {}
    for section, kind in all_kinds().items():
        schema = dict(kind.entry.model_json_schema(ref_template="#/$defs/{model}"))
        definitions |= schema.pop("$defs", {})
        definitions[kind.entry.__name__] = schema
        held: JsonObject = {"type": "object", "additionalProperties": {"$ref": f"#/$defs/{kind.entry.__name__}"}}
        sections[section] = held | {"description": f"By a key of your choice. {(kind.__doc__ or '').splitlines()[0]}"}
    scalar = {"type": ["string", "number", "boolean"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Manifest of connector-mcp",
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "pattern": f"^{_NAME.pattern}$", "description": "What was made is known by it."},
            "variables": {"type": "object", "additionalProperties": scalar},
            "profiles": {"type": "object", "additionalProperties": {"type": "string"}},
            **sections,
        },
        "$defs": dict(sorted(definitions.items())),
    }
