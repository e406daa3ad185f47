"""The conditional critic: the source's critic with one score a class."""

import torch
from torch import Tensor

from ..gans.stylegan import StyleGANConfig
from ..gans.stylegan_critic import StyleGANCritic

__all__ = ["ConditionalCritic"]


class ConditionalCritic(StyleGANCritic):
    """One trunk for all classes and one score each; the label picks it.

    Source: the ``final`` layer of the Hyper-Modulation code.

    Args:
        config: of the generator.
        classes: scores.
        from_rgb: train the first 1×1 convolution too; as published, the transfer freezes it.
    """

    def __init__(self, config: StyleGANConfig, classes: int, from_rgb: bool = True):
        super().__init__(config, classes)
        for index, layer in enumerate(self.from_rgb):
            # Only full-size pictures come: the entries of smaller ones would wait for a gradient.
            layer.requires_grad_(from_rgb and index == 0)

    @classmethod
    def from_source(
        cls, source: StyleGANCritic, classes: int, start: str = "source", from_rgb: bool = False
    ) -> "ConditionalCritic":
        """A critic with the trunk of ``source``, copied.

        Args:
            source: critic of the source domain.
            classes: scores.
            start: ``source`` repeats the source's score for every class, so the critic begins with an opinion on what
                a picture is; ``random`` is the published start.
            from_rgb: see the class.
        """
        critic = cls(source.config, classes, from_rgb)
        state = {name: value for name, value in source.state_dict().items() if not name.startswith("head.")}
        critic.load_state_dict(state, strict=False)
        if start == "source":
            with torch.no_grad():
                critic.head.weight.copy_(source.head.weight[:1].expand(classes, -1))
                critic.head.bias.copy_(source.head.bias[:1].expand(classes))
        return critic

    def forward(self, images: Tensor, labels: Tensor | None = None, alpha: float = 1.0) -> Tensor:
        """Scores ``(B,)`` of the classes ``labels (B,)``; without labels the vectors ``(B, C)`` they are read from.

        Args:
            images: ``(B, 3, S, S)`` in [−1, 1].
            labels: class indices.
            alpha: see :meth:`course_lib.gans.stylegan_critic.StyleGANCritic.features`.
        """
        return self.features(images, alpha) if labels is None else super().forward(images, labels, alpha)
