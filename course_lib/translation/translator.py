"""A translator: a conditional flow between a frozen source expert and a frozen target expert."""

from typing import Any

import torch
from torch import Tensor

from ..cinn import ConditionalFlow, GridFlow
from ..errors import CourseError
from ..experts import SourceExpert, TargetExpert

__all__ = ["Translator", "cross_grid"]


class Translator:
    """Net2Net: samples pictures of the target domain for inputs of the source domain.

    The residual ``v`` holds what the target's latent contains and the condition does not; it is standard normal and,
    once trained, independent of the condition. Source: Rombach et al. 2020, §3.

    Args:
        source: gives the condition.
        flow: between latent and residual.
        target: turns pictures into latents and back.

    Raises:
        CourseError: the flow was built for other shapes than the experts'.
    """

    def __init__(self, source: SourceExpert, flow: ConditionalFlow | GridFlow, target: TargetExpert):
        if flow.config.dim != target.latent_dim or flow.config.condition_shape != tuple(source.condition_shape):
            raise CourseError(
                f"the flow maps latents ({flow.config.dim},) under conditions {flow.config.condition_shape}, but the "
                f"experts give ({target.latent_dim},) and {tuple(source.condition_shape)}: build it with FlowConfig "
                "for these."
            )
        self.source, self.flow, self.target = source, flow.eval(), target

    @torch.no_grad()
    def translate(
        self, x: Any, samples: int = 1, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws pictures for each input.

        Args:
            x: a batch of source inputs (pictures, captions, labels).
            samples: how many per input; sample ``k`` of every input shares its residual, so columns can be compared.
            temperature: standard deviation of ``v``; 0 gives the one picture that belongs to ``v = 0``.
            generator: of the residuals.

        Returns:
            ``(B, samples, 3, S, S)`` in [−1, 1].
        """
        condition = self.source.encode(x)
        device = generator.device if generator is not None else condition.device
        v = torch.randn(samples, self.flow.config.dim, generator=generator, device=device).to(condition.device)
        return self._draw(v * temperature, condition)

    @torch.no_grad()
    def render(self, v: Tensor, x: Any) -> Tensor:
        """Pictures ``(B, samples, 3, S, S)`` for every input under every given residual ``v: (samples, D)``."""
        return self._draw(v, self.source.encode(x))

    def _draw(self, v: Tensor, condition: Tensor) -> Tensor:
        count, samples = len(condition), len(v)
        pictures = self.decode(self.flow.inverse(v.repeat(count, 1), condition.repeat_interleave(samples, 0)))
        return pictures.view(count, samples, *pictures.shape[1:])

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` of latents ``(B, D)``, some at a time."""
        return torch.cat([self.target.decode(part) for part in latent.split(256)])

    @torch.no_grad()
    def residual(self, y: Tensor, x: Any) -> Tensor:
        """``v (B, D)`` of target pictures ``y`` under their own inputs ``x``: what the condition does not say."""
        return self.flow.encode(self.target.encode(y), self.source.encode(x))

    @torch.no_grad()
    def transfer(self, y: Tensor, x_own: Any, x_other: Any) -> Tensor:
        """Exemplar-guided synthesis: residual of ``y``, condition of ``x_other``; ``(B, 3, S, S)``."""
        v = self.residual(y, x_own)
        return self.target.decode(self.flow.inverse(v, self.source.encode(x_other)))


@torch.no_grad()
def cross_grid(translator: Translator, latent: Tensor, condition: Tensor) -> Tensor:
    """Exemplars: the residual of one picture under the condition of another, for all pairs (paper §4.5 and §4.6).

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
    pictures = translator.decode(moved)
    return pictures.view(count, count, *pictures.shape[1:])
