"""Our flow beside other libraries: contenders in processes of their own, timed in turn, and tables of the result."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil
import torch

from course_lib import profiles
from course_lib.bench.peers import PEERS
from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.errors import CourseError

__all__ = ["BATCHES", "SETTINGS", "BenchRun", "Result", "check_memory", "contenders", "flow_tables", "measure"]

BATCHES = {"train": [32, 128, 512], "sample": [1, 64, 512]}
SETTINGS = {
    "default": "each as a user would run it by default: peers with torch's defaults, ours with the course's settings",
    "same": "our settings given to all: allocator, threads, fused Adam and library for products",
}
_GOAL = 2.2
# Per parameter and sample: a product is a multiplication and an addition; backward has two products for one forward.
_FLOPS = {"train": 6, "sample": 2}
# Weights, gradients, two moments and what an unfused Adam makes on its way; a flow, its packed copy, one on the way.
_BYTES_PER_PARAMETER = {"train": 24, "sample": 12}
_BYTES_OF_A_PROCESS = 600 * 2**20


@dataclass(frozen=True)
class BenchRun:
    """Who runs, and how.

    Attributes:
        library: "ours", or a key of ``PEERS``.
        task: "train" (forward, backward, Adam) or "sample" (residual to latent).
        fused: the course's settings inside the process, the fused Adam and the measured choice of the library for
            matrix products, instead of torch's defaults.
        dim, width, blocks: size of the flow; the condition has ``dim`` values too.
        threads: threads of torch.
        clock: "wall", or "cpu" (time of the processor, for one thread on a busy machine).
    """

    library: str
    task: str
    fused: bool
    dim: int
    width: int
    blocks: int
    threads: int
    clock: str

    @property
    def label(self) -> str:
        """Name in tables."""
        return "course_lib" if self.library == "ours" else self.library

    @property
    def config(self) -> FlowConfig:
        """Of the flow."""
        return FlowConfig(self.dim, (self.dim,), hidden_dim=self.width, blocks=self.blocks)

    def to_json(self) -> str:
        """One line for the command line of the process."""
        return json.dumps(asdict(self))


@dataclass
class Result:
    """What one contender measured.

    Attributes:
        contender: who and how.
        parameters: number of parameters.
        error: largest difference of its values from ours.
        gflops: matrix-product rate of the machine, measured in its process.
        seconds: all timings of one step, by batch size.
        beside: those of ours in the same rounds.
    """

    contender: BenchRun
    parameters: int = 0
    error: float = 0.0
    gflops: float = 0.0
    seconds: dict[int, list[float]] = field(default_factory=dict)
    beside: dict[int, list[float]] = field(default_factory=dict)

    def median(self, batch: int) -> float:
        """Median seconds of one step."""
        return statistics.median(self.seconds[batch])

    def ratio(self, batch: int) -> float:
        """To ours, run in turn with this one."""
        return self.median(batch) / statistics.median(self.beside[batch])


def contenders(chosen: argparse.Namespace, task: str, setting: str) -> list[tuple[BenchRun, dict[str, str]]]:
    """All contenders of one table with the environments of their processes; the first is ours."""
    course = profiles.process_environment()
    outside = {name: value for name, value in os.environ.items() if name not in course}

    def one(library: str, ours: bool) -> tuple[BenchRun, dict[str, str]]:
        size = (chosen.dim, chosen.width, chosen.blocks, chosen.threads, chosen.clock)
        return BenchRun(library, task, ours, *size), {**outside, **course} if ours else outside

    return [one("ours", True), *(one(library, setting == "same") for library in PEERS)]


# --- processes ------------------------------------------------------------------------------------------------------


class _Process:
    def __init__(self, contender: BenchRun, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "course_lib.bench.worker", contender.to_json()]
        self.name = contender.label
        self.handle = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, bufsize=1
        )

    def read(self) -> dict:
        """The next answer.

        Raises:
            CourseError: the process reported a problem or died.
        """
        line = self.handle.stdout.readline()
        if not line:
            status = self.handle.wait()
            why = "was killed, most likely for memory: use fewer --blocks" if status == -9 else "ended early, see above"
            raise CourseError(f"The process of {self.name} {why}.")
        answer = json.loads(line)
        if "problem" in answer:
            raise CourseError(answer["problem"])
        return answer

    def ask(self, batch: int) -> float:
        """Seconds of one step at this batch size."""
        with suppress(BrokenPipeError):  # the answer then says what happened
            self.handle.stdin.write(json.dumps({"batch": batch}) + "\n")
        return self.read()["seconds"]


@contextmanager
def _started(contender: BenchRun, environment: dict[str, str]) -> Iterator[tuple[_Process, Result]]:
    """A process that is ready, and an empty result; it ends when the block ends, whatever happens in it."""
    process = _Process(contender, environment)
    try:
        yield process, Result(contender, **process.read())
    finally:
        with suppress(BrokenPipeError):
            process.handle.stdin.close()
        process.handle.stdout.close()
        process.handle.wait()


def measure(
    contenders: list[tuple[BenchRun, dict[str, str]]], batches: list[int], rounds: int, warm_up: int = 2
) -> list[Result]:
    """Timings of every contender in turn with the first, so that whatever else the machine does hits both alike.

    Two processes are alive at a time: all at once would not fit into memory.

    Args:
        contenders: each with the whole environment of its process; the first is ours.
        batches: batch sizes.
        rounds: timed steps for each contender and batch size.
        warm_up: steps before those.

    Returns:
        One result per contender, in order.

    Raises:
        CourseError: a contender cannot be built, does not compute our function, or is killed.
    """
    (ours, environment), *others = contenders
    with _started(ours, environment) as (own, mine):
        results = [mine]
        for other, environment in others:
            with _started(other, environment) as (process, result):
                for batch in batches:
                    timings = [(process.ask(batch), own.ask(batch)) for _ in range(warm_up + rounds)][warm_up:]
                    result.seconds[batch], result.beside[batch] = map(list, zip(*timings, strict=True))
                    mine.seconds.setdefault(batch, []).extend(result.beside[batch])
            results.append(result)
        if not others:
            mine.seconds = {b: [own.ask(b) for _ in range(warm_up + rounds)][warm_up:] for b in batches}
        mine.beside = mine.seconds
        return results


def check_memory(contender: BenchRun, parameters: int) -> None:
    """Refuse what would not fit: two processes with weights, optimiser states and the activations of the largest batch.

    Raises:
        CourseError: they need more than the free memory; it names a number of blocks that fits.
    """
    batch, config = max(BATCHES[contender.task]), contender.config
    # Of each of four networks a block, every hidden layer before and after its activation.
    kept = 8 * contender.blocks * (config.hidden_depth + 1) if contender.task == "train" else 8
    activations = 4 * kept * batch * contender.width
    needed = 2 * (parameters * _BYTES_PER_PARAMETER[contender.task] + activations + _BYTES_OF_A_PROCESS)
    free = psutil.virtual_memory().available
    if needed > free:
        fits = int(contender.blocks * (free - 2 * _BYTES_OF_A_PROCESS) / needed)
        advice = f"use --blocks {fits} or a smaller --width" if fits > 0 else "use a smaller --width"
        raise CourseError(f"Two processes need {needed / 2**30:.0f} GiB and {free / 2**30:.0f} are free: {advice}.")


# --- tables ---------------------------------------------------------------------------------------------------------


def table(title: str, results: list[Result], goal: float) -> str:
    """Milliseconds, ratio to ours and share of the machine's peak, one line per contender.

    Args:
        title: heading.
        results: of one task; the first is ours.
        goal: the ratio to the best peer that is aimed at.

    Returns:
        Text with a last line that says the ratio of the best peer to ours for each batch size.
    """
    batches = list(results[0].seconds)
    peak = max(result.gflops for result in results)
    lines = [title, f"{'':20}" + "".join(f"{f'batch {batch}':>30}" for batch in batches)]
    for result in results:
        cells = []
        for batch in batches:
            seconds = result.median(batch)
            share = _FLOPS[result.contender.task] * batch * result.parameters / (seconds * peak * 1e9)
            cells.append(f"{seconds * 1e3:9.1f} ms {result.ratio(batch):5.2f}x {share:5.0%} peak")
        lines.append(f"{result.contender.label:20}" + "".join(f"{cell:>30}" for cell in cells))
    ratios = (f"{best_ratio(results, batch):.2f}x at {batch}" for batch in batches)
    lines.append(f"best peer / course_lib: {', '.join(ratios)} (goal {goal:.1f}x)")
    return "\n".join(lines)


def best_ratio(results: list[Result], batch: int) -> float:
    """Time of the fastest other library over ours."""
    return min(result.ratio(batch) for result in results[1:])


def shortfalls(results: list[Result], goal: float) -> list[str]:
    """One sentence for each batch size at which the goal is not reached."""
    sentences = []
    ours, peak = results[0], max(result.gflops for result in results)
    for batch in ours.seconds:
        ratio = best_ratio(results, batch)
        if ratio < goal:
            least = _FLOPS[ours.contender.task] * batch * ours.parameters / (peak * 1e9)
            limit = ratio * ours.median(batch) / least
            sentences.append(
                f"{ours.contender.task} at {batch}: {ratio:.2f}x instead of {goal:.1f}x; nothing but the products, at "
                f"the measured peak, would be {limit:.2f}x."
            )
    return sentences


def as_json(results: list[Result]) -> list[dict[str, Any]]:
    """Medians and all timings in plain values."""
    return [
        {
            "library": result.contender.label,
            "task": result.contender.task,
            "fused_adam": result.contender.fused,
            "parameters": result.parameters,
            "difference_from_ours": result.error,
            "gflops": result.gflops,
            "median_seconds": {batch: result.median(batch) for batch in result.seconds},
            "ratio_to_ours": {batch: result.ratio(batch) for batch in result.seconds},
            "seconds": result.seconds,
        }
        for result in results
    ]


def flow_tables(chosen: argparse.Namespace) -> dict[str, list]:
    """Measures the flow against its peers and prints the tables.

    Raises:
        CourseError: not enough memory, known before anything runs, or see :func:`measure`.
    """
    tables = [(task, setting) for task in chosen.tasks for setting in chosen.settings]
    groups = {key: contenders(chosen, *key) for key in tables}
    with torch.device("meta"):
        flow = ConditionalFlow(next(iter(groups.values()))[0][0].config)
    parameters = sum(parameter.numel() for parameter in flow.parameters())
    for group in groups.values():
        check_memory(group[0][0], parameters)
    print(
        f"{chosen.blocks} blocks, width {chosen.width}, dimension {chosen.dim}: {parameters:,} parameters; "
        f"torch {torch.__version__}, {chosen.threads} threads, {chosen.clock} time, "
        f"load average {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    collected: dict[str, list] = {}
    missed: list[str] = []
    for (task, setting), group in groups.items():
        results = measure(group, BATCHES[task], chosen.rounds)
        print("\n" + table(f"{task}, {SETTINGS[setting]}", results, _GOAL), flush=True)
        collected[f"{task}/{setting}"] = as_json(results)
        if setting == "default":
            missed += shortfalls(results, _GOAL)
    if missed:
        missed.append("Below a batch of about 30 the limit is reading the weights from memory, not the products.")
        print("\n" + "\n".join(["Fell short:", *missed]))
    elif "default" in chosen.settings:
        print("\nThe goal is reached everywhere.")
    return collected
