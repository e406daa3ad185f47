"""All scores of a set of generated pictures, for every class and over the classes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import CourseError
from .distances import frechet_distance
from .kernel import kernel_distance, kmmd
from .manifold import manifold_scores

__all__ = [
    "INTRA_CLASS_MEAN",
    "Score",
    "class_wise",
    "feature_scores",
]

INTRA_CLASS_MEAN = "intra-class mean"
"""Key of the mean over classes in what :func:`class_wise` returns."""

Score = Callable[[Tensor, Tensor], float | dict[str, float]]
"""Real and generated features ``(N, F)`` and ``(M, F)`` → one number, or several by name."""


def feature_scores(real: Tensor, fake: Tensor, k: int = 5) -> dict[str, float]:
    """Every score of two sets of features: Fréchet and kernel distance, KMMD, precision, recall, density, coverage.

    Args:
        real, fake: ``(N, F)`` and ``(M, F)``, more than ``k`` rows each.
        k: neighbours, see :func:`course_lib.evaluation.manifold.manifold_scores`.

    Raises:
        CourseError: see there.
    """
    return {
        "Fréchet distance": frechet_distance(real, fake),
        "kernel distance": kernel_distance(real, fake),
        "KMMD": kmmd(real, fake),
        **manifold_scores(real, fake, k)._asdict(),
    }


def class_wise(
    real: Tensor,
    fake: Tensor,
    real_labels: Tensor,
    fake_labels: Tensor,
    classes: Sequence[str],
    score: Score = kernel_distance,
    least: int = 2,
) -> dict[str, dict[str, float]]:
    """``score`` for each class by itself, and the mean over classes: a generator that ignores the class cannot hide.

    The Fréchet distance of a few pictures is mostly bias, so with fewer pictures a class than features
    the kernel distance is the one to read.

    Args:
        real, fake: features ``(N, F)`` and ``(M, F)``.
        real_labels, fake_labels: ``(N,)`` and ``(M,)``, positions in ``classes``; others are left out.
        classes: names.
        score: of two sets of features; a float gets the name "score".
        least: classes with fewer real or generated pictures than this are left out.

    Returns:
        Class name → score name → value, and last :data:`INTRA_CLASS_MEAN` with the unweighted means.

    Raises:
        CourseError: labels that do not belong to the features, or no class with enough pictures.
    """
    if len(real) != len(real_labels) or len(fake) != len(fake_labels):
        raise CourseError("class-wise scores need one label for every feature vector.")
    found: dict[str, dict[str, float]] = {}
    for label, name in enumerate(classes):
        own = real[real_labels == label], fake[fake_labels == label]
        if min(map(len, own)) >= least:
            value = score(*own)
            found[name] = value if isinstance(value, dict) else {"score": value}
    if not found:
        raise CourseError(
            f"no class has {least} real and {least} generated pictures: take a larger part of the data, or score all "
            "classes together."
        )
    names = next(iter(found.values()))
    mean = {name: torch.tensor([row[name] for row in found.values()]).double().mean().item() for name in names}
    return found | {INTRA_CLASS_MEAN: mean}
