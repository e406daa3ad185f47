"""Scores of pictures made from captions: is the right kind of thing on them, and is it the right one of a hundred?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import ImageSet
from ..errors import CourseError
from .judge import Judge
from .probes import balanced_accuracy

__all__ = ["Gallery", "TextScores", "r_precision", "score_texts"]


def r_precision(
    queries: Tensor, gallery: Tensor, own: Tensor, group: Tensor, distractors: int = 99, seed: int = 0
) -> float:
    """Share of queries whose own gallery entry is more similar than all of ``distractors`` random others.

    Text-to-image papers rank captions for a generated picture (Xu et al. 2018, AttnGAN: one right caption, 99 random
    ones). Here pictures are ranked: similarity is the cosine of embeddings.

    Args:
        queries: ``(Q, F)``, of generated pictures.
        gallery: ``(G, F)``, of real ones.
        own: ``int64 (Q,)``: the gallery entry that belongs to each query.
        group: ``int64 (G,)``: entries of the query's own group are relatives and never distractors.
        distractors: how many; chance is ``1 / (distractors + 1)``.
        seed: of the draw.

    Raises:
        CourseError: some query has fewer entries of other groups than ``distractors``, or lengths differ.
    """
    if len(own) != len(queries) or len(group) != len(gallery):
        raise CourseError("R-precision needs one own entry for each query and one group for each gallery entry.")
    similarity = torch.nn.functional.normalize(queries, dim=1) @ torch.nn.functional.normalize(gallery, dim=1).T
    others = group[None] != group[own][:, None]
    if int(others.sum(1).min()) < distractors:
        raise CourseError(f"there are not {distractors} pictures of other groups to choose from: take fewer.")
    # A random order of all entries with the forbidden ones last; the first ones are the distractors.
    order = torch.rand(similarity.shape, generator=torch.Generator().manual_seed(seed)).masked_fill(~others, 2.0)
    chosen = order.topk(distractors, dim=1, largest=False).indices
    right = similarity.gather(1, own[:, None])[:, 0]
    return (right > similarity.gather(1, chosen).amax(1)).float().mean().item()


@dataclass(frozen=True)
class Gallery:
    """What pictures made from captions are compared with: the emoji of one part of the set.

    Attributes:
        subgroup: ``int64 (E,)`` of each emoji.
        base: ``int64 (E,)``: emoji that differ in skin tone or gender only share it.
        embeddings: ``(E, F)``: the judge's, mean over the styles, unit length. The judge was trained to give all styles
            of one emoji the same embedding.
        captions: of each emoji.
        size: the pictures were shrunk to so many pixels first.
    """

    subgroup: Tensor
    base: Tensor
    embeddings: Tensor
    captions: list[list[str]]
    size: int

    @classmethod
    def of(cls, data: ImageSet, judge: Judge, size: int = 64) -> "Gallery":
        """From a part of the emoji set, ordered style by style.

        Args:
            data: with labels ``emoji``, ``subgroup``, ``base`` and captions.
            judge: gives the embeddings.
            size: side of the pictures that the judge sees (it enlarges them to its own).

        Raises:
            CourseError: a set without these.
        """
        if not {"emoji", "subgroup", "base"} <= data.labels.keys() or not data.captions:
            raise CourseError(f"{data.name!r} has no captions and subgroups to score against: use a part of the emoji.")
        emoji, owner = data.labels["emoji"].unique(return_inverse=True)
        first = torch.full((len(emoji),), len(data)).scatter_reduce(0, owner, torch.arange(len(data)), "amin")
        embeddings = torch.cat([judge.embeddings(part) for part in data.batches(250, size)])
        pooled = torch.zeros(len(emoji), embeddings.shape[1]).index_add(0, owner, embeddings)
        return cls(
            data.labels["subgroup"][first],
            data.labels["base"][first],
            torch.nn.functional.normalize(pooled, dim=1),
            [data.captions[i] for i in first.tolist()],
            size,
        )

    def __len__(self) -> int:
        return len(self.subgroup)


@dataclass(frozen=True)
class TextScores:
    """Shares in [0, 1]; the judge decides.

    Attributes:
        accuracy: pictures whose subgroup the judge names as that of the caption.
        balanced: the same as a mean over subgroups, so that large ones do not decide.
        r_precision: see :func:`r_precision`.
        shuffled: ``accuracy`` if the same answers went to captions at random: the chance level of this very set of
            answers, which large subgroups raise above one in the number of subgroups.
    """

    accuracy: float
    balanced: float
    r_precision: float
    shuffled: float


def score_texts(
    pictures: Tensor, own: Tensor, gallery: Gallery, judge: Judge, distractors: int = 99, seed: int = 0
) -> TextScores:
    """Scores pictures that stand for captions of the gallery's emoji.

    Args:
        pictures: ``(Q, 3, s, s)`` in [−1, 1], of any size; the judge enlarges or shrinks them.
        own: ``int64 (Q,)``: whose caption each picture was made from.
        gallery: the emoji.
        judge: never used in training what made the pictures.
        distractors, seed: of :func:`r_precision`.
    """
    named, wanted = judge.predict(pictures, "subgroup"), gallery.subgroup[own]
    # The mean over all permutations in closed form: how often an answer meets a caption of its subgroup.
    counts = [torch.bincount(x, minlength=int(max(named.max(), wanted.max())) + 1).double() for x in (named, wanted)]
    return TextScores(
        (named == wanted).float().mean().item(),
        balanced_accuracy(named, wanted),
        r_precision(judge.embeddings(pictures), gallery.embeddings, own, gallery.base, distractors, seed),
        (counts[0] @ counts[1] / len(own) ** 2).item(),
    )
