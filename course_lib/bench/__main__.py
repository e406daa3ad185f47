"""``python -m course_lib.bench WHAT``: our ``flow`` beside four libraries, ``hypermod`` or ``mind2mind``."""

import argparse
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from course_lib.bench.flow import BATCHES, SETTINGS, flow_tables
from course_lib.errors import CourseError

__all__ = ["main"]

_SIZES = {"hypermod": "SHAPES", "mind2mind": "SIZES"}
"""Module of this package → what it calls the sizes that it can measure."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.bench", description=__doc__)
    parser.add_argument("what", nargs="?", default="flow", choices=["flow", *_SIZES], help="what to measure")
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--dim", type=int, default=128, help="size of the latent and of the condition; even")
    parser.add_argument("--rounds", type=int, default=9, help="timed steps per contender and batch size")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: for --threads 1 on a busy machine"
    )
    parser.add_argument("--tasks", nargs="+", choices=list(BATCHES), default=list(BATCHES))
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--quick", action="store_true", help="4 blocks, 3 rounds: a minute or two, rougher numbers")
    parser.add_argument(
        "--json", type=Path, default=None, help="where to write all numbers (default: runs/bench-WHAT.json)"
    )
    parser.add_argument("--sizes", nargs="+", type=int, help="in pixels, of hypermod and mind2mind; default: all")
    chosen = parser.parse_args(arguments)
    for name in ("blocks", "width", "dim", "rounds", "threads"):
        if getattr(chosen, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(chosen, name)}")
    known = list(getattr(_part(chosen.what), _SIZES[chosen.what])) if chosen.what in _SIZES else []
    if not set(chosen.sizes or known) <= set(known):
        parser.error(f"{chosen.what} has the sizes {', '.join(map(str, known)) or 'none'}")
    chosen.sizes = chosen.sizes or known
    if chosen.quick:
        chosen.blocks, chosen.rounds = min(chosen.blocks, 4), min(chosen.rounds, 3)
    if chosen.clock == "cpu" and chosen.threads != 1:
        raise CourseError("--clock cpu adds up the time of all threads: give --threads 1 with it.")
    return chosen


def _part(name: str) -> Any:
    return import_module(f"course_lib.bench.{name}")


def main(arguments: list[str] | None = None) -> None:
    """Run, print the tables and write the JSON file."""
    chosen = parse(arguments)
    if chosen.what in _SIZES:
        torch.set_num_threads(chosen.threads)
        clock = time.process_time if chosen.clock == "cpu" else time.perf_counter
        tables: dict[str, Any] = _part(chosen.what).main(chosen.rounds, chosen.sizes, clock)
    else:
        tables = flow_tables(chosen)
    path = chosen.json or Path("runs") / f"bench-{chosen.what}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"arguments": {k: str(v) for k, v in vars(chosen).items()}, "tables": tables}, indent=1))
    print(f"\nAll timings: {path}")


if __name__ == "__main__":
    try:
        main()
    except CourseError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
