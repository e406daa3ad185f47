"""A class-conditional generator as target expert. Its discrete class embeddings are dequantised into a density."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..cinn.flow import ConditionalFlow
from ..errors import CourseError
from ..experts.autoencoder import LatentSpace, Posterior
from ..experts.protocol import Device, load_expert
from ..gans.biggan import Generator
from ..paths import CHECKPOINTS
from ..training.files import load_card
from ..training.method import Loss, Method
from .text import CaptionMethod, CaptionSource, CaptionStage
from .training import Pairs

__all__ = ["DequantiserMethod", "GanMethod", "GanTarget", "GeneratedPairs", "class_distance", "generate_pairs"]
__all__ += ["nearest_class", "start_dequantiser"]


class GanTarget(nn.Module):
    """Target expert: noise and class embedding as one vector, noise first (paper §4.1; its code's ``Net2BigGANFlow``).

    It has no encoder: nobody knows the ``z`` of a given picture. So pairs start from ``z``, see :func:`generate_pairs`.
    With ``rounded`` an embedding is replaced by that of the nearest class; the paper renders it as it is, but a
    generator that saw few classes knows nothing about what lies between them. ``space`` is that of the latents that the
    generator draws, None where it draws pictures.
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
        cls, name: str = "avatar-biggan", device: Device = "cpu", rounded: bool = False, folder: Path = CHECKPOINTS
    ) -> "GanTarget":
        space = load_card(name, folder).recipe.get("space")
        latents = LatentSpace(load_expert(space, device)) if space else None
        return cls(load_expert(name, device, folder), rounded, latents)

    @property
    def classes(self) -> Tensor:
        """Embeddings of all classes, ``(C, E)``."""
        return self.generator.shared.weight.detach()

    def split(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Noise ``(B, Z)`` and embedding ``(B, E)``."""
        if latent.shape[1:] != (self.latent_dim,):
            raise CourseError(f"this target takes latents (B, {self.latent_dim}), not {tuple(latent.shape)}.")
        return latent[:, : self.noise], latent[:, self.noise :]

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1]."""
        noise, embedding = self.split(latent)
        if self.rounded:
            embedding = self.classes[nearest_class(embedding, self.classes)]
        drawn = self.generator(noise, embedding)
        return drawn if self.space is None else self.space.decode(drawn)

    def encode(self, x: Tensor) -> Tensor:
        raise CourseError("a GAN has no encoder: make pairs from its own samples with generate_pairs.")


@dataclass(frozen=True)
class GeneratedPairs:
    """Generated pictures as far as the flow needs them."""

    z: Tensor  # (N, Z)
    label: Tensor  # int64 (N,)
    thing: Tensor  # int64 (N,): what the caption stage saw, a row of ``things``
    things: list[dict[str, str]]  # the different things seen, each label → name

    def __len__(self) -> int:
        return len(self.label)

    def subset(self, index: Tensor) -> "GeneratedPairs":
        return GeneratedPairs(self.z[index], self.label[index], self.thing[index], self.things)

    def latents(self, target: GanTarget, dequantiser: nn.Module, generator: torch.Generator | None = None) -> Tensor:
        """Flow targets ``(N, Z + E)``: noise, then a random neighbour of the class embedding."""
        clean = target.classes[self.label.to(target.classes.device)]
        return torch.cat([self.z.to(clean), dequantiser(clean, generator)], 1)


@torch.no_grad()
def generate_pairs(
    target: GanTarget, stage: CaptionStage, count: int, weights: Sequence[float] | Tensor, seed: int = 0
) -> tuple[GeneratedPairs, Tensor]:
    """Draws noise and classes, renders the pictures from the *clean* embeddings, and recognises what is on them.

    The order matters (paper §4.1): a caption has to describe the picture that belongs to the latent. ``weights (C,)``
    say how often to draw each class. Also returns the last batch of pictures ``(≤ 250, 3, S, S)`` to look at.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.as_tensor(weights, dtype=torch.float32)
    label = torch.multinomial(weights, count, replacement=True, generator=generator)
    z = torch.randn(count, target.noise, generator=generator)
    places: dict[tuple, int] = {}  # what was seen, and its row among the things
    thing, device = [], target.classes.device
    for noise, one in zip(z.split(250), label.split(250), strict=True):
        pictures = target.decode(torch.cat([noise.to(device), target.classes[one.to(device)]], 1))
        thing += [places.setdefault(tuple(seen.items()), len(places)) for seen in stage.recognise(pictures)]
    return GeneratedPairs(z, label, torch.tensor(thing), [dict(seen) for seen in places]), pictures.cpu()


class GanMethod(CaptionMethod):
    """Trains a flow on generated pairs; every step moves the class embeddings anew.

    ``dequantiser`` is a frozen :class:`course_lib.released.net2net_experts.Dequantiser`; ``table (E, C, T)`` are
    beliefs of captions of the pairs' things; the rest is as for :class:`CaptionMethod`.
    """

    moved = (*CaptionMethod.moved, "label", "classes", "dequantiser")

    def __init__(
        self,
        pairs: GeneratedPairs,
        target: GanTarget,
        dequantiser: nn.Module,
        table: Tensor,
        source: CaptionSource,
        flow: ConditionalFlow,
        held: GeneratedPairs | None = None,
        **options: object,
    ):
        self.dequantiser, self.classes, self.label = dequantiser, target.classes, pairs.label
        self.noise_length = target.noise

        def fixed(some: GeneratedPairs) -> Pairs:
            """One draw of every latent with its first caption: for the linear shift and for the held-out loss."""
            latent = some.latents(target, dequantiser, torch.Generator().manual_seed(0))
            condition = source.condition(table[some.thing.to(table.device), 0])
            return Pairs(condition, latent, torch.zeros_like(latent))

        kept = None if held is None else fixed(held)
        super().__init__(fixed(pairs), pairs.thing, table, source, flow, held=kept, **options)

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise as it was, a fresh neighbour of the class embedding, and a caption that fits."""
        latent, condition = super().batch(index, generator)
        moved = self.dequantiser(self.classes[self.label[index.to(self.device)]], generator)
        return torch.cat([latent[:, : self.noise_length], moved], 1), condition


# --- dequantisation -------------------------------------------------------------------------------------------------


def class_distance(embeddings: Tensor) -> float:
    """Mean distance from a class embedding to the nearest other one; ``embeddings: (C, E)``, all different."""
    if len(embeddings) < 2:
        raise CourseError("a distance between classes needs two of them.")
    distance = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance.fill_diagonal_(float("inf")).amin(1)
    if float(nearest.min()) == 0:
        raise CourseError("two classes have the same embedding: nothing can tell them apart.")
    return nearest.mean().item()


def nearest_class(vectors: Tensor, embeddings: Tensor) -> Tensor:
    """``int64 (B,)``: the class whose embedding ``(C, E)`` is nearest to each of ``vectors: (B, E)``."""
    return torch.cdist(vectors, embeddings).argmin(1)


def _linear(network: nn.Module, matrix: Tensor, offset: Tensor) -> None:
    """Sets a LeakyReLU network whose hidden layers are twice as wide as its ends to ``x ↦ matrix · x + offset``.

    The hidden layers carry ``x`` and ``−x``; from the two activations the next layer restores both.
    """
    slope = next(part.negative_slope for part in network.modules() if isinstance(part, nn.LeakyReLU))
    first, *middle, last = [part for part in network.modules() if isinstance(part, nn.Linear)]
    both = torch.cat([torch.eye(first.in_features), -torch.eye(first.in_features)])
    for layer, weight in ((first, both), *((layer, both @ both.T / (1 + slope)) for layer in middle)):
        layer.weight.copy_(weight)
        layer.bias.zero_()
    last.weight.copy_(matrix @ both.T / (1 + slope))
    last.bias.copy_(offset)


@torch.no_grad()
def start_dequantiser(embeddings: Tensor, spread: float = 0.3) -> nn.Module:
    """A dequantiser that can be trained, and that begins as the best isotropic linear autoencoder.

    Five linear layers with default weights learn for tens of thousands of steps to let their input through. The code is
    as long as the embedding: with a shorter one all neighbours would lie on a surface, which has no density either.
    """
    # Imported late: who translates with a trained flow opens no readers of released files.
    from ..released.net2net_experts import Dequantiser, DequantiserConfig

    embeddings = embeddings.detach().cpu()
    dim = embeddings.shape[1]
    width = likelihood_width(embeddings, spread)
    network = Dequantiser(DequantiserConfig(dim, dim, 2 * dim))
    mean, scale = embeddings.mean(0), embeddings.std(0, correction=0).mean()
    eye = torch.eye(dim)
    _linear(network.encoder, eye, torch.zeros(dim))
    _linear(network.mu_layer, eye / scale, -mean / scale)
    _linear(network.logvar_layer, 0 * eye, (width**2 / (width**2 + scale**2)).log().expand(dim))
    _linear(network.decoder, eye * scale, mean)
    return network.requires_grad_(True)


def likelihood_width(embeddings: Tensor, spread: float) -> float:
    """``s`` of the likelihood: an error vector with this deviation has the length ``spread`` × class distance."""
    return spread * class_distance(embeddings) / embeddings.shape[1] ** 0.5


class DequantiserMethod(Method):
    """The evidence lower bound with a Gaussian likelihood of fixed width, on the class embeddings ``(C, E)`` alone.

    ``‖e − ê‖² / (2 s²) + KL``: the random reconstruction ``ê`` ends up about ``s`` away from ``e`` in every direction
    that the code carries. ``spread`` is the expected length of a whole error vector of width ``s``, as a share of the
    mean distance between neighbouring classes. The original's training code is not released; this objective is ours.
    """

    moved = ("embeddings",)

    def __init__(self, embeddings: Tensor, network: nn.Module, spread: float = 0.3, rate: float = 1e-3):
        super().__init__()
        self.embeddings = embeddings.detach().clone()
        self.width = likelihood_width(self.embeddings, spread)
        self.modules = {"dequantiser": network}
        self.optimizers = {"dequantiser": torch.optim.Adam(network.parameters(), rate, fused=True)}
        self.ema, self.length = {"dequantiser": 0.99}, 1024 * len(embeddings)

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Embeddings ``(B, E)`` of all classes in turn, and the noise for their codes."""
        network = self.unwrapped("dequantiser")
        noise = torch.randn(len(index), network.config.code_dim, generator=generator)
        return self.embeddings[index.to(self.device) % len(self.embeddings)], noise.to(self.device)

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        embedding, noise = batch
        network = self.unwrapped("dequantiser")
        features = network.encoder(embedding)
        code = Posterior(network.mu_layer(features), network.logvar_layer(features).clamp(-20.0, 10.0))
        error = (network.decoder(code.moved(noise)) - embedding).square().sum(1).mean()
        kl = code.kl().mean()
        yield Loss("dequantiser", error / (2 * self.width**2) + kl, {"kl": kl, "error": error.sqrt()})

    def learning_rate(self, progress: float) -> float:
        return 1.0 - 0.95 * progress
