"""Check of notebook 00: what the low-resolution expert does."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.checks.exercise import CheckResult, exercise, passed, require, require_shape
from course_lib.data.image_set import resize

__all__ = ["shrink"]


@exercise
def shrink(answer: Callable[[Tensor, int], Tensor]) -> CheckResult:
    """The exercise: area averaging, which keeps the mean of the picture and uses every pixel."""
    for large, small in ((64, 16), (32, 16), (24, 8)):
        x = torch.rand(2, 3, large, large) * 2 - 1
        found = answer(x, small)
        require_shape(found, (2, 3, small, small), "cut into square blocks")
        spike = torch.full((1, 3, large, large), -1.0)
        spike[..., 1, 1] = 1.0
        require(answer(spike, small)[0, 0, 0, 0] > -1, "some pixels are never looked at", "average, do not pick")
        same_mean = torch.allclose(found.mean((2, 3)), x.mean((2, 3)), atol=1e-5)
        require(same_mean, "the mean colour of the picture changed", "every pixel must count, and count equally")
        same = torch.allclose(found, resize(x, small), atol=1e-5)
        require(same, "the blocks are not the expert's", "which axis is which?")
    return passed("every pixel counts equally, as in course_lib.data.resize")
