"""Translations refined one by one: a few gradient steps on each latent, through frozen experts.

A flow answers for every picture in one pass, so it gives what training could find for all pictures alike. What it was
trained for can be asked again for *one* picture: beginning at the flow's answer, its latent follows the gradient of the
same terms (:class:`~course_lib.translation.picture_critic.Viewer`), held back by the flow's likelihood under the new
label. No weight changes.

Several classifiers look at once, and one of them was trained adversarially: a change that all of them take for another
style is more likely one that people, and a judge, take for it too.

Sources: a network's guess improved by optimisation is how pictures are projected to latents in iGAN (Zhu et al. 2016);
the gap that it closes is the amortisation gap of variational inference (Kim et al. 2018). For translation it is ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .domains import DomainTranslator
from .picture_critic import Viewer

__all__ = ["REFINED", "RefinedTranslator", "refine"]

REFINED = {"content": 600.0, "whole": 1000.0, "style": 900.0, "likelihood": 0.3}
"""Weights of the terms: style first, so that the judge sees it in 95 % of the pictures."""

_SHIFTS = ((0, 0), (3, -2), (-3, 2), (2, 3))
"""In pixels, taken in turn: what the classifier sees in one position only is not worth following."""


def refine(
    translator: DomainTranslator,
    viewers: Sequence[Viewer],
    latent: Tensor,
    labels: Tensor,
    others: Tensor,
    *,
    start: Tensor | None = None,
    weights: Mapping[str, float] = REFINED,
    steps: int = 24,
    rate: float = 0.05,
    batch_size: int = 80,
) -> Tensor:
    """Translated latents ``(B, D)`` that the classifiers find nearer to what was asked for.

    Args:
        translator: gives the start and the likelihood.
        viewers: look at what is drawn; their opinions are averaged.
        latent: ``(B, D)``, of the inputs.
        labels, others: ``int64 (B,)``, the inputs' domains and those asked for.
        start: where to begin; the flow's translations by default.
        weights: of ``content`` and ``whole`` (the same things), ``style`` (the other style, by the classifiers' heads
            ``style``) and ``likelihood`` (of the flow, under the other label); one that is left out counts 0.
        steps: of Adam, with a falling rate; 0 returns the start.
        rate: the first one.
        batch_size: pictures at a time. Each is refined by itself, so this changes only time and memory.
    """
    found = translator.move(latent, labels, others) if start is None else start
    parts = zip(*(x.split(batch_size) for x in (latent, labels, others, found)), strict=True)
    return torch.cat([_refine(translator, viewers, *part, weights, steps, rate) for part in parts])


@torch.enable_grad()
def _refine(
    translator: DomainTranslator,
    viewers: Sequence[Viewer],
    latent: Tensor,
    own: Tensor,
    other: Tensor,
    found: Tensor,
    weights: Mapping[str, float],
    steps: int,
    rate: float,
) -> Tensor:
    own, other = own.to(latent.device), other.to(latent.device)
    code = translator.code(other)
    with torch.no_grad():
        wanted = [_contents(viewers, latent, shift) for shift in _SHIFTS]
    moved = found.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([moved], rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / (steps + 1))
        turn = step % len(_SHIFTS)
        value = -weights.get("likelihood", 0.0) * translator.flow.log_prob(moved, code).mean()
        for viewer, want, seen in zip(viewers, wanted[turn], _contents(viewers, moved, _SHIFTS[turn]), strict=True):
            terms = viewer.terms(want, own, seen, other)
            value = value + sum(weights.get(name, 0.0) * term for name, term in terms.items()) / len(viewers)
        # Summed over pictures, so that none feels how many others there are.
        (moved.grad,) = torch.autograd.grad(len(moved) * value, moved)
        optimizer.step()
    return moved.detach()


class RefinedTranslator(DomainTranslator):
    """A translator that refines each translation. It draws what another one does, a hundred times more slowly.

    Args:
        translator: gives starts and likelihoods.
        viewers: look at what is drawn.
        options: those of :func:`refine`.
    """

    def __init__(self, translator: DomainTranslator, viewers: Sequence[Viewer], **options: Any):
        super().__init__(translator.names, translator.flow, translator.target)
        self.plain, self.viewers, self.options = translator, viewers, options

    def move(self, latent: Tensor, labels: Tensor, others: Tensor) -> Tensor:
        """As :meth:`DomainTranslator.move`; under its own label a latent stays as it is."""
        moved, row = latent.clone(), (labels != others).nonzero()[:, 0].cpu()
        if len(row):
            where = row.to(latent.device)
            moved[where] = refine(
                self.plain, self.viewers, latent[where], labels.cpu()[row], others.cpu()[row], **self.options
            )
        return moved


def _contents(viewers: Sequence[Viewer], latent: Tensor, shift: tuple[int, int]) -> list[list[Tensor]]:
    pictures = viewers[0].render(latent, shift)
    return [viewer.content(viewer.see(pictures)) for viewer in viewers]
