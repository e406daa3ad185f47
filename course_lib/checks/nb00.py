"""Checks of notebook 00: the range of pictures, what the low-resolution expert sees, whether an expert was moved."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_lib.checks.registry import exercise
from course_lib.checks.result import CheckResult, passed, require
from course_lib.data import resize
from course_lib.experts import fingerprint

__all__ = ["is_frozen", "see", "to_unit"]


@exercise(
    solution=lambda x: (x + 1) / 2,
    stub=lambda x: x,
    wrong=(lambda x: x / 2, lambda x: x + 1, lambda x: x.clamp(0, 1)),
)
def to_unit(answer: Callable[[Tensor], Tensor]) -> CheckResult:
    """Exercise 1: pictures in [−1, 1] as pictures in [0, 1]."""
    ends = answer(torch.tensor([-1.0, 1.0]))
    require(isinstance(ends, Tensor), "the answer returns no tensor", "end the function with `return`")
    require(ends[0] == 0, f"black (−1) becomes {ends[0]:.3g} and should become 0", "move the range up first")
    require(ends[1] == 1, f"white (1) becomes {ends[1]:.3g} and should become 1", "the range is two units long")
    x = torch.rand(2, 3, 4, 4) * 2 - 1
    kept = torch.allclose(answer(x) * 2 - 1, x, atol=1e-6)
    require(kept, "the ends are right, but values between them are lost", "one addition and one division do it")
    return passed("black is 0, white is 1, and nothing between them is lost")


def _average(pictures: Tensor, size: int) -> Tensor:
    """The reference answer: ``(B, 3, S, S)`` in blocks of ``S / size`` pixels, each replaced by its mean."""
    k = pictures.shape[-1] // size
    return pictures.unflatten(3, (size, k)).unflatten(2, (size, k)).mean((3, 5))


def _pick(pictures: Tensor, size: int) -> Tensor:
    k = pictures.shape[-1] // size
    return pictures[:, :, ::k, ::k]


@exercise(
    solution=_average,
    stub=lambda pictures, size: pictures,
    wrong=(
        _pick,
        lambda pictures, size: nn.functional.interpolate(pictures, (size, size), mode="bilinear"),
        lambda pictures, size: nn.functional.max_pool2d(pictures, pictures.shape[-1] // size),
    ),
)
def see(answer: Callable[[Tensor, int], Tensor]) -> CheckResult:
    """Exercise 2: area averaging, which keeps the mean of the picture and uses every pixel."""
    for large, small in ((64, 16), (32, 16), (24, 8)):
        x = torch.rand(2, 3, large, large) * 2 - 1
        found = answer(x, small)
        wanted = (2, 3, small, small)
        shape = tuple(found.shape)
        require(
            shape == wanted, f"{large} → {small} pixels gives {shape}, wanted is {wanted}", "cut into square blocks"
        )
        spike = torch.full((1, 3, large, large), -1.0)
        spike[..., 1, 1] = 1.0
        require(answer(spike, small)[0, 0, 0, 0] > -1, "some pixels are never looked at", "average, do not pick")
        same_mean = torch.allclose(found.mean((2, 3)), x.mean((2, 3)), atol=1e-5)
        require(same_mean, "the mean colour of the picture changed", "every pixel must count, and count equally")
        require(
            torch.allclose(found, resize(x, small), atol=1e-5),
            "the blocks are not the expert's",
            "which axis is which?",
        )
    return passed("every pixel counts equally, as in course_lib.data.resize")


def _moved(expert: nn.Module, action: Callable[[], object]) -> bool:
    """The reference answer."""
    before = fingerprint(expert)
    action()
    return fingerprint(expert) == before


def _parameters_only(expert: nn.Module, action: Callable[[], object]) -> bool:
    before = [parameter.detach().clone() for parameter in expert.parameters()]
    action()
    return all(torch.equal(a, b) for a, b in zip(before, expert.parameters(), strict=True))


def _references_only(expert: nn.Module, action: Callable[[], object]) -> bool:
    before = list(expert.state_dict().values())
    action()
    return all(torch.equal(a, b) for a, b in zip(before, expert.state_dict().values(), strict=True))


def _without_the_action(expert: nn.Module, action: Callable[[], object]) -> bool:
    return fingerprint(expert) == fingerprint(expert)


def _always(expert: nn.Module, action: Callable[[], object]) -> bool:
    action()
    return True


@exercise(solution=_moved, stub=_always, wrong=(_parameters_only, _references_only, _without_the_action))
def is_frozen(answer: Callable[[nn.Module, Callable[[], object]], bool]) -> CheckResult:
    """Exercise 3: an expert is frozen when neither parameters nor buffers move."""
    expert = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    x = torch.randn(8, 3)
    calls = []

    def look() -> None:
        calls.append(1)
        expert(x)

    def train_weight() -> None:
        with torch.no_grad():
            expert[0].weight.add_(0.01)

    def leak_statistics() -> None:
        expert.train()(x)
        expert.eval()

    require(answer(expert, look), "a look without any change is reported as a change", "return True when all is equal")
    require(calls, "the action was never carried out", "call `action()` between the two looks")
    require(
        not answer(expert, train_weight), "a changed weight goes unnoticed", "keep a copy or a hash, not a reference"
    )
    unnoticed = "running averages of a batch norm changed and it goes unnoticed"
    require(not answer(expert, leak_statistics), unnoticed, "buffers count too: they are in `state_dict()`")
    return passed("weights and buffers are watched, and a mere look is not a change")
