"""Turns a function that inspects an answer into an exercise that never raises."""

import json
import os
import sysconfig
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.checks.result import CheckResult, NotYet

__all__ = ["RECORD_VARIABLE", "Exercise", "exercise"]

RECORD_VARIABLE = "COURSE_CHECKS"
"""Environment variable with the file to which each verdict is appended as a line of JSON; ``course grade`` sets it."""


@dataclass(frozen=True)
class Exercise:
    """An exercise with its check; call it with the learner's answer.

    Attributes:
        name: notebook and function, such as ``nb02.coupling``.
        check: takes the answer (several arguments for an answer of several parts) and returns a result.
        solution: the reference answer; a tuple when ``check`` takes several arguments.
        stub: what stands in the notebook before the learner has done anything.
        wrong: typical wrong answers, two or more.
    """

    name: str
    check: Callable[..., CheckResult]
    solution: Any
    stub: Any
    wrong: tuple[Any, ...]

    def __call__(self, *answer: Any) -> CheckResult:
        """Check an answer, print the one-line verdict, return it; whatever the answer does, nothing is raised."""
        result = self.judge(answer)
        print(result)
        if record := os.environ.get(RECORD_VARIABLE):
            with open(record, "a", encoding="utf-8") as file:
                file.write(json.dumps({"name": self.name, "passed": result.passed, "message": result.message}) + "\n")
        return result

    def judge(self, answer: Any) -> CheckResult:
        """The verdict without printing; a tuple is an answer of several parts."""
        import torch

        parts = answer if isinstance(answer, tuple) else (answer,)
        try:
            # The same inputs each time, and the notebook's own random state is left alone.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return self.check(*parts)
        except NotYet as verdict:
            return verdict.result
        except Exception as error:
            reason = str(error).strip().splitlines() or ["no message"]
            return CheckResult(False, f"your answer raised {type(error).__name__}{_line_of(error)}: {reason[0]}")


def _line_of(error: Exception) -> str:
    """Where in the learner's own cell it happened: the last line that is neither the course's nor a library's."""
    others = (str(Path(__file__).parents[1]), sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"])
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(others)]
    return f" in line {frames[-1].lineno}" if frames else ""


def exercise(*, solution: Any, stub: Any, wrong: tuple[Any, ...]) -> Callable[[Callable[..., CheckResult]], Exercise]:
    """Decorator that makes a check function an exercise.

    Example:
        ::

            @exercise(solution=lambda x: 2 * x, stub=lambda x: x, wrong=(lambda x: x**2, lambda x: -x))
            def double(answer):
                x = torch.randn(5)
                require(torch.allclose(answer(x), 2 * x), "the values are not twice the input", "use 2 * x")
                return passed("every value is doubled")

    Args:
        solution: the reference answer.
        stub: the placeholder from the notebook; it must run and must not pass.
        wrong: two or more typical wrong answers; none may pass.

    Raises:
        ValueError: fewer than two wrong answers.
    """
    if len(wrong) < 2:
        raise ValueError("an exercise needs two typical wrong answers")

    def wrap(check: Callable[..., CheckResult]) -> Exercise:
        return Exercise(f"{check.__module__.rpartition('.')[2]}.{check.__name__}", check, solution, stub, wrong)

    return wrap
