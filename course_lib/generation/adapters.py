"""The course's generators behind the one interface."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import CourseError
from ..gans import Generator
from ..gans.alae import ALAE
from ..gans.alae_decoder import Decoder
from ..gans.stylegan import StyleGAN, Synthesis
from ..hypermod import HyperGenerator
from ..hypermod.generator import Modulation
from .generator import ConditionalGenerator

__all__ = ["ALAEPictures", "BigGANPictures", "HyperPictures", "StylePictures"]


def _noise(network: Synthesis | Decoder, count: int, seed: int) -> list[Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [one.cpu() for one in network.noise(count, draws)]


def _no_classes(name: str) -> CourseError:
    return CourseError(f"{name} has no classes: choose another checkpoint, or leave the classes out.")


class StylePictures(ConditionalGenerator):
    """An unconditional StyleGAN.

    Args:
        network: frozen.
        name: of the checkpoint.
    """

    def __init__(self, network: StyleGAN, name: str = "StyleGAN"):
        self.network, self.name, self.classes = network, name, []
        self.size, self.latent = network.config.size, network.config.latent
        self.blocks, self.device = len(network.synthesis.blocks), next(network.parameters()).device

    def class_vectors(self, labels: Tensor) -> Tensor:
        """There are none."""
        raise _no_classes(self.name)

    def noise(self, count: int, seed: int) -> list[Tensor]:
        """One map a block."""
        return _noise(self.network.synthesis, count, seed)

    def _pictures(self, z: Tensor, vectors: Tensor | None, noise: list[Tensor], truncation: float) -> Tensor:
        if vectors is not None:
            raise _no_classes(self.name)
        return self.network(z, noise, truncation)


class ALAEPictures(ConditionalGenerator):
    """The generator half of an adversarial latent autoencoder: no classes, two styles a block.

    Args:
        network: frozen.
        name: of the checkpoint.
    """

    def __init__(self, network: ALAE, name: str = "ALAE"):
        self.network, self.name, self.classes = network.generator, name, []
        self.size, self.latent = network.config.size, network.config.latent
        self.blocks, self.device = network.config.slots, next(network.parameters()).device

    def class_vectors(self, labels: Tensor) -> Tensor:
        """There are none."""
        raise _no_classes(self.name)

    def noise(self, count: int, seed: int) -> list[Tensor]:
        """Two maps a block."""
        return _noise(self.network.decoder, count, seed)

    def _pictures(self, z: Tensor, vectors: Tensor | None, noise: list[Tensor], truncation: float) -> Tensor:
        if vectors is not None:
            raise _no_classes(self.name)
        return self.network(z, noise, truncation)[0]


class HyperPictures(ConditionalGenerator):
    """A hyper-modulated StyleGAN; without class vectors it draws its source domain.

    Args:
        network: frozen; the kernels of the class or mixture drawn last are kept.
        classes: names of its classes.
        name: of the checkpoint.
    """

    def __init__(self, network: HyperGenerator, classes: Sequence[str], name: str = "Hyper-Modulation"):
        self.network, self.name, self.classes = network, name, list(classes)
        self.size, self.latent = network.config.size, network.config.latent
        self.blocks, self.device = len(network.synthesis.blocks), next(network.parameters()).device
        self._made: tuple[Tensor, Modulation] | None = None

    @torch.no_grad()
    def class_vectors(self, labels: Tensor) -> Tensor:
        """Outputs of the class network."""
        return self.network.classes(labels.to(self.device)).cpu()

    def noise(self, count: int, seed: int) -> list[Tensor]:
        """One map a block."""
        return _noise(self.network.synthesis, count, seed)

    def _pictures(self, z: Tensor, vectors: Tensor | None, noise: list[Tensor], truncation: float) -> Tensor:
        if vectors is None:
            return self.network(z, None, noise, truncation)
        # Kernels are what costs: each distinct vector (or row of vectors) makes its own once.
        distinct, owner = vectors.unique(dim=0, return_inverse=True)
        # A walk through z draws the same class again and again; the kernels of many would fill the memory.
        if self._made is not None and torch.equal(self._made[0], distinct):
            modulation = self._made[1]
        else:
            modulation = self._modulation(distinct)
            self._made = (distinct, modulation) if len(distinct) == 1 else None
        return self.network(z, modulation, noise, truncation, owner)

    def _modulation(self, vectors: Tensor) -> Modulation:
        if vectors.ndim == 2:
            return self.network.modulation(vectors)
        made = [self.network.modulation(one) for one in vectors.unbind(1)]
        # The first block has one convolution, every other one two.
        owners = [(index + 1) // 2 for index in range(len(made[0].kernels))]
        has_styles = made[0].styles is not None
        return Modulation(
            [made[block].kernels[index] for index, block in enumerate(owners)],
            [made[block].biases[index] for index, block in enumerate(owners)],
            torch.stack([one.styles[:, block] for block, one in enumerate(made)], 1) if has_styles else None,
        )


class BigGANPictures(ConditionalGenerator):
    """A BigGAN, or new classes made from its old ones. z of a layer is its part of the noise vector.

    Args:
        network: frozen, with ``embed`` and ``config`` as :class:`course_lib.gans.Generator` has them.
        classes: names of its classes.
        name: of the checkpoint.
    """

    def __init__(self, network: Generator | nn.Module, classes: Sequence[str], name: str = "BigGAN"):
        self.network, self.name, self.classes, config = network, name, list(classes), network.config
        self.size, self.latent = config.size, config.noise
        # With tables, z enters at the first layer alone.
        self.blocks = 1 if config.embedding is None else len(config.generator)
        self.device = next(network.parameters()).device

    @torch.no_grad()
    def class_vectors(self, labels: Tensor) -> Tensor:
        """Embeddings, or one-hot rows of new classes."""
        vectors = self.network.embed(labels.to(self.device)).cpu()
        if vectors.ndim == 1:
            raise CourseError(f"{self.name} keeps a table in every layer and has no class vectors: it cannot be mixed.")
        return vectors

    def _pictures(self, z: Tensor, vectors: Tensor | None, noise: list[Tensor], truncation: float) -> Tensor:
        if vectors is None:
            raise CourseError(f"{self.name} draws nothing without a class: give class vectors.")
        if z.ndim == 3:
            parts = z.unflatten(2, (self.blocks, -1))
            z = torch.stack([parts[:, block, block] for block in range(self.blocks)], 1).flatten(1)
        # The first layer, before all blocks, sees no class.
        return self.network(truncation * z, vectors[:, 1:] if vectors.ndim == 3 else vectors)
