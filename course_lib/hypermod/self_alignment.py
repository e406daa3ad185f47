"""Self-alignment: the published self-initialisation. A random hypernetwork learns to imitate its source, without data.

Source: the Hyper-Modulation code. Teacher and student get the same z and the same noise; the loss compares the maps
after every block. It is what a random start needs before any transfer; the analytic start of
:class:`~course_lib.hypermod.generator.HyperGenerator` needs none of it.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..errors import CourseError
from ..training.method import Loss, Method
from .generator import HyperGenerator

__all__ = ["SelfAlignmentMethod", "alignment_losses", "picture_distance"]


def alignment_losses(hyper: HyperGenerator, z: Tensor, noise: Sequence[Tensor]) -> list[Tensor]:
    """Mean |student − source| of the maps after each block, for the first class.

    Args:
        hyper: student; its source is the teacher.
        z: ``(B, latent)``.
        noise: one map a block, the same for both.
    """
    w = hyper.source.styles(z)
    with torch.no_grad():
        teacher = list(hyper.source.synthesis.features(w, noise))
    first = torch.zeros(1, dtype=torch.int64, device=z.device)
    student = hyper.features(w, hyper.modulation(first), noise)
    return [(found - wanted).abs().mean() for found, wanted in zip(student, teacher, strict=True)]


@torch.no_grad()
def picture_distance(hyper: HyperGenerator, z: Tensor, noise: Sequence[Tensor]) -> float:
    """Mean |drawn as the first class − drawn by the source| under the same z ``(B, latent)`` and noise."""
    first = torch.zeros(1, dtype=torch.int64, device=z.device)
    return (hyper(z, hyper.modulation(first), noise) - hyper(z, None, noise)).abs().mean().item()


class _Alignment(nn.Module):
    """The loss as a module, so that the loop's wrappers (precision, several processes) see its forward pass."""

    def __init__(self, hyper: HyperGenerator):
        super().__init__()
        self.hyper = hyper

    def forward(self, z: Tensor, noise: Sequence[Tensor]) -> Tensor:
        return torch.stack(alignment_losses(self.hyper, z, noise)).float()


class SelfAlignmentMethod(Method):
    """Trains heads and class network of a generator with one class; published: 10,000 steps of 32.

    Args:
        hyper: with one class, usually ``start="random"``; trained in place. Any source.
        rate: Adam's learning rate of the heads.
        class_rate: that of the class network, as a factor.
        length: samples that count as one pass; there are no data.
        every: steps between two looks at what it draws, logged as ``pictures``: :func:`picture_distance` of sixteen
            fixed samples. 0 never looks.

    Raises:
        CourseError: more classes than one, or a generator built with ``finetune``.
    """

    def __init__(
        self, hyper: HyperGenerator, rate: float = 2e-3, class_rate: float = 0.01, length: int = 10_000, every: int = 0
    ):
        super().__init__()
        if len(hyper.classes.table) != 1:
            raise CourseError("self-alignment knows one class: build with classes=1, then call with_classes(n).")
        if hyper.own is not None:
            raise CourseError("self-alignment trains heads alone: build the generator with finetune=False.")
        self.hyper, self.length, self.every = hyper.to(memory_format=torch.channels_last), length, every
        self.modules = {"alignment": _Alignment(hyper)}
        self.optimizers = {"alignment": torch.optim.Adam(hyper.groups(rate, class_rate), rate, (0.0, 0.99), fused=True)}

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
        """Fresh z and noise; the index only says how many."""
        z = torch.randn(len(index), self.hyper.config.latent, generator=generator)
        return z.to(self.device), self.hyper.synthesis.noise(len(index), generator)

    def losses(self, batch: tuple[Tensor, list[Tensor]], generator: torch.Generator, step: int) -> Iterator[Loss]:
        """One phase: the sum over blocks."""
        parts = self.modules["alignment"](*batch)
        scalars: dict = {f"block {index}": part.detach() for index, part in enumerate(parts)}
        if self.every and step % self.every == 0:
            z, noise = self.batch(torch.arange(16), torch.Generator().manual_seed(0))
            scalars["pictures"] = picture_distance(self.hyper, z, noise)
        yield Loss("alignment", parts.sum(), scalars)
