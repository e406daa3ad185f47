"""A text box: type a sentence, see pictures, and compare sentences under the same residuals."""

from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import torch
from torch import Tensor

from ..errors import CourseError
from ..figures import png_bytes
from ..translation import Translator
from .picture_view import PictureView, choice

__all__ = ["TextBox"]


class TextBox:
    """Pictures for typed sentences, one row a sentence; a column shares its residual.

    Args:
        translators: name → translator whose source takes sentences, or pairs (sentence, style) if it has styles.
        samples: columns.

    Raises:
        CourseError: no translator, or fewer than one sample.
    """

    def __init__(self, translators: Mapping[str, Translator], samples: int = 6):
        if not translators or samples < 1:
            raise CourseError("a text box needs a translator and at least one sample.")
        self.translators, self.samples = dict(translators), samples
        known = [name for one in self.translators.values() for name in getattr(one.source, "names", [])]
        self.styles = list(dict.fromkeys(known))

    def residuals(self, target: str, seed: int, length: float = 1.0) -> Tensor:
        """``v (samples, D)``; the same seed gives the same ones on every device."""
        dim = self.translators[target].flow.config.dim
        return length * torch.randn(self.samples, dim, generator=torch.Generator().manual_seed(seed))

    def pictures(
        self, sentences: Sequence[str], target: str, seed: int, length: float = 1.0, style: str = ""
    ) -> Tensor:
        """``(sentences, samples, 3, S, S)`` in [−1, 1], on the CPU; ``style`` counts where the target has styles."""
        translator = self.translators[target]
        v = self.residuals(target, seed, length).to(next(translator.flow.parameters()).device)
        names = getattr(translator.source, "names", [])
        asked = [(text, style or names[0]) for text in sentences] if names else list(sentences)
        return translator.render(v, asked).cpu()

    def render(self, sentence: str, other: str, target: str, seed: int, length: float = 1.0, style: str = "") -> bytes:
        """PNG, enlarged without smoothing: a row for each of the two sentences that is not empty.

        Raises:
            CourseError: both are empty.
        """
        sentences = [text.strip() for text in (sentence, other) if text.strip()]
        if not sentences:
            raise CourseError("type a sentence, for example: a sad person with red hair.")
        pictures = self.pictures(sentences, target, seed, length, style)
        # Targets draw at different sizes; on the screen all of them are about 128 pixels wide.
        return png_bytes(pictures.flatten(0, 1), columns=self.samples, enlarge=max(1, 128 // pictures.shape[-1]))

    def view(
        self, sentence: str = "a smiling person with long pink hair", other: str = "a sad person with long pink hair"
    ) -> PictureView:
        """Controls above the pictures. Rendering waits until a sentence is complete (Enter, or leaving the box)."""
        names = list(self.translators)
        controls = {
            "sentence": widgets.Text(sentence, continuous_update=False),
            "other": widgets.Text(other, description="second sentence", continuous_update=False),
            "target": choice(names, description="translate into"),
            "seed": widgets.BoundedIntText(0, min=0, max=9999, description="sample again (seed of v)"),
            "length": widgets.FloatSlider(
                1.0, min=0.0, max=1.5, step=0.1, description="length of v", continuous_update=False
            ),
        }
        if self.styles:
            controls["style"] = choice(self.styles)
        alt = "One row of pictures for each sentence; pictures in one column share their residual."
        return PictureView(self.render, controls, alt)
