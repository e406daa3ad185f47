"""Widgets of notebook 06: another source for the same picture; the residual of one under the condition of another."""

import ipywidgets as widgets
import torch
from torch import Tensor

from ..errors import CourseError
from ..figures import png_bytes
from ..translation import Translator
from .picture_view import PictureView

__all__ = ["CrossView", "SourceView"]


class SourceView:
    """One picture, several sources: what the chosen source leaves open differs from sample to sample.

    The same residuals are used for every source and input.

    Args:
        sources: name → (translator, ``(N, *condition_shape)``); all translators have one target.
        pictures: ``(N, 3, S, S)`` in [−1, 1], the inputs.
        samples: translations shown.
        seed: of their residuals.

    Raises:
        CourseError: no source, or another number of conditions than of pictures.
    """

    def __init__(
        self, sources: dict[str, tuple[Translator, Tensor]], pictures: Tensor, samples: int = 4, seed: int = 0
    ):
        if not sources or any(len(condition) != len(pictures) for _, condition in sources.values()):
            raise CourseError("the widget needs at least one source, each with one condition for every picture.")
        self.sources, self.pictures, self.samples = sources, pictures.cpu(), samples
        dim = next(iter(sources.values()))[0].flow.config.dim
        self.v = torch.randn(samples, dim, generator=torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def strip(self, source: str, index: int, temperature: float = 1.0) -> Tensor:
        """``(1 + samples, 3, S, S)``: the picture and its translations from one source; the widget's static twin."""
        translator, conditions = self.sources[source]
        condition = conditions[index : index + 1].expand(self.samples, *conditions.shape[1:])
        latent = translator.flow.inverse(self.v.to(condition) * temperature, condition)
        return torch.cat([self.pictures[index : index + 1], translator.target.decode(latent).cpu()])

    def render(self, source: str, index: int, temperature: float = 1.0) -> bytes:
        """PNG of the strip. Same values, same bytes."""
        return png_bytes(self.strip(source, index, temperature), enlarge=2)

    def view(self) -> PictureView:
        """Controls above the picture."""
        names, last = list(self.sources), len(self.pictures) - 1
        controls = {
            "source": widgets.SelectionSlider(
                options=names, value=names[0], description="source", continuous_update=False
            ),
            "index": widgets.BoundedIntText(0, min=0, max=last, description=f"picture (0 to {last})"),
            "temperature": widgets.FloatSlider(
                1.0, min=0.0, max=1.5, step=0.1, description="temperature of v", continuous_update=False
            ),
        }
        alt = f"Left: the picture. Right: {self.samples} translations from the chosen source."
        return PictureView(self.render, controls, alt)


class CrossView:
    """The residual of one picture under the condition of another.

    Args:
        translator: trained.
        pictures: ``(N, 3, S, S)``.
        latent: ``(N, D)`` of them.
        condition: ``(N, *condition_shape)`` of them.

    Raises:
        CourseError: different numbers of pictures, latents and conditions.
    """

    @torch.no_grad()
    def __init__(self, translator: Translator, pictures: Tensor, latent: Tensor, condition: Tensor):
        if not len(pictures) == len(latent) == len(condition):
            raise CourseError("the widget needs one latent and one condition for every picture.")
        self.translator, self.pictures, self.condition = translator, pictures.cpu(), condition
        self.v = translator.flow.encode(latent, condition)

    @torch.no_grad()
    def strip(self, residual_of: int, condition_of: int) -> Tensor:
        """``(3, 3, S, S)``: the picture that gives v, the one that gives the condition, and the crossed one."""
        latent = self.translator.flow.inverse(
            self.v[residual_of : residual_of + 1], self.condition[condition_of : condition_of + 1]
        )
        crossed = self.translator.target.decode(latent).cpu()
        return torch.cat([self.pictures[[residual_of, condition_of]], crossed])

    def render(self, residual_of: int, condition_of: int) -> bytes:
        """PNG of the strip. Same values, same bytes."""
        return png_bytes(self.strip(residual_of, condition_of), enlarge=3)

    def view(self) -> PictureView:
        """Controls above the picture."""
        last = len(self.pictures) - 1
        controls = {
            name: widgets.IntSlider(value, min=0, max=last, description=words, continuous_update=False)
            for name, value, words in (
                ("residual_of", 0, "residual v from"),
                ("condition_of", min(1, last), "condition from"),
            )
        }
        alt = "Left: the picture of the residual. Middle: the picture of the condition. Right: the crossed picture."
        return PictureView(self.render, controls, alt)
