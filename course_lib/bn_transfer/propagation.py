"""Class propagation: the gain (or bias) of a new class is a learned mixture of those of all old classes.

A class-conditional batch norm asks two maps for the gain and the bias of a class. Here each map is replaced by one for
new classes, with ``e`` the one-hot vector of a new class (or a mixture of several) and ``z`` the layer's part of the
noise::

    mixing weights  a = A e + a0               how much of every old class
    offset            = P a + Z z + z0 + R e   mixture, noise, and the residual: what the new class has of its own

The gain is 1 + offset: the mixture acts on offsets, never on 1 + offset, whose sum would depend on how large the
weights are. Gain and bias have weights of their own, at every layer. Source: Shahbazi et al. 2021 and its code.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from ..experts.protocol import freeze, load_over_source
from ..gans.biggan import ClassNorm, Generator, SNLinear, start_weights
from ..paths import CHECKPOINTS
from ..training.files import folder_of, load_card

PROPAGATIONS = ("additive", "imagenet", "cifar")
"""``additive`` is ours; the other two are the published ones, which differ from each other."""


class Propagation(nn.Module):
    """The map for new classes in the place of a gain or bias of :class:`course_lib.gans.biggan.ClassNorm`.

    ``additive``: the old map stays as it is, with its scale (``knowledge``, ``matrix``), and what is learned is added:
    P and Z are the old ones plus ``update`` and ``noise``, zero at the start. A one-hot mixture alone is an old class,
    bit for bit. ``imagenet``: mixing weights, old classes (``table``) and noise map are each divided by their own
    largest singular value, so that the checkpoint's scale is lost, and an old class cannot be copied. ``cifar``: plain
    linear maps, and a bias on the old classes.

    ``old`` is an :class:`~course_lib.gans.biggan.SNLinear` over embedding ``(old classes, E)`` and z, in evaluation
    mode; or a table, without embedding, z and the variant ``imagenet``.
    """

    @torch.no_grad()
    def __init__(self, old: nn.Module, embedding: Tensor | None, new: int, variant: str = "additive"):
        super().__init__()
        if variant not in PROPAGATIONS:
            raise CourseError(f"there is no variant {variant!r}: choose one of {', '.join(PROPAGATIONS)}.")
        if variant == "imagenet" and embedding is None:
            raise CourseError("this generator keeps tables of classes: take the variant 'cifar' or 'additive'.")
        if new < 1:
            raise CourseError("there must be at least one new class.")
        self.new, self.additive, spectral = new, variant == "additive", variant == "imagenet"
        knowledge = old.weight if embedding is None else embedding
        matrix = None if embedding is None else old.normalised() if self.additive else old.weight
        channels = knowledge.shape[1] if matrix is None else len(matrix)
        self.chunk = 0 if matrix is None else matrix.shape[1] - knowledge.shape[1]

        linear = partial(SNLinear, eps=1e-12) if spectral else nn.Linear
        self.mixing = linear(new, len(knowledge))
        if self.additive:
            self.update = nn.Linear(len(knowledge), channels, bias=False)
        elif spectral:
            self.table = SNLinear(len(knowledge), channels, bias=False, eps=old.sn_eps)
        else:
            self.table = nn.Linear(len(knowledge), channels)
        self.noise = linear(self.chunk, channels) if self.chunk else None
        self.residual = nn.Linear(new, channels, bias=False)
        self.to(knowledge)
        if self.additive:
            for parameter in (*self.update.parameters(), *(self.noise.parameters() if self.chunk else ())):
                parameter.zero_()
            # Not in the state dict: they are the old checkpoint's, which is shipped once.
            self.register_buffer("knowledge", knowledge.clone(), persistent=False)
            self.register_buffer("matrix", None if matrix is None else matrix.clone(), persistent=False)
        elif matrix is None:
            self.table.weight.copy_(knowledge.T)
        else:
            self.table.weight.copy_(matrix[:, : -self.chunk] @ knowledge.T)
            self.noise.weight.copy_(matrix[:, -self.chunk :])

    def forward(self, condition: Tensor) -> Tensor:
        """Class weights with the layer's part of z ``(B, new + chunk)`` → offsets ``(B, channels)``."""
        if condition.shape[1:] != (self.new + self.chunk,):
            wanted = f"{self.new} class weights and {self.chunk} numbers of z"
            raise CourseError(f"this layer reads {wanted}, not {tuple(condition.shape)}: use `embed`.")
        classes, z = condition.split([self.new, self.chunk], 1)
        weights = self.mixing(classes)
        if self.additive:
            offset = weights @ self.knowledge
            if self.matrix is not None:
                offset = F.linear(torch.cat([offset, z], 1), self.matrix)
            offset = offset + self.update(weights)
        else:
            offset = self.table(weights)
        offset = offset + self.residual(classes)
        return offset if self.noise is None else offset + self.noise(z)

    @torch.no_grad()
    def mixing_weights(self) -> Tensor:
        """Of each new class over the old ones, ``(new, old)``; not normalised, of either sign."""
        look = deepcopy(self.mixing).eval()  # which must not move the spectral vector
        return look(torch.eye(self.new).to(look.weight))

    @torch.no_grad()
    def init_at(self, mixtures: Tensor) -> None:
        """Sets the mixing weights to ``mixtures: (new, old)``, and what is added to the mixture to zero."""
        for name, parameter in self.named_parameters():
            if self.additive or name not in ("table.weight", "noise.weight"):
                parameter.zero_()
        self.mixing.weight.copy_(mixtures.T)


def class_norms(generator: Generator) -> Iterator[ClassNorm]:
    """The class-conditional batch norms, from the first to the last."""
    for block in generator.blocks:
        yield block[0].bn1
        yield block[0].bn2


def _thawed(source: Generator) -> Generator:
    """A copy of a frozen generator that trains again."""
    copy = Generator(source.config)
    copy.load_state_dict(source.state_dict())
    return copy.to(source.linear.weight.device)


class TransferGenerator(nn.Module):
    """BigGAN whose new classes are mixtures of its old ones.

    ``source``, a frozen copy, draws the old classes. ``target`` draws the new ones, with statistics of its own, and
    propagation layers instead of tables. In our variant its other layers *are* those of ``source`` until
    :meth:`unshare`; the published ones, whose spectral vectors move in every step, have copies from the start. Mixing
    weights and residuals begin orthogonal, as published; see :meth:`init_at`.
    """

    def __init__(self, source: Generator, classes: int, variant: str = "additive"):
        super().__init__()
        self.variant, self.config = variant, replace(source.config, classes=classes)
        self.class_names: list[str] = []  # where they are known, as the old ones are
        self.old_names: list[str] = []
        self.source = freeze(deepcopy(source))
        self.target = _thawed(self.source)
        embedding = self.source.shared.weight if source.config.embedding is not None else None
        for old, new in zip(class_norms(self.source), class_norms(self.target), strict=True):
            for side in ("gain", "bias"):
                setattr(new, side, Propagation(getattr(old, side), embedding, classes, variant))
        if embedding is not None:
            del self.target.shared
        for part in self.propagations():
            start_weights(part.mixing)
            start_weights(part.residual)
        if variant == "additive":
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
            self._set_layers(_thawed(self.source).to(memory_format=torch.channels_last))

    def propagations(self) -> Iterator[Propagation]:
        """The maps to gains and biases, from the first layer to the last, gain before bias."""
        for norm in class_norms(self.target):
            yield norm.gain
            yield norm.bias

    def init_at(self, mixtures: Tensor) -> None:
        """Begins at mixtures ``(new, old)``, at every layer; a one-hot row is an old class (ours: to the bit)."""
        check_mixtures(mixtures, self.config.classes, self.source.config.classes)
        for part in self.propagations():
            part.init_at(mixtures.to(part.mixing.weight))

    def embed(self, labels: Tensor) -> Tensor:
        """New classes ``(B,)`` → condition ``(B, new)``, one-hot; rows in between are mixtures of new classes."""
        return F.one_hot(labels, self.config.classes).to(next(self.parameters()).dtype)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """What the source draws, latents or pictures, of new classes: z ``(B, noise)``, condition of :meth:`embed`."""
        return self.target(z, condition)

    @torch.no_grad()
    def old(self, z: Tensor, labels: Tensor) -> Tensor:
        """The same of old classes ``(B,)``: that of the source, whatever was trained."""
        return self.source(z, self.source.embed(labels))


def check_mixtures(mixtures: Tensor, new: int, old: int) -> None:
    """A CourseError unless there is a row for each new class with a weight for each old one."""
    if mixtures.shape != (new, old):
        raise CourseError(f"mixtures must be {(new, old)} (new classes, old classes), not {tuple(mixtures.shape)}.")


# --- files ------------------------------------------------------------------------------------------------------------

BN_KIND = "transferred biggan"


def transfer_config(generator: TransferGenerator, source: str, classes: list[str]) -> dict[str, Any]:
    """For the card: which generator it was made of, and what its new classes are called."""
    return {"source": source, "classes": classes, "variant": generator.variant, "shared": generator.shared}


def bn_transfer_tensors(generator: TransferGenerator) -> dict[str, Tensor]:
    """What ``target`` does not share with ``source``: its batch norms and, after the second stage, the rest."""
    state = generator.target.state_dict()
    own = ("bn1.", "bn2.", "output_layer.0.")
    return {name: t for name, t in state.items() if not generator.shared or any(part in name for part in own)}


def load_bn_transfer(
    name: str = "avatar-bn-transfer", device: str | torch.device = "cpu", folder: Path = CHECKPOINTS
) -> TransferGenerator:
    """A shipped transfer, frozen, with the names of its classes; its source lies in ``folder`` or is a shipped one."""

    def over(source: Generator, config: dict[str, Any]) -> TransferGenerator:
        generator = TransferGenerator(source, len(config["classes"]), config["variant"])
        if not config["shared"]:
            generator.unshare()
        return generator

    generator, card = load_over_source(name, BN_KIND, over, bn_transfer_tensors, device, folder)
    source = card.config["source"]
    generator.class_names = list(card.config["classes"])
    generator.old_names = list(load_card(source, folder_of(source, folder)).recipe["classes"])
    return generator
