"""`python -m benchmarks.decoding`: the table of peak memory by format that SECURITY.md quotes."""

from __future__ import annotations

import argparse

from benchmarks.decoding.files import WORST
from benchmarks.decoding.peak_memory import measure_peak


def main() -> None:
    """Print the table; about two minutes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoding", description=__doc__)
    parser.add_argument("--side", type=int, default=4000, help="pixels of a side of the pictures (default: 4000)")
    side = parser.parse_args().side
    print(f"Pictures of {side:,} x {side:,} pixels, which is the limit; peak of the process above what it had.\n")
    print("| file | its size, bytes/pixel | peak, MiB | peak, bytes/pixel | outcome |")
    print("| --- | --: | --: | --: | --- |")
    for name, make in WORST.items():
        data, pixels = make(side), side * side
        peak = measure_peak(data, pixels)
        size, own = len(data) / pixels, peak.bytes / pixels
        print(f"| {name} | {size:.2f} | {peak.bytes / 2**20:,.0f} | {own:.1f} | {peak.outcome} |", flush=True)


if __name__ == "__main__":
    main()
