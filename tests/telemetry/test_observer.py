"""The null observer, and the ids that join log lines to calls."""

from __future__ import annotations

import pytest

from connector_mcp.telemetry.events import REQUEST_ID, Attempt, current_ids
from connector_mcp.telemetry.observer import NULL_OBSERVER


def test_a_call_s_id_is_known_for_as_long_as_it_runs() -> None:
    outer = REQUEST_ID.set("r-1")
    with NULL_OBSERVER.call("c-1"):
        during = current_ids()
    after = current_ids()
    REQUEST_ID.reset(outer)
    assert during == {"call_id": "c-1", "request_id": "r-1"}
    assert after == {"request_id": "r-1"}
    assert current_ids() == {}


def test_failures_pass_through_steps_of_the_null_observer() -> None:
    attempt = Attempt("logto", "read", "GET", "/x", "host", 443, 0)
    with pytest.raises(ValueError), NULL_OBSERVER.step("gate"):
        raise ValueError
    with pytest.raises(ValueError), NULL_OBSERVER.attempt(attempt), NULL_OBSERVER.minting("logto"):
        raise ValueError
