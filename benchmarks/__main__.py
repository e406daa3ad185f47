"""``python -m benchmarks WHAT``: our ``flow`` beside four libraries, ``hypermod`` or ``mind2mind``."""

import argparse
import json
import sys
from importlib import import_module

import torch

from benchmarks.flow import BATCHES
from course_lib.errors import CourseError
from course_lib.profiles import RUNS

__all__ = ["main", "parse"]

SIZES = {"hypermod": [32, 64, 256], "mind2mind": [64, 128, 256, 512, 1024]}
"""Pixels that a part can measure; the modules of this folder say more."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", default="flow", choices=["flow", *SIZES], help="what to measure")
    parser.add_argument("--blocks", type=int, default=20, help="of the flow")
    parser.add_argument("--rounds", type=int, default=9, help="timed steps per contender and batch size")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tasks", nargs="+", choices=list(BATCHES), default=list(BATCHES), help="of the flow")
    parser.add_argument("--sizes", nargs="+", type=int, help="in pixels, of hypermod and mind2mind; default: all")
    parser.add_argument("--quick", action="store_true", help="4 blocks, 3 rounds: a minute or two, rougher numbers")
    chosen = parser.parse_args(arguments)
    for name in ("blocks", "rounds", "threads"):
        if getattr(chosen, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(chosen, name)}")
    known = SIZES.get(chosen.what, [])
    if not set(chosen.sizes or known) <= set(known):
        parser.error(f"{chosen.what} has the sizes {', '.join(map(str, known)) or 'none'}")
    chosen.sizes = chosen.sizes or known
    if chosen.quick:
        chosen.blocks, chosen.rounds = min(chosen.blocks, 4), min(chosen.rounds, 3)
    return chosen


def main(arguments: list[str] | None = None) -> None:
    """Run, print the tables and write the numbers to ``runs/bench-WHAT.json``."""
    chosen = parse(arguments)
    torch.set_num_threads(chosen.threads)
    tables = import_module(f"benchmarks.{chosen.what}").main(chosen)
    path = RUNS / f"bench-{chosen.what}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"arguments": vars(chosen), "tables": tables}, indent=1))
    print(f"\nAll timings: {path}")


if __name__ == "__main__":
    try:
        main()
    except CourseError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
