"""Sentences as conditions: a linear reading of SBERT's embeddings, and training that draws a caption at every step."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..cinn import ConditionalFlow, GridFlow
from ..data import ImageSet
from ..data.people import ATTRIBUTES, WORDINGS, Person, captions, describe
from ..errors import CourseError
from ..experts import LabelExpert, SourceExpert
from .pairs import Pairs
from .training import FlowMethod

__all__ = [
    "NEW_WORDINGS",
    "CaptionMethod",
    "CaptionSource",
    "belief_targets",
    "combinations_of",
    "new_captions",
    "some_of",
    "training_captions",
]

NEW_WORDINGS = (3, 6)
"""Of :func:`course_lib.data.people.captions`; with the last wording of :func:`describe` kept for tests."""


NAMED = 0.5
"""Least belief in a value that counts as named. On new wordings about the combinations of the val part, 98 % of the
named values had 0.55 or more, and 98 % of the open attributes 0.41 or less."""


class CaptionSource:
    """Source expert: a sentence embedding, a fixed linear map that reads labels off it, and the style to draw in.

    A flow with a few million weights cannot find six attributes in 384 numbers from a thousand sentences. Least squares
    can: the map is fitted in closed form on captions whose labels are known, and is then frozen. Its beliefs are
    rounded to labels (:meth:`decide`): a condition between two hair colours would draw a blend of them.

    Args:
        sentences: a sentence expert, such as ``SentenceExpert`` or ``SentenceMemory``.
        mean: ``(F,)`` of the embeddings.
        weight, offset: ``(F, T)`` and ``(T,)`` of the map.
        labels: whose joined one-hots are read, those of the first attribute only if there are no ``names``.
        names: of the classes of that first attribute, the styles; then a style is given beside each sentence.

    Attributes:
        condition_shape: ``(K,)``.
    """

    def __init__(
        self,
        sentences: SourceExpert,
        mean: Tensor,
        weight: Tensor,
        offset: Tensor,
        labels: LabelExpert,
        names: Sequence[str] = (),
    ):
        self.sentences, self.mean, self.weight, self.offset = sentences, mean, weight, offset
        self.labels, self.names = labels, list(names)
        self.condition_shape = labels.condition_shape

    @classmethod
    def fit(
        cls,
        sentences: SourceExpert,
        embeddings: Tensor,
        targets: Tensor,
        labels: LabelExpert,
        names: Sequence[str] = (),
        ridge: float = 1e-2,
    ) -> "CaptionSource":
        """Ridge regression of ``targets (N, T)``, 1 for what a caption says, on ``embeddings (N, F)``.

        Args:
            ridge: penalty, relative to the mean variance of an embedding's numbers. On captions in new wordings 0.01
                read every attribute at least as often right as 0.001 and 0.0001.
        """
        x, y = (embeddings - embeddings.mean(0)).double(), targets.double()
        gram = x.T @ x / len(x)
        gram += ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        weight = torch.linalg.solve(gram, x.T @ (y - y.mean(0)) / len(x))
        return cls(sentences, embeddings.mean(0), weight.to(embeddings), y.mean(0).to(embeddings), labels, names)

    def to(self, device: torch.device | str) -> "CaptionSource":
        """The source with its map on ``device``."""
        tensors = (tensor.to(device) for tensor in (self.mean, self.weight, self.offset))
        return CaptionSource(self.sentences, *tensors, self.labels, self.names)

    def read(self, x: Sequence[str]) -> Tensor:
        """Beliefs ``(B, T)``: near 1 what a sentence says, near 0 what it does not."""
        return (self.sentences.encode(list(x)).to(self.mean) - self.mean) @ self.weight + self.offset

    def decide(self, beliefs: Tensor) -> Tensor:
        """Labels of beliefs ``(B, T)``: of each attribute the value believed most, as a one-hot, or zeros: left open.

        An attribute is open if no value is believed at :data:`NAMED` or more.
        """
        first = next(iter(self.labels.slices))
        parts = [part for name, part in self.labels.slices.items() if not (self.names and name == first)]
        blocks = beliefs.split([part.stop - part.start for part in parts], 1)
        best = [block.max(1, keepdim=True) for block in blocks]
        hot = [
            torch.zeros_like(block).scatter(1, one.indices, (one.values >= NAMED).to(block))
            for block, one in zip(blocks, best, strict=True)
        ]
        return torch.cat(hot, 1)

    def encode(self, x: Sequence[str] | Sequence[tuple[str, str]]) -> Tensor:
        """Conditions ``(B, K)`` of sentences, or of pairs (sentence, style) where this source has styles.

        Raises:
            CourseError: no such style, or a sentence without one.
        """
        if not self.names:
            return self.condition(self.read(x))
        if any(isinstance(one, str) or one[1] not in self.names for one in x):
            raise CourseError(f"give pairs (sentence, style), with a style among {', '.join(self.names)}.")
        style = torch.tensor([self.names.index(style) for _, style in x])
        return self.condition(self.read([sentence for sentence, _ in x]), style)

    def condition(self, beliefs: Tensor, style: Tensor | None = None) -> Tensor:
        """Conditions ``(B, K)`` of beliefs ``(B, T)``, and of style numbers ``(B,)`` where this source has styles."""
        joined = self.decide(beliefs)
        if self.names:
            one_hot = torch.nn.functional.one_hot(style.long(), len(self.names)).to(joined)
            joined = torch.cat([one_hot, joined], 1)
        return self.labels.cross(joined)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of it."""
        return {"mean": self.mean, "weight": self.weight, "offset": self.offset}


def combinations_of(data: ImageSet) -> tuple[list[Mapping[str, str]], Tensor]:
    """The different combinations of attributes in ``data``, and for every picture which one it has, ``int64 (N,)``."""
    table = torch.stack([data.labels[name] for name in ATTRIBUTES], 1)
    rows, owner = table.unique(dim=0, return_inverse=True)
    values = [{name: data.classes[name][k] for name, k in zip(ATTRIBUTES, row, strict=True)} for row in rows.tolist()]
    return values, owner


def some_of(values: Mapping[str, str], count: int, generator: torch.Generator) -> dict[str, str]:
    """``count`` random entries of ``values``, in their order."""
    chosen = torch.randperm(len(values), generator=generator)[:count].tolist()
    return {name: value for k, (name, value) in enumerate(values.items()) if k in chosen}


def training_captions(
    values: Mapping[str, str], partial: int, generator: torch.Generator
) -> tuple[list[str], list[Mapping[str, str]]]:
    """Sentences about one combination of attributes, and what each of them names.

    First the six complete wordings of training, then ``partial`` sentences that name none to four of the attributes.
    """
    complete = captions(Person(**values))
    texts = [text for k, text in enumerate(complete) if k not in NEW_WORDINGS]
    named: list[Mapping[str, str]] = [values] * len(texts)
    for _ in range(partial):
        some = some_of(values, int(torch.randint(len(values), (), generator=generator)), generator)
        texts.append(describe(some, int(torch.randint(WORDINGS - 1, (), generator=generator))))
        named.append(some)
    return texts, named


def new_captions(
    values: Mapping[str, str], count: int, generator: torch.Generator
) -> tuple[list[str], list[Mapping[str, str]]]:
    """Sentences in wordings that are never trained on: two complete ones, ``count`` with two or three attributes."""
    complete = captions(Person(**values))
    some = [some_of(values, 2 + k % 2, generator) for k in range(count)]
    texts = [complete[k] for k in NEW_WORDINGS] + [describe(one, WORDINGS - 1) for one in some]
    return texts, [values] * len(NEW_WORDINGS) + some


def belief_targets(named: Sequence[Mapping[str, str]]) -> Tensor:
    """1 for what is named: ``(N, T)``, the joined one-hots of :data:`ATTRIBUTES`. Who is bald has no hair colour."""
    columns = [(name, value) for name, values in ATTRIBUTES.items() for value in values]
    follows = {("cut", "bald"): ("hair", "none"), ("hair", "none"): ("cut", "bald")}
    rows = []
    for one in named:
        said = set(one.items())
        said |= {follows[pair] for pair in said if pair in follows}
        rows.append([float(column in said) for column in columns])
    return torch.tensor(rows)


class CaptionMethod(FlowMethod):
    """Conditional maximum likelihood where every step draws a picture and one of the captions that fit it.

    Args:
        pairs: latents, and style numbers ``(N,)`` as conditions.
        owner: ``int64 (N,)``: which row of the table each picture belongs to.
        table: beliefs ``(E, C, T)``: C captions for each of E combinations.
        source: makes conditions of beliefs and styles.
        flow: the flow to train.
        options: those of :class:`FlowMethod`.
    """

    def __init__(
        self,
        pairs: Pairs,
        owner: Tensor,
        table: Tensor,
        source: CaptionSource,
        flow: GridFlow | ConditionalFlow,
        **options: object,
    ):
        super().__init__(pairs, flow, **options)
        self.owner, self.table, self.source = owner, table, source

    def to_device(self, device: torch.device) -> None:
        """Moves latents and captions."""
        super().to_device(device)
        self.owner, self.table = self.owner.to(device), self.table.to(device)

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latent ``(B, D)`` and condition ``(B, K)``."""
        latent, style = super().batch(index, generator)
        index = index.to(self.device)
        pick = torch.randint(self.table.shape[1], (len(index),), generator=generator).to(self.device)
        return latent, self.source.condition(self.table[self.owner[index], pick], style)
