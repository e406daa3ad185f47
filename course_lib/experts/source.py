"""What a transfer begins from: a trained generator, its discriminator, and the space that it draws in."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..data import ImageSet
from ..errors import CourseError
from ..paths import CHECKPOINTS
from ..training.weights import load_card
from .latent_space import LatentSpace
from .shipped import load_expert

__all__ = ["SourceModel"]


@dataclass(frozen=True)
class SourceModel:
    """A frozen source.

    Attributes:
        name: of the generator's checkpoint.
        generator, discriminator: of one training.
        space: of the latents that they draw and see.
        classes: names of what a class-conditional generator draws, else empty.
    """

    name: str
    generator: nn.Module
    discriminator: nn.Module
    space: LatentSpace
    classes: tuple[str, ...] = ()

    @classmethod
    def load(cls, name: str, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> "SourceModel":
        """Opens ``NAME``, ``NAME-critic`` and the autoencoder that the card names.

        Raises:
            CourseError: missing or damaged files, or a generator that draws no latents.
        """
        card = load_card(name, folder)
        if "space" not in card.recipe:
            raise CourseError(f"{name!r} does not draw latents of an autoencoder: take avatar-stylegan, for example.")
        networks = (load_expert(which, device, folder) for which in (name, f"{name}-critic"))
        space = LatentSpace(load_expert(card.recipe["space"], device, folder))
        return cls(name, *networks, space, tuple(card.recipe.get("classes", ())))

    def encode(self, data: ImageSet) -> Tensor:
        """Latents ``float16 (N, C, G, G)`` of a set, on the CPU."""
        return self.space.encode_set(data)
