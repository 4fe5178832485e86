"""What reaches stderr."""

import json
import logging
import re
from collections.abc import Callable

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from connector_mcp.engine.redaction.scrubber import Scrubber
from connector_mcp.engine.results import internal_error
from connector_mcp.telemetry.log_lines import MARGIN
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


FORGED = "2026-01-01 00:00:00,000 ERROR connector_mcp: forged"
ODD = [f"a{brk}{FORGED}" for brk in ("\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", "\n  | ")] + [
    "\x1b[2K\x1b[1A\x1b[31mred", "\x9b31m", "\x07\x08\x7f\x00", "\u202egnp.exe\u2066", "\ud83d", "\ufeff\u200b",
]  # fmt: skip
RECORD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ERROR ")


def log_message(odd: str) -> None:
    logging.getLogger("any").error("%s", odd)


def log_format(odd: str) -> None:
    logging.getLogger("any").error(odd.replace("%", "%%"))


def log_name(odd: str) -> None:
    logging.getLogger(f"any.{odd}").error("said")


def log_call_id(odd: str) -> None:
    with NULL_OBSERVER.call(odd):
        logging.getLogger("any").error("said")


def log_exception(odd: str) -> None:
    try:
        raise RuntimeError(odd)
    except RuntimeError:
        logging.getLogger("any").exception("failed: %s", odd)


def log_cause(odd: str) -> None:
    try:
        try:
            raise KeyError(odd)
        except KeyError as cause:
            raise ValueError(odd) from cause
    except ValueError:
        logging.getLogger("any").error("failed", exc_info=True)


def log_group(odd: str) -> None:
    try:
        raise ExceptionGroup(odd, [RuntimeError(odd), ExceptionGroup("in", [OSError(1, odd)])])
    except ExceptionGroup:
        logging.getLogger("any").exception("failed")


def log_validation_error(odd: str) -> None:
    try:
        TypeAdapter(dict[str, int]).validate_python({odd: "x"})
    except ValidationError:
        logging.getLogger("any").exception("failed")


def log_stack(odd: str) -> None:
    logging.getLogger("any").error("%s", odd, stack_info=True)


def log_internal_error(odd: str) -> None:
    error = RuntimeError(odd)
    internal_error(error, odd, {"name": odd[::-1]}, Scrubber(tuple), False)


def log_by_the_web_server(odd: str) -> None:
    logging.getLogger("uvicorn.error").error("Invalid request: %s", odd)


EVENTS = [
    log_message, log_format, log_name, log_call_id, log_exception, log_cause, log_group, log_validation_error,
    log_stack, log_internal_error, log_by_the_web_server,
]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS)
def test_no_text_from_outside_begins_a_line_or_steers_a_terminal(
    capsys: pytest.CaptureFixture[str], event: Callable[[str], None]
) -> None:
    for odd in ODD:
        with logging_to_stderr(str):
            event(odd)
        written = capsys.readouterr().err
        assert all(character == "\n" or character.isprintable() for character in written)
        records = [line for line in written.split("\n")[:-1] if not line.startswith(MARGIN)]
        assert len(records) == 1, written
        assert RECORD.match(records[0])
        assert not any(line.removeprefix(MARGIN).lstrip(" |").startswith(FORGED) for line in written.splitlines())
        with logging_to_stderr(str, form="json"):
            event(odd)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.isascii()
        assert json.loads(line)["level"] == "ERROR"


def test_a_traceback_stays_readable_behind_its_margin(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr(str):
        log_exception("said\nmore")
    head, *rest = capsys.readouterr().err.splitlines()
    assert head.endswith(r"failed: said\nmore")
    assert all(line.startswith(MARGIN) for line in rest)
    assert rest[0] == f"{MARGIN}Traceback (most recent call last):"
    assert rest[-1] == rf"{MARGIN}RuntimeError: said\nmore"
    assert any(line.strip(" |") == "raise RuntimeError(odd)" for line in rest)
