"""`python -m benchmarks`: measure, and print a table of ratios to the bare server."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time

from benchmarks import provisioning
from benchmarks.measures import FULL, SMOKE, measure
from benchmarks.results import Comparison, table
from benchmarks.servers import MeasurementError, servers


def main() -> int:
    """0 when everything was measured; 1 when a server failed, or with --check when a floor was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare with a bare server of the SDK.")
    parser.add_argument("--against", metavar="COMMIT", help="also measure this server at a commit")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a floor is missed")
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON")
    parser.add_argument("--smoke", action="store_true", help="check that it runs; the figures mean nothing")
    options = parser.parse_args()
    if sys.platform != "linux":
        parser.error("the processor time and memory of the servers are read from Linux interfaces")
    comparisons: list[Comparison] = []
    start = time.perf_counter()
    try:
        with servers(options.against) as field:
            for comparison in measure(field, SMOKE if options.smoke else FULL):
                comparisons.append(comparison)
                print(f"measured: {comparison.name}", file=sys.stderr, flush=True)
        provisioned = asyncio.run(provisioning.measure(provisioning.SMOKE if options.smoke else provisioning.FULL))
    except MeasurementError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - start
    print(table(comparisons), provisioning.tables(provisioned), sep="\n\n")
    comparisons += provisioned
    print(f"\n{seconds:.0f} s; load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} processors")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:  # noqa: PTH123 - a name from the command line
            json.dump([comparison.as_dict() for comparison in comparisons], file, indent=2)
    return 1 if options.check and any(comparison.met is False for comparison in comparisons) else 0


if __name__ == "__main__":
    sys.exit(main())
