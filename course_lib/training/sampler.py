"""Which images go into which step: a function of the step, so that there is no data position to lose."""

import torch
from torch import Tensor

from ..errors import CourseError

__all__ = ["ShuffledIndices"]


class ShuffledIndices:
    """Epochs of shuffled indices, addressed by batch number.

    Args:
        length: number of items; at least one.
        batch_size: items per batch of one process.
        seed: of the permutations; epoch ``e`` uses its own.
        rank, world: this process and how many there are; processes take disjoint slices of each global batch.

    Raises:
        CourseError: there are no items.
    """

    def __init__(self, length: int, batch_size: int, seed: int = 0, rank: int = 0, world: int = 1):
        if length < 1:
            raise CourseError("there is nothing to train on: the data set is empty.")
        self.length, self.batch_size, self.seed, self.rank, self.world = length, batch_size, seed, rank, world
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, number: int) -> Tensor:
        """``int64 (batch_size,)``: batch ``number`` of this process. Batches run across the ends of epochs."""
        start = (number * self.world + self.rank) * self.batch_size
        positions = range(start, start + self.batch_size)
        return torch.stack([self._permutation(p // self.length)[p % self.length] for p in positions])

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._epoch, self._order = epoch, torch.randperm(self.length, generator=generator)
        return self._order
