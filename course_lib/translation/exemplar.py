"""Exemplars: the residual of one picture under the condition of another, for all pairs (paper §4.5 and §4.6)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import CourseError
from .translator import Translator

__all__ = ["Follows", "cross_grid", "mean_colour", "overlap", "score_grid", "silhouette"]


@torch.no_grad()
def cross_grid(translator: Translator, latent: Tensor, condition: Tensor) -> Tensor:
    """Every residual under every condition.

    Args:
        translator: trained.
        latent: ``(N, D)`` of N pictures.
        condition: ``(N, *condition_shape)`` of the same pictures.

    Returns:
        ``(N, N, 3, S, S)``: row i has the residual of picture i, column j the condition of picture j; the diagonal are
        reconstructions.
    """
    count = len(latent)
    v = translator.flow.encode(latent, condition)
    moved = translator.flow.inverse(v.repeat_interleave(count, 0), condition.repeat(count, *[1] * (condition.ndim - 1)))
    pictures = torch.cat([translator.target.decode(part) for part in moved.split(250)])
    return pictures.view(count, count, *pictures.shape[1:])


def silhouette(pictures: Tensor) -> Tensor:
    """``bool (B, S, S)``: where pictures ``(B, 3, S, S)`` in [−1, 1] on white ground are clearly not white."""
    return pictures.amin(1) < 0.5


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union ``(B,)`` of the silhouettes of two sets of pictures."""
    a, b = silhouette(first), silhouette(second)
    return (a & b).sum((1, 2)) / (a | b).sum((1, 2)).clamp_min(1)


def mean_colour(pictures: Tensor) -> Tensor:
    """Mean colour ``(B, 3)`` in [−1, 1] inside the silhouette; white where there is none."""
    inside = silhouette(pictures)[:, None].to(pictures)
    return ((pictures - 1) * inside).sum((2, 3)) / inside.sum((2, 3)).clamp_min(1) + 1


@dataclass(frozen=True)
class Follows:
    """Whom a crossed picture takes after, over all pairs of different pictures.

    Attributes:
        colour: share of crossed pictures whose mean colour is nearer to the condition's picture than to the residual's.
        silhouette: share whose silhouette overlaps more with the residual's picture than with the condition's.
        overlap_residual, overlap_condition: mean overlap (intersection over union) with either.
        colour_residual, colour_condition: mean distance of the mean colours to either, in units of [−1, 1].
    """

    colour: float
    silhouette: float
    overlap_residual: float
    overlap_condition: float
    colour_residual: float
    colour_condition: float


def score_grid(grid: Tensor, pictures: Tensor) -> Follows:
    """Scores a cross grid against the pictures it was made from; 0.5 is what a coin would reach.

    Args:
        grid: ``(N, N, 3, S, S)`` from :func:`cross_grid`.
        pictures: ``(N, 3, S, S)``: better the reconstructions than the originals, so that the target's own error does
            not count.

    Raises:
        CourseError: fewer than two pictures, or another number of them.
    """
    count = len(pictures)
    if count < 2 or grid.shape[:2] != (count, count):
        raise CourseError(f"{count} pictures need a grid of as many rows and columns, two or more.")
    row, column = torch.meshgrid(torch.arange(count), torch.arange(count), indexing="ij")
    off = row != column
    crossed, donor, asked = grid[off], pictures[row[off]], pictures[column[off]]
    shape_v, shape_c = overlap(crossed, donor), overlap(crossed, asked)
    colour = mean_colour(crossed)
    to_v, to_c = ((colour - mean_colour(x)).norm(dim=1) for x in (donor, asked))
    return Follows(
        (to_c < to_v).float().mean().item(),
        (shape_v > shape_c).float().mean().item(),
        shape_v.mean().item(),
        shape_c.mean().item(),
        to_v.mean().item(),
        to_c.mean().item(),
    )
