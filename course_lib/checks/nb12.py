"""Checks of notebook 12, "Your own data": slices of a batch, resuming in the same bits, strict loading."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.checks.exercise import CheckResult, exercise, passed, require

__all__ = ["positions", "resume", "strict"]

Positions = Callable[[int, int, int, int, int, int], list[int]]


@exercise
def positions(answer: Positions) -> CheckResult:
    """Exercise 1: positions of one micro-batch, ``(step, micro, rank, batch_size, processes, accumulate) -> list``."""
    for batch_size, processes, accumulate in ((4, 1, 1), (4, 2, 1), (3, 1, 2), (2, 3, 2)):
        effective = batch_size * processes * accumulate
        for step in (0, 1, 5):
            parts = [
                list(answer(step, micro, rank, batch_size, processes, accumulate))
                for micro in range(accumulate)
                for rank in range(processes)
            ]
            require(
                all(len(part) == batch_size for part in parts),
                "a micro-batch does not have batch_size positions",
                "the result is a list of batch_size whole numbers",
            )
            taken = sorted(position for part in parts for position in part)
            require(
                len(set(taken)) == effective,
                f"with {processes} processes and accumulation {accumulate} a position of step {step} is taken twice",
                "count the batches of all processes that lie before this one",
            )
            require(
                taken == list(range(step * effective, (step + 1) * effective)),
                f"step {step} does not take the positions that one process with a batch of {effective} takes",
                "the slices of a step lie side by side: the next rank begins where the one before ends",
            )
    return passed("every step takes the same positions, however they are shared out")


Training = Callable[[nn.Module, Callable[[nn.Module, torch.Generator], Tensor], int, int, Path], Any]


class _Killed(Exception):
    """Stands for signal 9."""


class _Job:
    """A small regression whose loss draws noise, counts its calls and can be killed at one of them."""

    def __init__(self) -> None:
        draws = torch.Generator().manual_seed(3)
        self.x, self.first = torch.randn(16, 3, generator=draws), 0.3 * torch.randn(1, 3, generator=draws)
        self.calls, self.kill_at, self.seen = 0, -1, []

    def network(self) -> nn.Module:
        network = nn.Linear(3, 1)
        with torch.no_grad():
            network.weight.copy_(self.first), network.bias.zero_()
        return network

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        if self.calls == self.kill_at:
            raise _Killed
        self.calls += 1
        noise = torch.randn(16, 1, generator=generator)
        self.seen.append(noise[0].item())
        return F.mse_loss(network(self.x), self.x.sum(1, keepdim=True) + noise)

    def run(self, answer: Training, steps: int, path: Path, kill_at: int = -1) -> Tensor | None:
        """The weights, or None where it was killed."""
        self.calls, self.kill_at, network = 0, kill_at, self.network()
        try:
            answer(network, self.loss, steps, 7, path)
        except _Killed:
            return None
        return torch.cat([one.detach().flatten() for one in network.parameters()])


@exercise
def resume(answer: Training) -> CheckResult:
    """Exercise 2: a training that can be killed, ``(network, loss_of, steps, seed, path)``, in place."""
    with tempfile.TemporaryDirectory() as scratch:
        home, job = Path(scratch), _Job()
        whole = job.run(answer, 9, home / "whole.pt")
        require(job.calls == 9, f"9 steps asked the loss {job.calls} times", "one loss a step")
        require(len(set(job.seen)) == 9, "two steps draw the same noise", "make the generator's seed of seed and step")
        require((home / "whole.pt").exists(), "nothing was written to path", "torch.save a dictionary after every step")
        for kill_at in (1, 4):
            path = home / f"killed-{kill_at}.pt"
            job.run(answer, 9, path, kill_at)
            again = job.run(answer, 9, path)
            require(
                job.calls == 9 - kill_at,
                f"killed after {kill_at} steps and called again, it takes {job.calls} steps instead of {9 - kill_at}",
                "store how many steps are done, and begin the loop there",
            )
            require(
                again is not None and torch.equal(again, whole),
                "the weights of the resumed run have other bits",
                "store the state of the optimiser as well, and draw the noise of step s from (seed, s) alone",
            )
        _check_crash_while_writing(answer, job, home / "written.pt", whole)
    return passed("killed at two places and once while it wrote, it ends in the same bits")


def _check_crash_while_writing(answer: Training, job: _Job, path: Path, whole: Tensor) -> None:
    """The fourth call of ``torch.save`` writes half a file and then dies."""
    save, calls = torch.save, []

    def half(state: Any, file: Any, *arguments: Any, **options: Any) -> None:
        save(state, file, *arguments, **options)
        calls.append(file)
        if len(calls) == 4:
            os.truncate(file, Path(file).stat().st_size // 2)
            raise _Killed

    torch.save = half
    try:
        job.run(answer, 9, path)
    finally:
        torch.save = save
    try:
        again = job.run(answer, 9, path)
    except Exception:
        again = None
    require(
        again is not None and torch.equal(again, whole),
        "a crash while the file was written leaves a file that cannot be read",
        "write under another name, then os.replace: it takes the old file's place in one step",
    )


Loading = Callable[[nn.Module, Mapping[str, Tensor], Mapping[str, str]], Any]


def _renamed(tensors: Mapping[str, Tensor], rules: Mapping[str, str]) -> dict[str, Tensor]:
    return {
        next((new + name.removeprefix(old) for old, new in rules.items() if name.startswith(old)), name): tensor
        for name, tensor in tensors.items()
    }


@exercise
def strict(answer: Loading) -> CheckResult:
    """Exercise 3: the authors' tensors into one's own network, ``(network, tensors, rules)``, or a ``ValueError``."""
    rules = {"sub_layers.0.": "first.", "sub_layers.1.": "second."}
    back = {new: old for old, new in rules.items()}

    def network() -> nn.Module:
        return nn.ModuleDict({"first": nn.Linear(3, 4), "second": nn.Linear(4, 2)})

    right = _renamed(network().state_dict(), back)
    mine = network()
    answer(mine, dict(right), rules)
    loaded = mine.state_dict()
    require(
        all(torch.equal(loaded[name], tensor) for name, tensor in _renamed(right, rules).items()),
        "a file that fits is not loaded",
        "replace the beginning of each name as rules says, then load_state_dict",
    )
    bias = "sub_layers.1.bias"
    mistakes = {
        "a missing tensor": {name: tensor for name, tensor in right.items() if name != bias},
        "a tensor that is left over": right | {"loss.weight": torch.zeros(2)},
        "a tensor of another shape": right | {bias: torch.zeros(5)},
    }
    for what, tensors in mistakes.items():
        mine = network()
        before = {name: tensor.clone() for name, tensor in mine.state_dict().items()}
        name = "loss.weight" if "left over" in what else "bias"
        try:
            answer(mine, tensors, rules)
        except (ValueError, RuntimeError) as error:
            message = str(error)
        else:
            message = ""
        require(message, f"{what} is not noticed", "compare the names and shapes with those of network.state_dict()")
        require(name in message, f"the message on {what} does not name it", "put the tensor's name into the message")
        require(
            all(torch.equal(before[key], tensor) for key, tensor in mine.state_dict().items()),
            f"after {what} the network has changed",
            "check everything first, load at the end",
        )
    return passed("what fits is loaded; what is missing, left over or of another shape is named, and nothing changes")
