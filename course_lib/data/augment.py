"""Random changes that make few pictures more: small affine maps."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "affine",
]


def affine(images: Tensor, generator: torch.Generator, share: float = 1.0) -> Tensor:
    """Zoom 0.8–1.2, shift up to 8 %, rotation up to 10° of ``share`` of the images; the border that appears is white.

    Resampling blurs, so a network that is to draw sharp edges must see most pictures as they are: keep ``share`` small
    for reconstruction targets.

    Args:
        images: ``(B, 3, S, S)`` in [−1, 1].
        generator: CPU generator.
        share: probability that an image is changed.
    """
    count = len(images)
    draw = torch.rand(4, count, generator=generator) * 2 - 1
    chosen = (torch.rand(count, generator=generator) < share).nonzero()[:, 0].to(images.device)
    angle, zoom = draw[0] * math.pi / 18, 1.0 + 0.2 * draw[1]
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    matrix = torch.stack([torch.stack([cos, -sin, 0.16 * draw[2]], 1), torch.stack([sin, cos, 0.16 * draw[3]], 1)], 1)
    matrix = matrix.to(images)[chosen]
    grid = F.affine_grid(matrix, [len(chosen), *images.shape[1:]], align_corners=False)
    # grid_sample pads with zeros, so white is made zero for a moment.
    changed = F.grid_sample(images[chosen] - 1.0, grid, align_corners=False) + 1.0
    return images.index_copy(0, chosen, changed)
