"""How much one vector still says about another."""

import torch
from torch import Tensor

from course_lib.errors import CourseError

__all__ = ["predictability"]


def predictability(condition: Tensor, target: Tensor, features: int = 512, ridge: float = 1e-1, seed: int = 0) -> float:
    """Share of the variance of ``target`` that can be predicted from ``condition`` on rows not used to fit.

    Ridge regression on random Fourier features (Rahimi and Recht 2007), a non-linear probe with a closed form; fitted
    on one half, scored on the other. 0 means that the probe finds nothing (it can be slightly negative: then it does
    worse than the mean), 1 that the target is a function of the condition.

    Args:
        condition: ``(N, K)``, or anything that flattens to it.
        target: ``(N, D)``.
        features: number of random features beside the linear ones.
        ridge: penalty relative to the number of rows.
        seed: of the features and of the halves.

    Raises:
        CourseError: fewer than ten rows or different lengths.
    """
    if len(condition) != len(target) or len(target) < 10:
        raise CourseError(
            f"the probe needs two equally long sets of ten rows or more, not {len(condition)} and {len(target)}."
        )
    generator = torch.Generator().manual_seed(seed)
    x = condition.detach().double().cpu().flatten(1)
    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    y = target.detach().double().cpu()
    weights = torch.randn(x.shape[1], features, generator=generator, dtype=torch.float64) / x.shape[1] ** 0.5
    phase = torch.rand(features, generator=generator, dtype=torch.float64) * 2 * torch.pi
    x = torch.cat([x, torch.cos(x @ weights + phase) * 2**0.5], 1)
    order = torch.randperm(len(x), generator=generator)
    fit, held = order[: len(x) // 2], order[len(x) // 2 :]
    # Centred on the fitting half, so that the penalty does not touch the constant.
    x, centre = x - x[fit].mean(0), y[fit].mean(0)
    gram = x[fit].T @ x[fit] + ridge * len(fit) * torch.eye(x.shape[1], dtype=torch.float64)
    predicted = centre + x[held] @ torch.linalg.solve(gram, x[fit].T @ (y[fit] - centre))
    return (1 - (y[held] - predicted).square().sum() / (y[held] - centre).square().sum()).item()
