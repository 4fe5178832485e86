"""One deletion passes through a bounded part of the code."""

from __future__ import annotations

import anyio

from tools.trace_call import MAX_FILES, MAX_FUNCTIONS, trace_deletion


def test_a_deletion_enters_at_most_50_files_and_400_functions() -> None:
    trace = anyio.run(trace_deletion)
    assert (MAX_FILES, MAX_FUNCTIONS) == (50, 400)
    assert len(trace.files) <= MAX_FILES, trace.files
    assert len(trace.functions) <= MAX_FUNCTIONS, trace.functions
