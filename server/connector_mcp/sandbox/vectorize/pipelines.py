"""Vectorize's pipelines, emulated (facts, continued: sections 2 to 5).

A pipeline deploys when it is created. Each read of it shows it one step further, so that its documents are there on the
third: nothing waits. It fails to deploy where a connector of it is missing or its credentials were refused, and tries
again when it is started. Documents come from uploaded files, from the files of users, or from what a config names: a
bucket or folder that begins with `empty-` has none, one that begins with `huge-` more than the plan allows. The names
of events are the sandbox's own, because none are published.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.json_values import JsonObject, is_array, is_object, items, members
from connector_mcp.operations.connector_types import connector_types
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.emulator import PlatformError
from connector_mcp.sandbox.vectorize import wire
from connector_mcp.sandbox.world import World

PIPELINES: Final = "vectorize.pipelines"
FILES: Final = "vectorize.files"
_LOOKS: Final = "vectorize.pipeline_looks"
_BASE: Final = f"{wire.ORGANIZATION}/pipelines"
_PARTS: Final = {
    "sourceConnectors": ("sources", "sourceConnectors"),
    "destinationConnector": ("destinations", "destinationConnectors"),
    "aiPlatformConnector": ("aiplatforms", "aiPlatforms"),
}
"""The kind of each part of a pipeline, and the member that shows it."""
_UNLOADED: Final = ("CREATED", "DEPLOYING", "DEPLOYED", "STARTED", "ERROR_DEPLOYING")
_PLAN: Final = 1_000
"""Documents that the plan allows."""


class VectorizePipelines:
    """The operations on pipelines."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.routes = (
            Route(_BASE, self._list, methods=["GET"]),
            Route(_BASE, self._create, methods=["POST"]),
            Route(f"{_BASE}/{{pipeline}}", self._get, methods=["GET"]),
            Route(f"{_BASE}/{{pipeline}}", self._delete, methods=["DELETE"]),
            Route(f"{_BASE}/{{pipeline}}/start", self._start, methods=["POST"]),
            Route(f"{_BASE}/{{pipeline}}/stop", self._stop, methods=["POST"]),
            Route(f"{_BASE}/{{pipeline}}/events", self._events, methods=["GET"]),
            Route(f"{_BASE}/{{pipeline}}/metrics", self._metrics, methods=["GET"]),
        )

    def using(self, connector: str) -> list[str]:
        """The ids of the pipelines that use a connector."""
        return [each["id"] for each in self._world.all(PIPELINES) if connector in [part["id"] for part in _parts(each)]]

    async def _list(self, request: Request) -> Response:
        rows = [self._summary(each) for each in wire.in_workspace(request, self._world.all(PIPELINES))]
        return wire.page_of(request, rows, "data", message=wire.DONE)

    async def _create(self, request: Request) -> Response:
        body, workspace = await wire.object_body(request), wire.workspace_for(request)
        self._check(body)
        pipeline: JsonObject = {
            "id": f"aip{str(uuid4())[3:]}",
            "name": body["pipelineName"],
            "createdAt": self._world.timestamp(),
            "createdBy": seed.VECTORIZE_OPERATOR_EMAIL,
            "workspaceId": workspace,
            "loaded": 0,
            **{key: body[key] for key in (*_PARTS, "schedule")},
        }
        self._deploy(pipeline, ["DEPLOYING", "DEPLOYED", "BACKFILLING"])
        return wire.done(data={"id": pipeline["id"]})

    def _deploy(self, pipeline: JsonObject, steps: list[str]) -> None:
        pipeline["documents"] = sum(self._documents(part) for part in pipeline["sourceConnectors"])
        settled = "IDLE" if pipeline["schedule"]["type"] == "manual" else "LISTENING"
        if pipeline["documents"] > _PLAN:
            settled, pipeline["documents"] = "OVERQUOTA", _PLAN
        pipeline["steps"] = [steps[0], "ERROR_DEPLOYING"] if self._problems(pipeline) else [*steps, settled]
        self._world.put(PIPELINES, pipeline["id"], pipeline)
        self._world.put(_LOOKS, pipeline["id"], {"count": 0})

    async def _get(self, request: Request) -> Response:
        pipeline = self._pipeline(request)
        shown = self._summary(pipeline)
        self._world.put(_LOOKS, pipeline["id"], {"count": self._looks(pipeline) + 1})
        for part, (kind, member) in _PARTS.items():
            views = [self._connector(each, kind) for each in _as_list(pipeline[part])]
            shown[member] = [view for view in views if view is not None]
        return wire.done(data=shown)

    async def _delete(self, request: Request) -> Response:
        self._world.delete(PIPELINES, self._pipeline(request)["id"])
        return wire.done()

    async def _start(self, request: Request) -> Response:
        pipeline = self._pipeline(request)
        if self._status(pipeline) in ("IDLE", "SHUTDOWN", "HIBERNATING", "OVERQUOTA", "ERROR_DEPLOYING"):
            pipeline["loaded"] = self._count(pipeline)
            self._deploy(pipeline, ["STARTED", "PROCESSING"])
        return wire.done()

    async def _stop(self, request: Request) -> Response:
        pipeline = self._pipeline(request)
        pipeline |= {"documents": self._count(pipeline), "steps": ["SHUTDOWN"]}
        self._world.put(PIPELINES, pipeline["id"], pipeline)
        return wire.done()

    async def _events(self, request: Request) -> Response:
        pipeline = self._pipeline(request)
        problems, status = self._problems(pipeline), self._status(pipeline)
        happened: list[tuple[str, JsonObject]] = [("pipeline-created", {})]
        if status == "ERROR_DEPLOYING":
            happened.append(("deployment-failed", {"reasons": problems}))
        elif status not in _UNLOADED:
            happened.append(("documents-ingested", {"count": self._count(pipeline)}))
        rows: list[JsonObject] = [
            {"id": f"{pipeline['id']}-{index}", "type": kind, "timestamp": pipeline["createdAt"], "summary": summary}
            for index, (kind, summary) in enumerate(happened)
        ]
        return wire.page_of(request, rows[::-1], "data", sized=False, message=wire.DONE)

    async def _metrics(self, request: Request) -> Response:
        pipeline = self._pipeline(request)
        count = self._count(pipeline)
        entry = {"timestamp": pipeline["createdAt"], "newObjects": count, "changedObjects": 0, "deletedObjects": 0}
        return wire.done(data=[entry] if count else [])

    def _pipeline(self, request: Request) -> JsonObject:
        return self._world.find(PIPELINES, request.path_params["pipeline"], wire.error(404, "Pipeline not found"))

    def _status(self, pipeline: JsonObject) -> str:
        return pipeline["steps"][min(self._looks(pipeline), len(pipeline["steps"]) - 1)]

    def _looks(self, pipeline: JsonObject) -> int:
        """How often it was read since it was deployed."""
        return members(self._world.get(_LOOKS, pipeline["id"])).get("count", 0)

    def _count(self, pipeline: JsonObject) -> int:
        return pipeline["loaded"] if self._status(pipeline) in _UNLOADED else pipeline["documents"]

    def _summary(self, pipeline: JsonObject) -> JsonObject:
        summary = {key: pipeline[key] for key in ("id", "name", "createdAt", "createdBy")}
        summary |= {"documentCount": self._count(pipeline), "status": self._status(pipeline)}
        for member, (_, shown) in _PARTS.items():
            name, parts = shown.removesuffix("s"), _as_list(pipeline[member])
            summary |= {f"{name}AuthIds": [each["id"] for each in parts]}
            summary |= {f"{name}Types": [each["type"] for each in parts]}
        return summary | {"configDoc": {key: pipeline[key] for key in (*_PARTS, "schedule")}}

    def _connector(self, part: JsonObject, kind: str) -> JsonObject | None:
        """A connector of a pipeline as its read shows it; None if it was deleted."""
        found = self._world.get(f"vectorize.{kind}", part["id"])
        if found is None:
            return None
        shown = ("id", "type", "name", "createdAt", "verificationStatus", "errorMessage")
        return {key: found[key] for key in shown if key in found} | {"configDoc": part.get("config", {})}

    def _problems(self, pipeline: JsonObject) -> list[str]:
        """Why the pipeline cannot be deployed."""
        problems: list[str] = []
        for part in _parts(pipeline):
            try:
                problem = wire.find_connector(self._world, part["id"]).get("errorMessage")
            except PlatformError:
                problem = f"Connector {part['id']} does not exist."
            problems += [str(problem)] if problem else []
        return problems

    def _documents(self, part: JsonObject) -> int:
        """How many documents a source has."""
        source = members(self._world.get("vectorize.sources", part["id"]))
        if source.get("type") == "FILE_UPLOAD":
            return sum(each["connector"] == part["id"] for each in self._world.all(FILES))
        if "_OAUTH_MULTI" in str(source.get("type")):
            return sum(map(_selected, members(source.get("users")).values()))
        config = {**members(source.get("config")), **members(part.get("config"))}
        named = [value for value in config.values() if isinstance(value, str)]
        if any(value.startswith("empty-") for value in named):
            return 0
        if any(value.startswith("huge-") for value in named):
            return 5 * _PLAN
        return 3 * len(items(config["seed-urls"])) if "seed-urls" in config else 42

    def _check(self, body: JsonObject) -> None:
        """Refuse a body that the documents refuse: unknown keys, and parts that are missing or of another type."""
        _check_keys(body, "", ("pipelineName", *_PARTS, "schedule"))
        wire.require_text(body, "pipelineName")
        if not is_array(body["sourceConnectors"]) or not body["sourceConnectors"]:
            raise wire.invalid("sourceConnectors: expected at least one.")
        _check_keys(body["schedule"], "schedule.", ("type",))
        if body["schedule"]["type"] not in ("manual", "realtime", "custom"):
            raise wire.invalid("schedule.type: expected manual, realtime or custom.")
        for member, (kind, _) in _PARTS.items():
            for part in body[member] if member == "sourceConnectors" else [body[member]]:
                optional = ("config",) if member == "destinationConnector" else ()
                _check_keys(part, f"{member}.", ("id", "type", "config"), optional)
                found = wire.find_connector(self._world, part["id"], [kind])
                if found["type"] != part["type"]:
                    raise wire.invalid(f"{member}.type: the connector's is {found['type']}.")
                if not is_object(part.get("config", {})):
                    raise wire.invalid(f"{member}.config: expected an object.")
                if kind == "aiplatforms":
                    known = connector_types("vectorize")[wire.BUILT_IN].traits["pipeline_config"]["properties"]
                    _check_keys(part["config"], f"{member}.config.", tuple(known), tuple(known))


def _check_keys(value: Any, path: str, known: Sequence[str], optional: Sequence[str] = ()) -> None:
    if not is_object(value):
        raise wire.invalid(f"{path[:-1]}: expected an object.")
    for key in value:
        if key not in known:
            raise wire.invalid(f"{path}{key}: unknown.")
    for key in known:
        if key not in value and key not in optional:
            raise wire.invalid(f"{path}{key}: required.")


def _parts(pipeline: JsonObject) -> list[JsonObject]:
    return [part for member in _PARTS for part in _as_list(pipeline[member])]


def _as_list(part: Any) -> list[Any]:
    return part if is_array(part) else [part]


def _selected(user: JsonObject) -> int:
    chosen: JsonObject = user["selectedFiles"]
    lists = [chosen[key] for key in ("pageIds", "databaseIds") if key in chosen]
    return sum(map(len, lists)) if lists else len(chosen)
