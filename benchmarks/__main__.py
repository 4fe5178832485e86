"""`python -m benchmarks`: the table; with `--json FILE` and `--plots FOLDER` also for programs and as pictures."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from benchmarks.client import AnswerError
from benchmarks.contestants import contestants
from benchmarks.figures import Comparison
from benchmarks.measures import QUICK, THOROUGH, measure
from benchmarks.over_http import measure_http
from benchmarks.plots import draw
from benchmarks.report import document, table
from benchmarks.steps import shares


def main() -> int:
    """0 when everything was measured; 1 when it could not be, or with --check when a target was missed."""
    options = _options()
    mode, effort = ("thorough", THOROUGH) if options.thorough else ("quick", QUICK)
    comparisons: list[Comparison] = []
    begun = time.perf_counter()
    try:
        with contestants(against=options.against, fastmcp=options.fastmcp) as field:
            steps = shares(field.ours)
            over_stdio = () if options.only == "http" else measure(field, effort)
            over_http = () if options.only == "stdio" else measure_http(field, effort)
            for comparison in chain(over_stdio, over_http):
                comparisons.append(comparison)
                print(f"measured: {comparison.name.strip()}", file=sys.stderr, flush=True)
    except AnswerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - begun
    print(table(comparisons))
    print("\nshare of each step in a call: " + ", ".join(f"{step} {share:.0%}" for step, share in steps.items()))
    print(f"\n{mode}, {seconds:.0f} s; load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} processors")
    if options.json:
        written = document(comparisons, mode=mode, seconds=seconds) | {"steps": steps}
        options.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    if options.plots:
        for path in draw(comparisons, steps, options.plots):
            print(path)
    missed = [comparison for comparison in comparisons if comparison.met is False]
    return 1 if options.check and missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare with a bare server of the SDK.")
    parser.add_argument("--thorough", action="store_true", help="half an hour instead of some minutes")
    parser.add_argument("--only", choices=("stdio", "http"), help="leave the other face out")
    parser.add_argument("--against", metavar="REV", help="this server at that commit takes part, too")
    default = sys.executable if find_spec("fastmcp") else None
    help_ = "a Python that has fastmcp, which then takes part, too"
    parser.add_argument("--fastmcp", metavar="PYTHON", default=default, help=help_)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw them there, too (needs matplotlib)")
    parser.add_argument("--check", action="store_true", help="end with status 1 when a target is missed")
    options = parser.parse_args()
    if sys.platform != "linux":
        parser.error("processor time and memory of the servers are read from Linux' own interfaces")
    if options.plots and find_spec("matplotlib") is None:
        parser.error("--plots needs matplotlib: pip install --group bench")
    return options


if __name__ == "__main__":
    sys.exit(main())
