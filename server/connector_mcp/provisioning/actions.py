"""Turn what differs into actions: which calls, in which order, each previewed as if it were made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from connector_mcp.engine.preview import Change, path_text
from connector_mcp.engine.redaction.redactor import MARKER, by_name, names_a_secret
from connector_mcp.errors import Issue
from connector_mcp.operations.operation import Effect, at
from connector_mcp.operations.provisioning.kinds import ToolCall
from connector_mcp.operations.situation import Path
from connector_mcp.provisioning.differences import Difference
from connector_mcp.provisioning.manifest import escaped, is_secret_place, text_places
from connector_mcp.provisioning.plan import ADOPTED, Action, Verb
from connector_mcp.provisioning.planning import Thing, fixed_differences
from connector_mcp.provisioning.rehearsal import Rehearsed

ORPHANED = "The manifest made it and no longer has it."
"""Why a thing is deleted that has no entry any more."""


@dataclass
class Draft:
    """An action before its number and its preview are known."""

    verb: Verb
    thing: Thing
    call: ToolCall | None
    because: str = ""
    identifier: str | None = None
    """The id of the thing, unless an earlier action makes it."""
    differences: Sequence[Difference] = ()
    needs: list[Draft] = field(default_factory=list["Draft"])
    """The drafts that must be done before."""
    rehearsed: Rehearsed | None = None

    @property
    def address(self) -> str:
        return self.thing.entry.address


class Drafts:
    """The actions that make the platforms what the manifest says, in an order in which they can run."""

    def __init__(self, things: Collection[Thing], orphans: Collection[Thing]) -> None:
        """`orphans` are things that the manifest made and no longer has."""
        self.issues: list[Issue] = []
        self._last: dict[str, Draft] = {}
        """The last action on each entry that calls a tool, by address."""
        self._made: list[Draft] = []
        self._deleted: list[Draft] = []
        for thing in things:
            self._add(thing)
        for orphan in orphans:
            self._delete(orphan, ORPHANED)
        self._order_deletions([*things, *orphans])

    def all(self) -> list[Draft]:
        """All of them, deletions last unless another action waits for one."""
        ordered: dict[int, Draft] = {}

        def add(draft: Draft) -> None:
            if id(draft) not in ordered:
                for needed in draft.needs:
                    add(needed)
                ordered[id(draft)] = draft

        for draft in (*self._made, *self._deleted):
            add(draft)
        return list(ordered.values())

    def _add(self, thing: Thing) -> None:
        kind, entry = thing.kind, thing.entry
        if entry.is_absent:
            if thing.record is not None:
                self._delete(thing, "state: absent")
        elif thing.record is None:
            self._create(thing)
        elif thing.is_replaced:
            self._replace(thing)
        elif thing.differences or "rotated" in thing.secrets.values():
            changes = {each.path: each.after for each in thing.differences} | _rotations(thing)
            because = "" if thing.identity else "It is there already and is adopted."
            last: Draft | None = None
            for call in kind.update(thing.identifier or "", thing.within, thing.values, changes):
                before, last = last, self._keep(thing, "update" if thing.differences else "rotate", call, because)
                last.needs += [before] if before else []
        else:
            self._keep(thing, "unchanged" if thing.identity else "adopt", None)

    def _keep(self, thing: Thing, verb: Verb, call: ToolCall | None, because: str = "") -> Draft:
        draft = Draft(verb, thing, call, because, thing.identifier, thing.differences)
        draft.needs = [self._last[each] for each in sorted(thing.entry.needs) if each in self._last]
        self._made.append(draft)
        if call is not None:
            self._last[draft.address] = draft
        return draft

    def _create(self, thing: Thing, because: str = "", verb: Verb = "create") -> Draft | None:
        kind, address = thing.kind, thing.entry.address
        call = kind.create(thing.values)
        if call is None:
            got = f"no {kind.noun} that is there, and none can be created here"
            self.issues.append(Issue(address, got, f"one that is there, by its name, in {kind.platform}"))
            return None
        draft = self._keep(thing, verb, call, because)
        draft.identifier = None
        finish = kind.finish(thing.values, f"${{{address}.id}}")
        if finish is not None:
            last = self._keep(thing, "update", finish, "The creation cannot set all of it.")
            last.identifier, last.differences = None, ()
            last.needs.append(draft)
        return draft

    def _replace(self, thing: Thing) -> None:
        kind, address = thing.kind, thing.entry.address
        members = ", ".join(dict.fromkeys(path_text(each.path) for each in fixed_differences(thing)))
        if kind.delete(thing.identifier or "", thing.within) is None or kind.create(thing.values) is None:
            got = f"another {members}, which cannot be changed, and this {kind.noun} cannot be replaced here"
            self.issues.append(Issue(address, got, "what it has now"))
            return
        because = f"{members} cannot be changed."
        old = self._delete(thing, f"It is replaced: {because}")
        made = self._create(thing, because, "replace")
        if made is None:
            return
        if kind.is_unique:
            made.needs.append(old)
        else:
            old.needs.append(made)

    def _delete(self, thing: Thing, because: str) -> Draft:
        call = thing.kind.delete(thing.identifier or "", thing.within)
        draft = Draft("delete", thing, call, because, thing.identifier)
        if call is None and because == ORPHANED:
            draft.verb, draft.because = "unchanged", f"{because} It cannot be deleted here."
        elif call is None:
            got = f"a {thing.kind.noun}, which cannot be deleted here"
            self.issues.append(Issue(f"{draft.address}.state", got, "present, or no such entry"))
        self._deleted.insert(0, draft)
        return draft

    def _order_deletions(self, things: Iterable[Thing]) -> None:
        """Delete a thing only once what needed it is gone or has changed."""
        needed_by: dict[str, list[Draft]] = defaultdict(list)
        for thing in things:
            own = [each for each in self._deleted if each.thing is thing]
            if not thing.kind.is_unique and thing.entry.address in self._last:
                own.append(self._last[thing.entry.address])
            for needed in thing.entry.needs:
                needed_by[needed] += own
        for draft in self._deleted:
            if not (draft.thing.kind.is_unique and draft.address in self._last):
                draft.needs += [each for each in needed_by[draft.address] if each is not draft]


def _rotations(thing: Thing) -> dict[Path, Any]:
    """The members that hold rotated secrets, a list as a whole."""
    changes: dict[Path, Any] = {}
    for steps, text in text_places(thing.values):
        if thing.secrets.get(path_text(steps)) == "rotated":
            named = [index for index, step in enumerate(steps) if isinstance(step, int)]
            path = tuple(str(step) for step in (steps[: named[0]] if named else steps))
            changes[path] = text if not named else at(thing.values, path)
    return changes


def number_actions(drafts: Sequence[Draft], redact: Callable[[Any], Any]) -> Iterator[Action]:
    """Make the actions. `redact` takes known secrets out of texts."""
    numbers = {id(draft): number for number, draft in enumerate(drafts, start=1)}
    for draft in drafts:
        thing, known, call = draft.thing, draft.rehearsed, draft.call
        entry, is_deleted = thing.entry, draft.verb == "delete"
        is_made = thing.record is None or thing.is_replaced
        is_adopted = not is_made and (thing.identity is None or ADOPTED in thing.applied)
        yield Action(
            number=numbers[id(draft)],
            verb=draft.verb,
            entry=entry.address,
            platform=thing.kind.platform,
            profile=thing.account.profile,
            name=redact((known.preview.name if is_deleted and known else "") or entry.name),
            because=draft.because,
            tool=call.operation.tool_name() if call else None,
            arguments=escaped(call.arguments, {*entry.needs, entry.address}) if call else {},
            identifier=draft.identifier,
            within=thing.within,
            fingerprint=known.fingerprint if known else "",
            effect=known.effect if known else call.operation.effect if call else Effect.READ,
            sentence=known.preview.sentence if known else "",
            losses=known.preview.losses if known else (),
            diff=tuple(_diff(draft, redact)),
            snapshot=known.preview.snapshot if known else {},
            hosts=known.hosts if known else (),
            disclosed=known.disclosed if known else (),
            secrets={} if is_deleted or draft.verb in ("create", "replace") else thing.secrets,
            declared={} if is_deleted else entry.values | ({ADOPTED: True} if is_adopted else {}),
            needs=tuple(sorted(numbers[id(each)] for each in draft.needs if each.call is not None)),
        )


def _diff(draft: Draft, redact: Callable[[Any], Any]) -> Iterator[Change]:
    """What changes: of an update as its preview shows it, else in the words of the entry."""
    thing = draft.thing
    if draft.call is None or draft.verb == "delete":
        return
    changes = draft.rehearsed.preview.changes if draft.rehearsed else ()
    if draft.verb in ("update", "rotate") and changes:
        yield from changes
        return
    if draft.verb == "create":
        for member, value in thing.values.items():
            yield Change(member, None, redact(value))
        return
    for each in draft.differences:
        before, after = (_redacted(thing, each.path, value, redact) for value in (each.before, each.after))
        yield Change(path_text(each.path), before, after)


def _redacted(thing: Thing, path: Path, value: Any, redact: Callable[[Any], Any]) -> Any:
    platform = thing.account.platform
    if value is not None and (is_secret_place(thing.kind, thing.values, path) or names_a_secret(path[-1], platform)):
        return redact(value) if isinstance(value, str) and value.startswith("secret://") else MARKER
    return redact(by_name(value, platform))
