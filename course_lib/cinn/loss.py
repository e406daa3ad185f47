"""The conditional negative log-likelihood, in the terms in which the Net2Net authors watch it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from course_lib.errors import CourseError

__all__ = ["NLLTerms", "flow_loss", "nll_terms"]


@dataclass(frozen=True)
class NLLTerms:
    """Means over the batch, in nats, summed (not averaged) over the coordinates.

    Attributes:
        total: scalar that is minimised, ``nll + nlogdet``; it has no lower bound and may be negative.
        nll: scalar, ``0.5 * sum(v**2)`` without the constant ``D / 2 * log(2 pi)``.
        nlogdet: scalar, minus the mean log-determinant.
        reference_nll: scalar, ``nll`` of fresh Gaussian noise of the same shape, about ``D / 2``. In healthy training
            ``nll`` settles near it while ``total`` keeps falling.
    """

    total: Tensor
    nll: Tensor
    nlogdet: Tensor
    reference_nll: Tensor

    def scalars(self) -> dict[str, Tensor]:
        """The detached terms by name, for a log."""
        names = ("total", "nll", "nlogdet", "reference_nll")
        return {name: getattr(self, name).detach() for name in names}


def nll_terms(v: Tensor, log_det: Tensor, generator: torch.Generator | None = None) -> NLLTerms:
    """The training loss and what to log beside it.

    Args:
        v: residuals ``(B, D)``.
        log_det: ``(B,)``, of the direction data to residual; it is subtracted.
        generator: source of the reference noise.

    Returns:
        The terms; ``total`` carries the gradient.

    Raises:
        CourseError: the shapes do not fit.

    References:
        Net2Net, section 3, equation of the conditional negative log-likelihood; CompVis/net2net, ``NLL``.
    """
    if v.dim() != 2 or log_det.shape != v.shape[:1]:
        raise CourseError(
            f"nll_terms takes v of shape (B, D) and log_det of shape (B,), not {tuple(v.shape)} and "
            f"{tuple(log_det.shape)}; pass both outputs of the flow."
        )
    nll = _half_square(v)
    nlogdet = -log_det.mean()
    device = v.device if generator is None else generator.device
    noise = torch.randn(v.shape, generator=generator, device=device, dtype=v.dtype)
    return NLLTerms(nll + nlogdet, nll, nlogdet, _half_square(noise).to(v.device))


def flow_loss(v: Tensor, log_det: Tensor) -> Tensor:
    """``nll_terms(v, log_det).total`` alone, with no noise drawn."""
    return _half_square(v) - log_det.mean()


def _half_square(v: Tensor) -> Tensor:
    return 0.5 * v.square().sum(1).mean()
