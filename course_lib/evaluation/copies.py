"""Does a generator copy its training pictures? Nearest training neighbours, with unseen pictures as the yardstick."""

from typing import NamedTuple

import torch
from torch import Tensor

from .pairwise import check_features, distance_blocks

__all__ = ["Copies", "find_copies"]


class Copies(NamedTuple):
    """What :func:`find_copies` returns.

    Attributes:
        index: ``int64 (M,)``: the nearest training vector of each generated one.
        generated: ``(M,)``: its distance.
        unseen: ``(H,)``: distance of each held-out real vector to its nearest training vector.
    """

    index: Tensor
    generated: Tensor
    unseen: Tensor

    def share(self, quantile: float = 0.5) -> float:
        """Share of generated vectors that are nearer to the training set than this quantile of unseen real ones.

        A generator that draws from the data's distribution gets ``quantile``; one that copies gets 1. One that draws
        nothing like the data gets 0, which is no praise: read it beside precision.
        """
        return (self.generated < self.unseen.quantile(quantile)).double().mean().item()


def _nearest(queries: Tensor, train: Tensor, block: int) -> tuple[Tensor, Tensor]:
    found = [squares.min(1) for squares in distance_blocks(queries, train, block)]
    return torch.cat([one.values for one in found]).sqrt(), torch.cat([one.indices for one in found])


def find_copies(generated: Tensor, train: Tensor, unseen: Tensor, block: int = 1024) -> Copies:
    """Euclidean distances to the nearest training vector, of generated and of unseen real vectors.

    A distance by itself says nothing: how near is near depends on the features and on how many training pictures there
    are. Unseen real pictures answer that, since they cannot be copies.

    Args:
        generated: features ``(M, F)``.
        train: ``(N, F)``, what the generator was trained on.
        unseen: ``(H, F)``, real pictures that it was not trained on.
        block: rows compared at a time.

    Raises:
        CourseError: an empty set, different feature sizes, or features that are not finite.
    """
    generated, train = check_features(generated, train, 1, "the search for copies")
    unseen, _ = check_features(unseen, train, 1, "the search for copies")
    distances, index = _nearest(generated, train, block)
    return Copies(index, distances, _nearest(unseen, train, block)[0])
