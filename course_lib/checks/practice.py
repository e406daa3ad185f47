"""Checks of notebooks 11 and 12, choosing a method and one's own data: costs, adapters, slices, resuming, loading."""

import os
import tempfile
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.checks.exercise import exercise, require, require_close

# --- 11: which method when --------------------------------------------------------------------------------------------


@exercise("nb11")
def time_to(answer: Callable[[float, list[float], list[float], float], float]) -> str:
    """Exercise 1: seconds until a level is reached, ``(preparation, seconds, distances, level) -> float``."""
    seconds, distances = [4.0, 10.0, 25.0, 60.0], [2.0, 0.9, 0.5, 0.7]
    hint = "take the first stop whose distance is at most the level, add the preparation; float('inf') if there is none"
    for preparation in (0.0, 3.5):
        for level, after in ((2.5, 4.0), (0.9, 10.0), (0.6, 25.0), (0.1, float("inf"))):
            found, wanted = float(answer(preparation, seconds, distances, level)), preparation + after
            message = f"with {preparation} s of preparation the level {level} is reached after {wanted} s, not {found}"
            require(found == wanted or abs(found - wanted) < 1e-9, message, hint)
    return "the preparation counts, and what is never reached takes for ever"


@exercise("nb11")
def adapter(answer: type[nn.Module]) -> str:
    """Exercise 2: the smallest adapter, a module with ``add() -> kind`` and ``forward(z, kind=None)``."""
    mapping, synthesis = nn.Sequential(nn.Linear(4, 6), nn.Tanh()), nn.Sequential(nn.Linear(6, 8), nn.Tanh())
    source = [*mapping.parameters(), *synthesis.parameters()]
    z, before = torch.randn(5, 4), nn.utils.parameters_to_vector(source).detach()
    wanted, network = synthesis(mapping(z)).detach(), answer(mapping, synthesis, 6)
    first = network.add()
    require(torch.equal(network(z, first), wanted), "a new kind does not begin as the source", "its offset is 0 then")
    _train(network, z, first)
    same = torch.equal(before, nn.utils.parameters_to_vector(source))
    require(same, "the source moved", "requires_grad_(False) on mapping and synthesis")
    require(torch.equal(network(z), wanted), "without a kind it is not the source to the bit", "add no offset there")
    numbers = sum(p.numel() for p in network.parameters() if p.requires_grad)
    require(numbers == 6, f"{numbers} numbers train, not the 6 of one offset", "an offset of length width")
    kept, second = deepcopy(network), network.add()
    require(torch.equal(network(z, second), wanted), "the second kind does not begin as the source", "zero again")
    _train(network, z, second)
    hint = "an offset of its own for each kind, which the others do not use; count the kinds"
    require(torch.equal(network(z, first), kept(z, first)), "the first kind moved while the second was trained", hint)
    return "source and earlier kinds stay to the bit, and one more kind costs one vector"


def _train(network: nn.Module, z: Tensor, kind: int) -> None:
    moving = [p for p in network.parameters() if p.requires_grad]
    require(moving, "nothing trains", "an offset is an nn.Parameter")
    optimizer = torch.optim.SGD(moving, 0.5)
    for _ in range(3):
        loss = (network(z, kind) - 0.3 * (kind + 1)).square().mean()
        require(loss.requires_grad, "the new kind has no gradient", "add its offset to w in forward")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@exercise("nb11")
def front(answer: Callable[[Tensor], Tensor]) -> str:
    """Exercise 3: the methods that no other beats, ``costs (N, K) -> bool (N,)``."""
    table = torch.tensor([[1.0, 9.0], [2.0, 5.0], [3.0, 6.0], [4.0, 1.0], [4.0, 2.0], [2.0, 5.0]])
    hint = "it is beaten when another one is nowhere worse and somewhere better; equal ones do not beat each other"
    for costs in (table, torch.rand(12, 3), torch.rand(20, 2).mul(4).round()):
        others, own = costs[None], costs[:, None]
        beaten = ((others <= own).all(2) & (others < own).any(2)).any(1)
        require_close(answer(costs), ~beaten, "a method is judged wrongly", hint)
    return "what is left is a matter of what you can spend"


# --- 12: your own data ------------------------------------------------------------------------------------------------


@exercise("nb12")
def positions(answer: Callable[[int, int, int, int, int, int], list[int]]) -> str:
    """Exercise 1: positions of one micro-batch, ``(step, micro, rank, batch_size, processes, accumulate) -> list``."""
    hint = "the slices of a step lie side by side: the next rank begins where the one before ends"
    for batch_size, processes, accumulate in ((4, 1, 1), (4, 2, 1), (3, 1, 2), (2, 3, 2)):
        effective = batch_size * processes * accumulate
        for step in (0, 1, 5):
            places = [(micro, rank) for micro in range(accumulate) for rank in range(processes)]
            parts = [list(answer(step, *place, batch_size, processes, accumulate)) for place in places]
            right = {len(part) for part in parts} == {batch_size}
            require(right, "a micro-batch does not have batch_size positions", "give a list of whole numbers")
            message = f"step {step} does not take each position that one process with a batch of {effective} takes"
            taken = sorted(position for part in parts for position in part)
            require(taken == list(range(step * effective, (step + 1) * effective)), message, hint)
    return "every step takes the same positions, however they are shared out"


Training = Callable[[nn.Module, Callable[[nn.Module, torch.Generator], Tensor], int, int, Path], Any]


class _Killed(Exception):
    """Stands for signal 9."""


class _Job:
    """Nine steps of a small regression whose loss draws noise, counts its calls and can be killed at one of them."""

    def __init__(self, answer: Training):
        draws = torch.Generator().manual_seed(3)
        self.answer, self.x, self.first = answer, torch.randn(16, 3, generator=draws), nn.Linear(3, 1)
        self.calls, self.kill_at, self.seen = 0, -1, []

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        if self.calls == self.kill_at:
            raise _Killed
        self.calls += 1
        noise = torch.randn(16, 1, generator=generator)
        self.seen.append(noise[0].item())
        return F.mse_loss(network(self.x), self.x.sum(1, keepdim=True) + noise)

    def run(self, path: Path, kill_at: int = -1) -> Tensor | None:
        """The weights, or None where it was killed."""
        self.calls, self.kill_at, network = 0, kill_at, deepcopy(self.first)
        try:
            self.answer(network, self.loss, 9, 7, path)
        except _Killed:
            return None
        return nn.utils.parameters_to_vector(network.parameters()).detach()


@exercise("nb12")
def resume(answer: Training) -> str:
    """Exercise 2: a training that can be killed, ``(network, loss_of, steps, seed, path)``, in place."""
    with tempfile.TemporaryDirectory() as scratch:
        home, job = Path(scratch), _Job(answer)
        whole = job.run(home / "whole.pt")
        require(job.calls == 9, f"9 steps asked the loss {job.calls} times", "one loss a step")
        require(len(set(job.seen)) == 9, "two steps draw the same noise", "make the generator's seed of seed and step")
        require((home / "whole.pt").exists(), "nothing was written to path", "torch.save a dictionary after every step")
        for kill_at in (1, 4):
            path = home / f"killed-{kill_at}.pt"
            job.run(path, kill_at)
            again = job.run(path)
            message = f"called again after {kill_at} steps, it takes {job.calls} instead of {9 - kill_at}"
            require(job.calls == 9 - kill_at, message, "store how many steps are done, and begin the loop there")
            hint = "store the state of the optimiser as well, and draw the noise of step s from (seed, s) alone"
            same = again is not None and torch.equal(again, whole)
            require(same, "the weights of the resumed run have other bits", hint)
        message = "a crash while the file was written leaves a file that cannot be read"
        hint = "write under another name, then os.replace: it takes the old file's place in one step"
        require(_survives_half_a_file(job, home / "written.pt", whole), message, hint)
    return "killed at two places and once while it wrote, it ends in the same bits"


def _survives_half_a_file(job: _Job, path: Path, whole: Tensor) -> bool:
    """Whether it ends in the same bits when the fourth call of ``torch.save`` writes half a file and then dies."""
    save, calls = torch.save, []

    def half(state: Any, file: Any, *arguments: Any, **options: Any) -> None:
        save(state, file, *arguments, **options)
        calls.append(file)
        if len(calls) == 4:
            os.truncate(file, Path(file).stat().st_size // 2)
            raise _Killed

    with patch("torch.save", half):
        job.run(path)
    try:
        again = job.run(path)
    except Exception:
        return False
    return again is not None and torch.equal(again, whole)


@exercise("nb12")
def strict(answer: Callable[[nn.Module, Mapping[str, Tensor], Mapping[str, str]], Any]) -> str:
    """Exercise 3: the authors' tensors into one's own network, ``(network, tensors, rules)``, or a ``ValueError``."""
    rules = {"sub_layers.0.": "first.", "sub_layers.1.": "second."}

    def network() -> nn.Module:
        return nn.ModuleDict({"first": nn.Linear(3, 4), "second": nn.Linear(4, 2)})

    wanted, mine = network().state_dict(), network()
    right = {old + kind: wanted[new + kind] for old, new in rules.items() for kind in ("weight", "bias")}
    answer(mine, dict(right), rules)
    message = "a file that fits is not loaded"
    hint = "replace the beginning of each name as rules says, then load_state_dict"
    require(all(torch.equal(mine.state_dict()[name], tensor) for name, tensor in wanted.items()), message, hint)
    bias = "sub_layers.1.bias"
    for what, tensors, name in (
        ("a missing tensor", {name: tensor for name, tensor in right.items() if name != bias}, "bias"),
        ("a tensor that is left over", right | {"loss.weight": torch.zeros(2)}, "loss.weight"),
        ("a tensor of another shape", right | {bias: torch.zeros(5)}, "bias"),
    ):
        mine, message = network(), ""
        before = deepcopy(mine.state_dict())
        try:
            answer(mine, tensors, rules)
        except (ValueError, RuntimeError) as error:
            message = str(error)
        require(message, f"{what} is not noticed", "compare the names and shapes with those of network.state_dict()")
        require(name in message, f"the message on {what} does not name it", "put the tensor's name into the message")
        same = all(torch.equal(before[key], tensor) for key, tensor in mine.state_dict().items())
        require(same, f"after {what} the network has changed", "check everything first, load at the end")
    return "what fits is loaded; what is missing, left over or of another shape is named, and nothing changes"
