"""A small residual image classifier with several heads. Its inner layers are the course's feature maps.

Layers by name, for 64-pixel input: ``early`` (C, 32, 32), ``low`` (2C, 16, 16), ``middle`` (4C, 8, 8),
``late`` (8C, 4, 4), ``features`` (8C,) after average pooling, ``logits`` (all heads joined).
"""

from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError

__all__ = ["Classifier", "ClassifierConfig", "LayerExpert"]


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of a classifier.

    Attributes:
        heads: label name → number of classes.
        width: channels of the first stage; each of the three next ones doubles them.
        projection: size of an extra embedding head for retrieval, 0 for none.
    """

    heads: dict[str, int]
    width: int = 32
    projection: int = 0

    def to_dict(self) -> dict:
        """JSON-able constructor arguments."""
        return asdict(self)


class _Stage(nn.Module):
    """Halves the resolution, then one residual block: norm → ReLU → convolution, twice."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
        self.norm1, self.conv1 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class Classifier(nn.Module):
    """Image → logits for several labels at once.

    Args:
        config: sizes.
    """

    layers = ("early", "low", "middle", "late", "features", "logits")

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        widths = [3] + [config.width * 2**i for i in range(4)]
        self.stages = nn.ModuleList(_Stage(a, b) for a, b in pairwise(widths))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.heads = nn.ModuleDict({name: nn.Linear(widths[-1], count) for name, count in config.heads.items()})
        self.projection = nn.Linear(widths[-1], config.projection) if config.projection else None

    def maps(self, x: Tensor) -> list[Tensor]:
        """The four stage outputs for images ``(B, 3, S, S)`` in [−1, 1]."""
        maps = []
        x = x.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def features(self, x: Tensor) -> Tensor:
        """``(B, 8 · width)``: average-pooled last stage."""
        return F.relu(self.norm(self.maps(x)[-1])).mean((2, 3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits of every head, and ``projection`` (unit length) if there is one."""
        features = self.features(x)
        outputs = {name: head(features) for name, head in self.heads.items()}
        if self.projection is not None:
            outputs["projection"] = F.normalize(self.projection(features), dim=1)
        return outputs

    def layer(self, x: Tensor, name: str) -> Tensor:
        """The representation called ``name``, one of :attr:`layers`.

        Raises:
            CourseError: there is no such layer.
        """
        if name not in self.layers:
            raise CourseError(f"the classifier has no layer {name!r}: choose one of {', '.join(self.layers)}.")
        if name == "features":
            return self.features(x)
        if name == "logits":
            outputs = self(x)
            return torch.cat([outputs[head] for head in self.config.heads], dim=1)
        return self.maps(x)[self.layers.index(name)].contiguous()


class LayerExpert:
    """One layer of a frozen classifier as a source expert.

    Args:
        classifier: a frozen :class:`Classifier`.
        name: layer name.
        size: side of the input images, which the layer's shape depends on.
    """

    def __init__(self, classifier: Classifier, name: str, size: int = 64):
        self.classifier, self.name = classifier, name
        device = next(classifier.parameters()).device
        self.condition_shape = tuple(self.encode(torch.zeros(1, 3, size, size, device=device)).shape[1:])

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Layer output for images in [−1, 1]."""
        return self.classifier.layer(x, self.name)
