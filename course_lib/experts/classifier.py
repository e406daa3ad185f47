"""Classifiers of whole pictures and of their cells. Their inner layers are the course's feature maps."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of a classifier."""

    heads: dict[str, int]  # label name → number of classes
    width: int = 32  # channels of the first stage; each of the three next ones doubles them
    projection: int = 0  # size of an extra embedding head for retrieval, 0 for none


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
    """A small residual network: image → logits for several labels at once.

    Layers by name, for 64-pixel input and width C: ``early`` (C, 32, 32), ``low`` (2C, 16, 16), ``middle`` (4C, 8, 8),
    ``late`` (8C, 4, 4), ``features`` (8C,) after average pooling, ``logits`` (all heads joined).
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
        maps = [x.contiguous(memory_format=torch.channels_last)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]

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
        """The representation called ``name``, one of :attr:`layers`; a CourseError where there is none."""
        if name not in self.layers:
            raise CourseError(f"the classifier has no layer {name!r}: choose one of {', '.join(self.layers)}.")
        if name not in ("features", "logits"):
            return self.maps(x)[self.layers.index(name)].contiguous()
        features = self.features(x)
        return features if name == "features" else torch.cat([head(features) for head in self.heads.values()], 1)


@dataclass(frozen=True)
class SegmenterConfig:
    """Sizes of a segmenter."""

    classes: int  # how many a cell can have
    width: int = 24  # channels of the first stage; the two next ones double them


class _Block(nn.Module):
    """A change of resolution, then ``x + convolution(ReLU(norm(x)))``."""

    def __init__(self, inputs: int, outputs: int, up: bool = False):
        super().__init__()
        kind = nn.ConvTranspose2d if up else nn.Conv2d
        self.resample = kind(inputs, outputs, 4, 2, 1, bias=False)
        self.norm, self.conv = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.resample(x)
        return x + self.conv(F.relu(self.norm(x)))


class Segmenter(nn.Module):
    """A small hourglass network: images ``(B, 3, S, S)`` in [−1, 1] → logits of every cell, ``(B, K, S/2, S/2)``.

    Layers by name, for 64-pixel input: ``early`` (24, 32, 32), ``low`` (48, 16, 16), ``middle`` (96, 8, 8), ``late``
    (24, 32, 32), ``logits`` (K, 32, 32), ``argmax`` (K, 32, 32), their one-hot map. There are no skip connections.
    """

    layers = ("early", "low", "middle", "late", "logits", "argmax")

    def __init__(self, config: SegmenterConfig):
        super().__init__()
        self.config = config
        w = config.width
        self.blocks = nn.ModuleList(
            [_Block(3, w), _Block(w, 2 * w), _Block(2 * w, 4 * w), _Block(4 * w, 2 * w, True), _Block(2 * w, w, True)]
        )
        self.norm, self.head = nn.BatchNorm2d(w), nn.Conv2d(w, config.classes, 1)

    def layer(self, x: Tensor, name: str) -> Tensor:
        """The representation called ``name``, one of :attr:`layers`: a map ``(B, C, H, W)``."""
        if name not in self.layers:
            raise CourseError(f"the segmenter has no layer {name!r}: choose one of {', '.join(self.layers)}.")
        x = x.contiguous(memory_format=torch.channels_last)
        for k, block in enumerate(self.blocks):
            x = block(x)
            if name == ("early", "low", "middle", "", "late")[k]:
                return x.contiguous()
        logits = self.head(F.relu(self.norm(x))).contiguous()
        if name == "logits":
            return logits
        return F.one_hot(logits.argmax(1), self.config.classes).permute(0, 3, 1, 2).to(logits).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, "logits")

    @torch.no_grad()
    def segment(self, x: Tensor) -> Tensor:
        """Class of every cell, ``int64 (B, S/2, S/2)``."""
        return self(x).argmax(1)


class LayerExpert:
    """The layer ``name`` of a frozen network as a source expert, its shape that for images of ``size`` pixels."""

    def __init__(self, network: Classifier | Segmenter, name: str, size: int = 64):
        self.network, self.name = network, name
        device = next(network.parameters()).device
        self.condition_shape = tuple(self.encode(torch.zeros(1, 3, size, size, device=device)).shape[1:])

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        return self.network.layer(x, self.name)
