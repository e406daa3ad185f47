"""A small hourglass network that says for every cell of a picture which part it belongs to.

Layers by name, for 64-pixel input: ``early`` (24, 32, 32), ``low`` (48, 16, 16), ``middle`` (96, 8, 8), ``late``
(24, 32, 32), ``logits`` (K, 32, 32), ``argmax`` (K, 32, 32): the logits rounded to a label map, one-hot. Without skip
connections every layer is a function of the one before it, so each is a place to split the network at.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError

__all__ = ["Segmenter", "SegmenterConfig", "SegmenterExpert"]


@dataclass(frozen=True)
class SegmenterConfig:
    """Sizes of a segmenter.

    Attributes:
        classes: how many classes a cell can have.
        width: channels of the first stage; the two next ones double them.
    """

    classes: int
    width: int = 24

    def to_dict(self) -> dict:
        """JSON-able constructor arguments."""
        return asdict(self)


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
    """Images ``(B, 3, S, S)`` in [−1, 1] → logits ``(B, K, S/2, S/2)``.

    Args:
        config: sizes.
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
        """The representation called ``name``, one of :attr:`layers`: a map ``(B, C, H, W)``.

        Raises:
            CourseError: there is no such layer.
        """
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
        """Logits ``(B, K, S/2, S/2)``."""
        return self.layer(x, "logits")

    @torch.no_grad()
    def segment(self, x: Tensor) -> Tensor:
        """Class of every cell, ``int64 (B, S/2, S/2)``."""
        return self(x).argmax(1)


class SegmenterExpert:
    """One layer of a frozen segmenter as a source expert.

    Args:
        segmenter: frozen.
        name: one of its layers; ``logits`` keeps how sure it is of every class, ``argmax`` only which one wins.
        size: side of the input images, which the layer's shape depends on.
    """

    def __init__(self, segmenter: Segmenter, name: str, size: int = 64):
        self.segmenter, self.name = segmenter, name
        device = next(segmenter.parameters()).device
        self.condition_shape = tuple(self.encode(torch.zeros(1, 3, size, size, device=device)).shape[1:])

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Layer output ``(B, C, H, W)`` for images in [−1, 1]."""
        return self.segmenter.layer(x, self.name)
