"""What notebook 00 shows: a translator as a diagram, its translations side by side, and the first widget."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..data import ImageSet, load_emoji
from ..errors import CourseError
from ..figures import COLOURS, picture_grid
from ..paths import CHECKPOINTS
from ..translation import Translator, load_superresolution
from .picture_view import PictureView

__all__ = [
    "FAVOURITES",
    "Gallery",
    "choose",
    "diagram",
    "first_translation",
    "opening_figure",
    "render",
    "residuals",
    "side_by_side",
]

FAVOURITES = (
    *("exploding head", "cat face", "tiger face", "penguin", "turtle", "jack-o-lantern", "doughnut", "banana"),
    *("bouquet", "bicycle", "teddy bear", "hot springs", "violin", "running shoe", "flying saucer", "ship"),
)
"""Emoji of the test part that differ much from each other."""


@dataclass(frozen=True)
class Gallery:
    """Pictures to choose from.

    Attributes:
        pictures: ``(N, D, 3, S, S)`` in [−1, 1]: each of ``N`` things in each of ``D`` styles.
        names: of the things.
        styles: of the drawings; one only for a set without true pairs.
    """

    pictures: Tensor
    names: list[str]
    styles: list[str]

    def find(self, name: str, style: str) -> Tensor:
        """One picture as a batch ``(1, 3, S, S)``."""
        return self.pictures[self.names.index(name), self.styles.index(style)][None]

    def to(self, device: torch.device | str) -> "Gallery":
        """The same on ``device``."""
        return replace(self, pictures=self.pictures.to(device))


def choose(data: ImageSet, wanted: Sequence[str] = FAVOURITES, size: int | None = None) -> Gallery:
    """Takes the ``wanted`` emoji out of ``data`` in all styles; from any other set, as many evenly spaced pictures.

    Args:
        data: one part of a set, or a whole set.
        wanted: names of emoji; those that ``data`` does not have are left out.
        size: side of the pictures; the stored one by default.

    Raises:
        CourseError: ``data`` is empty or has none of the wanted emoji.
    """
    if not len(data):
        raise CourseError(f"the data set {data.name!r} has no pictures to choose from.")
    if "emoji" not in data.labels:
        index = torch.linspace(0, len(data) - 1, min(len(data), len(wanted))).round().long()
        names = [f"picture {i}" for i in index.tolist()]
        return Gallery(data.batch(index, size)[:, None], names, [data.name])
    styles, known = data.classes["style"], data.classes["emoji"]
    names, rows = [], []
    for name in wanted:
        places = (data.labels["emoji"] == known.index(name)).nonzero()[:, 0] if name in known else []
        if len(places) == len(styles):
            names.append(name)
            rows.append(data.batch(places[data.labels["style"][places].argsort()], size))
    if not names:
        raise CourseError(f"none of the wanted emoji ({', '.join(wanted)}) is in this part of the set: name others.")
    return Gallery(torch.stack(rows), names, styles)


def residuals(seed: int, samples: int, dim: int, temperature: float = 1.0) -> Tensor:
    """``(samples, dim)`` standard normal numbers times ``temperature``; a seed gives the same ones on every device."""
    return torch.randn(samples, dim, generator=torch.Generator().manual_seed(seed)) * temperature


@torch.no_grad()
def side_by_side(translator: Translator, pictures: Tensor, v: Tensor) -> Tensor:
    """What the source expert sees, one translation for each residual, and the real picture, in that order.

    Args:
        translator: its source must be a low-resolution expert.
        pictures: ``(N, 3, S, S)`` in [−1, 1].
        v: ``(samples, D)``.

    Returns:
        ``(N, samples + 2, 3, S, S)`` in [−1, 1], on the CPU. Small pictures are enlarged in blocks, without smoothing.
    """
    low = translator.source.see(pictures)
    blocks = torch.nn.functional.interpolate(low, pictures.shape[-2:], mode="nearest")
    drawn = translator.render(v.to(pictures.device), pictures)
    return torch.cat([blocks[:, None], drawn, pictures[:, None]], 1).cpu()


def _titles(translator: Translator, samples: int) -> list[str]:
    return [f"{translator.source.size} px input", *(f"sample {k + 1}" for k in range(samples)), "the real one"]


def render(
    translator: Translator, picture: Tensor, seed: int = 0, temperature: float = 1.0, samples: int = 5, enlarge: int = 2
) -> bytes:
    """PNG of one input ``(1, 3, S, S)`` and its translations in a row, each with its name above it. Pure."""
    v = residuals(seed, samples, translator.flow.config.dim, temperature)
    row = side_by_side(translator, picture, v)[0]
    levels = ((row.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    side, head, gap = picture.shape[-1] * enlarge, 20, 4
    sheet = Image.new("RGB", (len(levels) * (side + gap), head + side), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for k, (title, level) in enumerate(zip(_titles(translator, samples), levels, strict=True)):
        how = Image.NEAREST if k == 0 else Image.BICUBIC
        sheet.paste(Image.fromarray(np.ascontiguousarray(level)).resize((side, side), how), (k * (side + gap), head))
        draw.text((k * (side + gap) + side // 2, head // 2), title, "black", font, anchor="mm")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def first_translation(
    translator: Translator, gallery: Gallery, seed: int = 0, temperature: float = 1.0, samples: int = 5
) -> PictureView:
    """The widget of notebook 00: choose a picture, move the seed and the temperature, see the samples."""
    size = gallery.pictures.shape[-1]
    controls = {
        "picture": widgets.Dropdown(options=gallery.names),
        "style": widgets.Dropdown(options=gallery.styles),
        "seed": widgets.IntSlider(seed, 0, max(20, seed), continuous_update=False),
        "temperature": widgets.FloatSlider(temperature, min=0.0, max=2.0, step=0.1, continuous_update=False),
    }
    alt = f"{translator.source.size} px input, {samples} samples of the translator at {size} px, and the real picture"
    return PictureView(
        lambda picture, style, **options: render(translator, gallery.find(picture, style), samples=samples, **options),
        controls,
        alt,
    )


def opening_figure(rows: int = 5, samples: int = 4, seed: int = 0, folder: Path = CHECKPOINTS) -> Figure:
    """The result first: held-out emoji, each in another style, enlarged by the shipped super-resolution translator.

    Raises:
        CourseError: a checkpoint is missing or damaged.
    """
    translator = load_superresolution(folder=folder)
    gallery = choose(load_emoji().part("test"), FAVOURITES[:rows], translator.target.config.size)
    inputs = torch.stack([gallery.pictures[k, k % len(gallery.styles)] for k in range(len(gallery.names))])
    v = residuals(seed, samples, translator.flow.config.dim)
    names = [f"{name} ({gallery.styles[k % len(gallery.styles)]})" for k, name in enumerate(gallery.names)]
    return picture_grid(side_by_side(translator, inputs, v), names, _titles(translator, samples), zoom=1.0)


def _box(axes, x: float, width: float, text: str, colour: str, hatch: str = "") -> None:
    """A labelled box on the middle line; hatching marks what is frozen, so that colour is not the only sign."""
    style = {"facecolor": "white", "edgecolor": colour, "linewidth": 2.0, "hatch": hatch}
    axes.add_patch(FancyBboxPatch((x, 0.75), width, 1.1, boxstyle="round,pad=0.05", **style))
    backing = {"facecolor": "white", "edgecolor": "none", "pad": 2.0}
    axes.text(x + width / 2, 1.3, text, ha="center", va="center", fontsize=9, bbox=backing)


def _arrow(axes, start: tuple[float, float], end: tuple[float, float], text: str = "") -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "linewidth": 1.5, "color": "black"})
    if text:
        axes.text((start[0] + end[0]) / 2, start[1] + 0.1, text, ha="center", va="bottom", fontsize=9)


def diagram(low: Tensor, samples: Tensor) -> Figure:
    """Net2Net in one picture: source expert → flow ← residual, flow → target expert.

    Args:
        low: what the source expert sees, ``(3, s, s)`` in [−1, 1].
        samples: three or more translations, ``(N, 3, S, S)``; three are drawn.
    """
    figure = Figure(figsize=(9.6, 3.3), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 9.6), ylim=(0, 3.3))
    axes.axis("off")
    for tensor, (left, bottom, side) in (
        (low, (0.2, 0.8, 1.0)),
        *((sample, (8.35, 2.2 - 1.0 * k, 0.95)) for k, sample in enumerate(samples[:3])),
    ):
        inset = figure.add_axes((left / 9.6, bottom / 3.3, side / 9.6, side / 3.3))
        inset.imshow(((tensor.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
        inset.set(xticks=[], yticks=[])
    _box(axes, 1.8, 1.25, "source expert\n$\\Phi$\nfrozen", COLOURS[0], "////")
    _box(axes, 4.1, 1.25, "flow\n$\\tau$\ntrained", COLOURS[1])
    _box(axes, 6.4, 1.25, "target expert\n$\\Lambda$ (decoder)\nfrozen", COLOURS[0], "////")
    _arrow(axes, (1.22, 1.3), (1.75, 1.3))
    _arrow(axes, (3.1, 1.3), (4.05, 1.3), "condition\n$c=\\Phi(x)$")
    _arrow(axes, (5.4, 1.3), (6.35, 1.3), "latent\n$z=\\tau(v|c)$")
    _arrow(axes, (7.7, 1.3), (8.3, 1.3))
    _arrow(axes, (4.72, 2.55), (4.72, 1.9))
    axes.text(
        4.72, 2.62, "residual $v\\sim N(0, I)$: what the input does not say", ha="center", va="bottom", fontsize=9
    )
    axes.text(0.7, 0.72, "input $x$", ha="center", va="top", fontsize=9)
    axes.text(8.3, 0.12, "one picture\nfor each $v$", ha="right", va="bottom", fontsize=9)
    return figure
