"""The hyper-modulated generator: a frozen StyleGAN that a class vector makes conditional."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from ..gans.stylegan import StyleGAN, Upsample
from .adafm import ModulatedConv
from .hypernetwork import ClassNetwork, FullHead, LowRankHead

__all__ = ["HyperGenerator"]


class HyperGenerator(nn.Module):
    """Noise and class to pictures; without a class, the source generator's pictures, pixel for pixel.

    Args:
        source: trained generator. It is kept inside and frozen, except for what ``finetune`` names.
        classes: number of target classes.
        width: of the class vector.
        rank: of the heads; None takes full heads, as published.
        start: ``source`` sets the heads so that every class begins as the source generator (ours, no data and no
            training needed); ``random`` leaves them random, as the published code does before its self-alignment.
        published: see :class:`ModulatedConv`.
        finetune: train constant, noise strengths, styles and to-RGB as well (the published ``--finetune``). The source
            is then no longer kept.
    """

    def __init__(
        self,
        source: StyleGAN,
        classes: int,
        width: int = 64,
        rank: int | None = None,
        start: str = "source",
        published: bool = False,
        finetune: bool = False,
    ):
        super().__init__()
        self.source = source.requires_grad_(False)
        self.classes = ClassNetwork(classes, width)
        convs, heads = [], []
        for block in source.synthesis.blocks:
            first = getattr(block, "conv1", None)
            for layer in (first.conv if isinstance(first, Upsample) else first, block.conv2):
                if layer is not None:
                    conv = ModulatedConv(layer, published)
                    head = FullHead(conv, width) if rank is None else LowRankHead(conv, width, rank)
                    if start == "source":
                        head.start_from_source(conv)
                    convs.append(conv)
                    heads.append(head)
        self.convs, self.heads = nn.ModuleList(convs), nn.ModuleList(heads)
        if finetune:
            for name, parameter in source.synthesis.named_parameters():
                parameter.requires_grad_("conv" not in name)

    def features(
        self, w: Tensor, vectors: Tensor, noise: Sequence[Tensor], owner: Tensor | None = None
    ) -> Iterator[Tensor]:
        """The maps after each block.

        Args:
            w: styles, see :meth:`course_lib.gans.stylegan.Synthesis.features`.
            vectors: class vectors ``(N, width)``: one for all, one a picture, or one a class with ``owner``.
            noise: one map a block.
            owner: ``(B,)``: which vector a picture uses.
        """
        layers = iter(zip(self.convs, self.heads, strict=True))

        def convolve(x: Tensor) -> Tensor:
            conv, head = next(layers)
            return conv(x, *head(vectors), owner)

        x = None
        for index, (block, given) in enumerate(zip(self.source.synthesis.blocks, noise, strict=True)):
            x = block(x, w if w.ndim == 2 else w[:, index], given, convolve)
            yield x

    def forward(
        self, z: Tensor, labels: Tensor | None, noise: Sequence[Tensor] | None = None, truncation: float = 1.0
    ) -> Tensor:
        """Pictures ``(B, 3, S, S)``.

        Args:
            z: ``(B, latent)`` or one a block, ``(B, blocks, latent)``.
            labels: class indices ``(B,)``; class vectors ``(B, width)`` or ``(1, width)``, for example a mixture; or
                None for the source domain.
            noise: one map a block; fresh ones by default.
            truncation: pulls styles towards their mean.
        """
        noise = self.source.synthesis.noise(len(z)) if noise is None else noise
        if labels is None:
            return self.source(z, noise, truncation)
        w = self.source.styles(z, truncation)
        owner = None
        if labels.ndim == 1:
            # Heads are the expensive part: each class of the batch goes through them once.
            present, owner = labels.unique(return_inverse=True)
            vectors = self.classes(present)
        else:
            vectors = labels
        *_, last = self.features(w, vectors, noise, owner)
        return self.source.synthesis.to_rgb[-1](last)
