"""The hyper-modulated generator: a frozen StyleGAN that a class vector makes conditional."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..gans.equalized import EqualConv2d, FusedUpsample
from ..gans.stylegan import StyleGAN, StyleGANConfig, Synthesis, Upsample
from .adafm import ModulatedConv
from .hypernetwork import ClassNetwork, FullHead, LowRankHead, StyleHead

__all__ = ["HyperGenerator", "Modulation"]


@dataclass(frozen=True)
class Modulation:
    """Finished kernels ``(N, …)`` and biases ``(N, O)`` of N classes, one of each a convolution.

    ``styles`` ``(N, blocks, latent)``, where there are any, are added to the style of a picture of the class.
    """

    kernels: list[Tensor]
    biases: list[Tensor]
    styles: Tensor | None = None

    def __len__(self) -> int:
        return len(self.biases[0])


class HyperGenerator(nn.Module):
    """Noise and class to pictures; without a class, the source generator's pictures, pixel for pixel.

    Args:
        source: trained generator. It is kept inside and frozen.
        classes: number of target classes.
        width: of the class vector.
        rank: of the heads; None takes full heads, as published.
        start: ``source`` sets the heads so that every class begins as the source generator (ours, no data and no
            training needed); ``random`` leaves them random, as the published code does before its self-alignment.
        published: see :class:`ModulatedConv`.
        finetune: train constant, noise strengths, styles and to-RGB as well. The published ``--finetune`` trains those
            of the source, which is then lost; ours trains copies, a few per cent of the weights, and keeps it.
        class_styles: give each class an offset of the style w in every block, 0 at the start. Not published: after
            each convolution AdaIN sets mean and deviation of every channel, from the style alone, so that modulated
            kernels cannot move a class's colours and contrasts, however they are trained.

    Attributes:
        class_names: what the classes show, where that is known.
    """

    class_names: Sequence[str] = ()

    def __init__(
        self,
        source: StyleGAN,
        classes: int,
        width: int = 64,
        rank: int | None = None,
        start: str = "source",
        published: bool = False,
        finetune: bool = False,
        class_styles: bool = False,
    ):
        super().__init__()
        self.source = source.requires_grad_(False)
        self.classes = ClassNetwork(classes, width)
        convs, heads = [], []
        for layer in _convolutions(source.synthesis):
            conv = ModulatedConv(layer, published)
            head = FullHead(conv, width) if rank is None else LowRankHead(conv, width, rank)
            if start == "source":
                head.start_from_source(conv)
            convs.append(conv)
            heads.append(head)
        self.convs, self.heads = nn.ModuleList(convs), nn.ModuleList(heads)
        self.own = _without_convolutions(source.synthesis) if finetune else None
        self.style_head = StyleHead(width, len(source.synthesis.blocks), source.config.latent) if class_styles else None

    @property
    def config(self) -> StyleGANConfig:
        """Sizes of the source."""
        return self.source.config

    @property
    def synthesis(self) -> Synthesis:
        """What surrounds the modulated convolutions: the source's blocks and to-RGB, or the copies that train."""
        return self.source.synthesis if self.own is None else self.own

    def modulation(self, labels: Tensor) -> Modulation:
        """Finished kernels of N classes: compute them once where no gradient is needed, and draw many times.

        Args:
            labels: class indices ``(N,)`` or class vectors ``(N, width)``.
        """
        vectors = self.classes(labels) if labels.ndim == 1 else labels
        kernels, biases = [], []
        for conv, head in zip(self.convs, self.heads, strict=True):
            gain, shift, bias = head(vectors)
            kernels.append(conv.kernels(gain, shift))
            biases.append(conv.bias + bias)
        return Modulation(kernels, biases, None if self.style_head is None else self.style_head(vectors))

    def features(
        self, w: Tensor, modulation: Modulation, noise: Sequence[Tensor], sizes: Sequence[int] | None = None
    ) -> Iterator[Tensor]:
        """The maps after each block.

        Args:
            w: styles, see :meth:`course_lib.gans.stylegan.Synthesis.features`.
            modulation: of one class for all pictures, of every picture, or of the classes that ``sizes`` counts.
            noise: one map a block.
            sizes: pictures in a row that share a class.
        """
        layers = iter(zip(self.convs, modulation.kernels, modulation.biases, strict=True))

        def convolve(x: Tensor) -> Tensor:
            conv, kernels, biases = next(layers)
            return conv.convolve(x, kernels, biases, sizes)

        x = None
        for index, (block, given) in enumerate(zip(self.synthesis.blocks, noise, strict=True)):
            x = block(x, w if w.ndim == 2 else w[:, index], given, convolve)
            yield x

    def forward(
        self,
        z: Tensor,
        labels: Tensor | Modulation | None,
        noise: Sequence[Tensor] | None = None,
        truncation: float = 1.0,
        owner: Tensor | None = None,
    ) -> Tensor:
        """Pictures ``(B, 3, S, S)``.

        Args:
            z: ``(B, latent)`` or one a block, ``(B, blocks, latent)``.
            labels: class indices ``(B,)``; class vectors ``(B, width)`` or ``(1, width)``, for example a mixture;
                finished kernels of one class, of every picture, or of the classes that ``owner`` points to; or None
                for the source domain.
            noise: one map a block; fresh ones by default.
            truncation: pulls styles towards their mean.
            owner: ``(B,)``: which class of a :class:`Modulation` a picture has.
        """
        noise = self.synthesis.noise(len(z)) if noise is None else noise
        if labels is None:
            return self.source(z, noise, truncation)
        if isinstance(labels, Tensor):
            if labels.ndim == 1:
                # Heads are the expensive part: each class of the batch goes through them once.
                labels, owner = labels.unique(return_inverse=True)
            labels = self.modulation(labels)
        w = self.source.styles(z, truncation)
        if labels.styles is not None:
            # Not truncated: the offset is what the class is, not where a picture lies in it.
            w = (w if w.ndim == 3 else w[:, None]) + (labels.styles if owner is None else labels.styles[owner])
        if owner is None or len(labels) == 1:
            *_, last = self.features(w, labels, noise)
            return self.synthesis.to_rgb[-1](last)
        # Sorted once for all layers: every class is then one slice of the batch.
        order, sizes = owner.argsort(stable=True), owner.bincount(minlength=len(labels)).tolist()
        *_, last = self.features(w[order], labels, [one[order] for one in noise], sizes)
        return self.synthesis.to_rgb[-1](last)[order.argsort()]

    def with_classes(self, classes: int) -> "HyperGenerator":
        """A copy for another number of classes, each an exact copy of the first class: the published hand-over from
        self-alignment, which knows one class."""
        grown = deepcopy(self)
        grown.classes.table = nn.Parameter(self.classes.table.detach()[:1].repeat(classes, 1))
        return grown

    def groups(self, rate: float, class_rate: float) -> list[dict[str, Any]]:
        """What trains, for an optimiser.

        Args:
            rate: learning rate of the heads, and of what ``finetune`` frees.
            class_rate: that of the class network, as a factor.
        """
        slow = list(self.classes.parameters())
        fast = [p for name, p in self.named_parameters() if p.requires_grad and not name.startswith("classes.")]
        return [{"params": fast}, {"params": slow, "lr": class_rate * rate}]


def _convolutions(synthesis: Synthesis) -> Iterator[EqualConv2d | FusedUpsample]:
    """The convolutions that are modulated, in the order in which a picture passes them."""
    for block in synthesis.blocks:
        first = getattr(block, "conv1", None)
        if first is not None:
            yield first.conv if isinstance(first, Upsample) else first
        yield block.conv2


def _without_convolutions(source: Synthesis) -> Synthesis:
    """A copy that trains, without the convolutions that are modulated."""
    own = deepcopy(source).requires_grad_(True)
    for layer in _convolutions(own):
        layer.weight = layer.bias = None
    # To-RGB of smaller sizes draws nothing here: what gets no gradient must not wait for one.
    own.to_rgb[:-1].requires_grad_(False)
    return own
