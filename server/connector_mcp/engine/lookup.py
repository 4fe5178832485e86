"""Find what a call means when the platform does not have the id that it gives, or already has what it would create.

The list of such things shows it. A list and the reads of its rows share a path: that of the list is the path of the
read up to the id. A list is read only if the caller may call it, and its rows are compared here: what was given as the
id is sent nowhere else, and never repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connector_mcp.engine.redaction.scrubber import Scrubber
from connector_mcp.engine.results import Meta, shape_record
from connector_mcp.engine.sender import Sender
from connector_mcp.errors import ConnectorError, NotFound, Rejected, TooLarge, UpstreamError
from connector_mcp.json_values import JsonObject, is_array, is_object, members
from connector_mcp.operations.catalog import platform_folder
from connector_mcp.operations.fields import ShownBy
from connector_mcp.operations.operation import Effect, ListOperation, Operation, at
from connector_mcp.operations.platform import path_shape
from connector_mcp.suggest import nearest
from connector_mcp.text import same_text

MAX_CANDIDATES = 10
_MOST_PLACES = 10
"""Places, such as projects, in each of which an id is looked for."""

_LONGEST_ID = 128
_LIKE_A_CREDENTIAL = re.compile(r"secret://|(sk|pk|gh[opsu]|glpat|xox\w|AKIA|ASIA|eyJ|AIza)[-_]?\w{12}|\S{65}")


@dataclass(frozen=True)
class Match:
    """The only thing that what was given as an id can mean."""

    argument: str
    id: str
    member: str
    """The member of its record that was given instead."""


class Lookup:
    """Looks for what one call means. `tools` are the operations that the caller may call without a decision."""

    def __init__(self, operation: Operation, sender: Sender, tools: Mapping[str, type[Operation]], scrubber: Scrubber):
        self._operation = operation
        self._sender = sender
        self._scrubber = scrubber
        self._is_read = operation.effect is Effect.READ
        self._catalog = (
            {each.tool_name(): each for each in platform_folder(operation.on.name).operations} if operation.on else {}
        )
        on = [each for each in tools.values() if each.on is operation.on]
        self._lists = [each for each in on if issubclass(each, ListOperation)]
        self._others = [each for each in on if not issubclass(each, ListOperation)]

    async def require_named(self) -> None:
        """Refuse a call that names something, besides its target, that the platform does not have.

        A read that fails shows nothing: then the platform decides.

        Raises:
            NotFound: The platform does not have it.
        """
        for path, given, shown in named_things(self._operation):
            reader = self._catalog[shown.tool]
            try:
                if await self._is_shown(reader, shown, given):
                    continue
            except ConnectorError:
                continue
            error = NotFound(
                f"Nothing has the id given as {path}: {shown.tool} does not show it. Nothing was sent.",
                fix=f"Correct {path}, and call again.",
                details={"argument": path},
            )
            if not issubclass(reader, ListOperation) or shown.ids == (reader.id_member,):
                above = reader.http.path if issubclass(reader, ListOperation) else _above(reader)
                await self.explain_missing(error, (path, above, given))
            elif reader in self._lists:
                error.details["list_tool"] = shown.tool
                error.fix = f"Take {path} from {shown.tool}, and call again."
            raise error

    async def _is_shown(self, reader: type[Operation], shown: ShownBy, given: str) -> bool:
        if issubclass(reader, ListOperation):
            rows = await self._read_everywhere(reader, {shown.search: given} if shown.search else {})
            return any(given in _members_at(row, path) for row in rows for path in shown.ids)
        try:
            await self._sender.read(reader(**{**self._place_of(reader), reader.http.placeholders[-1]: given}))
        except NotFound:
            return False
        return True

    async def _read_everywhere(self, listed: type[ListOperation], arguments: Mapping[str, Any]) -> list[JsonObject]:
        """Return all rows of a list. Where the call does not name its place, such as the project, look in every one.

        Raises:
            ConnectorError: A list could not be read, or has too many rows.
        """
        place = self._place_of(listed)
        unknown = next((name for name in listed.http.placeholders if name not in place), None)
        if unknown is None:
            return await self._sender.read(listed(**place, **arguments))
        shape = path_shape(_above(listed, unknown))
        lists = (each for each in self._catalog.values() if issubclass(each, ListOperation))
        above = next(each for each in lists if each.http.shape == shape)
        places = await self._read_everywhere(above, {})
        if len(places) > _MOST_PLACES:
            raise TooLarge("There are too many places to look in.", fix="Look in the one that is meant.")
        rows: list[JsonObject] = []
        for each in places:
            place[unknown] = str(at(each, above.id_member))
            rows += await self._sender.read(listed(**place, **arguments))
        return rows

    def _place_of(self, reader: type[Operation]) -> dict[str, Any]:
        """The arguments in the path of a read that the call has, too."""
        return {
            name: getattr(self._operation, name) for name in reader.http.placeholders if hasattr(self._operation, name)
        }

    async def explain_missing(
        self, error: NotFound | Rejected, named: tuple[str, str, str] | None = None
    ) -> Match | None:
        """Say in the error where ids come from and which there are. Return what was meant if that is certain.

        Some platforms refuse what has not the form of an id. Such an error is changed only if something is found.
        `named` is the argument that is wrong, if that is known, with the path of its list and the id.
        """
        is_missing, said, earlier = isinstance(error, NotFound), error.fix, list(self._operation.http.placeholders)
        if is_missing:
            error.fix = self._say_where_ids_are()
        in_path = ((name, path, getattr(self._operation, name)) for name, path in id_paths(self._operation))
        for argument, path, given in [named] if named else in_path:
            if argument in earlier:
                earlier.remove(argument)
            listed = self._list_at(path)
            if listed is None or not isinstance(given, str):
                continue
            tool = listed.tool_name()
            if is_missing:
                error.details |= {"argument": argument, "list_tool": tool}
                error.fix = f"Take {argument} from {tool}, and call again."
            if self._sender.may_have_changed and not self._is_read:
                error.fix = f"{said} {tool} shows what there is." if is_missing else said
                return None
            if len(given) > _LONGEST_ID or _LIKE_A_CREDENTIAL.match(given) or self._scrubber.text(given) != given:
                return None
            try:
                rows, is_whole = await self._sender.read_list(listed, self._operation)
                found = [(row, member) for row in rows if (member := _names(listed, row, given))]
                found = found or [(row, listed.id_member) for row in await self._referred(listed, rows, given)]
            except NotFound:
                error.fix = f"{tool} does not find where it should be: check {' and '.join(earlier) or argument}."
                error.details.clear()
                continue
            except ConnectorError:
                return None
            if not is_missing and (not found or any(at(row, listed.id_member) == given for row in rows)):
                return None
            return self._tell(error, Match(argument, given, listed.id_member), listed, rows, found, is_whole=is_whole)
        return None

    def _say_where_ids_are(self) -> str:
        """Name the tools that show the ids among the arguments."""
        shown: list[str] = []
        for name, info in type(self._operation).model_fields.items():
            for mark in info.metadata:
                if isinstance(mark, ShownBy) and getattr(self._operation, name):
                    reader: type[Operation] | None = self._catalog[mark.tool]
                    if not issubclass(reader, ListOperation):
                        # It needs the id itself.
                        reader = self._list_at(_above(reader))
                    if reader in self._lists:
                        shown.append(f"{name} from {reader.tool_name()}")
        if shown:
            return f"Take {' and '.join(shown)}, and call again."
        return "Check the ids in the arguments. You may list none of them here; the platform's console has them."

    def explain_cursor(self, error: UpstreamError) -> None:
        """Say where a cursor comes from, if the platform refuses it by the name that it has for it."""
        given = self._operation if isinstance(self._operation, ListOperation) else None
        own = given.paging.cursor if given and given.cursor and given.paging else None
        if own and own in str(error.upstream):
            error.fix = (
                f"Upstream's `{own}` is `cursor` here. Give meta.cursor of an earlier result of this tool with the "
                "same arguments, or leave cursor out to begin again."
            )

    async def explain_conflict(self, error: UpstreamError) -> None:
        """Name in the error what there is already, where the platform allows only one, and what changes it."""
        operation, code = self._operation, members(error.upstream).get("code")
        updates = [each for each in self._others if each.effect is Effect.UPDATE]
        listed = self._list_at(operation.http.path) if code in operation.conflict_codes else None
        if listed is None:
            same_path = [each for each in updates if each.http.shape == operation.http.shape]
            if same_path and operation.effect is Effect.CREATE and not isinstance(error, NotFound):
                error.fix += f" If it exists already, {same_path[0].tool_name()} changes it."
            return
        try:
            rows, _ = await self._sender.read_list(listed, operation)
        except ConnectorError:
            return
        changed_at = f"{listed.http.shape}/{{}}"
        update = next((each for each in updates if each.http.shape == changed_at), None)
        how = f"change that one with {update.tool_name()}" if update else "use that one, or have it changed"
        error.fix = f"Only one of these can exist, and candidates has the one that does: {how}."
        self._add_candidates(error, listed, [row for row in rows if operation.is_rival(row)])

    def _tell(
        self,
        error: UpstreamError,
        given: Match,
        listed: type[ListOperation],
        rows: list[JsonObject],
        found: list[tuple[JsonObject, str]],
        *,
        is_whole: bool,
    ) -> Match | None:
        argument, tool = given.argument, listed.tool_name()
        if any(str(at(row, listed.id_member)) == given.id for row in rows):
            others = [name for name in self._operation.model_fields_set if name.endswith("_id") and name != argument]
            what = (
                f"Check the other arguments: {', '.join(others)}" if others else "It does not have what this call needs"
            )
            error.fix = f"{argument} is in {tool}. {what}."
            for name in ("argument", "list_tool"):
                error.details.pop(name, None)
            return None
        likely = [row for row, _ in found] or _similar(listed, rows, given.id)
        self._add_candidates(error, listed, likely)
        if not likely:
            return None
        done = "" if self._is_read else "Nothing was changed. "
        error.fix = f"{done}Call again with the right id as {argument}: candidates has "
        if not found:
            error.fix += f"some that exist, and {tool} lists all."
            return None
        error.fix += "the one that was likely meant." if len(found) == 1 else "those that were likely meant."
        identifier = at(found[0][0], listed.id_member)
        is_clear = len(found) == 1 and is_whole and isinstance(identifier, str)
        return Match(argument, identifier, found[0][1]) if is_clear else None

    def _add_candidates(self, error: UpstreamError, listed: type[ListOperation], rows: list[JsonObject]) -> None:
        shown = {each.partition(".")[0] for each in (listed.id_member, *listed.known_by, *listed.refers)}
        if rows:
            operation = self._sender.list_like(listed, self._operation)
            error.details["candidates"] = [
                self._scrubber.value(shape_record(operation, row, Meta(), shown), model=listed.output)
                for row in rows[:MAX_CANDIDATES]
            ]

    async def _referred(self, listed: type[ListOperation], rows: list[JsonObject], given: str) -> list[JsonObject]:
        """Find the rows that a row of another list refers to, which has the given id or name."""
        for other in self._lists:
            for member, kind in other.refers.items():
                if kind is listed:
                    others, _ = await self._sender.read_list(other, self._operation)
                    ids = {
                        at(row, member)
                        for row in others
                        if given == at(row, other.id_member) or _names(other, row, given)
                    }
                    return [row for row in rows if at(row, listed.id_member) in ids]
        return []

    def _list_at(self, path: str) -> type[ListOperation] | None:
        return next((each for each in self._lists if each.http.shape == path_shape(path)), None)


def named_things(operation: Operation) -> Iterator[tuple[str, str, ShownBy]]:
    """The ids among the arguments that the target's read does not need, with their paths and what shows them."""
    for name, info in type(operation).model_fields.items():
        value = getattr(operation, name)
        for shown in info.metadata:
            if not isinstance(shown, ShownBy) or _reads_target(operation, name):
                continue
            for index, each in enumerate(value if is_array(value) else [value]):
                path = f"{name}[{index}]" if is_array(value) else name
                given = getattr(each, shown.member) if shown.member else each
                if isinstance(given, str):
                    yield f"{path}.{shown.member}" if shown.member else path, given, shown


def _reads_target(operation: Operation, argument: str) -> bool:
    target = operation.acts_on
    return target is not None and argument in (target.arguments.get(name, name) for name in target.read.model_fields)


def id_paths(operation: Operation) -> Iterator[tuple[str, str]]:
    """The arguments in the path of the call with the paths of the lists that show their values, the last one first."""
    parts = ((name, *operation.http.path.partition(f"/{{{name}}}")) for name in operation.http.placeholders)
    # One argument right after another is not in the list, such as a role before a user.
    paths = {name: before for name, before, _, after in parts if not after.startswith("/{")}
    if (target := operation.acts_on) and (last := target.read.http.placeholders[-1:]):
        own = target.arguments.get(last[0], last[0])
        if own in paths:
            paths[own] = target.read.http.path.partition(f"/{{{last[0]}}}")[0]
    yield from reversed(paths.items())


def _members_at(value: Any, path: str) -> list[Any]:
    """The members at a dotted path, in each item of the lists on the way."""
    found = [value]
    for key in path.split("."):
        found = [members(each).get(key) for held in found for each in (held if is_array(held) else [held])]
    return found


def _above(reader: type[Operation], argument: str | None = None) -> str:
    """The path of the list above an argument in the path of a read, by default the last one."""
    return reader.http.path.partition(f"/{{{argument or reader.http.placeholders[-1]}}}")[0]


def _labels(listed: type[ListOperation], row: JsonObject) -> Iterator[tuple[str, str]]:
    """The members by which people know a row, with their texts; a name by language has several."""
    for member in (*listed.known_by, *listed.refers):
        value = at(row, member)
        for text in value.values() if is_object(value) else [value]:
            if isinstance(text, str) and text:
                yield member, text


def _names(listed: type[ListOperation], row: JsonObject, given: str) -> str | None:
    """The member of a row that is what was given."""
    wanted = given.casefold()
    return next((member for member, text in _labels(listed, row) if same_text(wanted, text.casefold())), None)


def _similar(listed: type[ListOperation], rows: list[JsonObject], given: str) -> list[JsonObject]:
    """The rows with a name like the one given, or all rows if they are few."""
    by_label = {text: row for row in rows for _, text in _labels(listed, row)}
    near = [by_label[label] for label in nearest(given, by_label, cutoff=0.5)]
    return [row for row in rows if row in near] or (rows if len(rows) <= MAX_CANDIDATES else [])
