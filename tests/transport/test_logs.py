"""What reaches stderr."""

import logging

import pytest
from pydantic import BaseModel, ValidationError

from connector_mcp.transport.logs import logging_to_stderr


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
