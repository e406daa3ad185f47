"""Maps of any size as short vectors: a source expert seen through the leading principal components of its output.

The paper reads feature maps with strided convolutions (``cinn.ConvEmbedder``). A fixed linear map costs a hundredth of
the time, and a flow can begin with the best linear guess from a vector; notebook 06 compares the two.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError
from ..experts import SourceExpert

__all__ = ["ComponentSource", "Components", "flat"]

_SIDE = 8


def flat(output: Tensor, side: int = _SIDE) -> Tensor:
    """Feature maps ``(B, C, H, W)`` averaged to at most ``side`` × ``side`` places, as ``(B, F)``; vectors unchanged."""
    if output.ndim == 4 and output.shape[-1] > side:
        output = F.adaptive_avg_pool2d(output, side)
    return output.flatten(1)


@dataclass(frozen=True)
class Components:
    """A projection to principal components.

    Attributes:
        mean: ``(F,)`` of the outputs it was fitted on.
        axes: ``(F, K)``: orthonormal directions.
        scale: square root of the mean variance of the K components, one number: results have variance 1 on average.
        kept: share of the variance that the K components hold.
    """

    mean: Tensor
    axes: Tensor
    scale: float
    kept: float

    @classmethod
    def fit(cls, output: Tensor, count: int = 128, seed: int = 0) -> "Components":
        """Finds the components.

        Args:
            output: ``(N, F)`` of training pictures; a thousand are enough.
            count: ``K``; fewer where there are fewer numbers.
            seed: of the randomised decomposition.

        Raises:
            CourseError: fewer pictures than components.
        """
        count = min(count, output.shape[1])
        if len(output) <= count:
            raise CourseError(f"{count} principal components need more than {len(output)} pictures.")
        mean = output.mean(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _, values, axes = torch.pca_lowrank(output - mean, count, center=False)
        variance = values.square() / (len(output) - 1)
        kept = (variance.sum() / output.var(0).sum()).item()
        return cls(mean, axes, variance.mean().sqrt().item(), kept)

    def __call__(self, output: Tensor) -> Tensor:
        """``(B, K)`` of outputs ``(B, F)``."""
        return (output - self.mean) @ self.axes / self.scale


@dataclass(frozen=True)
class ComponentSource:
    """Source expert: another expert's output, pooled, flattened and projected.

    Attributes:
        expert: gives vectors or maps.
        components: fitted on its :func:`flat` output.
    """

    expert: SourceExpert
    components: Components

    @property
    def condition_shape(self) -> tuple[int, ...]:
        """``(K,)``."""
        return (self.components.axes.shape[1],)

    def encode(self, x: Tensor) -> Tensor:
        """Condition ``(B, K)`` of images in [−1, 1]."""
        return self.components(flat(self.expert.encode(x)))
