"""Are the pictures good, and are all kinds there? Two questions, two numbers each, from nearest neighbours.

A set is taken for the union of balls around its vectors, each as wide as the way to its own k-th neighbour.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .pairwise import check_features, distance_blocks

__all__ = ["ManifoldScores", "manifold_scores"]


class ManifoldScores(NamedTuple):
    """What :func:`manifold_scores` returns.

    Attributes:
        precision: share of generated vectors inside the real balls: quality.
        recall: share of real vectors inside the generated balls: variety.
        density: real balls a generated vector lies in, over k: like precision, but one outlier among the real vectors
            counts little. About 1 for equal distributions, not bounded by it.
        coverage: share of real balls that contain a generated vector: like recall, but outliers among the generated
            vectors gain nothing.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def _radii(x: Tensor, k: int, block: int) -> Tensor:
    """``(N,)``: squared distance to the k-th neighbour, itself not counted."""
    found = []
    for start, squares in zip(range(0, len(x), block), distance_blocks(x, x, block), strict=True):
        rows = torch.arange(len(squares))
        squares[rows, start + rows] = -1.0  # itself is nearest, even beside copies
        found.append(squares.kthvalue(k + 1, dim=1).values)
    return torch.cat(found)


def manifold_scores(real: Tensor, fake: Tensor, k: int = 5, block: int = 1024) -> ManifoldScores:
    """Improved precision and recall, density and coverage; the real set comes first.

    Balls contain their border. Sources: Kynkäänniemi et al. 2019 (the first two), Naeem et al. 2020 (the last two).
    The published code of Hyper-Modulation passes the sets in the wrong order, which swaps precision and recall and
    makes the other two meaningless.

    Args:
        real, fake: ``(N, F)`` and ``(M, F)``, more than ``k`` rows each. Recall depends on N and M: compare only
            numbers with the same.
        k: neighbours.
        block: rows compared at a time; ``block · max(N, M)`` distances are in memory.

    Raises:
        CourseError: too few rows, different feature sizes, or features that are not finite.
    """
    real, fake = check_features(real, fake, k + 1, f"precision and recall with k = {k}")
    real, fake = real - real.mean(0), fake - real.mean(0)
    reach_real, reach_fake = _radii(real, k, block), _radii(fake, k, block)
    inside = torch.zeros(len(fake), dtype=torch.int64)  # how many real balls hold each generated vector
    recalled, covered = [], []
    for squares, reach in zip(distance_blocks(real, fake, block), reach_real.split(block), strict=True):
        holds = squares <= reach[:, None]
        inside += holds.sum(0).to(inside.device)
        covered.append(holds.any(1))
        recalled.append((squares <= reach_fake).any(1))
    recall, coverage = (torch.cat(parts).double().mean().item() for parts in (recalled, covered))
    return ManifoldScores((inside > 0).double().mean().item(), recall, inside.double().mean().item() / k, coverage)
