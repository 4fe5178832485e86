"""List Vectorize's connectors and pipelines, and tell whether one works (facts, continued: sections 4, 5 and 7).

A connector does nothing by itself: data flows only where a pipeline that uses it runs and holds documents. The API's
document lists no statuses, and there may be more of them, so an unknown one is never a failure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from connector_mcp.json_values import JsonObject, items, members, text
from connector_mcp.operations.operation import Operation, at
from connector_mcp.operations.overview import Check, Reads, Row, Verdict, read, required
from connector_mcp.operations.vectorize.ai_platform_connectors import GetAiPlatformConnector, GetAiPlatformConnectors
from connector_mcp.operations.vectorize.connectors import ConnectorOperation
from connector_mcp.operations.vectorize.destination_connectors import GetDestinationConnector, GetDestinationConnectors
from connector_mcp.operations.vectorize.pipelines import GetPipeline, GetPipelineMetrics, GetPipelines
from connector_mcp.operations.vectorize.source_connectors import GetSourceConnector, GetSourceConnectors
from connector_mcp.operations.vectorize.uploads import GetUploadFilesFromConnector

_STARTING: Final = frozenset({"CREATED", "DEPLOYING", "DEPLOYED", "STARTED"})
_RUNNING: Final = frozenset({"BACKFILLING", "PROCESSING", "LISTENING"})
_ASLEEP: Final = frozenset({"IDLE", "SHUTDOWN", "HIBERNATING"})
_AGAIN: Final = "Wait 15 seconds, then call check_connector again."
_STATUS: Final[Mapping[str, Literal["ok", "failing", "paused", "pending"]]] = {
    **dict.fromkeys(_STARTING, "pending"),
    **dict.fromkeys(_RUNNING, "ok"),
    **dict.fromkeys(_ASLEEP, "paused"),
    "IDLE": "ok",
    "ERROR_DEPLOYING": "failing",
    "OVERQUOTA": "failing",
}
_MOST_PIPELINES: Final = 5
"""Pipelines of a connector that a check reads."""
_LISTS: Final[Sequence[type[ConnectorOperation]]] = (
    GetSourceConnectors,
    GetDestinationConnectors,
    GetAiPlatformConnectors,
)
_MEMBERS: Final = ["id", "name", "status", "sourceConnectorAuthIds", "destinationConnectorAuthIds", "aiPlatformAuthIds"]


def find_connectors() -> Reads[Sequence[Row]]:
    """List the connectors of all three kinds, and the pipelines."""
    whole: Sequence[type[Operation]] = (*_LISTS, GetPipelines)
    *connectors, pipelines = yield [read(each, limit=100) for each in whole]
    rows = [_row(kind, each) for kind, rows in zip(_LISTS, connectors, strict=True) for each in items(required(rows))]
    return [*rows, *map(_pipeline_row, items(required(pipelines)))]


def _row(kind: type[ConnectorOperation], record: JsonObject) -> Row:
    error, verified = text(record.get("errorMessage")) or "", record.get("verificationStatus") == "verified"
    return Row(
        kind=kind.noun,
        id=text(record.get("id")) or "",
        name=text(record.get("name")) or "",
        type=text(record.get("type")) or "",
        status="failing" if error else "ok" if verified else "unknown",
        error=error,
    )


def _pipeline_row(record: JsonObject) -> Row:
    types = [*items(record.get("sourceConnectorTypes")), *items(record.get("destinationConnectorTypes"))]
    return Row(
        kind="pipeline",
        id=text(record.get("id")) or "",
        name=text(record.get("name")) or "",
        type=", ".join(map(str, types)),
        status=_STATUS.get(_status_of(record), "unknown"),
    )


def _status_of(pipeline: Any) -> str:
    return str(at(pipeline, "status") or "").upper()


def _check_of(reader: type[ConnectorOperation]) -> Check:
    """Make the check of a kind of connector: its own state, then that of the pipelines that use it."""

    def check(identifier: str, within: str) -> Reads[Verdict]:
        own = {reader.http.placeholders[-1]: identifier}
        record, pipelines = yield [read(reader, **own), read(GetPipelines, limit=100, fields=_MEMBERS)]
        record = members(required(record))
        seen = {key: record[key] for key in ("type", "verificationStatus", "errorMessage") if key in record}
        if record.get("errorMessage"):
            reason = f"Vectorize reports an error of this {reader.noun}: see errorMessage in seen."
            return Verdict(False, reason, _how_to_mend(reader), seen)
        using = [
            str(at(each, "id")) for each in items(required(pipelines)) if identifier in items(at(each, reader.used_in))
        ]
        if not using:
            reason = f"No pipeline uses this {reader.noun}, so nothing is done with it."
            return Verdict(False, reason, "vectorize_create_pipeline joins it with the others.", seen)
        verdicts: list[Verdict] = []
        for pipeline in using[:_MOST_PIPELINES]:
            verdicts.append((yield from check_pipeline(pipeline, "")))
        best = max(verdicts, key=lambda each: (each.works is True, each.works is None))
        if best.works is not True and len(using) > _MOST_PIPELINES:
            reason = f"None of the first {_MOST_PIPELINES} of {len(using)} pipelines that use it is known to work."
            return Verdict(None, reason, "Check the other pipelines one by one.", {**seen, **best.seen})
        return Verdict(best.works, best.reason, best.next, {**seen, **best.seen})

    return check


def _how_to_mend(reader: type[ConnectorOperation]) -> str:
    tool = reader.tool_name().replace("_get_", "_update_")
    return f"Correct its config with {tool}, then stop and start the pipelines that use it."


def check_pipeline(identifier: str, within: str) -> Reads[Verdict]:
    """Tell from its status, its documents and its connectors whether a pipeline works."""
    pipeline, metrics = yield [
        read(GetPipeline, pipeline_id=identifier),
        read(GetPipelineMetrics, pipeline_id=identifier),
    ]
    pipeline = members(required(pipeline))
    status, count = _status_of(pipeline), at(pipeline, "documentCount")
    added = (at(row, "newObjects") for row in items(metrics))
    has_documents = any(isinstance(number, int | float) and number > 0 for number in (count, *added))
    seen: JsonObject = {"pipeline": identifier, "status": pipeline.get("status"), "documentCount": count}
    if faults := dict(_faults(pipeline)):
        seen["errors"] = faults
    start, events = f"vectorize_start_pipeline with pipeline_id {identifier!r}", "vectorize_get_pipeline_events"

    def judge(works: bool | None, what: str, next_step: str) -> Verdict:
        return Verdict(works, f"Pipeline {identifier} {what}", next_step, seen)

    if status == "ERROR_DEPLOYING":
        return judge(False, "could not be deployed" + _because(faults), _after_failure(pipeline, faults))
    if status == "OVERQUOTA":
        next_step = "Wait for the next month or choose a larger plan in Vectorize's console."
        return judge(False, "reached the plan's monthly limit of documents.", next_step)
    if status in _STARTING:
        return judge(None, "is still starting.", _AGAIN)
    if status in ("SHUTDOWN", "HIBERNATING"):
        state = "is stopped" if status == "SHUTDOWN" else "sleeps, because it was long unused"
        return judge(False, f"{state}: nothing new is ingested.", f"{start}.")
    if faults:
        return judge(False, "runs, but nothing new arrives" + _because(faults), _after_failure(pipeline, faults))
    if status in _RUNNING | {"IDLE"} and has_documents:
        return judge(True, "runs and has ingested documents.", "")
    if status in ("BACKFILLING", "PROCESSING"):
        return judge(None, "is loading, and no document has arrived yet.", _AGAIN)
    if status not in ("LISTENING", "IDLE"):
        return judge(None, "has a status that is not documented: see seen.", f"{events} shows what happened to it.")
    uploads = [
        str(at(each, "id")) for each in items(pipeline.get("sourceConnectors")) if at(each, "type") == "FILE_UPLOAD"
    ]
    listed = yield [read(GetUploadFilesFromConnector, connector_id=each, limit=1) for each in uploads]
    for connector, files in zip(uploads, listed, strict=True):
        if files == []:
            what = f"has no documents: no file was uploaded to source connector {connector}."
            return judge(False, what, f"vectorize_start_file_upload_to_connector, then {start}.")
    what = "has no documents: prefix, file extensions or an empty source."
    return judge(False, what, f"{events} shows what happened; after that {start}.")


def _faults(pipeline: JsonObject) -> Iterator[tuple[str, str]]:
    """The connectors of a pipeline that report an error, by id, with their message."""
    for part in ("sourceConnectors", "destinationConnectors", "aiPlatforms"):
        for each in items(pipeline.get(part)):
            if message := at(each, "errorMessage"):
                yield str(at(each, "id")), str(message)


def _because(faults: Mapping[str, str]) -> str:
    names = ", ".join(faults)
    return f": connector {names} reports an error; see errors in seen." if faults else "."


def _after_failure(pipeline: JsonObject, faults: Mapping[str, str]) -> str:
    kinds = {"sourceConnectors": "source", "destinationConnectors": "destination", "aiPlatforms": "ai_platform"}
    ids = {part: [str(at(each, "id")) for each in items(pipeline.get(part))] for part in kinds}
    tools = [f"vectorize_update_{kinds[part]}_connector" for part in kinds if {*ids[part]} & faults.keys()]
    if not tools:
        return "vectorize_get_pipeline_events shows why; connectors of it may be gone."
    return f"Correct the config with {' and '.join(tools)}, then stop and start the pipeline."


CHECKS: Final[Mapping[str, Check]] = {
    GetSourceConnector.noun: _check_of(GetSourceConnector),
    "pipeline": check_pipeline,
    GetDestinationConnector.noun: _check_of(GetDestinationConnector),
    GetAiPlatformConnector.noun: _check_of(GetAiPlatformConnector),
}
