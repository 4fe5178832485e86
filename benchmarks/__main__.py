"""`python -m benchmarks`: measure, and print tables of ratios, to the bare server or as the part says."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from itertools import groupby
from pathlib import Path

from benchmarks import provisioning, surface
from benchmarks.measures import FULL, SMOKE, measure
from benchmarks.results import Comparison, table
from benchmarks.servers import MeasurementError, servers

PARTS = {"provisioning": provisioning.measure, "surface": surface.measure}


def main() -> int:
    """0 when everything was measured; 1 when a server failed, or with --check when a floor was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare with a bare server of the SDK.")
    parser.add_argument("--only", choices=("servers", *PARTS), help="by default the servers and provisioning")
    parser.add_argument("--against", metavar="COMMIT", help="also measure this server at a commit")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a floor is missed")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures as JSON")
    parser.add_argument("--smoke", action="store_true", help="check that it runs; the figures mean nothing")
    options = parser.parse_args()
    if sys.platform != "linux":
        parser.error("the processor time and memory of the servers are read from Linux interfaces")
    comparisons: list[Comparison] = []
    start = time.perf_counter()
    try:
        if options.only in (None, "servers"):
            with servers(options.against) as field:
                for comparison in measure(field, SMOKE if options.smoke else FULL):
                    comparisons.append(comparison)
                    print(f"measured: {comparison.name}", file=sys.stderr, flush=True)
            print(table(comparisons), end="\n\n")
        if options.only != "servers":
            found = PARTS[options.only or "provisioning"](smoke=options.smoke)
            for _, rows in groupby(found, key=lambda comparison: list(comparison.figures)):
                print(table(list(rows)), end="\n\n")
            comparisons += found
    except MeasurementError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - start
    print(f"{seconds:.0f} s; load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} processors")
    if options.json:
        options.json.write_text(json.dumps([comparison.as_dict() for comparison in comparisons], indent=2), "utf-8")
    return 1 if options.check and any(comparison.met is False for comparison in comparisons) else 0


if __name__ == "__main__":
    sys.exit(main())
