"""Start the contenders and let them run in turn, so that whatever else the machine does hits all of them alike."""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from course_lib.bench.worker import Contender
from course_lib.errors import CourseError

__all__ = ["Result", "check_memory", "measure"]

_BYTES_PER_PARAMETER = {"train": 16, "sample": 8}


@dataclass
class Result:
    """What one contender measured.

    Attributes:
        contender: who and how.
        parameters: number of parameters.
        error: largest difference of its values from ours.
        gflops: matrix-product rate of the machine, measured in its process.
        seconds: all timings of one step, by batch size.
    """

    contender: Contender
    parameters: int = 0
    error: float = 0.0
    gflops: float = 0.0
    seconds: dict[int, list[float]] = field(default_factory=dict)

    def median(self, batch: int) -> float:
        """Median seconds of one step."""
        return statistics.median(self.seconds[batch])


class _Process:
    def __init__(self, contender: Contender, environment: dict[str, str]) -> None:
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
            raise CourseError(f"The process of {self.name} ended early; its error is above.")
        answer = json.loads(line)
        if "problem" in answer:
            raise CourseError(answer["problem"])
        return answer

    def ask(self, batch: int) -> float:
        """Seconds of one step at this batch size."""
        self.handle.stdin.write(json.dumps({"batch": batch}) + "\n")
        return self.read()["seconds"]


def measure(
    contenders: list[tuple[Contender, dict[str, str]]], batches: list[int], rounds: int, warm_up: int = 2
) -> list[Result]:
    """Round-robin timings.

    Args:
        contenders: each with the whole environment of its process.
        batches: batch sizes.
        rounds: timed steps for each contender and batch size.
        warm_up: steps before those.

    Returns:
        One result per contender, in order.

    Raises:
        CourseError: a contender cannot be built or does not compute our function.
    """
    with _started(contenders) as processes:
        results = []
        for (contender, _), process in zip(contenders, processes, strict=True):
            results.append(Result(contender, **process.read()))
        for batch in batches:
            for turn in range(warm_up + rounds):
                for process, result in zip(processes, results, strict=True):
                    seconds = process.ask(batch)
                    if turn >= warm_up:
                        result.seconds.setdefault(batch, []).append(seconds)
        return results


@contextmanager
def _started(contenders: list[tuple[Contender, dict[str, str]]]) -> Iterator[list[_Process]]:
    """One process each; all end when the block ends, whatever happens in it."""
    processes: list[_Process] = []
    try:
        for contender, environment in contenders:
            processes.append(_Process(contender, environment))
        yield processes
    finally:
        for process in processes:
            process.handle.stdin.close()
            process.handle.stdout.close()
            process.handle.wait()


def check_memory(task: str, parameters: int, contenders: int) -> None:
    """Refuse what would not fit.

    Raises:
        CourseError: weights, gradients and optimiser states of all contenders exceed the free memory.
    """
    needed = contenders * (parameters * _BYTES_PER_PARAMETER[task] + 300 * 2**20)
    free = psutil.virtual_memory().available
    if needed > free:
        raise CourseError(
            f"The {contenders} contenders need {needed / 2**30:.0f} GiB and {free / 2**30:.0f} are free: "
            "use fewer --blocks or a smaller --width."
        )
