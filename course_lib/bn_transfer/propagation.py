"""Class propagation: the gain (or bias) of a new class is a learned mixture of those of all old classes.

A class-conditional batch norm asks two maps for the gain and the bias of a class. Here each map is replaced by one that
answers for new classes, with ``e`` the one-hot vector of a new class (or a mixture of several) and ``z`` the layer's
part of the noise::

    scores  a = A e + a0                       how much of every old class
    offset    = P a + Z z + z0 + R e           mixture, noise, and what the new class has of its own

The gain is 1 + offset: the mixture acts on offsets, never on 1 + offset, whose sum would depend on how large the
scores are. Gain and bias have scores of their own, at every layer. Source: Shahbazi et al. 2021 and its code.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from ..gans.spectral import SNLinear

__all__ = ["VARIANTS", "KeptPropagation", "PublishedPropagation", "propagate"]

VARIANTS = ("kept", "imagenet", "cifar")
"""``kept`` is ours; the other two are the published ones, which differ from each other."""
_SCORE_EPS = 1e-12
"""Of the published spectral norm on scores and noise map; that on the old classes has the generator's."""


def _linear(inputs: int, outputs: int, bias: bool, spectral: bool, eps: float) -> nn.Linear:
    return SNLinear(inputs, outputs, bias, eps) if spectral else nn.Linear(inputs, outputs, bias)


def _zero(*layers: nn.Linear | None) -> None:
    for layer in layers:
        for parameter in () if layer is None else layer.parameters():
            nn.init.zeros_(parameter)


class _Propagation(nn.Module):
    """What all variants share.

    Args:
        old: number of old classes.
        new: number of new classes.
        channels: of the batch norm.
        noise: length of the layer's part of z, 0 where the layer sees none.
    """

    scores: nn.Linear
    residual: nn.Linear
    noise: nn.Linear | None

    def __init__(self, old: int, new: int, channels: int, noise: int):
        super().__init__()
        self.old, self.new, self.channels, self.chunk = old, new, channels, noise

    def _split(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        if condition.shape[1:] != (self.new + self.chunk,):
            raise CourseError(
                f"this layer reads {self.new} class weights and {self.chunk} numbers of z, not "
                f"{tuple(condition.shape)}: make the condition with `embed`."
            )
        return condition[:, : self.new], condition[:, self.new :]

    @torch.no_grad()
    def mixtures(self) -> Tensor:
        """The scores of each new class over the old ones, ``(new, old)``; not normalised, of either sign."""
        training = self.scores.training
        self.scores.eval()  # a look must not move the spectral vector
        found = self.scores(torch.eye(self.new).to(self.scores.weight))
        self.scores.train(training)
        return found

    @torch.no_grad()
    def start_at(self, mixtures: Tensor) -> None:
        """Sets the scores to ``mixtures: (new, old)``, and everything that is added to the mixture to zero."""
        self.scores.weight.copy_(mixtures.T)
        _zero(self.residual)
        self.scores.bias.zero_()
        if self.noise is not None:
            self.noise.bias.zero_()


class PublishedPropagation(_Propagation):
    """Both published variants.

    ``spectral`` (ImageNet): scores, old classes and noise map are each divided by their own largest singular value. The
    scale that the checkpoint had is lost, and an old class cannot be copied. Without (CIFAR): plain linear maps, and a
    bias on the old classes.

    Args:
        table: ``(channels, old)``: raw offsets of the old classes; copied.
        noise: ``(channels, chunk)``: the checkpoint's raw weights of z, or None; copied.
        new: number of new classes.
        spectral: which variant.
        eps: of the spectral norm of the old classes.
    """

    def __init__(self, table: Tensor, noise: Tensor | None, new: int, spectral: bool, eps: float = 1e-6):
        channels, old = table.shape
        super().__init__(old, new, channels, 0 if noise is None else noise.shape[1])
        self.scores = _linear(new, old, True, spectral, _SCORE_EPS)
        self.table = _linear(old, channels, not spectral, spectral, eps)
        self.noise = None if noise is None else _linear(self.chunk, channels, True, spectral, _SCORE_EPS)
        self.residual = nn.Linear(new, channels, bias=False)
        self.to(table)
        with torch.no_grad():
            self.table.weight.copy_(table)
            if noise is not None:
                self.noise.weight.copy_(noise)

    def forward(self, condition: Tensor) -> Tensor:
        """Class weights with the layer's part of z ``(B, new + chunk)`` → offsets ``(B, channels)``."""
        weights, z = self._split(condition)
        offset = self.table(self.scores(weights)) + self.residual(weights)
        return offset if self.noise is None else offset + self.noise(z)

    @torch.no_grad()
    def start_at(self, mixtures: Tensor) -> None:
        """See :meth:`KeptPropagation.start_at`; the bias on the old classes becomes zero as well."""
        super().start_at(mixtures)
        if self.table.bias is not None:
            self.table.bias.zero_()


class KeptPropagation(_Propagation):
    """Ours: the old map stays as it is, with the scale it had, and what is learned is added to it.

    The scores mix what the old map reads (class embeddings, or the rows of its table). A one-hot score with everything
    else at zero is an old class, bit for bit. P and Z are the old ones plus ``update`` and the weight of ``noise``,
    both zero at the start.

    Args:
        knowledge: ``(old, E)`` class embeddings, or ``(old, channels)`` rows of a table; copied.
        matrix: ``(channels, E + chunk)``: the old map, already divided by its σ, which never changes again; None for
            a table. Copied.
        new: number of new classes.
        channels: of the batch norm.
    """

    def __init__(self, knowledge: Tensor, matrix: Tensor | None, new: int, channels: int):
        old = len(knowledge)
        super().__init__(old, new, channels, 0 if matrix is None else matrix.shape[1] - knowledge.shape[1])
        # Not in the state dict: they are the old checkpoint's, which is shipped once.
        self.register_buffer("knowledge", knowledge.detach().clone(), persistent=False)
        self.register_buffer("matrix", None if matrix is None else matrix.detach().clone(), persistent=False)
        self.scores = nn.Linear(new, old)
        self.update = nn.Linear(old, channels, bias=False)
        self.noise = nn.Linear(self.chunk, channels) if self.chunk else None
        self.residual = nn.Linear(new, channels, bias=False)
        self.to(knowledge)
        self.reset()

    def reset(self) -> None:
        """The changes of the old map go back to zero; scores and residuals stay as they are."""
        _zero(self.update, self.noise)

    def forward(self, condition: Tensor) -> Tensor:
        """Class weights with the layer's part of z ``(B, new + chunk)`` → offsets ``(B, channels)``."""
        weights, z = self._split(condition)
        scores = self.scores(weights)
        old = scores @ self.knowledge
        if self.matrix is not None:
            old = F.linear(torch.cat([old, z], 1), self.matrix)
        offset = old + self.update(scores) + self.residual(weights)
        return offset if self.noise is None else offset + self.noise(z)

    def start_at(self, mixtures: Tensor) -> None:
        """Sets the scores to ``mixtures: (new, old)``, and everything that is added to the mixture to zero."""
        super().start_at(mixtures)
        self.reset()


@torch.no_grad()
def propagate(old: nn.Module, embedding: Tensor | None, new: int, variant: str = "kept") -> _Propagation:
    """The map for new classes in the place of ``old``, a gain or bias of :class:`course_lib.gans.class_norm.ClassNorm`.

    Args:
        old: an :class:`~course_lib.gans.spectral.SNLinear` over embedding and z, in evaluation mode, or a table.
        embedding: ``(old classes, E)``, or None for a table.
        new: number of new classes.
        variant: one of :data:`VARIANTS`.

    Raises:
        CourseError: there is no such variant, or ``imagenet`` for tables, which have no spectral norm.
    """
    if variant not in VARIANTS:
        raise CourseError(f"there is no variant {variant!r}: choose one of {', '.join(VARIANTS)}.")
    if new < 1:
        raise CourseError("there must be at least one new class.")
    if embedding is None:
        if variant == "imagenet":
            raise CourseError("this generator keeps tables of classes: take the variant 'cifar' or 'kept'.")
        if variant == "kept":
            return KeptPropagation(old.weight, None, new, old.weight.shape[1])
        return PublishedPropagation(old.weight.T, None, new, spectral=False)
    if variant == "kept":
        return KeptPropagation(embedding, old.normalised(), new, len(old.weight))
    width = embedding.shape[1]
    table, noise = old.weight[:, :width] @ embedding.T, old.weight[:, width:]
    return PublishedPropagation(table, noise, new, variant == "imagenet", old.sn_eps)
