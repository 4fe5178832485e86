"""What the documents say that answers look like, restated in a compact form, and as JSON Schema.

`python -m tools.answers PLATFORM DOCUMENT...` restates it from the platforms' OpenAPI documents, which are not part of
this repository, for the operations that the sandbox serves. In the compact form

- `string`, `integer`, `number`, `boolean`, `object` and `any` are types; `time` is a timestamp, `none` an empty body;
- `=Name` is a model, `[x]` an array of `x`, and a `?` at the end of a name also permits null;
- `{"key!": x, "key": y}` is an object with a required and an optional key, and no others unless it has `...`, the
  type of the values of all other keys;
- `{"enum": [...]}` and `{"any of": [...]}` are what they say.

`exceptions.json` says where the platforms are known to answer otherwise, and why.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from connector_mcp.json_values import JsonObject, is_array, is_object, items, members
from connector_mcp.sandbox.app import Sandbox

_FOLDER = Path(__file__).parent / "documented" / "answers"
_METHODS = ("get", "post", "put", "patch", "delete")
_SEND_ALL = ("conductorone",)
"""Platforms that send every key of a message, except those of a choice, though their documents require none."""
_CHOICE = re.compile(r"may be set at a time:\s*((?:\s*-\s*\w+)+)")
"""Precedes the names of the keys of a choice in the description of a message."""
_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"
_TYPES: JsonObject = {
    **{name: {"type": name} for name in ("string", "integer", "number", "boolean", "object")},
    "any": {},
    "null": {"type": "null"},
    "time": {"type": "string", "pattern": _TIME},
}


class Answers:
    """The documented answers of a platform, as JSON Schema."""

    def __init__(self, platform: str) -> None:
        stated: JsonObject = json.loads((_FOLDER / f"{platform}.json").read_text("utf-8"))
        exceptions: JsonObject = json.loads((_FOLDER / "exceptions.json").read_text("utf-8"))
        for exception in exceptions[platform]:
            _except(stated, exception["at"], exception["is"])
        self.operations: dict[str, dict[str, Any]] = stated["answers"]
        self._models = {name: schema_of(model) for name, model in stated["models"].items()}
        # What has more literal segments comes first: `/connectors/create` before `/connectors/{}`.
        self._patterns = [
            (operation, re.compile(re.escape(operation).replace(r"\{\}", "[^/]+")))
            for operation in sorted(self.operations, key=lambda each: each.count("{}"))
        ]

    def operation(self, method: str, path: str) -> str | None:
        """The operation that a request with this path, percent-encoded and without query, calls."""
        request = f"{method} {path}"
        return next((operation for operation, pattern in self._patterns if pattern.fullmatch(request)), None)

    def schema(self, operation: str, status: int) -> JsonObject | None:
        """The schema of the answer with this status; None where the answer has no body. KeyError if undocumented."""
        stated = self.operations[operation]
        found = next((each for codes, each in stated.items() if str(status) in codes.split()), None)
        found = stated["default"] if found is None and status >= 400 else found
        if found is None:
            raise KeyError(f"{operation} {status}")
        return None if found == "none" else {"$defs": self._models, **schema_of(found)}


def _except(stated: JsonObject, path: Sequence[str], given: Any) -> None:
    """Put an exception where the path leads; `*` leads everywhere, and None takes away what is there."""
    first, *rest = path
    for step in [*stated] if first == "*" else [first]:
        if rest:
            _except(stated[step], rest, given)
        elif given is None:
            del stated[step]
        else:
            stated[step] = given


def schema_of(compact: Any) -> JsonObject:
    """Return the JSON Schema that a compact form stands for. Models are in its `$defs`."""
    if isinstance(compact, str):
        if compact.endswith("?"):
            return {"anyOf": [{"type": "null"}, schema_of(compact[:-1])]}
        return {"$ref": f"#/$defs/{compact[1:]}"} if compact.startswith("=") else _TYPES[compact]
    if is_array(compact):
        return {"type": "array", "items": schema_of(compact[0])}
    given = members(compact)
    match [*given.items()]:
        case [("enum", list())]:
            return given
        case [("any of", list())]:
            return {"anyOf": [schema_of(each) for each in items(given["any of"])]}
        case _:
            pass
    others = given.get("...")
    return {
        "type": "object",
        "properties": {key.removesuffix("!"): schema_of(each) for key, each in given.items() if key != "..."},
        "required": [key[:-1] for key in given if key.endswith("!")],
        "additionalProperties": False if others is None else schema_of(others),
    }


def restate(platform: str, documents: Sequence[JsonObject]) -> JsonObject:
    """The answers that documents state for the operations that the sandbox serves."""
    sandbox = Sandbox()
    restated = _Restated(sends_all=platform in _SEND_ALL)
    for document in documents:
        base = _path(document["servers"][0]["url"])
        for path, methods in document["paths"].items():
            full = base + re.sub(r"{\w+}", "{}", path)
            for method in _METHODS:
                if method in methods and sandbox.serves(platform, method.upper(), full.replace("{}", "x")):
                    restated.add(f"{method.upper()} {full}", methods[method]["responses"], document)
    sandbox.close()
    return {"answers": restated.answers, "models": dict(sorted(restated.models.items()))}


def _path(address: str) -> str:
    return urlsplit(re.sub("[{}]", "", address)).path


class _Restated:
    """The answers and models restated so far."""

    def __init__(self, *, sends_all: bool) -> None:
        self._sends_all = sends_all
        self.answers: dict[str, JsonObject] = {}
        self.models: JsonObject = {}
        self._names: dict[tuple[int, str], str] = {}

    def add(self, operation: str, responses: Mapping[str, Any], document: JsonObject) -> None:
        by_body: dict[str, list[str]] = {}
        for status, response in responses.items():
            content = _resolve(response, document).get("content", {})
            body = self._type(content["application/json"]["schema"], document) if content else "none"
            if is_object(body) and status >= "4":
                self.models["Error"], body = body, "=Error"
            by_body.setdefault(json.dumps(body), []).append(status)
        if operation not in self.answers:
            self.answers[operation] = {" ".join(statuses): json.loads(body) for body, statuses in by_body.items()}

    def _type(self, schema: JsonObject, document: JsonObject) -> Any:
        if "$ref" in schema:
            return self._model(schema["$ref"], document)
        options = schema.get("oneOf") or schema.get("anyOf")
        if options:
            some = [self._type(each, document) for each in options if each.get("type") != "null"]
            kept = some[0] if len(some) == 1 else {"any of": some}
            return _nullable(kept) if len(some) < len(options) else kept
        kinds = schema.get("type")
        types: list[Any] = kinds if is_array(kinds) else [kinds]
        (kind,) = [each for each in types if each != "null"] or [None]
        made = self._plain(schema, kind, document)
        return _nullable(made) if "null" in types or schema.get("nullable") else made

    def _plain(self, schema: JsonObject, kind: str | None, document: JsonObject) -> Any:
        if "const" in schema or "enum" in schema:
            return {"enum": [schema["const"]] if "const" in schema else schema["enum"]}
        if kind == "array":
            return [self._type(schema["items"], document)]
        if kind == "string" and schema.get("format") == "date-time":
            return "time"
        if "allOf" in schema or "properties" in schema or kind == "object":
            return self._object(schema, document)
        return kind or "any"

    def _object(self, schema: JsonObject, document: JsonObject) -> Any:
        properties, required, others = _merged(schema, document)
        if self._sends_all and not others:
            chosen = {
                name for found in _CHOICE.findall(schema.get("description", "")) for name in re.findall(r"\w+", found)
            }
            required = properties.keys() - chosen
        made = {
            f"{key}!" if key in required else key: self._type(each, document)
            for key, each in sorted(properties.items())
        }
        if others is None:
            return made or "object"
        if others is False:
            return made
        return made | {"...": "any" if others is True else self._type(others, document)} if made or others else "object"

    def _model(self, reference: str, document: JsonObject) -> str:
        short = reference.rpartition("/")[2].rpartition(".")[2]
        key = (id(document), reference)
        if key not in self._names:
            taken = set(self._names.values())
            name = next(each for each in (short, *(f"{short}{n}" for n in range(2, 99))) if each not in taken)
            self._names[key] = name
            model = self._type(_resolve({"$ref": reference}, document), document)
            # Another document has it too.
            same = (each for each in taken if each.startswith(short) and self.models.get(each) == model)
            self._names[key] = next(same, name)
            self.models[self._names[key]] = model
        return f"={self._names[key]}"


def _merged(schema: JsonObject, document: JsonObject) -> tuple[JsonObject, set[str], Any]:
    """The properties, the required keys and the type of other keys, of an object and all of which it is made."""
    properties, required = dict(schema.get("properties", {})), set(schema.get("required", []))
    others = schema.get("additionalProperties")
    for part in schema.get("allOf", []):
        more, needed, open_to = _merged(_resolve(part, document), document)
        properties, required = properties | more, required | needed
        others = others if open_to is None else open_to
    return properties, required, others


def _resolve(schema: JsonObject, document: JsonObject) -> JsonObject:
    while "$ref" in schema:
        found: Any = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    return schema


def _nullable(compact: Any) -> Any:
    return f"{compact}?" if isinstance(compact, str) else {"any of": ["null", compact]}


def main(arguments: Sequence[str]) -> None:
    """Write the file of a platform from its documents."""
    platform, *paths = arguments
    stated = restate(platform, [json.loads(Path(each).read_text("utf-8")) for each in paths])
    lines = [
        f" {json.dumps(part)}: {{\n"
        + ",\n".join(f"  {json.dumps(key)}: {json.dumps(each)}" for key, each in stated[part].items())
        + "\n }"
        for part in ("answers", "models")
    ]
    file = _FOLDER / f"{platform}.json"
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{file}: {len(stated['answers'])} operations, {len(stated['models'])} models")


if __name__ == "__main__":
    main(sys.argv[1:])
