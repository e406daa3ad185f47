"""A class-conditional generator as target expert, and training pairs made of its own pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..cinn import ConditionalFlow
from ..errors import CourseError
from ..experts import LatentSpace, load_expert
from ..gans import Generator
from ..paths import CHECKPOINTS
from ..released import Dequantiser
from ..training import load_card
from .caption_stage import CaptionStage
from .dequantise import nearest_class
from .pairs import Pairs
from .text import CaptionMethod, CaptionSource

__all__ = ["GanMethod", "GanTarget", "GeneratedPairs", "generate_pairs"]


class GanTarget(nn.Module):
    """Target expert: noise and class embedding as one vector, noise first (paper §4.1; its code's ``Net2BigGANFlow``).

    It has no encoder: nobody knows the ``z`` of a given picture. So pairs start from ``z``, see :func:`generate_pairs`.

    Args:
        generator: frozen, with class embeddings.
        rounded: replace an embedding by that of the nearest class before it is rendered. The paper renders it as it is;
            a generator that saw few classes knows nothing about what lies between them.
        space: of the latents that the generator draws; None where it draws pictures.

    Attributes:
        latent_dim: length of noise and embedding together.
        size: side of its pictures.

    Raises:
        CourseError: a generator that keeps tables of class parameters in every layer and has no embedding.
    """

    def __init__(self, generator: Generator, rounded: bool = False, space: LatentSpace | None = None):
        if generator.config.embedding is None:
            raise CourseError("this generator has no class embeddings to translate into: take one with `embedding`.")
        super().__init__()
        self.generator, self.rounded, self.space = generator, rounded, space
        self.size = generator.config.size if space is None else space.autoencoder.config.size
        self.noise, self.embedding = generator.config.noise, generator.config.embedding
        self.latent_dim = self.noise + self.embedding

    @classmethod
    def load(
        cls,
        name: str = "avatar-biggan",
        device: str | torch.device = "cpu",
        rounded: bool = False,
        folder: Path = CHECKPOINTS,
    ) -> "GanTarget":
        """A shipped generator.

        Raises:
            CourseError: missing or damaged files.
        """
        space = load_card(name, folder).recipe.get("space")
        latents = LatentSpace(load_expert(space, device)) if space else None
        return cls(load_expert(name, device, folder), rounded, latents)

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
        drawn = self.generator(
            noise, self.classes[nearest_class(embedding, self.classes)] if self.rounded else embedding
        )
        return drawn if self.space is None else self.space.decode(drawn)

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
        thing: ``int64 (N,)``: what the caption stage saw, a row of :attr:`things`.
        things: the different things seen, each label → name.
    """

    z: Tensor
    label: Tensor
    thing: Tensor
    things: list[dict[str, str]]

    def __len__(self) -> int:
        return len(self.label)

    def subset(self, index: Tensor) -> "GeneratedPairs":
        """The pairs at ``index``."""
        return GeneratedPairs(self.z[index], self.label[index], self.thing[index], self.things)

    def latents(self, target: GanTarget, dequantiser: Dequantiser, generator: torch.Generator | None = None) -> Tensor:
        """Flow targets ``(N, Z + E)``: noise, then a random neighbour of the class embedding."""
        clean = target.classes[self.label.to(target.classes.device)]
        return torch.cat([self.z.to(clean), dequantiser(clean, generator)], 1)


@torch.no_grad()
def generate_pairs(
    target: GanTarget, stage: CaptionStage, count: int, weights: Sequence[float] | Tensor, seed: int = 0
) -> tuple[GeneratedPairs, Tensor]:
    """Draws noise and classes, renders the pictures from the *clean* embeddings, and recognises what is on them.

    The order matters (paper §4.1): a caption has to describe the picture that belongs to the latent. Captions of real
    pictures would need the latents of real pictures, and those do not exist.

    Args:
        target: the generator.
        stage: says what is on a picture.
        count: ``N``.
        weights: ``(C,)``, how often to draw each class; any scale.
        seed: of noise and classes.

    Returns:
        The pairs, and the last batch of pictures ``(≤ 250, 3, S, S)`` to look at.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.as_tensor(weights, dtype=torch.float32)
    label = torch.multinomial(weights, count, replacement=True, generator=generator)
    z = torch.randn(count, target.noise, generator=generator)
    seen: list[dict[str, str]] = []
    device = target.classes.device
    for noise, one in zip(z.split(250), label.split(250), strict=True):
        pictures = target.decode(torch.cat([noise.to(device), target.classes[one.to(device)]], 1))
        seen += stage.recognise(pictures)
    known = {tuple(one.items()): one for one in seen}
    places = {key: k for k, key in enumerate(known)}
    thing = torch.tensor([places[tuple(one.items())] for one in seen])
    return GeneratedPairs(z, label, thing, list(known.values())), pictures.cpu()


class GanMethod(CaptionMethod):
    """Trains a flow on generated pairs; every step moves the class embeddings anew.

    Args:
        pairs: of :func:`generate_pairs`.
        target: the generator they are of.
        dequantiser: frozen.
        table: beliefs ``(E, C, T)`` of captions of the pairs' things.
        source: reads sentences.
        flow: the flow to train.
        held: generated pairs that are not trained on.
        options: those of :class:`FlowMethod`.
    """

    def __init__(
        self,
        pairs: GeneratedPairs,
        target: GanTarget,
        dequantiser: Dequantiser,
        table: Tensor,
        source: CaptionSource,
        flow: ConditionalFlow,
        held: GeneratedPairs | None = None,
        **options: object,
    ):
        self.dequantiser, self.classes, self.label = dequantiser, target.classes, pairs.label
        self.noise_length = target.noise
        kept = None if held is None else self._fixed(held, target, dequantiser, table, source)
        latents = self._fixed(pairs, target, dequantiser, table, source)
        super().__init__(latents, pairs.thing, table, source, flow, held=kept, **options)

    @staticmethod
    def _fixed(
        pairs: GeneratedPairs, target: GanTarget, dequantiser: Dequantiser, table: Tensor, source: CaptionSource
    ) -> Pairs:
        """One draw of every latent with its first caption: for the linear shift and for the held-out loss."""
        latent = pairs.latents(target, dequantiser, torch.Generator().manual_seed(0))
        beliefs = table[pairs.thing.to(table.device), 0]
        return Pairs(source.condition(beliefs), latent, torch.zeros_like(latent))

    def to_device(self, device: torch.device) -> None:
        """Moves labels and embeddings."""
        super().to_device(device)
        self.label, self.classes = self.label.to(device), self.classes.to(device)
        self.dequantiser = self.dequantiser.to(device)

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise as it was, a fresh neighbour of the class embedding, and a caption that fits."""
        latent, condition = super().batch(index, generator)
        moved = self.dequantiser(self.classes[self.label[index.to(self.device)]], generator)
        return torch.cat([latent[:, : self.noise_length], moved], 1), condition
