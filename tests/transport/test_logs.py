"""What reaches stderr."""

import json
import logging

import pytest
from pydantic import BaseModel, ValidationError

from connector_mcp.telemetry.observer import NULL_OBSERVER
from connector_mcp.transport.process import logging_to_stderr


class Envelope(BaseModel):
    """Something that a client sends."""

    id: int


def test_known_secrets_are_taken_out_of_messages_and_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr(lambda text: text.replace("s3cret", "[redacted]")):
        try:
            raise RuntimeError("the s3cret one")
        except RuntimeError:
            logging.getLogger("any").exception("with %s", "s3cret")
    stderr = capsys.readouterr().err
    assert "with [redacted]" in stderr
    assert "RuntimeError: the [redacted] one" in stderr
    assert "s3cret" not in stderr


def test_a_validation_error_tells_where_but_not_what(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr(str):
        try:
            Envelope.model_validate({"id": "a secret that nobody knows yet"})
        except ValidationError:
            logging.getLogger("any").exception("broken")
    stderr = capsys.readouterr().err
    assert "Envelope is not valid at: id" in stderr
    assert "secret" not in stderr


def test_the_logging_of_before_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (root.handlers, root.level)
    with logging_to_stderr(str, "ERROR"):
        logging.getLogger("any").warning("below the level")
    assert (root.handlers, root.level) == before
    assert capsys.readouterr().err == ""


def test_a_line_of_a_call_bears_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr(str):
        with NULL_OBSERVER.call("c-1"):
            logging.getLogger("any").warning("inside")
        logging.getLogger("any").warning("outside")
    inside, outside = capsys.readouterr().err.splitlines()
    assert inside.endswith("WARNING any [call_id=c-1]: inside")
    assert outside.endswith("WARNING any: outside")


def test_a_json_line_is_one_line_whatever_is_logged_and_holds_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    secret = 'quoted "s3cret"'
    with logging_to_stderr(lambda text: text.replace(secret, "[redacted]"), form="json"), NULL_OBSERVER.call("c-1"):
        try:
            raise RuntimeError(f"with {secret}")
        except RuntimeError:
            logging.getLogger("any").exception("a\nforged line \x1b \ud800 %s", secret, stack_info=True)
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert told.keys() == {"time", "level", "logger", "call_id", "message", "exception", "stack"}
    assert (told["level"], told["logger"], told["call_id"]) == ("ERROR", "any", "c-1")
    assert told["message"] == "a\nforged line \x1b \ud800 [redacted]"
    assert "RuntimeError: with [redacted]" in told["exception"]
    assert "s3cret" not in line
