"""Mixing weights by hand: a class that borrows its batch norms from old classes, before any training."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import ipywidgets as widgets
import torch
from torch import Tensor

from ..errors import CourseError
from ..experts.latent_space import LatentSpace
from ..figures import png_bytes
from ..gans import Generator
from ..gans.biggan import ClassNorm
from .picture_view import PictureView

__all__ = ["MixingDemo"]


class MixingDemo:
    """Pictures of a class whose γ − 1 and β are weighted sums of those of old classes.

    Weights are used as they are: they may be negative and need not sum to one. All layers get the same ones, so that a
    mixture is a point among the class embeddings.

    Args:
        generator: with class embeddings; in evaluation mode.
        classes: the names of all its classes.
        offered: names of those to borrow from.
        z: ``(N, noise)``, the noise of the pictures shown.
        space: of the latents that the generator draws; None where it draws pictures.

    Raises:
        CourseError: a generator without embeddings, an unknown class, or none.
    """

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
        if not offered:
            raise CourseError("there is nobody to borrow from: name at least one old class.")
        if unknown := [name for name in offered if name not in classes]:
            raise CourseError(f"there is no old class {unknown[0]!r}: choose among {', '.join(classes[:8])}, …")
        self.generator, self.classes, self.offered, self.z = generator, list(classes), list(offered), z
        self.space = space

    def embedding(self, weights: Mapping[str, float]) -> Tensor:
        """``(E,)``: the weighted sum of embeddings; all zeros where nothing is borrowed."""
        row = self.z.new_zeros(len(self.classes))
        for name, weight in weights.items():
            row[self.classes.index(name)] = weight
        return row @ self.generator.shared.weight

    @torch.no_grad()
    def pictures(self, weights: Mapping[str, float], whole: bool = False) -> Tensor:
        """``(N, 3, S, S)`` in [−1, 1] on the CPU.

        Args:
            weights: old class → how much of it.
            whole: mixes γ instead of γ − 1, a mistake worth seeing: every channel is multiplied by the sum of weights.
        """
        extra = sum(weights.values()) - 1
        with ExitStack() as hooks:
            for norm in (module for module in self.generator.modules() if isinstance(module, ClassNorm)):
                if whole:
                    hooks.enter_context(norm.gain.register_forward_hook(lambda layer, inputs, gain: gain + extra))
            drawn = self.generator(self.z, self.embedding(weights).expand(len(self.z), -1))
        return (drawn if self.space is None else self.space.decode(drawn)).cpu()

    def render(self, whole: bool = False, **weights: float) -> bytes:
        """PNG of the pictures in a row. Same values, same bytes."""
        return png_bytes(self.pictures(weights, whole), enlarge=2)

    def view(self) -> PictureView:
        """A slider for the weight of each class offered, above the pictures."""
        controls: dict[str, widgets.Widget] = {
            name: widgets.FloatSlider(
                float(name == self.offered[0]), min=-1.0, max=1.5, step=0.05, description=name, continuous_update=False
            )
            for name in self.offered
        }
        controls["whole"] = widgets.Checkbox(False, description="mix γ instead of γ − 1", indent=False)
        alt = f"{len(self.z)} pictures of a class with these mixing weights, each with its own noise."
        return PictureView(self.render, controls, alt)
