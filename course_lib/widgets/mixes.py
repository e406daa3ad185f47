"""Mixing classes by hand: of a hyper-modulated generator, or by the mixing weights of borrowed batch norms."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch
from ipywidgets import BoundedIntText, Checkbox
from torch import Tensor

from ..errors import CourseError
from ..experts.autoencoder import LatentSpace
from ..figures import png_bytes
from ..gans.biggan import ClassNorm, Generator
from ..generation.generator import ConditionalGenerator
from ..generation.grids import slerp
from .picture_view import PictureView, slider

MOST = 6  # classes whose sliders fit above one picture


class ClassMix:
    """Pictures of mixtures of classes: the mixture of their class vectors, drawn at one z and one noise. ``classes``
    are two to six names, by default the first ones; ``seed`` draws the noise, and ``samples`` z to walk between."""

    def __init__(
        self, generator: ConditionalGenerator, classes: Sequence[str] | None = None, samples: int = 8, seed: int = 0
    ):
        self.names = list(generator.classes[:MOST] if classes is None else classes)
        if not 2 <= len(self.names) <= MOST or samples < 2:
            found = f"{len(self.names)} and {samples}"
            raise CourseError(f"mixing takes two to {MOST} classes and at least two samples, not {found}.")
        self.generator = generator
        self.vectors = generator.vectors_of(self.names)
        self.latents, self.noise = generator.latents(samples, seed), generator.noise(1, seed)

    def vector(self, weights: Mapping[str, float]) -> Tensor:
        """``(K,)``: the mixture; weights are divided by their sum, and nothing at all means equal parts."""
        if unknown := sorted(set(weights) - set(self.names)):
            raise CourseError(f"{unknown[0]!r} is not among the classes to mix: {', '.join(self.names)}.")
        parts = torch.tensor([float(weights.get(name, 0.0)) for name in self.names])
        parts = parts if parts.any() else torch.ones(len(parts))
        if parts.sum().abs() < 1e-6:
            raise CourseError("weights that cancel out are no mixture: let their sum differ from 0.")
        return (parts / parts.sum()) @ self.vectors

    def picture(
        self, weights: Mapping[str, float], start: int = 0, end: int = 1, way: float = 0.0, truncation: float = 1.0
    ) -> Tensor:
        """``(3, S, S)`` of the mixture class → share, at a position ``way`` on the arc between two samples."""
        z = slerp(self.latents[start], self.latents[end], way)
        return self.generator.draw(z[None], self.vector(weights)[None], self.noise, truncation)[0]

    def strip(self, mixtures: Sequence[Mapping[str, float]], start: int = 0, end: int = 1) -> Tensor:
        """``(3, len(mixtures), 3, S, S)``: each mixture at the start, half-way and at the end: the static twin."""
        drawn = [self.picture(mix, start, end, way) for way in (0.0, 0.5, 1.0) for mix in mixtures]
        return torch.stack(drawn).unflatten(0, (3, -1))

    def render(self, start: int, end: int, way: float, truncation: float, **weights: float) -> bytes:
        picture = self.picture(weights, start, end, way, truncation)
        return png_bytes(picture[None], enlarge=max(1, 256 // self.generator.size))

    def view(self) -> PictureView:
        """The widget; it begins half and half, so that each slider has a say."""
        last = len(self.latents) - 1
        controls = {name: slider(name, 0.5 * (name in self.names[:2]), 0.0, 1.0, 0.05) for name in self.names} | {
            "start": BoundedIntText(0, min=0, max=last, description=f"from sample (0 to {last})"),
            "end": BoundedIntText(1, min=0, max=last, description="to sample"),
            "way": slider("way", 0.0, 0.0, 1.0, 0.05),
            "truncation": slider("truncation", 1.0, 0.0, 1.0, 0.1),
        }
        alt = "The picture that the generator draws for the mixture of classes that the sliders set."
        return PictureView(self.render, controls, alt)


class MixingDemo:
    """Pictures of a class whose γ − 1 and β are weighted sums of those of old classes, with the same weights, of any
    sign and sum, in all layers: a point among the class embeddings of ``generator``. Of all ``classes`` some are
    ``offered``; ``z (N, noise)`` is drawn, and ``space`` decodes what is latents."""

    def __init__(
        self,
        generator: Generator,
        classes: Sequence[str],
        offered: Sequence[str],
        z: Tensor,
        space: LatentSpace | None = None,
    ):
        if generator.config.embedding is None:
            raise CourseError("this generator keeps a table in every layer: mixing by one weight needs embeddings.")
        unknown = [name for name in offered if name not in classes]
        if unknown or not offered:
            missing = f"no old class {unknown[0]!r}" if unknown else "nobody to borrow from"
            raise CourseError(f"there is {missing}: choose among {', '.join(classes[:8])}, …")
        self.generator, self.z, self.space = generator, z, space
        self.classes, self.offered = list(classes), list(offered)

    def embedding(self, weights: Mapping[str, float]) -> Tensor:
        """``(E,)``: the weighted sum of embeddings; all zeros where nothing is borrowed."""
        row = self.z.new_zeros(len(self.classes))
        row[[self.classes.index(name) for name in weights]] = row.new_tensor(list(weights.values()))
        return row @ self.generator.shared.weight

    @torch.no_grad()
    def pictures(self, weights: Mapping[str, float], whole: bool = False) -> Tensor:
        """``(N, 3, S, S)`` in [−1, 1] on the CPU, for old class → how much of it. ``whole`` mixes γ instead of γ − 1, a
        mistake worth seeing: every channel is multiplied by the sum of weights."""
        extra = sum(weights.values()) - 1
        norms = [module for module in self.generator.modules() if whole and isinstance(module, ClassNorm)]
        with ExitStack() as hooks:
            for norm in norms:
                hooks.enter_context(norm.gain.register_forward_hook(lambda layer, inputs, gain: gain + extra))
            drawn = self.generator(self.z, self.embedding(weights).expand(len(self.z), -1))
        return (drawn if self.space is None else self.space.decode(drawn)).cpu()

    def render(self, whole: bool = False, **weights: float) -> bytes:
        return png_bytes(self.pictures(weights, whole), enlarge=2)

    def view(self) -> PictureView:
        controls = {name: slider(name, float(name == self.offered[0]), -1.0, 1.5, 0.05) for name in self.offered}
        controls["whole"] = Checkbox(False, description="mix γ instead of γ − 1", indent=False)
        alt = f"{len(self.z)} pictures of a class with these mixing weights, each with its own noise."
        return PictureView(self.render, controls, alt)
