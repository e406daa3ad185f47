"""Translations by hand: typed sentences, another source for a picture, a residual under another condition."""

from collections.abc import Mapping, Sequence

import torch
from ipywidgets import BoundedIntText, SelectionSlider, Text
from torch import Tensor

from ..errors import CourseError
from ..figures import png_bytes
from ..translation.translator import Translator
from .picture_view import PictureView, choice, labelled, slider


class TextBox:
    """Pictures for typed sentences, one row a sentence; a column of the ``samples`` shares its residual.
    ``translators``: name → translator whose source takes sentences, or pairs (sentence, style) if it has styles."""

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
        """PNG, enlarged without smoothing: a row for each of the two sentences that is not empty."""
        sentences = [text.strip() for text in (sentence, other) if text.strip()]
        if not sentences:
            raise CourseError("type a sentence, for example: a sad person with red hair.")
        pictures = self.pictures(sentences, target, seed, length, style)
        # Targets draw at different sizes; on the screen all of them are about 128 pixels wide.
        return png_bytes(pictures.flatten(0, 1), columns=self.samples, enlarge=max(1, 128 // pictures.shape[-1]))

    def view(
        self, sentence: str = "a smiling person with long pink hair", other: str = "a sad person with long pink hair"
    ) -> PictureView:
        """The widget; its pictures wait until a sentence is complete (Enter, or leaving the box)."""
        controls = {
            "sentence": Text(sentence, continuous_update=False),
            "other": Text(other, description="second sentence", continuous_update=False),
            "target": choice(list(self.translators), description="translate into"),
            "seed": BoundedIntText(0, min=0, max=9999, description="sample again (seed of v)"),
            "length": slider("length of v", 1.0, 0.0, 1.5, 0.1),
        }
        if self.styles:
            controls["style"] = choice(self.styles)
        alt = "One row of pictures for each sentence; pictures in one column share their residual."
        return PictureView(self.render, controls, alt)


class SourceView:
    """One picture, several sources: what the chosen source leaves open differs from sample to sample. ``sources``: name
    → (translator, conditions of the ``pictures (N, 3, S, S)``), all into one target. The ``samples``' residuals, drawn
    from ``seed``, are those of every source and input."""

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
        labels = ["picture", *(f"v {k + 1}" for k in range(self.samples))]
        return labelled(self.strip(source, index, temperature), labels, enlarge=2)

    def view(self) -> PictureView:
        last = len(self.pictures) - 1
        controls = {
            "source": SelectionSlider(options=list(self.sources), continuous_update=False),
            "index": BoundedIntText(0, min=0, max=last, description=f"picture (0 to {last})"),
            "temperature": slider("temperature of v", 1.0, 0.0, 1.5, 0.1),
        }
        alt = f"Left: the picture. Right: {self.samples} translations from the chosen source."
        return PictureView(self.render, controls, alt)


class CrossView:
    """The residual of one picture under another's condition, of ``pictures (N, 3, S, S)``, latents and conditions."""

    @torch.no_grad()
    def __init__(self, translator: Translator, pictures: Tensor, latent: Tensor, condition: Tensor):
        if not len(pictures) == len(latent) == len(condition):
            raise CourseError("the widget needs one latent and one condition for every picture.")
        self.translator, self.pictures, self.condition = translator, pictures.cpu(), condition
        self.v = translator.flow.encode(latent, condition)

    @torch.no_grad()
    def strip(self, residual_of: int, condition_of: int) -> Tensor:
        """``(3, 3, S, S)``: the picture that gives v, the one that gives the condition, and the crossed one."""
        latent = self.translator.flow.inverse(self.v[[residual_of]], self.condition[[condition_of]])
        crossed = self.translator.target.decode(latent).cpu()
        return torch.cat([self.pictures[[residual_of, condition_of]], crossed])

    def render(self, residual_of: int, condition_of: int) -> bytes:
        labels = ("v of this one", "condition of this one", "both together")
        return labelled(self.strip(residual_of, condition_of), labels, enlarge=3)

    def view(self) -> PictureView:
        last = len(self.pictures) - 1
        controls = {
            "residual_of": slider("residual v from", 0, 0, last),
            "condition_of": slider("condition from", min(1, last), 0, last),
        }
        alt = "Left: the picture of the residual. Middle: the picture of the condition. Right: the crossed picture."
        return PictureView(self.render, controls, alt)
