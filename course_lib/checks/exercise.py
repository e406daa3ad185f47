"""Turns a function that inspects an answer into an exercise that never raises, and helps it to arrive at a verdict."""

import json
import os
import sysconfig
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

RECORD_VARIABLE = "COURSE_CHECKS"
"""Environment variable with the file to which each verdict is appended as a line of JSON; ``course grade`` sets it."""


@dataclass(frozen=True)
class CheckResult:
    """Whether an answer is right, what to say, and for a wrong one a hint."""

    passed: bool
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        hint = f" · hint: {self.hint}" if self.hint else ""
        return " ".join(f"{'pass' if self.passed else 'not yet'}: {self.message}{hint}".split())

    def _ipython_display_(self) -> None:
        """Show nothing: the check has printed its line, and a cell that ends in the call would show it twice."""


class _NotYet(Exception):
    """Carries message and hint out of a check."""


def require(condition: object, message: str, hint: str | None = None) -> None:
    """End the check with "not yet" unless a condition holds; say what is wrong, and where to look."""
    if not bool(condition):
        raise _NotYet(message, hint)


def require_shape(found: Any, shape: tuple[int, ...], hint: str | None = None) -> None:
    """As :func:`require`: the answer is a tensor of this shape."""
    require(isinstance(found, Tensor), f"the result should be a tensor, and is a {type(found).__name__}", hint)
    require(found.shape == shape, f"the result has the shape {tuple(found.shape)} and should have {tuple(shape)}", hint)


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> bool:
    """Whether two tensors of any precision agree; an answer may well compute in another one than its check."""
    return torch.allclose(found.double(), wanted.double(), atol=tolerance)


def require_close(found: Any, wanted: Tensor, message: str, hint: str | None = None, tolerance: float = 1e-5) -> None:
    """As :func:`require`: the answer is a tensor with the shape and the values of ``wanted``."""
    require_shape(found, wanted.shape, hint)
    require(close(found, wanted, tolerance), message, hint)


def descend(optimizer: Optimizer, loss_of: Callable[[], Tensor], steps: int, hint: str | None = None) -> None:
    """Takes steps of training; as :func:`require`: the loss has a gradient."""
    for _ in range(steps):
        loss = loss_of()
        require(loss.requires_grad, "the loss has no gradient", hint)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@dataclass(frozen=True)
class Exercise:
    """An exercise, such as ``nb02.coupling``; call it with the learner's answer, which may have several parts."""

    name: str
    check: Callable[..., str]

    def __call__(self, *answer: Any) -> CheckResult:
        """Check an answer, print the one-line verdict, return it; whatever the answer does, nothing is raised."""
        result = self.judge(*answer)
        print(result)
        if record := os.environ.get(RECORD_VARIABLE):
            with open(record, "a", encoding="utf-8") as file:
                file.write(json.dumps({"name": self.name, "passed": result.passed, "message": result.message}) + "\n")
        return result

    def judge(self, *answer: Any) -> CheckResult:
        """The verdict without printing."""
        try:
            # The same inputs each time, and the notebook's own random state is left alone.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return CheckResult(True, self.check(*answer))
        except _NotYet as verdict:
            return CheckResult(False, *verdict.args)
        except Exception as error:
            reason = str(error).strip().splitlines() or ["no message"]
            return CheckResult(False, f"your answer raised {type(error).__name__}{_line_of(error)}: {reason[0]}")


def _line_of(error: Exception) -> str:
    """Where in the learner's own cell it happened: the last line that is neither the course's nor a library's."""
    others = (str(Path(__file__).parents[1]), sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"])
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(others)]
    return f" in line {frames[-1].lineno}" if frames else ""


def exercise(notebook: str) -> Callable[[Callable[..., str]], Exercise]:
    """Decorator that makes a check an exercise of a notebook; it returns which property it has shown. Stub and solution
    stand in the notebook alone, typical wrong answers in ``tests/wrong_answers.py``."""
    return lambda check: Exercise(f"{notebook}.{check.__name__}", check)
