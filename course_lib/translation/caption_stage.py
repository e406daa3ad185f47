"""The caption stage: it says in words what is on a generated picture (paper §4.1; there a captioning network)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import ImageSet, resize
from ..errors import CourseError
from ..evaluation.neighbours import nearest
from ..experts import Classifier
from .text import first_pictures

__all__ = ["CaptionStage"]


class CaptionStage:
    """A picture goes in, a caption comes out: classifier and caption bank, where the paper has a captioning network.

    The classifier's features of the picture are compared with those of captioned training pictures; the nearest one
    lends a caption. Like a captioning network it makes mistakes, and it can only say what its bank contains. Whoever
    knows the class that a picture was generated for lets it choose among pictures of that class.

    Args:
        classifier: frozen; its ``features`` layer is used.
        bank: captioned pictures, such as the training part of the emoji.
        size: of the pictures that will be captioned. The bank is shrunk to it first: features of sharp pictures and of
            enlarged ones are further apart than those of different things.
        batch_size: pictures at a time.

    Raises:
        CourseError: a bank without captions.
    """

    def __init__(self, classifier: Classifier, bank: ImageSet, size: int | None = None, batch_size: int = 250):
        if not bank.captions or "emoji" not in bank.labels:
            raise CourseError(f"{bank.name!r} has no captions to lend: use the emoji.")
        self.classifier, self.batch_size, self.size = classifier, batch_size, bank.size
        owner = bank.labels["emoji"].unique(return_inverse=True)[1]
        self.captions = [bank.captions[i] for i in first_pictures(bank).tolist()]
        self.owner = owner
        self.group = bank.labels.get("subgroup", torch.zeros_like(owner))
        self.keys = torch.cat([self._features(part) for part in bank.batches(batch_size, size)])

    @torch.no_grad()
    def _features(self, pictures: Tensor) -> Tensor:
        device = next(self.classifier.parameters()).device
        return self.classifier.features(resize(pictures.to(device), self.size)).cpu()

    def recognise(self, pictures: Tensor, subgroup: Tensor | None = None) -> Tensor:
        """Which thing of the bank is nearest, ``int64 (B,)``: a row of :attr:`captions`.

        Args:
            pictures: ``(B, 3, s, s)`` in [−1, 1].
            subgroup: ``int64 (B,)``: choose among the bank's pictures of this subgroup; None chooses among all.

        Raises:
            CourseError: the bank has no picture of a subgroup.
        """
        found = torch.cat([self._features(part) for part in pictures.split(self.batch_size)])
        if subgroup is None:
            return self.owner[nearest(found, self.keys)[:, 0]]
        # Around the mean of the whole bank, whatever the class: the same angles as without classes.
        mean, rows = self.keys.mean(0), torch.empty(len(pictures), dtype=torch.int64)
        for one in subgroup.unique().tolist():
            asked, members = subgroup == one, (self.group == one).nonzero()[:, 0]
            if not len(members):
                raise CourseError(f"the caption bank has no picture of subgroup number {one}: take a larger bank.")
            keys = F.normalize(self.keys[members] - mean, dim=1)
            rows[asked] = members[(F.normalize(found[asked] - mean, dim=1) @ keys.T).argmax(1)]
        return self.owner[rows]

    def caption(
        self, pictures: Tensor, generator: torch.Generator | None = None, subgroup: Tensor | None = None
    ) -> list[str]:
        """One caption for each of the pictures ``(B, 3, s, s)`` in [−1, 1], a random one of the nearest thing's."""
        things = [self.captions[i] for i in self.recognise(pictures, subgroup).tolist()]
        draw = torch.rand(len(things), generator=generator).tolist()
        return [names[int(share * len(names))] for names, share in zip(things, draw, strict=True)]
