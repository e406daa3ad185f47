"""Mixing classes by hand: weights of up to six classes, and a walk through z, as one picture."""

from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import torch
from torch import Tensor

from ..errors import CourseError
from ..figures import png_bytes
from ..generation import ConditionalGenerator
from ..generation.grids import slerp
from .picture_view import PictureView

__all__ = ["ClassMix"]

MOST = 6
"""Classes that fit under one picture."""


class ClassMix:
    """Pictures of mixtures of classes: the mixture of their class vectors, drawn at one z and one noise.

    A hyper-modulated generator makes the kernels of a mixture once and keeps them while z walks.

    Args:
        generator: that draws.
        classes: names of two to six classes; the first ones by default.
        samples: how many z are offered to walk between.
        seed: of these, and of the noise, which never changes.

    Raises:
        CourseError: another number of classes or samples, or an unknown class.
    """

    def __init__(
        self, generator: ConditionalGenerator, classes: Sequence[str] | None = None, samples: int = 8, seed: int = 0
    ):
        self.names = list(generator.classes[:MOST] if classes is None else classes)
        if not 2 <= len(self.names) <= MOST or samples < 2:
            raise CourseError(
                f"mixing takes two to {MOST} classes and at least two samples, not {len(self.names)} and {samples}."
            )
        self.generator = generator
        self.vectors = generator.vectors_of(self.names)
        self.latents, self.noise = generator.latents(samples, seed), generator.noise(1, seed)

    def vector(self, weights: Mapping[str, float]) -> Tensor:
        """``(K,)``: the mixture; weights are divided by their sum, and nothing at all means equal parts.

        Raises:
            CourseError: a class that is not offered, or weights that sum to nothing.
        """
        if unknown := sorted(set(weights) - set(self.names)):
            raise CourseError(f"{unknown[0]!r} is not among the classes to mix: {', '.join(self.names)}.")
        parts = torch.tensor([float(weights.get(name, 0.0)) for name in self.names])
        if not parts.any():
            parts = torch.ones(len(parts))
        if parts.sum().abs() < 1e-6:
            raise CourseError("weights that cancel out are no mixture: let their sum differ from 0.")
        return (parts / parts.sum()) @ self.vectors

    def picture(
        self, weights: Mapping[str, float], start: int = 0, end: int = 1, way: float = 0.0, truncation: float = 1.0
    ) -> Tensor:
        """``(3, S, S)``.

        Args:
            weights: class → share.
            start, end: numbers of two samples.
            way: position on the arc between them.
            truncation: see :meth:`course_lib.generation.ConditionalGenerator.draw`.
        """
        z = slerp(self.latents[start], self.latents[end], way)
        return self.generator.draw(z[None], self.vector(weights)[None], self.noise, truncation)[0]

    def strip(
        self, mixtures: Sequence[Mapping[str, float]], start: int = 0, end: int = 1, truncation: float = 1.0
    ) -> Tensor:
        """``(3, len(mixtures), 3, S, S)``: each mixture at the start, half-way and at the end: the static twin."""
        rows = [[self.picture(mix, start, end, way, truncation) for mix in mixtures] for way in (0.0, 0.5, 1.0)]
        return torch.stack([torch.stack(row) for row in rows])

    def render(self, start: int, end: int, way: float, truncation: float, **weights: float) -> bytes:
        """PNG of the picture. Same values, same bytes."""
        picture = self.picture(weights, start, end, way, truncation)
        return png_bytes(picture[None], enlarge=max(1, 256 // self.generator.size))

    def view(self) -> PictureView:
        """A slider for each class, and the walk, above the picture."""
        count = len(self.latents)
        shares = {
            name: widgets.FloatSlider(
                float(name == self.names[0]), min=0.0, max=1.0, step=0.05, description=name, continuous_update=False
            )
            for name in self.names
        }
        walk = {
            "start": widgets.BoundedIntText(0, min=0, max=count - 1, description=f"from sample (0 to {count - 1})"),
            "end": widgets.BoundedIntText(1, min=0, max=count - 1, description="to sample"),
            "way": widgets.FloatSlider(0.0, min=0.0, max=1.0, step=0.05, description="way", continuous_update=False),
            "truncation": widgets.FloatSlider(
                1.0, min=0.0, max=1.0, step=0.1, description="truncation", continuous_update=False
            ),
        }
        alt = "The picture that the generator draws for the mixture of classes that the sliders set."
        return PictureView(self.render, shares | walk, alt)
