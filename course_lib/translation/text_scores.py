"""How well sentences become pictures: questions, the translator's answers, and the answers it is compared with."""

import torch
from torch import Tensor

from ..data import ImageSet
from ..evaluation import Judge
from ..evaluation.neighbours import nearest
from ..evaluation.retrieval import Gallery, TextScores, score_texts
from ..experts import SourceExpert
from .text import first_pictures
from .translator import Translator

__all__ = ["draw_captions", "nearest_pictures", "questions", "real_pictures", "score_captions"]


def questions(gallery: Gallery, most: int | None = None) -> tuple[list[str], Tensor]:
    """Captions ``Q`` of the gallery's emoji, and ``int64 (Q,)``, whose they are.

    Args:
        gallery: of held-out emoji.
        most: captions of one emoji; None takes all. The first is its name.
    """
    pairs = [(text, i) for i, names in enumerate(gallery.captions) for text in names[:most]]
    return [text for text, _ in pairs], torch.tensor([i for _, i in pairs])


@torch.no_grad()
def draw_captions(translator: Translator, captions: list[str], seed: int = 0, temperature: float = 1.0) -> Tensor:
    """One picture for every caption, each with a residual of its own: ``(Q, 3, S, S)`` on the CPU."""
    condition = translator.source.encode(captions)
    latent = translator.flow.sample(condition, temperature, torch.Generator().manual_seed(seed))
    return torch.cat([translator.target.decode(part).cpu() for part in latent.split(250)])


def score_captions(
    translator: Translator, gallery: Gallery, judge: Judge, most: int | None = None, seed: int = 0
) -> TextScores:
    """Scores one sample for every question."""
    captions, own = questions(gallery, most)
    return score_texts(draw_captions(translator, captions, seed), own, gallery, judge)


def nearest_pictures(captions: list[str], sentences: SourceExpert, bank: ImageSet, most: int, seed: int = 0) -> Tensor:
    """The baseline that draws nothing: a picture of the training emoji whose caption is most similar.

    Args:
        captions: ``Q`` questions.
        sentences: embeds them.
        bank: captioned training pictures.
        most: captions that are compared for each emoji of the bank.
        seed: of the style, a random one among the emoji's pictures.

    Returns:
        ``(Q, 3, S, S)`` in [−1, 1].
    """
    things = first_pictures(bank).tolist()
    known = [(text, row) for row, i in enumerate(things) for text in bank.captions[i][:most]]
    found = nearest(sentences.encode(captions), sentences.encode([text for text, _ in known]))[:, 0]
    rows = torch.tensor([row for _, row in known])[found.cpu()]
    return _any_style(bank, rows, seed)


def real_pictures(data: ImageSet, own: Tensor, seed: int = 0, size: int | None = None) -> Tensor:
    """The real picture behind every question, in a random style: ``(Q, 3, S, S)``, the upper bound.

    Args:
        data: the part whose gallery was asked.
        own: of :func:`questions`.
        seed: of the styles.
        size: side in pixels; the stored one by default.
    """
    return _any_style(data, own, seed, size)


def _any_style(data: ImageSet, rows: Tensor, seed: int, size: int | None = None) -> Tensor:
    owner = data.labels["emoji"].unique(return_inverse=True)[1]
    places = owner.argsort(stable=True)
    count = owner.bincount()
    start = count.cumsum(0) - count
    pick = torch.rand(len(rows), generator=torch.Generator().manual_seed(seed))
    return data.batch(places[start[rows] + (pick * count[rows]).long()], size)
