"""Pictures with something taken away: everything but edges, all colour, or a square. What a source expert is shown."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError

__all__ = ["edges", "grey", "grey_square", "luminance"]

_WEIGHTS = (0.299, 0.587, 0.114)
"""Of red, green and blue in the luma of ITU-R BT.601."""


def luminance(images: Tensor) -> Tensor:
    """Luma ``(B, S, S)`` in [−1, 1] of pictures ``(B, 3, S, S)`` in [−1, 1]."""
    return torch.einsum("bchw,c->bhw", images, images.new_tensor(_WEIGHTS))


def grey(images: Tensor) -> Tensor:
    """The pictures without colour, still ``(B, 3, S, S)``: the input of colourisation."""
    return luminance(images)[:, None].expand_as(images).contiguous()


def edges(images: Tensor, full: float = 0.6) -> Tensor:
    """Dark lines on white where a picture changes: no colour, no filled area.

    Args:
        images: ``(B, 3, S, S)`` in [−1, 1].
        full: difference between neighbours at which a line is black; half of it gives grey. A softer step than that
            stays visible, so shading leaves faint lines.

    Returns:
        ``(B, 3, S, S)`` in [−1, 1], three equal channels.
    """
    channels = images.shape[1]
    across = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    kernels = torch.stack([across, across.T])[:, None].repeat(channels, 1, 1, 1)
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    gradient = F.conv2d(padded, kernels, groups=channels).unflatten(1, (channels, 2))
    # The strongest channel counts: red on green of equal brightness is an edge too.
    strength = gradient.norm(dim=2).amax(1, keepdim=True)
    return (1 - 2 * (strength / full).clamp(0, 1)).expand(-1, 3, -1, -1).contiguous()


def grey_square(images: Tensor, share: float = 0.5) -> Tensor:
    """The pictures with a grey square in the middle: the input of inpainting (paper §4).

    Args:
        images: ``(B, 3, S, S)`` in [−1, 1].
        share: side of the square as a share of the picture's.

    Raises:
        CourseError: the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise CourseError(f"the square's side is a share of the picture's, between 0 and 1, not {share}.")
    size = images.shape[-1]
    low = round(size * (1 - share) / 2)
    covered = images.clone()
    covered[..., low : size - low, low : size - low] = 0.0
    return covered
