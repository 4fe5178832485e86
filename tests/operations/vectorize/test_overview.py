"""Whether a Vectorize connector works: a verdict for every status and for everything that a pipeline may lack."""

from __future__ import annotations

from typing import Any

import pytest

from connector_mcp.errors import Forbidden, NotFound
from connector_mcp.operations.overview import Read, Verdict
from connector_mcp.operations.vectorize.overview import CHECKS, find_connectors
from tests.operations.hooks import drive


def pipeline(status: str | None, count: Any = 0, **more: Any) -> dict[str, Any]:
    return {"id": "p", "name": "n", "status": status, "documentCount": count, **more}


def judge(record: Any, metrics: Any = (), files: Any = ()) -> Verdict:
    answers = {"GetPipeline": record, "GetPipelineMetrics": list(metrics), "GetUploadFilesFromConnector": list(files)}
    return drive(CHECKS["pipeline"]("p", ""), lambda read: answers[read.operation.__name__])


FAULTY = {"sourceConnectors": [{"id": "s", "type": "AWS_S3", "errorMessage": "Refused."}]}
UPLOAD = {"sourceConnectors": [{"id": "s", "type": "FILE_UPLOAD"}]}


@pytest.mark.parametrize(
    ("record", "works", "reason", "tool"),
    [
        (pipeline("CREATED"), None, "still starting", "check_connector"),
        (pipeline("deploying"), None, "still starting", "check_connector"),
        (pipeline("DEPLOYED"), None, "still starting", "check_connector"),
        (pipeline("STARTED", 9), None, "still starting", "check_connector"),
        (pipeline("ERROR_DEPLOYING", **FAULTY), False, "connector s reports an error", "update_source_connector"),
        (pipeline("ERROR_DEPLOYING"), False, "could not be deployed.", "get_pipeline_events"),
        (pipeline("BACKFILLING", 9), True, "has ingested documents", ""),
        (pipeline("PROCESSING", 9), True, "has ingested documents", ""),
        (pipeline("LISTENING", 9), True, "has ingested documents", ""),
        (pipeline("IDLE", 9), True, "has ingested documents", ""),
        (pipeline("PROCESSING"), None, "no document has arrived yet", "check_connector"),
        (pipeline("LISTENING", 9, **FAULTY), False, "nothing new arrives", "update_source_connector"),
        (pipeline("LISTENING"), False, "empty source", "get_pipeline_events"),
        (pipeline("IDLE"), False, "empty source", "start_pipeline"),
        (pipeline("IDLE", **UPLOAD), False, "no file was uploaded to source connector s", "start_file_upload"),
        (pipeline("SHUTDOWN", 9), False, "is stopped", "start_pipeline"),
        (pipeline("HIBERNATING", 9), False, "sleeps", "start_pipeline"),
        (pipeline("OVERQUOTA", 9), False, "monthly limit", "larger plan"),
        (pipeline("active", 9), None, "not documented", "get_pipeline_events"),
        (pipeline(None, "many"), None, "not documented", "get_pipeline_events"),
    ],
)
def test_each_status_has_its_verdict_and_what_to_do(record: Any, works: bool | None, reason: str, tool: str) -> None:
    verdict = judge(record)
    assert (verdict.works, reason in verdict.reason, tool in verdict.next) == (works, True, True)
    assert verdict.seen["status"] == record["status"]


def test_metrics_show_documents_before_the_pipeline_counts_them() -> None:
    assert judge(pipeline("BACKFILLING"), [{"newObjects": 3}]).works is True
    assert judge(pipeline("BACKFILLING"), [{"newObjects": "3"}, {}]).works is None


def test_the_words_of_a_platform_are_shown_apart_from_the_reason() -> None:
    verdict = judge(pipeline("ERROR_DEPLOYING", **FAULTY))
    assert "Refused" not in verdict.reason + verdict.next
    assert verdict.seen["errors"] == {"s": "Refused."}
    # What stops a pipeline is not served by default, so that the advice names it in words.
    assert verdict.next.endswith("_update_source_connector, then stop and start the pipeline.")


def check(record: Any, *pipelines: Any, kind: str = "source connector", **states: Any) -> Verdict:
    def answer(read: Read) -> Any:
        match read.operation.__name__:
            case "GetPipelines":
                return list(pipelines)
            case "GetPipeline":
                return states[read.arguments["pipeline_id"]]
            case "GetPipelineMetrics":
                return Forbidden("No.", fix="")
            case _:
                return record

    return drive(CHECKS[kind]("c", ""), answer)


OWN = {"id": "c", "type": "WEB_CRAWLER", "name": "n", "verificationStatus": "verified"}
USING = [{"id": each, "sourceConnectorAuthIds": ["c"], "aiPlatformAuthIds": ["m"]} for each in "pq"]


def test_a_connector_works_where_one_of_its_pipelines_does() -> None:
    states = {"p": pipeline("SHUTDOWN", 9), "q": pipeline("LISTENING", 9)}
    assert check(OWN, *USING, **states).works is True
    assert check(OWN, USING[0], **states).works is False
    assert check(OWN, *USING, p=states["p"], q=pipeline("DEPLOYING")).works is None


def test_pipelines_that_were_not_read_leave_it_open_whether_a_connector_works() -> None:
    many = [{"id": f"p{number}", "sourceConnectorAuthIds": ["c"]} for number in range(6)]
    states = {each["id"]: pipeline("SHUTDOWN", 9) for each in many}
    assert check(OWN, *many[:5], **states).works is False
    verdict = check(OWN, *many, **states)
    assert (verdict.works, "first 5 of 6" in verdict.reason, bool(verdict.next)) == (None, True, True)
    assert check(OWN, *many, **states | {"p4": pipeline("LISTENING", 9)}).works is True


def test_a_connector_that_no_pipeline_uses_does_nothing() -> None:
    verdict = check(OWN, *USING, kind="destination connector")
    assert (verdict.works, verdict.seen["verificationStatus"]) == (False, "verified")
    assert "vectorize_create_pipeline" in verdict.next


def test_a_connector_with_an_error_does_not_work_whatever_its_pipelines_say() -> None:
    verdict = check(OWN | {"errorMessage": "Refused."}, *USING, kind="AI platform connector")
    assert (verdict.works, verdict.seen["errorMessage"]) == (False, "Refused.")
    assert "vectorize_update_ai_platform_connector" in verdict.next


@pytest.mark.parametrize("outcome", [NotFound("No.", fix=""), Forbidden("No.", fix="")])
def test_nothing_is_said_of_what_could_not_be_read(outcome: Any) -> None:
    def answer(read: Read) -> Any:
        return outcome if read.operation.__name__ == "GetPipelines" else []

    for judged in (lambda: judge(outcome), lambda: check(outcome), lambda: drive(find_connectors(), answer)):
        with pytest.raises(type(outcome)):
            judged()


def test_connectors_and_pipelines_are_found_with_what_their_lists_show() -> None:
    rows = {
        "GetSourceConnectors": [OWN, OWN | {"errorMessage": "Refused."}],
        "GetDestinationConnectors": [{"id": "d", "type": "PINECONE", "name": "v"}],
        "GetAiPlatformConnectors": [],
        "GetPipelines": [pipeline("IDLE"), pipeline("SHUTDOWN"), pipeline("ERROR_DEPLOYING"), pipeline("odd")],
    }
    found = drive(find_connectors(), lambda read: rows[read.operation.__name__])
    assert [(row.kind, row.status, row.error) for row in found] == [
        ("source connector", "ok", ""), ("source connector", "failing", "Refused."),
        ("destination connector", "unknown", ""), ("pipeline", "ok", ""), ("pipeline", "paused", ""),
        ("pipeline", "failing", ""), ("pipeline", "unknown", ""),
    ]  # fmt: skip
    assert {row.kind for row in found} <= set(CHECKS)
