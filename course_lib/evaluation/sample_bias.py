"""Few samples make a Fréchet distance too large: how much, and what it would be with infinitely many."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import CourseError
from .distances import frechet_distance

__all__ = ["BiasCurve", "frechet_bias"]


class BiasCurve:
    """Fréchet distances of subsets of growing size, and the straight line through them over 1 / N.

    Attributes:
        counts: vectors drawn from each of the two sets.
        means, deviations: of the distances over repeated draws.
        limit: the line at 1 / N = 0, Chong and Forsyth's FID∞. It may lie a little below 0 for equal distributions.
        slope: of the line.
    """

    def __init__(self, counts: Sequence[int], values: Tensor):
        self.counts = list(counts)
        self.means, self.deviations = values.mean(1).tolist(), values.std(1, unbiased=False).tolist()
        self.slope, self.limit = np.polyfit(1 / np.array(self.counts), np.array(self.means), 1).tolist()


def frechet_bias(real: Tensor, fake: Tensor, counts: Sequence[int], repeats: int = 3, seed: int = 0) -> BiasCurve:
    """Fréchet distances of ``counts`` random vectors of each set, ``repeats`` draws each.

    The mean of N samples of a Gaussian misses its mean by a square of tr Σ / N, and their covariance loses directions:
    to first order the distance is too large by a constant over N, so it is a straight line over 1 / N (Chong and
    Forsyth 2020). The line holds only where N is well above the number of features.

    Args:
        real, fake: ``(N, F)`` and ``(M, F)``.
        counts: two different sizes or more, each between 2 and the smaller set.
        repeats: draws a size.
        seed: of the draws.

    Raises:
        CourseError: sizes that cannot be drawn.
    """
    most = min(len(real), len(fake))
    if len(set(counts)) < 2 or not all(2 <= count <= most for count in counts) or repeats < 1:
        raise CourseError(f"the bias needs two sizes or more between 2 and {most}, not {list(counts)}.")
    draws = torch.Generator().manual_seed(seed)
    values = [
        [
            frechet_distance(*(x[torch.randperm(len(x), generator=draws)[:count]] for x in (real, fake)))
            for _ in range(repeats)
        ]
        for count in counts
    ]
    return BiasCurve(counts, torch.tensor(values, dtype=torch.float64))
