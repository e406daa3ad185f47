"""Our flow beside other libraries: contenders in processes of their own, timed in turn, and tables of the result.

As a script this file is such a process: it builds its flow, then runs one step for each batch size that it is sent.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil
import torch

from benchmarks.peers import PEERS, build_peer, check_same_function
from course_lib import profiles
from course_lib.cinn import ConditionalFlow, FlowConfig, flow_loss
from course_lib.errors import CourseError
from course_lib.profiles import ROOT

__all__ = ["BATCHES", "Contender", "Result", "check_memory", "contenders", "main", "measure"]

DIM, WIDTH = 128, 1024  # of the latent and of the condition; of the hidden layers
BATCHES = {"train": [32, 128, 512], "sample": [1, 64, 512]}
SETTINGS = {
    "default": "each as a user would run it by default: peers with torch's defaults, ours with the course's settings",
    "same": "our settings given to all: allocator, threads, fused Adam and library for products",
}
GOAL = 2.2
WARM_UP = 2
# Per parameter and sample: a product is a multiplication and an addition; backward has two products for one forward.
_FLOPS = {"train": 6, "sample": 2}
# Weights, gradients, two moments and what an unfused Adam makes on its way; a flow, its packed copy, one on the way.
_BYTES_PER_PARAMETER = {"train": 24, "sample": 12}
_BYTES_OF_A_PROCESS = 600 * 2**20


@dataclass(frozen=True)
class Contender:
    """Who runs, and how.

    Attributes:
        library: "course_lib", or a key of ``PEERS``.
        task: "train" (forward, backward, Adam) or "sample" (residual to latent).
        tuned: the course's settings: allocator, fused Adam and the measured choice of the library for products.
        blocks, dim, width: size of the flow; the condition has ``dim`` values too.
        threads: threads of torch.
    """

    library: str
    task: str
    tuned: bool
    blocks: int
    threads: int
    dim: int = DIM
    width: int = WIDTH

    @property
    def config(self) -> FlowConfig:
        """Of the flow."""
        return FlowConfig(self.dim, (self.dim,), hidden_dim=self.width, blocks=self.blocks)

    @property
    def environment(self) -> dict[str, str]:
        """Of its process."""
        course = profiles.process_environment()
        outside = {name: value for name, value in os.environ.items() if name not in course}
        return outside | course if self.tuned else outside


@dataclass
class Result:
    """What one contender measured: all seconds of a step by batch size, and those of ours in the same rounds."""

    contender: Contender
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


def contenders(chosen: argparse.Namespace, task: str, setting: str) -> list[Contender]:
    """All of one table; the first is ours."""
    size = (chosen.blocks, chosen.threads)
    others = [Contender(library, task, setting == "same", *size) for library in PEERS]
    return [Contender("course_lib", task, True, *size), *others]


# --- here: start, ask, compare --------------------------------------------------------------------------------------


class _Process:
    def __init__(self, contender: Contender) -> None:
        command = [sys.executable, "-m", "benchmarks.flow", json.dumps(asdict(contender))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self.name, self.handle = (
            contender.library,
            subprocess.Popen(command, env=contender.environment, cwd=ROOT, **pipes),
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
            self.handle.stdin.write(f"{batch}\n")
        return self.read()["seconds"]


@contextmanager
def started(contender: Contender) -> Iterator[tuple[_Process, Result]]:
    """A process that is ready, and an empty result; it ends when the block ends, whatever happens in it."""
    process = _Process(contender)
    try:
        yield process, Result(contender, **process.read())
    finally:
        with suppress(BrokenPipeError):
            process.handle.stdin.close()
        process.handle.stdout.close()
        process.handle.wait()


def measure(ours: Contender, others: list[Contender], batches: list[int], rounds: int) -> list[Result]:
    """Timings of every contender in turn with ours, so that whatever else the machine does hits both alike.

    Two processes are alive at a time: all at once would not fit into memory.

    Returns:
        One result per contender, ours first.

    Raises:
        CourseError: a contender cannot be built, does not compute our function, or is killed.
    """
    with started(ours) as (own, mine):
        results = [mine]
        for other in others:
            with started(other) as (process, result):
                for batch in batches:
                    timings = [(process.ask(batch), own.ask(batch)) for _ in range(WARM_UP + rounds)][WARM_UP:]
                    result.seconds[batch], result.beside[batch] = map(list, zip(*timings, strict=True))
                    mine.seconds.setdefault(batch, []).extend(result.beside[batch])
            results.append(result)
        mine.beside = mine.seconds
        return results


def check_memory(contender: Contender, parameters: int) -> None:
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
        advice = f"use --blocks {fits}" if fits > 0 else "use a machine with more memory"
        raise CourseError(f"Two processes need {needed / 2**30:.0f} GiB and {free / 2**30:.0f} are free: {advice}.")


# --- tables ---------------------------------------------------------------------------------------------------------


def table(title: str, results: list[Result]) -> str:
    """Milliseconds, ratio to ours and share of the machine's peak, a line a contender; then the best peer over ours."""
    batches = list(results[0].seconds)
    peak = max(result.gflops for result in results)
    lines = [title, f"{'':20}" + "".join(f"{f'batch {batch}':>30}" for batch in batches)]
    for result in results:
        cells = []
        for batch in batches:
            seconds = result.median(batch)
            share = _FLOPS[result.contender.task] * batch * result.parameters / (seconds * peak * 1e9)
            cells.append(f"{seconds * 1e3:9.1f} ms {result.ratio(batch):5.2f}x {share:5.0%} peak")
        lines.append(f"{result.contender.library:20}" + "".join(f"{cell:>30}" for cell in cells))
    ratios = (f"{best_ratio(results, batch):.2f}x at {batch}" for batch in batches)
    return "\n".join([*lines, f"best peer / course_lib: {', '.join(ratios)} (goal {GOAL:.1f}x)"])


def best_ratio(results: list[Result], batch: int) -> float:
    """Time of the fastest other library over ours."""
    return min(result.ratio(batch) for result in results[1:])


def shortfalls(results: list[Result]) -> list[str]:
    """One sentence for each batch size at which the goal is not reached."""
    sentences = []
    ours, peak = results[0], max(result.gflops for result in results)
    for batch in ours.seconds:
        ratio = best_ratio(results, batch)
        least = _FLOPS[ours.contender.task] * batch * ours.parameters / (peak * 1e9)
        if ratio < GOAL:
            sentences.append(
                f"{ours.contender.task} at {batch}: {ratio:.2f}x instead of {GOAL:.1f}x; nothing but the products, at "
                f"the measured peak, would be {ratio * ours.median(batch) / least:.2f}x."
            )
    return sentences


def main(chosen: argparse.Namespace) -> dict[str, list]:
    """Measures the flow against its peers, prints the tables and returns all numbers.

    Raises:
        CourseError: not enough memory, known before anything runs, or see :func:`measure`.
    """
    groups = {(task, setting): contenders(chosen, task, setting) for task in chosen.tasks for setting in SETTINGS}
    with torch.device("meta"):
        flow = ConditionalFlow(next(iter(groups.values()))[0].config)
    parameters = sum(parameter.numel() for parameter in flow.parameters())
    for ours, *_ in groups.values():
        check_memory(ours, parameters)
    print(
        f"{chosen.blocks} blocks, width {WIDTH}, dimension {DIM}: {parameters:,} parameters; "
        f"torch {torch.__version__}, {chosen.threads} threads, load average {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    collected: dict[str, list] = {}
    missed: list[str] = []
    for (task, setting), (ours, *others) in groups.items():
        results = measure(ours, others, BATCHES[task], chosen.rounds)
        print("\n" + table(f"{task}, {SETTINGS[setting]}", results), flush=True)
        collected[f"{task}/{setting}"] = [asdict(result) for result in results]
        missed += shortfalls(results) if setting == "default" else []
    if missed:
        missed.append("Below a batch of about 30 the limit is reading the weights from memory, not the products.")
    print("\n" + "\n".join(["Fell short:", *missed] if missed else ["The goal is reached everywhere."]))
    return collected


# --- there: one contender -------------------------------------------------------------------------------------------


def serve(contender: Contender) -> None:
    """Answers each batch size on standard input with ``{"seconds": t}`` until it closes."""
    torch.set_num_threads(contender.threads)
    if contender.tuned:
        torch.set_float32_matmul_precision(profiles.matmul_precision())
    generator = torch.Generator().manual_seed(0)
    flow = ConditionalFlow(contender.config, generator)
    flow(torch.randn(64, contender.dim, generator=generator), torch.randn(64, contender.dim, generator=generator))
    module, error = flow, 0.0
    if contender.library != "course_lib":
        module = build_peer(contender.library, flow).eval()
        error = check_same_function(module, flow.eval())
    step = _training(contender, module) if contender.task == "train" else _sampling(module)
    _say({"parameters": sum(p.numel() for p in flow.parameters()), "error": error, "gflops": _peak()})
    inputs: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for line in sys.stdin:
        batch = int(line)
        if batch not in inputs:
            inputs[batch] = torch.randn(batch, contender.dim), torch.randn(batch, contender.dim)
        started_at = time.perf_counter()
        step(*inputs[batch])
        _say({"seconds": time.perf_counter() - started_at})


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def _training(contender: Contender, module: Any) -> Callable[..., None]:
    options = {"fused": True} if contender.tuned else {}
    optimizer = torch.optim.Adam(module.train().parameters(), lr=1e-5, betas=(0.5, 0.9), **options)

    def step(latent: torch.Tensor, condition: torch.Tensor) -> None:
        optimizer.zero_grad()
        flow_loss(*module(latent, condition)).backward()
        optimizer.step()

    return step


def _sampling(module: Any) -> Callable[..., None]:
    sampler = module.eval().packed() if isinstance(module, ConditionalFlow) else module.eval()

    def step(latent: torch.Tensor, condition: torch.Tensor) -> None:
        with torch.no_grad():
            sampler.inverse(torch.randn_like(latent), condition)

    return step


def _peak(size: int = 1536, repeats: int = 9) -> float:
    """The machine's matrix-product rate in float32, GFLOP/s: the best of a few large products."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2e-9 * size**3 / best


if __name__ == "__main__":
    try:
        serve(Contender(**json.loads(sys.argv[1])))
    except CourseError as problem:
        _say({"problem": str(problem)})
        sys.exit(2)
