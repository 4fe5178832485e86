"""`python -m benchmarks`: the table, and with `--json FILE` the same for programs."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from benchmarks.client import AnswerError
from benchmarks.contestants import contestants
from benchmarks.figures import Comparison
from benchmarks.measures import QUICK, THOROUGH, measure
from benchmarks.report import document, table


def main() -> int:
    """0 when everything was measured; 1 when it could not be, or with --check when a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare with a bare server of the SDK.")
    parser.add_argument("--thorough", action="store_true", help="several minutes instead of about one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--check", action="store_true", help="end with status 1 when a target is missed")
    options = parser.parse_args()
    if sys.platform != "linux":
        parser.error("processor time and memory of the servers are read from Linux' own interfaces")

    mode, effort = ("thorough", THOROUGH) if options.thorough else ("quick", QUICK)
    comparisons: list[Comparison] = []
    begun = time.perf_counter()
    try:
        with contestants() as pair:
            for comparison in measure(pair, effort):
                comparisons.append(comparison)
                print(f"measured: {comparison.name.strip()}", file=sys.stderr, flush=True)
    except AnswerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - begun
    print(table(comparisons))
    print(f"\n{mode}, {seconds:.0f} s; load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} processors")
    if options.json:
        text = json.dumps(document(comparisons, mode=mode, seconds=seconds), indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    missed = [comparison for comparison in comparisons if comparison.met is False]
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
