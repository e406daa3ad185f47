"""What experiments with one target expert share: its latents, the held-out pictures, and the judge."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import ImageSet
from ..evaluation import Judge
from ..experts import Autoencoder, SourceExpert
from .pairs import Pairs, encode_pairs

__all__ = ["Bench", "See", "unchanged"]

See = Callable[[Tensor], Tensor]
"""What the source expert is shown of float pictures ``(B, 3, S, S)``."""


def unchanged(x: Tensor) -> Tensor:
    """The source expert is shown the picture itself."""
    return x


@dataclass(frozen=True)
class Bench:
    """What all experiments share.

    Attributes:
        target: target expert, frozen.
        judge: scores, and never trains anything.
        training, held: data sets.
        latents: of ``training``; their condition is empty.
        held_latents: of ``held``.
        real: ``(N, 3, S, S)``, the held-out pictures.
        features: ``(N, F)``, the judge's features of them.
    """

    target: Autoencoder
    judge: Judge
    training: ImageSet
    held: ImageSet
    latents: Pairs
    held_latents: Pairs
    real: Tensor
    features: Tensor

    @classmethod
    def prepare(
        cls, target: Autoencoder, judge: Judge, training: ImageSet, held: ImageSet, noise: float = 0.0
    ) -> "Bench":
        """Encodes both sets with the target expert, once for all experiments; ``noise`` as in :func:`encode_pairs`."""
        latents, held_latents = (
            encode_pairs(data, lambda x: x.new_zeros(len(x), 0), target, noise=noise) for data in (training, held)
        )
        real = torch.cat(list(held.batches(250))).to(next(target.parameters()).device)
        return cls(target, judge, training, held, latents, held_latents, real, judge.features(real))

    @property
    def device(self) -> torch.device:
        """Where the experts live."""
        return next(self.target.parameters()).device

    @torch.no_grad()
    def outputs(self, expert: SourceExpert, see: See = unchanged, held: bool = False) -> Tensor:
        """``(N, *condition_shape)``: the source expert's output for the training (or held-out) pictures."""
        data = self.held if held else self.training
        return torch.cat([expert.encode(see(x.to(self.device))) for x in data.batches(250)])

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Pictures ``(N, 3, S, S)`` on the CPU."""
        return torch.cat([self.target.decode(part).cpu() for part in latent.split(250)])
