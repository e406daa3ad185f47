"""Thin-plate splines: smooth random deformations that change shapes and leave colours where they belong.

As in the released Net2Net code (``random_tps``): 4×4 control points, the border stays on the border.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError

__all__ = ["CONTROL_POINTS", "displacements", "random_warp", "warp"]

CONTROL_POINTS = 4
"""Control points along each side."""


def _control_points() -> Tensor:
    """``(P, 2)``: x and y in [−1, 1], row by row, ``float64``."""
    line = torch.linspace(-1, 1, CONTROL_POINTS, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def _kernel(points: Tensor, centres: Tensor) -> Tensor:
    """r² log r² between all points and all centres; 0 where they coincide."""
    squares = torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist").square()
    return squares * squares.clamp_min(1e-12).log()


def _with_affine(points: Tensor, centres: Tensor) -> Tensor:
    """Values of the spline's basis: the kernels, then 1, x, y."""
    return torch.cat([_kernel(points, centres), torch.ones(len(points), 1).to(points), points], 1)


@lru_cache(maxsize=4)
def _basis(size: int) -> Tensor:
    """``(size², P)``: how far every pixel follows each control point; linear, so it is solved once for all pictures."""
    centres = _control_points()
    count = len(centres)
    rows = _with_affine(centres, centres)
    # The side conditions: kernel weights are orthogonal to 1, x and y, so that far away the spline is affine.
    system = torch.cat([rows, torch.cat([rows[:, count:].T, torch.zeros(3, 3).double()], 1)])
    solution = torch.linalg.inv(system)[:, :count]
    line = torch.linspace(-1, 1, size, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    pixels = torch.stack([x.flatten(), y.flatten()], 1)
    return (_with_affine(pixels, centres) @ solution).float()


def displacements(count: int, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Random moves of the control points, ``(count, P, 2)`` in units of half the picture's side.

    Each coordinate is uniform in ±strength/4 and is cut where the point would leave the picture; points on the left and
    right border keep their x, points on the upper and lower border their y.

    Args:
        count: how many pictures.
        generator: CPU generator.
        strength: 1 as in the released code, 0 for no move.

    Raises:
        CourseError: a negative strength.
    """
    if strength < 0:
        raise CourseError(f"the strength of a warp is 0 or more, not {strength}.")
    points = _control_points().float()
    moves = (torch.rand(count, len(points), 2, generator=generator) * 2 - 1) * strength / 4
    moves = (points + moves).clamp(-1, 1) - points
    return moves * (points.abs() < 1)


def warp(images: Tensor, moves: Tensor) -> Tensor:
    """Deforms pictures: the pixel at a control point shows what lies where that point has moved to.

    Args:
        images: ``(B, C, S, S)``.
        moves: ``(B, P, 2)``, see :func:`displacements`; several tensors warped with the same moves stay aligned.

    Raises:
        CourseError: not one set of moves for each picture.
    """
    if moves.shape != (len(images), CONTROL_POINTS**2, 2):
        raise CourseError(f"{len(images)} pictures need moves of that many control grids, not {tuple(moves.shape)}.")
    size = images.shape[-1]
    centres = _control_points().float().to(images)
    grid = (_basis(size).to(images) @ (centres + moves.to(images))).view(len(images), size, size, 2)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=True)


def random_warp(images: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """A random deformation of each picture ``(B, C, S, S)``."""
    return warp(images, displacements(len(images), generator, strength))
