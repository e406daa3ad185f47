"""A generator for new classes beside the one for old classes that it was made from."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from ..experts import freeze
from ..gans import Generator, start_weights
from ..gans.class_norm import ClassNorm
from .propagation import KeptPropagation, PublishedPropagation, propagate

__all__ = ["TransferGenerator", "norms", "thawed"]

Propagation = KeptPropagation | PublishedPropagation


def thawed(source: Generator) -> Generator:
    """A copy of a frozen generator that trains again."""
    copy = Generator(source.config)
    copy.load_state_dict(source.state_dict())
    return copy.to(next(source.parameters()).device)


class TransferGenerator(nn.Module):
    """BigGAN whose new classes are mixtures of its old ones.

    Everything of the old classes is kept in ``source``, which is frozen: tables, running statistics, spectral vectors.
    ``target`` draws the new classes. Its batch norms have statistics of their own and
    :mod:`~course_lib.bn_transfer.propagation` instead of tables. In our variant its other layers *are* those of
    ``source`` until :meth:`unshare`, so that one network draws both kinds of classes and nothing else is stored; the
    published variants, whose spectral vectors move in every step, have copies from the start.

    Args:
        source: trained generator; copied.
        classes: number of new classes.
        variant: one of :data:`~course_lib.bn_transfer.propagation.VARIANTS`.
        start: how scores and residuals begin: ``orthogonal`` or ``normal``, as published, see
            :func:`course_lib.gans.start_weights`. :meth:`start_at` begins at mixtures of old classes instead.

    Attributes:
        config: that of ``source`` with the number of new classes.
        class_names, old_names: of new and of old classes, where they are known.
    """

    def __init__(self, source: Generator, classes: int, variant: str = "kept", start: str = "orthogonal"):
        super().__init__()
        self.variant, self.config = variant, replace(source.config, classes=classes)
        self.class_names: list[str] = []
        self.old_names: list[str] = []
        self.source = freeze(deepcopy(source))
        self.target = thawed(self.source)
        embedding = self.source.shared.weight if source.config.embedding is not None else None
        for old, new in zip(norms(self.source), norms(self.target), strict=True):
            for side in ("gain", "bias"):
                setattr(new, side, propagate(getattr(old, side), embedding, classes, variant))
        if embedding is not None:
            del self.target.shared
        for part in self.propagations():
            start_weights(part.scores, start)
            start_weights(part.residual, start)
        if variant == "kept":
            self._set_layers(self.source)
        self.to(next(source.parameters()).device)

    def _set_layers(self, owner: Generator) -> None:
        """Everything except batch norms comes from ``owner``, by reference."""
        self.target.linear, self.target.output_layer[2] = owner.linear, owner.output_layer[2]
        for block, other in zip(self.target.blocks, owner.blocks, strict=True):
            for name in ("conv1", "conv2", "conv_sc"):
                setattr(block[0], name, getattr(other[0], name))
            for index in range(1, len(block)):
                block[index] = other[index]

    @property
    def shared(self) -> bool:
        """Whether old and new classes are drawn by the same convolutions."""
        return self.target.linear is self.source.linear

    def unshare(self) -> None:
        """Gives ``target`` copies of the layers it shares, which can then be trained without harm to ``source``."""
        if self.shared:
            self._set_layers(thawed(self.source).to(memory_format=torch.channels_last))

    def propagations(self) -> Iterator[Propagation]:
        """The maps to gains and biases, from the first layer to the last, gain before bias."""
        for norm in norms(self.target):
            yield norm.gain
            yield norm.bias

    def start_at(self, mixtures: Tensor) -> None:
        """Begins each new class at a mixture of old ones, the same at every layer.

        Args:
            mixtures: ``(new, old)``; a row with a single 1 is that old class, in our variant bit for bit.

        Raises:
            CourseError: another shape.
        """
        wanted = (self.config.classes, self.source.config.classes)
        if tuple(mixtures.shape) != wanted:
            raise CourseError(f"mixtures must be {wanted} (new classes, old classes), not {tuple(mixtures.shape)}.")
        for part in self.propagations():
            part.start_at(mixtures.to(part.scores.weight))

    def embed(self, labels: Tensor) -> Tensor:
        """New classes ``(B,)`` → condition ``(B, new)``, one-hot; rows in between are mixtures of new classes."""
        return F.one_hot(labels, self.config.classes).to(next(self.parameters()).dtype)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1] of new classes.

        Args:
            z: ``(B, noise)``, standard normal.
            condition: ``(B, new)``, see :meth:`embed`.
        """
        return self.target(z, condition)

    @torch.no_grad()
    def old(self, z: Tensor, labels: Tensor) -> Tensor:
        """Pictures of old classes ``(B,)``: those of the source, whatever was trained."""
        return self.source(z, self.source.embed(labels))


def norms(generator: Generator) -> Iterator[ClassNorm]:
    """The class-conditional batch norms, from the first to the last."""
    for block in generator.blocks:
        yield block[0].bn1
        yield block[0].bn2
