"""Captions as conditions: the source expert, tables of several captions a picture, and training that draws one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..cinn import ConditionalFlow
from ..data import ImageSet
from ..errors import CourseError
from ..experts import SourceExpert
from .pairs import Pairs
from .training import FlowMethod

__all__ = [
    "CaptionMethod",
    "CaptionSource",
    "CaptionTable",
    "discriminant_axes",
    "first_pictures",
    "held_out",
    "with_subgroups",
]


def first_pictures(data: ImageSet) -> Tensor:
    """``int64 (E,)``: for every emoji of ``data`` the position of its first picture; captions are shared by styles."""
    emoji, owner = data.labels["emoji"].unique(return_inverse=True)
    return torch.full((len(emoji),), len(data)).scatter_reduce(0, owner, torch.arange(len(data)), "amin")


class CaptionSource:
    """Source expert: a sentence embedding, then a fixed linear map to what matters for pictures.

    Two thousand captions span few of the 384 directions of SBERT well. In the others a flow finds only what tells one
    training caption from the next, which is what it must not learn.

    Args:
        sentences: a sentence expert, such as ``SentenceExpert`` or ``SentenceMemory``.
        mean: ``(F,)`` of the embeddings.
        axes: ``(F, K)``.

    Attributes:
        condition_shape: ``(K,)``.
    """

    def __init__(self, sentences: SourceExpert, mean: Tensor, axes: Tensor):
        self.sentences, self.mean, self.axes = sentences, mean, axes
        self.condition_shape = (axes.shape[1],)

    @classmethod
    def fit(
        cls,
        sentences: SourceExpert,
        embeddings: Tensor,
        components: int,
        labels: Tensor | None = None,
        discriminants: int = 0,
    ) -> "CaptionSource":
        """Directions of training captions, each kind with mean variance 1.

        Args:
            sentences: what made the embeddings.
            embeddings: ``(N, F)``, more rows than directions.
            components: leading principal components.
            labels: ``int64 (N,)``, for example subgroups.
            discriminants: leading directions of Fisher's discriminant analysis of the labels; they follow the
                components and say the same thing again with another weight, which a small network is grateful for.

        Raises:
            CourseError: too few captions, or discriminants without labels.
        """
        if not components + discriminants < len(embeddings) or max(components, discriminants) > embeddings.shape[1]:
            raise CourseError(
                f"{len(embeddings)} captions of {embeddings.shape[1]} numbers have no {components} + {discriminants} "
                "directions: take fewer."
            )
        if discriminants and labels is None:
            raise CourseError("discriminants need labels: give one for each caption.")
        centred = (embeddings - embeddings.mean(0)).double()
        axes = torch.linalg.eigh(centred.T @ centred / len(centred)).eigenvectors[:, -components:].flip(1)
        kinds = [axes, discriminant_axes(centred, labels, discriminants)] if discriminants else [axes]
        kinds = [kind / (centred @ kind).var(0).mean().sqrt() for kind in kinds]
        return cls(sentences, embeddings.mean(0), torch.cat(kinds, 1).to(embeddings))

    def to(self, device: torch.device | str) -> "CaptionSource":
        """The source with its axes on ``device``."""
        return CaptionSource(self.sentences, self.mean.to(device), self.axes.to(device))

    def project(self, embeddings: Tensor) -> Tensor:
        """Conditions ``(…, K)`` of embeddings ``(…, F)``."""
        return (embeddings.to(self.mean) - self.mean) @ self.axes

    def encode(self, x: list[str]) -> Tensor:
        """Conditions ``(B, K)`` of a list of captions."""
        return self.project(self.sentences.encode(x))

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of it."""
        return {"mean": self.mean, "axes": self.axes}


def discriminant_axes(centred: Tensor, labels: Tensor, count: int, shrink: float = 0.6) -> Tensor:
    """Fisher's discriminants ``(F, count)``: directions in which classes lie far apart compared with their own spread.

    Args:
        centred: ``float64 (N, F)`` with mean 0.
        labels: ``int64 (N,)``.
        count: how many, the best first.
        shrink: share of a multiple of the identity in the covariance inside the classes, which small classes need.
    """
    names, label, size = labels.unique(return_inverse=True, return_counts=True)
    means = centred.new_zeros(len(names), centred.shape[1]).index_add(0, label, centred) / size[:, None]
    inside = centred - means[label]
    within = inside.T @ inside / len(inside)
    within = (1 - shrink) * within + shrink * within.diagonal().mean() * torch.eye(len(within)).to(within)
    whiten = torch.linalg.inv(torch.linalg.cholesky(within))
    spread = (means - means.mean(0)) @ whiten.T
    best = torch.linalg.eigh(spread.T @ spread).eigenvectors[:, -count:].flip(1)
    return whiten.T @ best


@dataclass(frozen=True)
class CaptionTable:
    """Conditions of several captions for each of ``E`` things.

    Attributes:
        condition: ``(E, C, K)``; things with fewer captions than ``C`` repeat theirs.
        count: ``int64 (E,)``: how many are different.
    """

    condition: Tensor
    count: Tensor

    @classmethod
    def of(cls, captions: list[list[str]], source: CaptionSource) -> "CaptionTable":
        """Encodes all captions, each once.

        Raises:
            CourseError: something has no caption.
        """
        if not captions or not all(captions):
            raise CourseError("every picture needs a caption: use the emoji, or a set that comes with captions.")
        most = max(map(len, captions))
        padded = [names[k % len(names)] for names in captions for k in range(most)]
        condition = source.encode(padded).view(len(captions), most, -1)
        return cls(condition, torch.tensor([len(names) for names in captions]))

    def to(self, device: torch.device | str) -> "CaptionTable":
        """The table on ``device``."""
        return CaptionTable(self.condition.to(device), self.count.to(device))

    def draw(self, owner: Tensor, generator: torch.Generator, noise: float = 0.0) -> Tensor:
        """One random caption's condition ``(B, K)`` for each of ``owner: int64 (B,)``, plus Gaussian noise.

        Args:
            owner: which thing.
            generator: CPU generator.
            noise: standard deviation.
        """
        pick = (torch.rand(len(owner), generator=generator).to(owner.device) * self.count[owner]).long()
        found = self.condition[owner, pick]
        return found + noise * torch.randn(found.shape, generator=generator).to(found) if noise else found


class CaptionMethod(FlowMethod):
    """Conditional maximum likelihood where every step draws a picture and one of its captions.

    Pictures are drawn with chance ∝ 1 / √(relatives): a person in six skin tones and two genders would else fill the
    batches with a dozen pictures of one caption.

    Args:
        latents: ``mean`` and ``deviation`` ``(N, D)`` of the targets; their conditions are not used.
        owner: ``int64 (N,)``: which row of the table each target belongs to.
        table: conditions of the captions.
        relatives: ``(E,)``: how many things share a base with each.
        flow: the flow to train.
        noise: standard deviation of Gaussian noise on the condition, in the table's units. A thousand captions are
            points in the space of sentences, and new captions lie between them: noise lets a training picture answer
            for the neighbourhood of its caption.
        rate, weight_decay, held, held_every: as for :class:`FlowMethod`.
    """

    def __init__(
        self,
        latents: Pairs,
        owner: Tensor,
        table: CaptionTable,
        relatives: Tensor,
        flow: ConditionalFlow,
        noise: float,
        rate: float = 2e-3,
        weight_decay: float = 0.05,
        held: Pairs | None = None,
        held_every: int = 100,
    ):
        super().__init__(latents, flow, rate, weight_decay, held, held_every)
        self.owner, self.table, self.noise = owner, table, noise
        self.chance = relatives.float()[owner].rsqrt()

    def to_device(self, device: torch.device) -> None:
        """Moves targets and captions."""
        super().to_device(device)
        self.owner, self.table = self.owner.to(device), self.table.to(device)

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latent ``(B, D)`` and condition ``(B, K)``. The loop's index only says how many."""
        index = torch.multinomial(self.chance, len(index), replacement=True, generator=generator).to(self.device)
        condition = self.table.draw(self.owner[index], generator, self.noise)
        return self.targets(index, generator), condition

    def targets(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Latents ``(B, D)``: a sample of each posterior."""
        mean = self.pairs.mean[index]
        return mean + torch.randn(mean.shape, generator=generator).to(mean) * self.pairs.std[index]


def held_out(data: ImageSet, latents: Pairs, source: CaptionSource, variant: int = 0) -> Pairs:
    """Held-out pairs for the logged loss: every picture's latent with its caption number ``variant``."""
    captions = [data.caption(i, variant) for i in range(len(data))]
    return Pairs(source.encode(captions), latents.mean, latents.std)


def with_subgroups(data: ImageSet, names: Sequence[str]) -> ImageSet:
    """The pictures whose subgroup is one of ``names``, for example those that a generator was trained on."""
    known = torch.tensor([data.classes["subgroup"].index(name) for name in names])
    return data.subset(torch.isin(data.labels["subgroup"], known))
