"""What Hyper-Modulation is compared with: a StyleGAN that gets its class the usual way, through the mapping network."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..gans.stylegan import StyleGAN, StyleGANConfig

__all__ = ["ConditionalStyleGAN"]


class ConditionalStyleGAN(StyleGAN):
    """Noise and class to pictures; all weights may train.

    The class joins z at the input of the mapping network. A one-hot class beside z, through a linear layer, is a row
    of a table that is added to that layer's output: this is how it is written here. Another row moves the style
    itself, so that classes part early in training too.

    Args:
        config: sizes.
        classes: number of classes.
    """

    def __init__(self, config: StyleGANConfig, classes: int):
        super().__init__(config)
        self.inputs, self.offsets = (nn.Embedding(classes, config.latent) for _ in range(2))
        nn.init.zeros_(self.offsets.weight)
        # Progressive growing is not used: to-RGB of smaller sizes would wait for a gradient.
        self.synthesis.to_rgb[:-1].requires_grad_(False)

    @classmethod
    def from_source(cls, source: StyleGAN, classes: int) -> "ConditionalStyleGAN":
        """A copy of ``source`` that ignores the class until it is trained: fine-tuning of all weights."""
        network = cls(source.config, classes)
        network.load_state_dict(source.state_dict(), strict=False)
        nn.init.zeros_(network.inputs.weight)
        return network

    def groups(self, rate: float, class_rate: float) -> list[dict[str, Any]]:
        """What trains, for an optimiser; ``class_rate`` is the factor of the mapping network's learning rate."""
        tables = [self.inputs.weight, self.offsets.weight]
        fast = [p for p in self.synthesis.parameters() if p.requires_grad] + tables
        return [{"params": fast}, {"params": list(self.mapping.parameters()), "lr": class_rate * rate}]

    def forward(
        self, z: Tensor, labels: Tensor, noise: Sequence[Tensor] | None = None, truncation: float = 1.0
    ) -> Tensor:
        """Pictures ``(B, 3, S, S)``.

        Args:
            z: ``(B, latent)`` or one a block, ``(B, blocks, latent)``.
            labels: class indices ``(B,)``.
            noise: one map a block; fresh ones by default.
            truncation: pulls styles towards the mean style of their class.
        """
        noise = self.synthesis.noise(len(z)) if noise is None else noise
        w = self.class_styles(z, labels)
        if truncation != 1.0:
            draws = torch.Generator().manual_seed(0)
            many = torch.randn(1024, z.shape[-1], generator=draws).to(z)
            present, owner = labels.unique(return_inverse=True)
            mean = torch.stack([self.class_styles(many, label.expand(len(many))).mean(0) for label in present])[owner]
            w = torch.lerp(mean if w.ndim == 2 else mean[:, None], w, truncation)
        return self.synthesis(w, noise)

    def class_styles(self, z: Tensor, labels: Tensor) -> Tensor:
        """Styles of z, of the same shape, for classes ``(B,)``."""
        if z.ndim == 3:
            labels = labels.repeat_interleave(z.shape[1])
        normalise, first, *rest = self.mapping
        w = first(normalise(z.flatten(0, -2))) + self.inputs(labels)
        for layer in rest:
            w = layer(w)
        return (w + self.offsets(labels)).view(z.shape)
