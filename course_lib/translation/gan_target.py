"""A class-conditional generator as target expert, and training pairs made of its own pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..cinn import ConditionalFlow
from ..errors import CourseError
from ..gans import Generator
from ..released.dequantiser import Dequantiser
from .caption_stage import CaptionStage
from .dequantise import nearest_class
from .pairs import Pairs
from .text import CaptionMethod, CaptionTable

__all__ = ["GanMethod", "GanTarget", "GeneratedPairs", "generate_pairs"]


class GanTarget(nn.Module):
    """Target expert: noise and class embedding as one vector, noise first (paper §4.1; its code's ``Net2BigGANFlow``).

    It has no encoder: nobody knows the ``z`` of a given picture. So pairs start from ``z``, see :func:`generate_pairs`.

    Args:
        generator: frozen, with class embeddings.
        rounded: replace an embedding by that of the nearest class before it is rendered. The paper renders it as it is;
            a generator that saw few classes knows nothing about what lies between them.

    Attributes:
        latent_dim: length of noise and embedding together.
        size: side of its pictures.

    Raises:
        CourseError: a generator that keeps tables of class parameters in every layer and has no embedding.
    """

    def __init__(self, generator: Generator, rounded: bool = False):
        if generator.config.embedding is None:
            raise CourseError("this generator has no class embeddings to translate into: take one with `embedding`.")
        super().__init__()
        self.generator, self.rounded, self.size = generator, rounded, generator.config.size
        self.noise, self.embedding = generator.config.noise, generator.config.embedding
        self.latent_dim = self.noise + self.embedding

    @property
    def classes(self) -> Tensor:
        """Embeddings of all classes, ``(C, E)``."""
        return self.generator.shared.weight.detach()

    def split(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Noise ``(B, Z)`` and embedding ``(B, E)``.

        Raises:
            CourseError: another length.
        """
        if latent.shape[1:] != (self.latent_dim,):
            raise CourseError(f"this target takes latents (B, {self.latent_dim}), not {tuple(latent.shape)}.")
        return latent[:, : self.noise], latent[:, self.noise :]

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1]."""
        noise, embedding = self.split(latent)
        return self.generator(
            noise, self.classes[nearest_class(embedding, self.classes)] if self.rounded else embedding
        )

    def encode(self, x: Tensor) -> Tensor:
        """There is no way back.

        Raises:
            CourseError: always.
        """
        raise CourseError("a GAN has no encoder: make pairs from its own samples with generate_pairs.")


@dataclass(frozen=True)
class GeneratedPairs:
    """Generated pictures as far as the flow needs them.

    Attributes:
        z: ``(N, Z)``.
        label: ``int64 (N,)``.
        thing: ``int64 (N,)``: what the caption stage saw, a row of its captions.
    """

    z: Tensor
    label: Tensor
    thing: Tensor

    def __len__(self) -> int:
        return len(self.label)

    def subset(self, index: Tensor) -> "GeneratedPairs":
        """The pairs at ``index``."""
        return GeneratedPairs(self.z[index], self.label[index], self.thing[index])

    def latents(self, target: GanTarget, dequantiser: Dequantiser, generator: torch.Generator | None = None) -> Tensor:
        """Flow targets ``(N, Z + E)``: noise, then a random neighbour of the class embedding."""
        clean = target.classes[self.label.to(target.classes.device)]
        return torch.cat([self.z.to(clean), dequantiser(clean, generator)], 1)


@torch.no_grad()
def generate_pairs(
    target: GanTarget,
    stage: CaptionStage,
    count: int,
    weights: Sequence[float] | Tensor,
    seed: int = 0,
    subgroups: Tensor | None = None,
) -> tuple[GeneratedPairs, Tensor]:
    """Draws noise and classes, renders the pictures from the *clean* embeddings, and recognises what is on them.

    The order matters (paper §4.1): a caption has to describe the picture that belongs to the latent. Captions of real
    pictures would need the latents of real pictures, and those do not exist.

    Args:
        target: the generator.
        stage: says which captions fit.
        count: ``N``.
        weights: ``(C,)``, how often to draw each class; any scale.
        seed: of noise and classes.
        subgroups: ``int64 (C,)``: the bank's subgroup of each class. With it a caption is of the right class and the
            picture decides which one; without it the picture alone decides.

    Returns:
        The pairs, and the last batch of pictures ``(≤ 250, 3, S, S)`` to look at.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.as_tensor(weights, dtype=torch.float32)
    label = torch.multinomial(weights, count, replacement=True, generator=generator)
    z = torch.randn(count, target.noise, generator=generator)
    things, device = [], target.classes.device
    for noise, one in zip(z.split(250), label.split(250), strict=True):
        pictures = target.decode(torch.cat([noise.to(device), target.classes[one.to(device)]], 1))
        things.append(stage.recognise(pictures, None if subgroups is None else subgroups[one]))
    return GeneratedPairs(z, label, torch.cat(things)), pictures.cpu()


class GanMethod(CaptionMethod):
    """Trains a flow on generated pairs; every step moves the class embeddings anew.

    Args:
        pairs: of :func:`generate_pairs`.
        target: the generator they are of.
        dequantiser: frozen.
        table: conditions of the caption stage's captions.
        flow: the flow to train.
        noise, rate, weight_decay, held_every: as for :class:`CaptionMethod`.
        held: generated pairs that are not trained on.
    """

    def __init__(
        self,
        pairs: GeneratedPairs,
        target: GanTarget,
        dequantiser: Dequantiser,
        table: CaptionTable,
        flow: ConditionalFlow,
        noise: float,
        rate: float = 2e-3,
        weight_decay: float = 0.05,
        held: GeneratedPairs | None = None,
        held_every: int = 100,
    ):
        self.dequantiser, self.classes, self.label = dequantiser, target.classes, pairs.label
        self.noise_length = target.noise
        # Generated classes are drawn with the weights one wants: nothing is left to balance.
        alone = torch.ones(len(table.count))
        kept = None if held is None else self._fixed(held, target, dequantiser, table)
        latents = self._fixed(pairs, target, dequantiser, table)
        super().__init__(latents, pairs.thing, table, alone, flow, noise, rate, weight_decay, kept, held_every)

    @staticmethod
    def _fixed(pairs: GeneratedPairs, target: GanTarget, dequantiser: Dequantiser, table: CaptionTable) -> Pairs:
        """One draw of every latent with its first caption: for the linear shift and for the held-out loss."""
        latent = pairs.latents(target, dequantiser, torch.Generator().manual_seed(0))
        thing = pairs.thing.to(table.condition.device)
        return Pairs(table.condition[thing, 0], latent, torch.zeros_like(latent))

    def to_device(self, device: torch.device) -> None:
        """Moves labels and embeddings."""
        super().to_device(device)
        self.label, self.classes = self.label.to(device), self.classes.to(device)
        self.dequantiser = self.dequantiser.to(device)

    def targets(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Noise as it was, and a fresh neighbour of the class embedding."""
        moved = self.dequantiser(self.classes[self.label[index]], generator)
        return torch.cat([self.pairs.mean[index, : self.noise_length], moved], 1)
