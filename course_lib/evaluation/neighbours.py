"""Nearest neighbours of vectors, and how often they are right (retrieval)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError

__all__ = ["nearest", "retrieval_accuracy"]


def nearest(queries: Tensor, gallery: Tensor, k: int = 1, metric: str = "cosine", chunk: int = 512) -> Tensor:
    """The ``k`` nearest gallery entries of each query, nearest first.

    Args:
        queries, gallery: ``(Q, …)`` and ``(G, …)`` with the same trailing shape, which is flattened.
        k: at most ``G``.
        metric: ``cosine`` compares directions, after the gallery's mean is subtracted from both (rectified features all
            point the same way, so without it every angle is small); ``euclidean`` compares the raw values.
        chunk: queries compared at a time; the distances of one chunk are in memory.

    Returns:
        ``int64 (Q, k)``, positions in the gallery.

    Raises:
        CourseError: shapes differ, ``k`` is out of range, or the metric has another name.
    """
    if queries.shape[1:] != gallery.shape[1:] or queries.ndim < 2:
        raise CourseError(
            f"queries {tuple(queries.shape)} and gallery {tuple(gallery.shape)} must agree after the first dimension."
        )
    if not 1 <= k <= len(gallery):
        raise CourseError(f"k must lie between 1 and the gallery's {len(gallery)} entries, not {k}.")
    if metric not in ("cosine", "euclidean"):
        raise CourseError(f"there is no metric {metric!r}: choose cosine or euclidean.")
    queries, gallery = queries.flatten(1).float(), gallery.flatten(1).float()
    if metric == "cosine":
        mean = gallery.mean(0)
        queries, gallery = F.normalize(queries - mean, dim=1), F.normalize(gallery - mean, dim=1)
    # On the unit sphere the euclidean order is the order of angles, so one formula serves both. |q|² changes no order.
    squares = gallery.square().sum(1)
    found = [(squares - 2 * part @ gallery.T).topk(k, dim=1, largest=False).indices for part in queries.split(chunk)]
    return torch.cat(found)


def retrieval_accuracy(
    queries: Tensor, gallery: Tensor, query_labels: Tensor, gallery_labels: Tensor, k: int = 1, metric: str = "cosine"
) -> float:
    """Share of queries that have an entry of their own label among their ``k`` nearest: recall at ``k``.

    Args:
        queries, gallery: as in :func:`nearest`.
        query_labels, gallery_labels: ``(Q,)`` and ``(G,)``.
    """
    if len(query_labels) != len(queries) or len(gallery_labels) != len(gallery):
        raise CourseError("retrieval needs one label for each query and each gallery entry.")
    found = gallery_labels[nearest(queries, gallery, k, metric).to(gallery_labels.device)]
    return (found == query_labels.to(found.device)[:, None]).any(1).float().mean().item()
