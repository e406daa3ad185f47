"""Pictures whose shape and texture disagree: recoloured, repainted by another picture, or cut up and shuffled.

Geirhos et al. 2019 train on *stylised* pictures (painted over by style transfer) to make a classifier rely on shape,
and test it with *cue conflicts*, the shape of one class in the texture of another. Flat drawings need no style network:
a random colour curve and another picture's palette do the same.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError
from .degrade import luminance

__all__ = ["cue_conflict", "shuffle_patches", "stylise"]

_CURVE_POINTS = 6


def _smooth_noise(count: int, size: int, cells: int, generator: torch.Generator) -> Tensor:
    """Noise ``(count, size, size)`` of standard deviation about 1 whose blobs are ``size / cells`` wide."""
    coarse = torch.randn(count, 1, cells, cells, generator=generator)
    return F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)[:, 0] * 1.5


def stylise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random colours and textures on the same shapes.

    Half of the pictures get the palette of the next one in the batch (:func:`cue_conflict`). The others are mapped
    through a random curve in colour space: a random mix of the three channels, plus a little smooth noise for texture,
    says how far along the curve a pixel lies. Regions stay apart, but no colour means anything any more, white too.

    Args:
        images: ``(B, 3, S, S)`` in [−1, 1].
        generator: CPU generator.

    Returns:
        ``(B, 3, S, S)`` in [−1, 1].
    """
    count, size = len(images), images.shape[-1]
    cells = int(torch.randint(4, 17, (), generator=generator))
    noise = _smooth_noise(count, size, cells, generator).to(images)
    mix = torch.randn(count, 3, generator=generator).to(images)
    mix = mix / mix.abs().sum(1, keepdim=True)
    place = torch.einsum("bchw,bc->bhw", images, mix) * 0.5 + 0.5 + 0.06 * noise
    place = place.clamp(0, 1) * (_CURVE_POINTS - 1)
    points = (torch.rand(count, 3, _CURVE_POINTS, generator=generator) * 2 - 1).to(images)
    left = place.floor().clamp(max=_CURVE_POINTS - 2)
    index = left.long().flatten(1)[:, None].expand(-1, 3, -1)
    weight = (place - left).flatten(1)[:, None]
    curve = points.gather(2, index) * (1 - weight) + points.gather(2, index + 1) * weight
    painted = curve.view_as(images)
    swapped = cue_conflict(images, images.roll(1, 0), generator)
    chosen = (torch.rand(count, generator=generator) < 0.5).to(images.device)
    return torch.where(chosen[:, None, None, None], swapped, painted)


def _is_white(images: Tensor) -> Tensor:
    """``bool (B, S, S)``: pixels as white as paper."""
    return images.amin(1) > 0.9


def cue_conflict(shapes: Tensor, textures: Tensor, generator: torch.Generator) -> Tensor:
    """The shapes of some pictures in the colours of others.

    Pixels that are not white are ranked by brightness in both pictures; the one of a rank gets the colour that has
    this rank in the other. So the result has exactly the other picture's colour statistics. Ties, which flat areas are
    full of, are broken by smooth noise: patches of the foreign colours appear inside them.

    Args:
        shapes: ``(B, 3, S, S)`` in [−1, 1]: outlines and white areas stay.
        textures: ``(B, 3, S, S)``: colours are taken from here.
        generator: CPU generator.

    Raises:
        CourseError: different shapes of the two tensors.
    """
    if shapes.shape != textures.shape:
        raise CourseError(f"cue conflicts need equally many pictures, not {len(shapes)} and {len(textures)}.")
    size = shapes.shape[-1]
    empty = [_is_white(x).flatten(1) for x in (shapes, textures)]
    filled = [(~mask).sum(1, keepdim=True).clamp_min(1) for mask in empty]
    noise = _smooth_noise(len(shapes), size, 12, generator).to(shapes).flatten(1)
    # 4 is brighter than any pixel: white comes last in both orders.
    rank = (luminance(shapes).flatten(1) + 0.05 * noise).masked_fill(empty[0], 4.0).argsort(1).argsort(1)
    order = luminance(textures).flatten(1).masked_fill(empty[1], 4.0).argsort(1)
    wanted = (rank * filled[1] // filled[0]).clamp(max=rank.shape[1] - 1)
    source = order.gather(1, wanted)
    colours = textures.flatten(2).gather(2, source[:, None].expand(-1, 3, -1)).view_as(shapes)
    return torch.where(empty[0].view(-1, 1, size, size), shapes, colours)


def shuffle_patches(images: Tensor, generator: torch.Generator, patch: int = 8) -> Tensor:
    """Cuts every picture into squares and puts them back in random order: colours and textures stay, shape is gone.

    Args:
        images: ``(B, 3, S, S)``.
        generator: CPU generator.
        patch: side of a square in pixels; it divides ``S``.

    Raises:
        CourseError: it does not.
    """
    count, channels, size, _ = images.shape
    if patch < 1 or size % patch:
        raise CourseError(f"patches of {patch} pixels do not tile pictures of {size}: take a divisor of {size}.")
    cells = size // patch
    patches = images.view(count, channels, cells, patch, cells, patch).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    order = torch.rand(count, cells * cells, generator=generator).argsort(1).to(images.device)
    patches = patches.gather(1, order[:, :, None, None, None].expand_as(patches))
    patches = patches.unflatten(1, (cells, cells)).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(count, channels, size, size)
