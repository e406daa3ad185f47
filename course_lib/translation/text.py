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

__all__ = ["CaptionMethod", "CaptionSource", "CaptionTable", "first_pictures", "held_out", "with_subgroups"]


def first_pictures(data: ImageSet) -> Tensor:
    """``int64 (E,)``: for every emoji of ``data`` the position of its first picture; captions are shared by styles."""
    emoji, owner = data.labels["emoji"].unique(return_inverse=True)
    return torch.full((len(emoji),), len(data)).scatter_reduce(0, owner, torch.arange(len(data)), "amin")


class CaptionSource:
    """Source expert: a sentence embedding on its leading principal components, with mean variance 1.

    Two thousand captions span few of the 384 directions of SBERT well. In the others a flow finds only what tells one
    training caption from the next, which is what it must not learn.

    Args:
        sentences: a sentence expert, such as ``SentenceExpert`` or ``SentenceMemory``.
        mean: ``(F,)`` of the embeddings.
        axes: ``(F, K)``, orthonormal.
        scale: one number that conditions are divided by.

    Attributes:
        condition_shape: ``(K,)``.
    """

    def __init__(self, sentences: SourceExpert, mean: Tensor, axes: Tensor, scale: float):
        self.sentences, self.mean, self.axes, self.scale = sentences, mean, axes, float(scale)
        self.condition_shape = (axes.shape[1],)

    @classmethod
    def fit(cls, sentences: SourceExpert, embeddings: Tensor, components: int = 96) -> "CaptionSource":
        """Principal components of training captions.

        Args:
            sentences: what made the embeddings.
            embeddings: ``(N, F)``, more rows than components.
            components: ``K``.

        Raises:
            CourseError: too few captions.
        """
        if not components < len(embeddings) or components > embeddings.shape[1]:
            raise CourseError(
                f"{len(embeddings)} captions of {embeddings.shape[1]} numbers have no {components} components: take "
                "fewer."
            )
        centred = (embeddings - embeddings.mean(0)).double()
        values, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
        kept = values[-components:].mean().sqrt().item()
        return cls(sentences, embeddings.mean(0), axes[:, -components:].flip(1).to(embeddings), kept)

    def to(self, device: torch.device | str) -> "CaptionSource":
        """The source with its axes on ``device``."""
        return CaptionSource(self.sentences, self.mean.to(device), self.axes.to(device), self.scale)

    def project(self, embeddings: Tensor) -> Tensor:
        """Conditions ``(…, K)`` of embeddings ``(…, F)``."""
        return (embeddings.to(self.mean) - self.mean) @ self.axes / self.scale

    def encode(self, x: list[str]) -> Tensor:
        """Conditions ``(B, K)`` of a list of captions."""
        return self.project(self.sentences.encode(x))

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of it."""
        return {"mean": self.mean, "axes": self.axes, "scale": torch.tensor(self.scale)}


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
        return mean + torch.randn(mean.shape, generator=generator).to(mean) * self.pairs.deviation[index]


def held_out(data: ImageSet, latents: Pairs, source: CaptionSource, variant: int = 0) -> Pairs:
    """Held-out pairs for the logged loss: every picture's latent with its caption number ``variant``."""
    captions = [data.caption(i, variant) for i in range(len(data))]
    return Pairs(source.encode(captions), latents.mean, latents.deviation)


def with_subgroups(data: ImageSet, names: Sequence[str]) -> ImageSet:
    """The pictures whose subgroup is one of ``names``, for example those that a generator was trained on."""
    known = torch.tensor([data.classes["subgroup"].index(name) for name in names])
    return data.subset(torch.isin(data.labels["subgroup"], known))
