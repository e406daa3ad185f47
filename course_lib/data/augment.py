"""Random changes that make few pictures more: small affine maps and swapped colour channels."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["affine", "recolour"]


def affine(images: Tensor, generator: torch.Generator) -> Tensor:
    """Zoom 0.8–1.2, shift up to 8 %, rotation up to 10°; what comes in at the border is white."""
    count = len(images)
    draw = torch.rand(4, count, generator=generator) * 2 - 1
    angle, zoom = draw[0] * math.pi / 18, 1.0 + 0.2 * draw[1]
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    matrix = torch.stack([torch.stack([cos, -sin, 0.16 * draw[2]], 1), torch.stack([sin, cos, 0.16 * draw[3]], 1)], 1)
    grid = F.affine_grid(matrix.to(images), list(images.shape), align_corners=False)
    # grid_sample pads with zeros, so white is made zero for a moment.
    return F.grid_sample(images - 1.0, grid, align_corners=False) + 1.0


def recolour(images: Tensor, generator: torch.Generator, share: float = 0.3) -> Tensor:
    """Swaps the colour channels of ``share`` of the images."""
    order = torch.rand(len(images), 3, generator=generator).argsort(1)
    keep = torch.rand(len(images), generator=generator) >= share
    order[keep] = torch.arange(3)
    return images.gather(1, order.to(images.device)[:, :, None, None].expand_as(images))
