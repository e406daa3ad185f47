"""Exemplars: the residual of one picture under the condition of another, for all pairs (paper §4.5 and §4.6)."""

import torch
from torch import Tensor

from ..errors import CourseError
from ..evaluation import Judge
from .translator import Translator

__all__ = ["cross_grid", "inherited"]


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


@torch.no_grad()
def inherited(judge: Judge, grid: Tensor, labels: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
    """From which of its two pictures a crossed picture has an attribute.

    Args:
        judge: reads the attributes; it has a head of each name.
        grid: ``(N, N, 3, S, S)`` from :func:`cross_grid`.
        labels: attribute → true class ``int64 (N,)`` of the N pictures.

    Returns:
        Attribute → share of crossed pictures with the class of the residual's picture, and with that of the condition's
        picture, among the pairs whose classes differ.

    Raises:
        CourseError: the grid has not N rows and N columns.
    """
    count = len(next(iter(labels.values())))
    if grid.shape[:2] != (count, count):
        raise CourseError(f"{count} pictures need a grid of as many rows and columns, not {tuple(grid.shape[:2])}.")
    found, heads = {}, judge.network.heads
    features = judge.features(grid.flatten(0, 1)).to(next(heads.parameters()).device)
    for name, classes in labels.items():
        read = heads[name](features).argmax(1).cpu().view(count, count)
        row, column = classes[:, None].expand(count, count), classes[None].expand(count, count)
        differs = row != column
        found[name] = tuple((read == own)[differs].float().mean().item() for own in (row, column))
    return found
