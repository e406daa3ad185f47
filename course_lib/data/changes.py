"""Pictures changed: something taken away, shape and texture set against each other, or moved and warped.

All pictures are ``(B, 3, S, S)`` in [−1, 1], before and after.

Geirhos et al. 2019 make a classifier rely on shape with *stylised* pictures, painted over by style transfer, and test
it with *cue conflicts*, the shape of one class in the texture of another. Flat drawings need no style network, see
:func:`stylise` and :func:`cue_conflict`. Warps follow the released Net2Net code (``random_tps``): shapes change, and
colours stay where they belong.
"""

from functools import lru_cache
from math import pi

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError


def luminance(images: Tensor) -> Tensor:
    """Luma ``(B, S, S)`` in [−1, 1], by the weights of ITU-R BT.601."""
    return torch.einsum("bchw,c->bhw", images, images.new_tensor([0.299, 0.587, 0.114]))


def grey(images: Tensor) -> Tensor:
    """Without colour, in three equal channels: the input of colourisation."""
    return luminance(images)[:, None].expand_as(images).contiguous()


def edges(images: Tensor) -> Tensor:
    """Dark lines on white where a picture changes: no colour, no filled area. A line is black from a difference of 0.6
    between neighbours on; softer steps leave fainter lines."""
    channels = images.shape[1]
    across = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    kernels = torch.stack([across, across.T])[:, None].repeat(channels, 1, 1, 1)
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    gradient = F.conv2d(padded, kernels, groups=channels).unflatten(1, (channels, 2))
    # The strongest channel counts: red on green of equal brightness is an edge too.
    strength = gradient.norm(dim=2).amax(1, keepdim=True)
    return (1 - 2 * (strength / 0.6).clamp(0, 1)).expand(-1, 3, -1, -1).contiguous()


def grey_square(images: Tensor) -> Tensor:
    """With a grey square in the middle, half as wide as the picture: the input of inpainting."""
    size = images.shape[-1]
    low = round(size / 4)
    covered = images.clone()
    covered[..., low : size - low, low : size - low] = 0.0
    return covered


# --- shape against texture ----------------------------------------


def _smooth_noise(count: int, size: int, cells: int, generator: torch.Generator) -> Tensor:
    """Noise ``(count, size, size)`` of standard deviation about 1 whose blobs are ``size / cells`` wide."""
    coarse = torch.randn(count, 1, cells, cells, generator=generator)
    return F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)[:, 0] * 1.5


def stylise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random colours and textures on the same shapes.

    Half of the pictures get the palette of the next one in the batch (:func:`cue_conflict`). The others are mapped
    through a random curve in colour space: a random mix of the three channels, plus a little smooth noise for texture,
    says how far along the curve a pixel lies.
    """
    count, size, last = len(images), images.shape[-1], 5  # of the curve's points
    cells = int(torch.randint(4, 17, (), generator=generator))
    noise = _smooth_noise(count, size, cells, generator).to(images)
    mix = torch.randn(count, 3, generator=generator).to(images)
    mix = mix / mix.abs().sum(1, keepdim=True)
    place = torch.einsum("bchw,bc->bhw", images, mix) * 0.5 + 0.5 + 0.06 * noise
    place = place.clamp(0, 1) * last
    points = (torch.rand(count, 3, last + 1, generator=generator) * 2 - 1).to(images)
    left = place.floor().clamp(max=last - 1)
    index = left.long().flatten(1)[:, None].expand(-1, 3, -1)
    weight = (place - left).flatten(1)[:, None]
    curve = points.gather(2, index) * (1 - weight) + points.gather(2, index + 1) * weight
    swapped = cue_conflict(images, images.roll(1, 0), generator)
    chosen = (torch.rand(count, generator=generator) < 0.5).to(images.device)
    return torch.where(chosen[:, None, None, None], swapped, curve.view_as(images))


def cue_conflict(shapes: Tensor, textures: Tensor, generator: torch.Generator) -> Tensor:
    """The shapes, outlines and white areas of some pictures in the colours of others.

    Pixels that are not white are ranked by brightness in both pictures; the one of a rank gets the colour that has
    this rank in the other. Ties, which flat areas are full of, are broken by smooth noise.
    """
    if shapes.shape != textures.shape:
        raise CourseError(f"cue conflicts need equally many pictures, not {len(shapes)} and {len(textures)}.")
    size = shapes.shape[-1]
    empty = [(x.amin(1) > 0.9).flatten(1) for x in (shapes, textures)]  # as white as paper
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
    """Cuts every picture into squares of ``patch`` pixels and puts them back in random order: shape is gone."""
    count, channels, size, _ = images.shape
    if patch < 1 or size % patch:
        raise CourseError(f"patches of {patch} pixels do not tile pictures of {size}: take a divisor of {size}.")
    cells = size // patch
    patches = images.view(count, channels, cells, patch, cells, patch).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    order = torch.rand(count, cells * cells, generator=generator).argsort(1).to(images.device)
    patches = patches.gather(1, order[:, :, None, None, None].expand_as(patches))
    return patches.unflatten(1, (cells, cells)).permute(0, 3, 1, 4, 2, 5).reshape(images.shape)


# --- moved ----------------------------------------


def affine(images: Tensor, generator: torch.Generator, share: float = 1.0) -> Tensor:
    """Zoom 0.8–1.2, shift up to 8 %, rotation up to 10° of ``share`` of the images; the border that appears is white.

    Resampling blurs: keep ``share`` small where a network is to draw sharp edges.
    """
    count = len(images)
    draw = torch.rand(4, count, generator=generator) * 2 - 1
    chosen = (torch.rand(count, generator=generator) < share).nonzero()[:, 0].to(images.device)
    angle, zoom = draw[0] * pi / 18, 1.0 + 0.2 * draw[1]
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    matrix = torch.stack([torch.stack([cos, -sin, 0.16 * draw[2]], 1), torch.stack([sin, cos, 0.16 * draw[3]], 1)], 1)
    matrix = matrix.to(images)[chosen]
    grid = F.affine_grid(matrix, [len(chosen), *images.shape[1:]], align_corners=False)
    # grid_sample pads with zeros, so white is made zero for a moment.
    changed = F.grid_sample(images[chosen] - 1.0, grid, align_corners=False) + 1.0
    return images.index_copy(0, chosen, changed)


CONTROL_POINTS = 4
"""Control points of a warp along each side, the border included."""


def _points(side: int = CONTROL_POINTS) -> Tensor:
    """``(side², 2)``: x and y in [−1, 1], row by row, ``float64``."""
    line = torch.linspace(-1, 1, side, dtype=torch.float64)
    return torch.cartesian_prod(line, line).flip(1)


@lru_cache(maxsize=4)
def _basis(size: int) -> Tensor:
    """``(size², P)``: how far every pixel follows each control point; linear, so it is solved once for all pictures."""
    from scipy.interpolate import RBFInterpolator  # here: it takes a second to load

    follow = RBFInterpolator(_points().numpy(), np.eye(CONTROL_POINTS**2), kernel="thin_plate_spline", degree=1)
    return torch.from_numpy(follow(_points(size).numpy())).float()


def displacements(count: int, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Random moves of the control points, ``(count, P, 2)`` in units of half the picture's side: uniform in ±strength/4
    (1 in the released code), cut at the border, whose points stay on their side of it."""
    if strength < 0:
        raise CourseError(f"the strength of a warp is 0 or more, not {strength}.")
    points = _points().float()
    moves = (torch.rand(count, len(points), 2, generator=generator) * 2 - 1) * strength / 4
    return ((points + moves).clamp(-1, 1) - points) * (points.abs() < 1)


def warp(images: Tensor, moves: Tensor) -> Tensor:
    """Deforms pictures: the pixel at a control point shows what lies where that point has moved to. ``moves`` is
    ``(B, P, 2)``, see :func:`displacements`; what is warped with the same moves stays aligned."""
    if moves.shape != (len(images), CONTROL_POINTS**2, 2):
        raise CourseError(f"{len(images)} pictures need moves of that many control grids, not {tuple(moves.shape)}.")
    size = images.shape[-1]
    centres = _points().float().to(images)
    grid = (_basis(size).to(images) @ (centres + moves.to(images))).view(len(images), size, size, 2)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=True)


def random_warp(images: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """A random deformation of each picture."""
    return warp(images, displacements(len(images), generator, strength))
