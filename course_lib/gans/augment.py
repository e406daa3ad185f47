"""Differentiable augmentation: the critic sees every picture, real or generated, through a random change.

Source: Zhao et al. 2020 (DiffAugment). Few pictures are soon known by heart; changed ones are not, and since generated
pictures pass the same changes, the generator does not learn to imitate the changes.
"""

import torch
from torch import Tensor

__all__ = ["colour", "translate"]


def translate(images: Tensor, generator: torch.Generator, share: float = 0.125) -> Tensor:
    """Shifts each picture by whole pixels, up to ``share`` of its side; white moves in.

    Args:
        images: ``(B, 3, S, S)`` in [−1, 1].
        generator: CPU generator.
        share: largest shift.
    """
    count, _, height, width = images.shape
    reach = round(share * width)
    shift = torch.randint(-reach, reach + 1, (2, count, 1), generator=generator).to(images.device)
    rows = torch.arange(height, device=images.device) + shift[0]
    columns = torch.arange(width, device=images.device) + shift[1]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    batch = torch.arange(count, device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[
        batch, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None]
    ]
    return torch.where(inside[..., None], moved, 1.0).permute(0, 3, 1, 2)


def colour(images: Tensor, generator: torch.Generator) -> Tensor:
    """Changes saturation and contrast of each picture; white stays white."""
    draw = torch.rand(2, len(images), 1, 1, 1, generator=generator).to(images)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (0.5 + draw[0])
    return 1.0 + (images - 1.0) * (0.75 + 0.5 * draw[1])
