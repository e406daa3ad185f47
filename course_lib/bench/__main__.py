"""``python -m course_lib.bench WHAT``: our ``flow`` beside four libraries, ``hypermod`` or ``mind2mind``."""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from course_lib import profiles
from course_lib.bench import hypermod, mind2mind
from course_lib.bench.peers import PEERS
from course_lib.bench.report import as_json, shortfalls, table
from course_lib.bench.rounds import Result, check_memory, measure
from course_lib.bench.worker import Contender
from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.errors import CourseError

__all__ = ["main"]

_BATCHES = {"train": [32, 128, 512], "sample": [1, 64, 512]}
_GOAL = 2.2
_SIZES = {"hypermod": list(hypermod.SHAPES), "mind2mind": mind2mind.SIZES}
_TITLES = {
    "default": "each as a user would run it by default: peers with torch's defaults, ours with the course's settings",
    "same": "our settings given to all: allocator, threads, fused Adam and library for products",
}


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
    parser.add_argument("--tasks", nargs="+", choices=list(_BATCHES), default=list(_BATCHES))
    parser.add_argument("--settings", nargs="+", choices=list(_TITLES), default=list(_TITLES))
    parser.add_argument("--quick", action="store_true", help="4 blocks, 3 rounds: a minute or two, rougher numbers")
    parser.add_argument(
        "--json", type=Path, default=None, help="where to write all numbers (default: runs/bench-WHAT.json)"
    )
    parser.add_argument("--sizes", nargs="+", type=int, help="in pixels, of hypermod and mind2mind; default: all")
    chosen = parser.parse_args(arguments)
    known = _SIZES.get(chosen.what, [])
    if not set(chosen.sizes or known) <= set(known):
        parser.error(f"{chosen.what} has the sizes {', '.join(map(str, known)) or 'none'}")
    chosen.sizes = chosen.sizes or known
    if chosen.quick:
        chosen.blocks, chosen.rounds = min(chosen.blocks, 4), min(chosen.rounds, 3)
    if chosen.clock == "cpu" and chosen.threads != 1:
        raise CourseError("--clock cpu adds up the time of all threads: give --threads 1 with it.")
    return chosen


def contenders(chosen: argparse.Namespace, task: str, setting: str) -> list[tuple[Contender, dict[str, str]]]:
    """All contenders of one table with their environments."""
    course = profiles.process_environment()
    outside = {name: value for name, value in os.environ.items() if name not in course}

    def one(library: str, ours: bool) -> tuple[Contender, dict[str, str]]:
        size = (chosen.dim, chosen.width, chosen.blocks, chosen.threads, chosen.clock)
        return Contender(library, task, ours, *size), {**outside, **course} if ours else outside

    return [one("ours", True), *(one(library, setting == "same") for library in ["plain", *PEERS])]


def main(arguments: list[str] | None = None) -> None:
    """Run, print the tables and write the JSON file."""
    chosen = parse(arguments)
    parts = {"hypermod": hypermod, "mind2mind": mind2mind}
    if chosen.what in parts:
        torch.set_num_threads(chosen.threads)
        clock = time.process_time if chosen.clock == "cpu" else time.perf_counter
        tables: dict[str, Any] = parts[chosen.what].main(chosen.rounds, chosen.sizes, clock)
    else:
        tables = flow_tables(chosen)
    path = chosen.json or Path("runs") / f"bench-{chosen.what}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"arguments": {k: str(v) for k, v in vars(chosen).items()}, "tables": tables}, indent=1))
    print(f"\nAll timings: {path}")


def flow_tables(chosen: argparse.Namespace) -> dict[str, list]:
    """Measures the flow against its peers and prints the tables."""
    with torch.device("meta"):
        flow = ConditionalFlow(FlowConfig(chosen.dim, (chosen.dim,), hidden_dim=chosen.width, blocks=chosen.blocks))
    parameters = sum(parameter.numel() for parameter in flow.parameters())
    print(
        f"{chosen.blocks} blocks, width {chosen.width}, dimension {chosen.dim}: {parameters:,} parameters; "
        f"torch {torch.__version__}, {chosen.threads} threads, {chosen.clock} time, "
        f"load average {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    collected: dict[str, list] = {}
    missed: list[str] = []
    for task in chosen.tasks:
        for setting in chosen.settings:
            group = contenders(chosen, task, setting)
            check_memory(task, parameters, len(group))
            results: list[Result] = measure(group, _BATCHES[task], chosen.rounds)
            print("\n" + table(f"{task}, {_TITLES[setting]}", results, _GOAL), flush=True)
            collected[f"{task}/{setting}"] = as_json(results)
            if setting == "default":
                missed += shortfalls(results, _GOAL)
    if missed:
        missed.append("Below a batch of about 30 the limit is reading the weights from memory, not the products.")
    print("\n" + ("\n".join(["Fell short:", *missed]) if missed else "The goal is reached everywhere."))
    return collected


if __name__ == "__main__":
    try:
        main()
    except CourseError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
