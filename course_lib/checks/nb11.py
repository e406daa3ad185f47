"""Checks of notebook 11, "Which method when": time to a level, the smallest adapter, methods that nothing beats."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from course_lib.checks.exercise import CheckResult, exercise, passed, require

__all__ = ["adapter", "front", "time_to"]


@exercise
def time_to(answer: Callable[[float, list[float], list[float], float], float]) -> CheckResult:
    """Exercise 1: seconds until a level is reached, ``(preparation, seconds, distances, level) -> float``."""
    seconds, distances = [4.0, 10.0, 25.0, 60.0], [2.0, 0.9, 0.5, 0.7]
    for preparation in (0.0, 3.5):
        for level, after in ((2.5, 4.0), (0.9, 10.0), (0.6, 25.0)):
            found = float(answer(preparation, seconds, distances, level))
            require(
                abs(found - preparation - after) < 1e-9,
                f"with {preparation} s of preparation the level {level} is reached after {preparation + after} s, "
                f"not {found}",
                "take the first stop whose distance is at most the level, and add what was computed before",
            )
        require(
            answer(preparation, seconds, distances, 0.1) == float("inf"),
            "a level that is never reached must take infinitely long",
            'return float("inf") when no stop is good enough',
        )
    return passed("the preparation counts, and what is never reached takes for ever")


@exercise
def adapter(answer: type[nn.Module]) -> CheckResult:
    """Exercise 2: the smallest adapter, a module with ``add() -> kind`` and ``forward(z, kind=None)``."""
    mapping, synthesis = nn.Sequential(nn.Linear(4, 6), nn.Tanh()), nn.Sequential(nn.Linear(6, 8), nn.Tanh())
    source = [*mapping.parameters(), *synthesis.parameters()]
    z, before = torch.randn(5, 4), [p.detach().clone() for p in source]
    wanted = synthesis(mapping(z)).detach()
    network = answer(mapping, synthesis, 6)
    first = network.add()
    require(
        torch.equal(network(z, first), wanted), "a new kind does not begin as the source", "its offset begins at zero"
    )
    _train(network, z, first)
    require(
        all(torch.equal(a, p) for a, p in zip(before, source, strict=True)),
        "the source moved",
        "requires_grad_(False) on mapping and synthesis",
    )
    require(torch.equal(network(z), wanted), "without a kind it is not the source to the bit", "add no offset there")
    require(not torch.equal(network(z, first), wanted), "the new kind does not learn", "one nn.Parameter a kind")
    numbers = sum(p.numel() for p in network.parameters() if p.requires_grad)
    require(numbers == 6, f"{numbers} numbers train, not the 6 of one offset", "an offset of length width")
    kept, second = deepcopy(network), network.add()
    require(first != second, "add() gives two kinds the same number", "count the kinds")
    require(torch.equal(network(z, second), wanted), "the second kind does not begin as the source", "zero again")
    _train(network, z, second)
    require(
        torch.equal(network(z, first), kept(z, first)),
        "the first kind moved while the second was trained",
        "an offset of its own for each kind, which the others do not use",
    )
    return passed("source and earlier kinds stay to the bit, and one more kind costs one vector")


def _train(network: nn.Module, z: Tensor, kind: int) -> None:
    moving = [p for p in network.parameters() if p.requires_grad]
    require(bool(moving), "nothing trains", "an offset is an nn.Parameter")
    optimizer = torch.optim.SGD(moving, 0.5)
    for _ in range(3):
        loss = (network(z, kind) - 0.3 * (kind + 1)).square().mean()
        require(loss.requires_grad, "the new kind has no gradient", "add its offset to w in forward")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@exercise
def front(answer: Callable[[Tensor], Tensor]) -> CheckResult:
    """Exercise 3: the methods that no other beats, ``costs (N, K) -> bool (N,)``."""
    table = torch.tensor([[1.0, 9.0], [2.0, 5.0], [3.0, 6.0], [4.0, 1.0], [4.0, 2.0], [2.0, 5.0]])
    for costs in (table, torch.rand(12, 3), torch.rand(20, 2).mul(4).round()):
        found, wanted = answer(costs), []
        for own in costs:
            no_worse, better = (costs <= own).all(1), (costs < own).any(1)
            wanted.append(not bool((no_worse & better).any()))
        require(found.shape == (len(costs),), f"the answer has the shape {tuple(found.shape)}", "one bool a method")
        wrong = [k for k, right in enumerate(wanted) if bool(found[k]) != right]
        require(
            not wrong,
            f"the method with the costs {costs[wrong[0]].tolist() if wrong else []} is judged wrongly",
            "it is beaten when another one is nowhere worse and somewhere better; equal ones do not beat each other",
        )
    return passed("what is left is a matter of what you can spend")
