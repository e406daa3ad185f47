"""A walk through the residuals of a translator: one low-resolution input, and what ``v`` adds to it."""

import ipywidgets as widgets
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError
from ..figures import png_bytes
from ..generation.interpolation import slerp
from ..translation import Translator
from .picture_view import PictureView

__all__ = ["ResidualWalk", "slerp"]


class ResidualWalk:
    """Pictures between residuals, under chosen inputs. Conditions are computed once: a step is one pass of the flow.

    Args:
        translator: with a source that has ``see``, such as ``LowResolution``.
        inputs: ``(N, 3, S, S)`` in [−1, 1]; their conditions are offered.
        residuals: name → ``v`` as ``(D,)``; the walk goes from one to another.

    Raises:
        CourseError: no inputs, fewer than two residuals, or residuals of another size.
    """

    def __init__(self, translator: Translator, inputs: Tensor, residuals: dict[str, Tensor]):
        dim = translator.flow.config.dim
        if not len(inputs) or len(residuals) < 2 or any(v.shape != (dim,) for v in residuals.values()):
            raise CourseError(f"a walk needs inputs and at least two residuals of shape ({dim},).")
        self.translator, self.residuals = translator, residuals
        self.seen = translator.source.see(inputs)
        self.conditions = translator.source.encode(inputs)

    def residual(self, start: str, end: str, amount: float, length: float = 1.0) -> Tensor:
        """``v (D,)`` on the arc between two named residuals, times ``length``."""
        return slerp(self.residuals[start], self.residuals[end], amount) * length

    @torch.no_grad()
    def picture(self, index: int, start: str, end: str, amount: float, length: float = 1.0) -> Tensor:
        """``(3, S, S)``: input number ``index`` under that residual."""
        v = self.residual(start, end, amount, length).to(self.conditions)[None]
        latent = self.translator.flow.inverse(v, self.conditions[index : index + 1])
        return self.translator.target.decode(latent)[0].cpu()

    def strip(self, index: int, start: str, end: str, amounts: list[float], length: float = 1.0) -> Tensor:
        """``(len(amounts), 3, S, S)``: the static twin of the widget."""
        return torch.stack([self.picture(index, start, end, amount, length) for amount in amounts])

    def render(self, index: int, start: str, end: str, amount: float, length: float = 1.0) -> bytes:
        """PNG: what the source expert sees, enlarged without smoothing, and the picture. Same values, same bytes."""
        picture = self.picture(index, start, end, amount, length)
        seen = F.interpolate(self.seen[index : index + 1], picture.shape[1:], mode="nearest")[0].cpu()
        return png_bytes(torch.stack([seen, picture]), enlarge=4)

    def view(self) -> PictureView:
        """Controls above the picture."""
        names = list(self.residuals)
        count = len(self.conditions)
        controls = {
            "index": widgets.BoundedIntText(0, min=0, max=count - 1, description=f"input (0 to {count - 1})"),
            "start": widgets.Dropdown(options=names, value=names[0], description="from"),
            "end": widgets.Dropdown(options=names, value=names[1], description="to"),
            "amount": widgets.FloatSlider(0.0, min=0.0, max=1.0, step=0.05, description="way", continuous_update=False),
            "length": widgets.FloatSlider(
                1.0, min=0.0, max=2.0, step=0.1, description="length of v", continuous_update=False
            ),
        }
        alt = "Left: the 16-pixel input. Right: its translation under the residual that the controls choose."
        return PictureView(self.render, controls, alt)
