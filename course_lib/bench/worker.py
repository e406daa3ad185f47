"""One contender in a process of its own: it builds its flow, then runs one step for each line it is sent."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from course_lib import profiles
from course_lib.bench.flow import BenchRun
from course_lib.bench.peers import build_peer, check_same_function
from course_lib.cinn import ConditionalFlow, flow_loss
from course_lib.errors import CourseError

__all__ = ["main"]

_LEARNING_RATE = 1e-5


def main(line: str) -> None:
    """Serve requests ``{"batch": B}`` from standard input with ``{"seconds": t}`` until it closes."""
    contender = BenchRun(**json.loads(line))
    torch.set_num_threads(contender.threads)
    if contender.fused:
        torch.set_float32_matmul_precision(profiles.matmul_precision())
    flow, error = _flow(contender), 0.0
    module: Any = flow
    if contender.library != "ours":
        module = build_peer(contender.library, flow).eval()
        error = check_same_function(module, flow.eval())
    steps: dict[int, Callable[[], Any]] = {}
    run = (_training if contender.task == "train" else _sampling)(contender, module)
    clock = time.perf_counter if contender.clock == "wall" else time.process_time
    _say({"parameters": sum(p.numel() for p in flow.parameters()), "error": error, "gflops": _peak(clock)})
    for request in sys.stdin:
        batch = json.loads(request)["batch"]
        if batch not in steps:
            steps[batch] = run(batch)
        start = clock()
        steps[batch]()
        _say({"seconds": clock() - start})


def _say(answer: dict[str, float]) -> None:
    print(json.dumps(answer), flush=True)


def _flow(contender: BenchRun) -> ConditionalFlow:
    generator = torch.Generator().manual_seed(0)
    flow = ConditionalFlow(contender.config, generator)
    flow(torch.randn(64, contender.dim, generator=generator), torch.randn(64, contender.dim, generator=generator))
    return flow


def _training(contender: BenchRun, module: Any) -> Callable[[int], Callable[[], Any]]:
    options = {"fused": True} if contender.fused else {}
    optimizer = torch.optim.Adam(module.train().parameters(), lr=_LEARNING_RATE, betas=(0.5, 0.9), **options)

    def prepare(batch: int) -> Callable[[], Any]:
        latent, condition = torch.randn(batch, contender.dim), torch.randn(batch, contender.dim)

        def step() -> None:
            optimizer.zero_grad()
            flow_loss(*module(latent, condition)).backward()
            optimizer.step()

        return step

    return prepare


def _sampling(contender: BenchRun, module: Any) -> Callable[[int], Callable[[], Any]]:
    sampler = module.eval().packed() if contender.library == "ours" else module.eval()

    def prepare(batch: int) -> Callable[[], Any]:
        condition = torch.randn(batch, contender.dim)

        def step() -> None:
            with torch.no_grad():
                sampler.inverse(torch.randn(batch, contender.dim), condition)

        return step

    return prepare


def _peak(clock: Callable[[], float], size: int = 1536, repeats: int = 9) -> float:
    """The machine's matrix-product rate in float32, GFLOP/s: the best of a few large products."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(repeats):
        start = clock()
        torch.mm(a, b)
        best = min(best, clock() - start)
    return 2e-9 * size**3 / best


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except CourseError as problem:
        print(json.dumps({"problem": str(problem)}), flush=True)
        sys.exit(2)
