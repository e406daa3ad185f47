"""Check of notebook 00: what the low-resolution expert does."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_lib.checks.registry import exercise
from course_lib.checks.result import CheckResult, passed, require
from course_lib.data import resize

__all__ = ["shrink"]


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
def shrink(answer: Callable[[Tensor, int], Tensor]) -> CheckResult:
    """The exercise: area averaging, which keeps the mean of the picture and uses every pixel."""
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
