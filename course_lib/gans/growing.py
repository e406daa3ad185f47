"""Progressive growing as ALAE schedules it: every size gets the same share, whose first half fades the new block in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError

__all__ = ["Stage", "blend", "blended", "stage_at"]


@dataclass(frozen=True)
class Stage:
    """What is trained at one moment: pictures of ``size`` pixels, in which the newest block has the share ``alpha``."""

    size: int
    alpha: float


def blend(elapsed: float) -> float:
    """½ + ½ sin(π t − π/2): share of the new block after ``elapsed``, in [0, 1], of its transition."""
    return 0.5 + 0.5 * math.sin(math.pi * min(max(elapsed, 0.0), 1.0) - math.pi / 2)


def stage_at(progress: float, sizes: Sequence[int], until: float) -> Stage:
    """The stage of a run.

    Args:
        progress: share of the run, in [0, 1].
        sizes: in pixels, smallest first.
        until: share of the run in which each size has had its equal part; then the last one goes on. 0: no growing.

    Raises:
        CourseError: no size, or ``until`` out of [0, 1].
    """
    if not sizes or not 0 <= until <= 1:
        raise CourseError(f"growing needs a size and a share of the run in [0, 1], not {list(sizes)} and {until}.")
    if progress >= until:
        return Stage(sizes[-1], 1.0)
    position = progress / until * len(sizes)
    level = int(position)
    # The first size has no smaller one to come from.
    return Stage(sizes[level], blend(2 * (position - level)) if level else 1.0)


def blended(images: Tensor, stage: Stage) -> Tensor:
    """Real pictures as the critic of ``stage`` sees them: at its size, fine detail in the share of the new block.

    Args:
        images: ``(B, C, S, S)``; S is a power-of-two multiple of the stage's size.
        stage: size and share.
    """
    small = F.adaptive_avg_pool2d(images, stage.size)
    if stage.alpha >= 1.0:
        return small
    return torch.lerp(F.interpolate(F.avg_pool2d(small, 2), scale_factor=2), small, stage.alpha)
