"""The share of each step in a call, seen by Python's own profiler in a process that serves nobody.

A profiler makes what is many small functions look dearer than what is few large ones: read the shares as an order.
"""

from __future__ import annotations

import asyncio
import cProfile
import os
import pstats
from pathlib import Path
from typing import Any, Final, cast
from unittest import mock

from benchmarks.client import AnswerError
from benchmarks.contestants import GET, Contestant
from benchmarks.upstream import CONNECTOR_ID
from connector_mcp.cli.options import load_settings
from connector_mcp.cli.terminal import CliCaller
from connector_mcp.composition.engine import open_engine
from connector_mcp.transport.mcp.server import build_server

CALLS: Final = 500

STEPS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "arguments, validate": (("arguments.py", "parse_arguments"),),
    "resolve profile": (("profiles.py", "choose"),),
    "policy, gate": (("gate.py", "decide"),),
    "look for secrets": (("call.py", "_look"), ("call.py", "_learn")),
    "build the request": (("operation.py", "make_requests"),),
    "send": (("client.py", "send"),),
    "redact, shape": (("call.py", "_content"),),
    "audit": (("call.py", "_end_audit"),),
}
"""The steps of a read, and the functions in which they happen. What only a write has is not among them."""


def shares(ours: Contestant) -> dict[str, float]:
    """Of the time in the engine, what each step takes; the rest is `other`.

    Raises:
        AnswerError: A step happens in none of the functions that are known for it.
    """
    with mock.patch.dict(os.environ, dict(ours.environment), clear=True):
        return asyncio.run(_profiled())


async def _profiled() -> dict[str, float]:
    settings = load_settings()
    async with open_engine(settings, os.environ, "stdio") as engine:
        build_server(engine, request_state_key=b"k" * 32)
        arguments = {"source_connector_id": CONNECTOR_ID}
        for _ in range(50):
            await engine.call(GET.tool, arguments, CliCaller(can_ask=False))
        profile = cProfile.Profile()
        profile.enable()
        for _ in range(CALLS):
            await engine.call(GET.tool, arguments, CliCaller(can_ask=False))
        profile.disable()
    # pstats keeps (calls, primitive calls, own seconds, seconds with what is called, callers) by (file, line, name).
    rows = cast("dict[tuple[str, int, str], tuple[Any, ...]]", vars(pstats.Stats(profile))["stats"])
    taken = {(Path(file).name, name): figures for (file, _, name), figures in rows.items() if "connector_mcp" in file}
    whole = taken["call.py", "call"][3]
    unknown = [step for step, places in STEPS.items() if not any(at in taken for at in places)]
    if unknown:
        raise AnswerError(f"no function is known in which these steps happen: {', '.join(unknown)}")
    found = {step: sum(taken[at][3] for at in places if at in taken) / whole for step, places in STEPS.items()}
    return found | {"other": max(0.0, 1 - sum(found.values()))}
