"""What a style is made of, in numbers read off the pixels: colour, outline and framing."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError

__all__ = ["STATISTICS", "domain_statistics"]

STATISTICS = ("saturation", "lightness", "outline darkness", "texture", "ink", "margin")
"""Names of the measured properties, in the order of :func:`domain_statistics`."""


def domain_statistics(pictures: Tensor, threshold: float = 0.06) -> Tensor:
    """Six numbers for each picture on white, all in [0, 1] but outline darkness, which is in [−1, 1].

    - saturation: mean over the ink of largest minus smallest colour channel;
    - lightness: mean over the ink of the mean channel;
    - outline darkness: how much darker the rim of the ink (two pixels) is than its inside;
    - texture: mean difference between neighbouring pixels inside the ink;
    - ink: share of the square that is not white;
    - margin: distance of the ink from the nearest side of the square, as a share of its side.

    Args:
        pictures: ``(B, 3, S, S)`` in [−1, 1].
        threshold: how far a pixel must be from white to be ink.

    Returns:
        ``float32 (B, 6)``; a white picture has margin 0.5 and otherwise zeros.

    Raises:
        CourseError: another shape.
    """
    if pictures.ndim != 4 or pictures.shape[1] != 3 or pictures.shape[2] != pictures.shape[3]:
        raise CourseError(f"statistics are of pictures (B, 3, S, S), not {tuple(pictures.shape)}.")
    x = (pictures.float() + 1) / 2
    ink = (1 - x.amin(1) > threshold).float()
    grey = x.mean(1)

    def mean(values: Tensor, mask: Tensor) -> Tensor:
        return (values * mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)

    inside = -F.max_pool2d(-F.pad(ink, (2, 2, 2, 2))[:, None], 5, 1)[:, 0]  # erosion by two pixels
    rim = ink - inside
    across, down = (grey[:, :, 1:] - grey[:, :, :-1]).abs(), (grey[:, 1:] - grey[:, :-1]).abs()
    rough = 0.5 * (F.pad(across, (0, 1)) + F.pad(down, (0, 0, 0, 1)))
    darkness = (mean(grey, inside) - mean(grey, rim)) * (inside.sum((1, 2)) > 0)
    side = x.shape[-1]
    place = torch.arange(side, device=x.device, dtype=x.dtype)
    gaps = []
    for used in (ink.amax(1), ink.amax(2)):  # columns, rows
        first = torch.where(used > 0, place, torch.full_like(place, side / 2)).amin(1)
        last = torch.where(used > 0, place, torch.full_like(place, side / 2 - 1)).amax(1)
        gaps += [first, side - 1 - last]
    margin = torch.stack(gaps, 1).amin(1) / side
    columns = [mean(x.amax(1) - x.amin(1), ink), mean(grey, ink), darkness, mean(rough, inside), ink.mean((1, 2))]
    return torch.stack([*columns, margin], 1)
