"""Sums and distances over all pairs of two sets, block by block: memory grows with the sets, not their product."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..errors import CourseError

__all__ = ["check_features", "distance_blocks", "kernel_sum", "squared_distances"]


def check_features(real: Tensor, fake: Tensor, least: int, what: str) -> tuple[Tensor, Tensor]:
    """Both sets in double precision, after a check.

    Args:
        real, fake: ``(N, F)`` and ``(M, F)``.
        least: rows that each needs.
        what: name of the score, for the message.

    Raises:
        CourseError: other shapes, too few rows, or values that are not finite.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < least:
        raise CourseError(
            f"{what} needs two sets (N, F) with N ≥ {least} and one F, not {tuple(real.shape)} and {tuple(fake.shape)}."
        )
    if not (real.isfinite().all() and fake.isfinite().all()):
        raise CourseError("some features are not finite: look at the pictures that they come from.")
    return real.double(), fake.double()


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """``(N, F)``, ``(M, F)`` → squared Euclidean distances ``(N, M)``, exactly 0 between equal rows.

    A matrix product is many times faster than subtracting every pair, but leaves equal rows a distance of rounding
    size, which a ball of radius 0 would not contain: what is below the rounding error is taken for 0.
    """
    lengths = first.square().sum(1)[:, None] + second.square().sum(1)
    squares = torch.addmm(lengths, first, second.T, alpha=-2)
    return squares.masked_fill_(squares < 32 * torch.finfo(squares.dtype).eps * lengths, 0.0)


def distance_blocks(first: Tensor, second: Tensor, block: int) -> Iterator[Tensor]:
    """Rows of :func:`squared_distances`, ``block`` of them at a time."""
    for part in first.split(block):
        yield squared_distances(part, second)


def kernel_sum(first: Tensor, second: Tensor, kernel: Callable[[Tensor, Tensor], Tensor], block: int) -> Tensor:
    """Σᵢⱼ k(firstᵢ, secondⱼ) as a scalar; at most ``block²`` values of the kernel are in memory.

    Args:
        first, second: ``(N, F)`` and ``(M, F)``.
        kernel: rows ``(n, F)`` and ``(m, F)`` → ``(n, m)``.
        block: rows of each at a time.
    """
    total = first.new_zeros(())
    for left in first.split(block):
        for right in second.split(block):
            total += kernel(left, right).sum()
    return total
