"""Read a manifest from a file of YAML or JSON, and keep the line of each member.

YAML is read without its traps: a duplicate key, an anchor and a tag are errors, and a date stays text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from connector_mcp.engine.checks.issues import path_of
from connector_mcp.engine.redaction.redactor import parse_steps
from connector_mcp.errors import InvalidArguments, Issue
from connector_mcp.json_values import JsonObject, is_object

MAX_DEPTH = 32
_CORE = "tag:yaml.org,2002:"
_CONSTRUCTED = frozenset({f"{_CORE}{kind}" for kind in ("int", "float", "bool", "null")})
_TEXT = frozenset({f"{_CORE}{kind}" for kind in ("str", "timestamp", "value")})

Steps = tuple[str | int, ...]


@dataclass
class ManifestFile:
    """A manifest as a file holds it."""

    name: str
    data: JsonObject = field(default_factory=dict[str, Any])
    lines: dict[tuple[str, ...], int] = field(default_factory=dict[tuple[str, ...], int])
    """The line of each member, by path."""
    issues: list[Issue] = field(default_factory=list[Issue])
    """Problems that only the text shows: duplicate keys, anchors and tags."""

    def place(self, path: str) -> str:
        """Prefix a path with file and line: those of the innermost member that the file has."""
        return f"{self.name}:{self._line(path)}: {path}"

    def placed(self, issues: Sequence[Issue]) -> list[Issue]:
        """Return the issues with file and line, in the order of the file."""
        ordered = sorted(issues, key=lambda issue: self._line(issue.path))
        return [replace(issue, path=self.place(issue.path)) for issue in ordered]

    def _line(self, path: str) -> int:
        steps = parse_steps(path)
        lines = (self.lines.get(_key(steps[:count])) for count in range(len(steps), 0, -1))
        return next((line for line in lines if line), 1)


def read_manifest(text: str, name: str) -> ManifestFile:
    """Read the text of a file with this name.

    Raises:
        InvalidArguments: It is neither YAML nor JSON, or holds no object.
    """
    # Slow to import, and only the command line reads files.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if text.lstrip()[:1] == "{":
        # JSON may be indented by tabs, which YAML does not take. Inside of strings there are none.
        text = text.replace("\t", " ")
    loader: Any = YAML(typ="safe", pure=True)
    try:
        root = loader.compose(text)
    except (YAMLError, RecursionError, ValueError) as error:
        mark: Any = getattr(error, "problem_mark", None)
        raise _unreadable(f"{name}:{mark.line + 1 if mark else 1}", "what is neither YAML nor JSON") from None
    found = ManifestFile(name)
    data = _Reader(found, loader).value(root, ()) if root is not None else None
    if not is_object(data):
        raise _unreadable(f"{name}:1", "no object")
    found.data = data
    return found


class _Reader:
    """Turns YAML nodes into values. The library does not declare the types of its nodes."""

    def __init__(self, found: ManifestFile, loader: Any) -> None:
        self._found = found
        self._loader = loader
        self._seen = set[int]()

    def value(self, node: Any, steps: Steps) -> Any:
        self._found.lines.setdefault(_key(steps), node.start_mark.line + 1)
        if id(node) in self._seen or len(steps) > MAX_DEPTH:
            self._report(steps, "an anchor, or values nested too deeply", "the value itself")
            return None
        self._seen.add(id(node))
        match node.id:
            case "mapping":
                return self._mapping(node, steps)
            case "sequence":
                return [self.value(each, (*steps, index)) for index, each in enumerate(node.value)]
            case _:
                return self._scalar(node, steps)

    def _mapping(self, node: Any, steps: Steps) -> JsonObject:
        made: JsonObject = {}
        lines = self._found.lines
        for key, member in node.value:
            name = key.value if key.id == "scalar" else None
            if not isinstance(name, str):
                self._report(steps, "a key that is no text", "a text")
                continue
            inner = (*steps, name)
            if name in made:
                self._report(inner, f"a key that stands in line {lines[_key(inner)]} already", "each key once")
                for place in [each for each in lines if each[: len(inner)] == _key(inner)]:
                    del lines[place]
            lines[_key(inner)] = key.start_mark.line + 1
            made[name] = self.value(member, inner)
        return made

    def _scalar(self, node: Any, steps: Steps) -> Any:
        if node.tag in _CONSTRUCTED:
            return self._loader.constructor.construct_object(node)
        if node.tag not in _TEXT:
            self._report(steps, "a value with a tag", "a plain value")
        return node.value

    def _report(self, steps: Steps, got: str, wanted: str) -> None:
        self._found.issues.append(Issue(path_of(steps), got, wanted))


def _key(steps: Sequence[str | int]) -> tuple[str, ...]:
    return tuple(map(str, steps))


def _unreadable(path: str, got: str) -> InvalidArguments:
    wanted = "a manifest: an object with name and sections such as sources"
    return InvalidArguments("plan_connectors", [Issue(path, got, wanted)], fix="Correct the file and plan again.")
