"""What a long self-alignment arrives at: watched while it runs, kept as γ, β and δ of its one class, opened again."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CourseError
from ..paths import CHECKPOINTS
from ..training.method import Loss
from ..training.weights import Card, load_weights
from .dissect import LayerModulation, modulate, source_modulation
from .generator import HyperGenerator, Modulation
from .self_alignment import SelfAlignmentMethod

__all__ = ["WatchedAlignment", "class_modulation", "load_aligned", "picture_distance", "to_tensors"]

_PARTS = ("gain", "shift", "bias")


@torch.no_grad()
def picture_distance(hyper: HyperGenerator, modulation: Modulation, z: Tensor, noise: Sequence[Tensor]) -> float:
    """Mean |picture − source's picture| under the same z ``(B, latent)`` and noise; pictures have the range [−1, 1]."""
    return (hyper(z, modulation, noise) - hyper(z, None, noise)).abs().mean().item()


class WatchedAlignment(SelfAlignmentMethod):
    """Self-alignment that also logs, as ``pictures``, how far its pictures are from the source's; see the base class.

    Args:
        hyper, options: of :class:`SelfAlignmentMethod`.
        every: steps between two looks; take it as the interval of the log.
        samples: pictures looked at, always the same.
    """

    def __init__(self, hyper: HyperGenerator, every: int = 50, samples: int = 16, **options: float):
        super().__init__(hyper, **options)
        self.every, self.samples = every, samples

    def losses(self, batch: tuple[Tensor, list[Tensor]], generator: torch.Generator, step: int) -> Iterator[Loss]:
        for loss in super().losses(batch, generator, step):
            if step % self.every == 0:
                z, noise = self.batch(torch.arange(self.samples), torch.Generator().manual_seed(0))
                first = torch.zeros(1, dtype=torch.int64, device=z.device)
                with torch.no_grad():
                    loss.scalars["pictures"] = picture_distance(self.hyper, self.hyper.modulation(first), z, noise)
            yield loss


@torch.no_grad()
def class_modulation(hyper: HyperGenerator, label: int = 0) -> list[LayerModulation]:
    """What the heads give one class."""
    vectors = hyper.classes(torch.tensor([label], device=hyper.classes.table.device))
    values = [[part[0].clone() for part in head(vectors)] for head in hyper.heads]
    return [
        replace(layer, **dict(zip(_PARTS, parts, strict=True)))
        for layer, parts in zip(source_modulation(hyper), values, strict=True)
    ]


def to_tensors(layers: Sequence[LayerModulation]) -> dict[str, Tensor]:
    """γ, β and δ by name, for a checkpoint: all that is left of a hypernetwork when only one class is wanted."""
    return {f"{index}.{part}": getattr(layer, part) for index, layer in enumerate(layers) for part in _PARTS}


def load_aligned(
    hyper: HyperGenerator, name: str = "self-aligned32", folder: Path = CHECKPOINTS
) -> tuple[Modulation, Card]:
    """The kernels that a shipped self-alignment found, and its card with the whole curve.

    Args:
        hyper: of the same source, with any heads.
        name, folder: of the checkpoint.

    Raises:
        CourseError: missing or damaged files, a checkpoint of another kind, or one of another source.
    """
    tensors, card = load_weights(name, folder)
    if card.kind != "self-aligned modulation":
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a self-aligned modulation.")
    layers = source_modulation(hyper)
    if set(tensors) != set(to_tensors(layers)):
        raise CourseError(f"checkpoint {name!r} has other layers than this generator: it belongs to another source.")
    device = hyper.classes.table.device
    found = [
        replace(layer, **{part: tensors[f"{index}.{part}"].to(device) for part in _PARTS})
        for index, layer in enumerate(layers)
    ]
    return modulate(hyper, found), card
