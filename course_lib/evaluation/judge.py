"""The judge: a network that scores pictures and is never used to train anything that is scored."""

from pathlib import Path

import torch
from torch import Tensor

from ..data import resize
from ..errors import CourseError
from ..experts.classifier import Classifier
from ..experts.shipped import load_expert
from ..paths import CHECKPOINTS

__all__ = ["Judge"]


class Judge:
    """Features, embeddings and labels of pictures.

    Args:
        network: a frozen :class:`Classifier` with a projection head.
    """

    size = 64

    def __init__(self, network: Classifier):
        self.network = network

    @classmethod
    def load(cls, name: str = "avatar-judge", folder: Path = CHECKPOINTS) -> "Judge":
        """The shipped judge of people and kinds."""
        return cls(load_expert(name, folder=folder))

    def to(self, device: torch.device | str) -> "Judge":
        """The judge on ``device``."""
        self.network.to(device)
        return self

    def _map(self, images: Tensor, function, batch_size: int) -> Tensor:
        device = next(self.network.parameters()).device
        parts = [function(resize(part.to(device), self.size)).cpu() for part in images.split(batch_size)]
        return torch.cat(parts)

    @torch.no_grad()
    def features(self, images: Tensor, batch_size: int = 250) -> Tensor:
        """``(N, F)`` on the CPU: average-pooled last layer, for Fréchet distances and diversity."""
        return self._map(images, self.network.features, batch_size)

    @torch.no_grad()
    def read(self, images: Tensor, batch_size: int = 250) -> tuple[Tensor, dict[str, Tensor]]:
        """Features ``(N, F)``, and for each of its labels the class it sees, ``(N,)``, in one pass; on the CPU."""
        features = self.features(images, batch_size)
        device = next(self.network.parameters()).device
        seen = {name: head(features.to(device)).argmax(1).cpu() for name, head in self.network.heads.items()}
        return features, seen

    @torch.no_grad()
    def embeddings(self, images: Tensor, batch_size: int = 250) -> Tensor:
        """``(N, 128)`` on the CPU, unit length: what is shown, whatever the style; for retrieval."""
        return self._map(images, lambda x: self.network(x)["projection"], batch_size)

    @torch.no_grad()
    def probabilities(self, images: Tensor, label: str, batch_size: int = 250) -> Tensor:
        """``(N, classes)`` on the CPU, for one of its labels (kind, skin, hair, cut, glasses, mouth).

        Raises:
            CourseError: the judge does not know that label.
        """
        if label not in self.network.config.heads:
            known = ", ".join(self.network.config.heads)
            raise CourseError(f"the judge has no label {label!r}: choose one of {known}.")
        return self._map(images, lambda x: self.network(x)[label].softmax(1), batch_size)

    def predict(self, images: Tensor, label: str, batch_size: int = 250) -> Tensor:
        """``(N,)``: the class the judge sees; arguments and errors as for :meth:`probabilities`."""
        return self.probabilities(images, label, batch_size).argmax(1)
