"""The Inception score: are generated pictures of a clear class each, and of all classes together?"""

import torch
from torch import Tensor

from ..errors import CourseError

__all__ = ["inception_score"]


def inception_score(probabilities: Tensor, splits: int = 10) -> tuple[float, float]:
    """``exp(mean KL(p(y|x) ‖ p(y)))``: mean and standard deviation over splits; between 1 and the number of classes.

    The name is Inception's, the probabilities may be any classifier's: say which. It never looks at real pictures, so
    a generator that draws one picture a class scores best. Source: Salimans et al. 2016.

    Args:
        probabilities: ``(N, classes)``, rows sum to 1.
        splits: parts of ``N // splits`` pictures in the given order (a rest is left out), so pictures sorted by class
            must be shuffled before; the deviation is that of a population, as published.

    Raises:
        CourseError: other shapes, fewer pictures than splits, or rows that are no probabilities.
    """
    if probabilities.ndim != 2 or not 1 <= splits <= len(probabilities):
        raise CourseError(
            f"the Inception score needs probabilities (N, classes) with N ≥ {splits} for {splits} splits, not "
            f"{tuple(probabilities.shape)}."
        )
    p = probabilities.double()
    if not (p >= 0).all() or not torch.allclose(p.sum(1), torch.ones(len(p), dtype=p.dtype), atol=1e-4):
        raise CourseError("the Inception score needs probabilities: apply a softmax to the logits.")
    parts = p[: len(p) // splits * splits].unflatten(0, (splits, -1))
    # xlogy: a class of probability 0 contributes nothing.
    divergence = (torch.xlogy(parts, parts) - torch.xlogy(parts, parts.mean(1, keepdim=True))).sum(2)
    scores = divergence.mean(1).exp()
    return scores.mean().item(), scores.std(unbiased=False).item()
