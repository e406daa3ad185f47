"""Where a new class begins: at the mixture of old classes whose pictures look most like its few own pictures.

The published scores begin at random, so that at first all new classes look alike and like no old class. A mixture costs
no training: critics and classifiers have features in which means of classes can be compared.
"""

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from ..errors import CourseError

__all__ = ["class_means", "fit_mixtures", "one_hot_mixtures"]


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean feature vector of each class.

    Args:
        features: ``(N, F)``.
        labels: ``(N,)``.
        classes: number of classes.

    Returns:
        ``(classes, F)``.

    Raises:
        CourseError: a class has no features.
    """
    count = labels.bincount(minlength=classes)
    if (count == 0).any():
        raise CourseError(f"class {int((count == 0).nonzero()[0])} has no pictures to compare: add some.")
    total = torch.zeros(classes, features.shape[1], dtype=torch.float64).index_add_(0, labels, features.double())
    return total / count[:, None]


def fit_mixtures(new: Tensor, old: Tensor, spread: Tensor | None = None, ridge: float = 0.1) -> Tensor:
    """Weights of old classes, not negative and with the sum 1, whose mixture of feature means is nearest to each new.

    Args:
        new: ``(new, F)`` mean features of the new classes.
        old: ``(old, F)`` of the old ones.
        spread: ``(F,)``: deviation of each feature inside a class; distances are measured in units of it. By default
            the deviation over the old classes.
        ridge: shrinks the weights towards each other, in units of the mean squared length of an old class: with few
            pictures a mean is noisy.

    Returns:
        ``(new, old)``, ``float32``.

    Raises:
        CourseError: features of different lengths.
    """
    if new.shape[1] != old.shape[1]:
        raise CourseError(f"features have different lengths, {new.shape[1]} and {old.shape[1]}: use one network.")
    scale = (old.std(0) if spread is None else spread).double().clamp_min(1e-8)
    center = old.double().mean(0)
    x, y = ((old.double() - center) / scale).numpy(), ((new.double() - center) / scale).numpy()
    length = np.sqrt(np.square(x).sum(1).mean())
    # Two kinds of rows are added to the least squares: small weights, and, with a large factor, the sum 1.
    rows = np.concatenate([x.T, length * np.sqrt(ridge) * np.eye(len(x)), 1e3 * length * np.ones((1, len(x)))])
    found = []
    for target in y:
        weights, _ = nnls(rows, np.concatenate([target, np.zeros(len(x)), [1e3 * length]]))
        found.append(weights / weights.sum())
    return torch.tensor(np.stack(found), dtype=torch.float32)


def one_hot_mixtures(mixtures: Tensor) -> Tensor:
    """The one old class with the largest weight instead of a mixture: ``(new, old)``."""
    return torch.zeros_like(mixtures).scatter_(1, mixtures.argmax(1, keepdim=True), 1.0)
