"""A walk through the residuals of a translator: one low-resolution input, and what ``v`` adds to it."""

import ipywidgets as widgets
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError
from ..figures import png_bytes
from ..generation.grids import slerp
from ..translation import Translator
from .picture_view import PictureView

__all__ = ["ResidualWalk"]


class ResidualWalk:
    """Pictures along a path of residuals, under chosen inputs. Conditions are computed once: a step is one pass.

    The path leads on arcs from one random residual to the next; whole positions are the random residuals themselves.

    Args:
        translator: with a :class:`course_lib.translation.LowResolution` source.
        inputs: name → picture ``(3, S, S)`` in [−1, 1].
        stops: random residuals on the path, two or more.
        seed: of these.

    Raises:
        CourseError: no inputs, or fewer than two stops.
    """

    def __init__(self, translator: Translator, inputs: dict[str, Tensor], stops: int = 9, seed: int = 0):
        if not inputs or stops < 2:
            raise CourseError(f"a walk needs inputs and two residuals or more, not {len(inputs)} and {stops}.")
        self.translator, self.names = translator, list(inputs)
        pictures = torch.stack(list(inputs.values()))
        self.small = translator.source.shrink(pictures)
        self.conditions = translator.source.encode(pictures)
        generator = torch.Generator().manual_seed(seed)
        self.stops = torch.randn(stops, translator.flow.config.dim, generator=generator).to(self.conditions)

    def residual(self, position: float, temperature: float = 1.0) -> Tensor:
        """``v (D,)`` at a place of the path, 0 to ``stops − 1``, times ``temperature``."""
        first = min(int(position), len(self.stops) - 2)
        return slerp(self.stops[first], self.stops[first + 1], position - first) * temperature

    @torch.no_grad()
    def strip(self, name: str, positions: list[float], temperature: float = 1.0) -> Tensor:
        """``(len(positions), 3, S, S)``: the input called ``name`` at several places of the path."""
        row = self.names.index(name)
        v = torch.stack([self.residual(position, temperature) for position in positions])
        latent = self.translator.flow.inverse(v, self.conditions[row : row + 1].expand(len(v), *[-1] * 3))
        return self.translator.target.decode(latent).cpu()

    def render(self, name: str, position: float, temperature: float = 1.0) -> bytes:
        """PNG: the input, the picture at that place, and the picture shrunk again. Same values, same bytes."""
        picture = self.strip(name, [position], temperature)
        small = torch.cat([self.small[self.names.index(name)][None].cpu(), self.translator.source.shrink(picture)])
        small = F.interpolate(small, picture.shape[-2:], mode="nearest")
        return png_bytes(torch.cat([small[:1], picture, small[1:]]), enlarge=4)

    def view(self) -> PictureView:
        """Controls above the picture."""
        last = float(len(self.stops) - 1)
        controls = {
            "name": widgets.ToggleButtons(options=self.names, value=self.names[0], description="face"),
            "position": widgets.FloatSlider(0.0, min=0.0, max=last, step=0.1, description="walk through v"),
            "temperature": widgets.FloatSlider(1.0, min=0.0, max=1.5, step=0.1, description="temperature"),
        }
        size = self.translator.source.size
        alt = f"Left: the {size}-pixel input. Middle: the answer for this v. Right: the answer shrunk to {size} pixels."
        return PictureView(self.render, controls, alt)
