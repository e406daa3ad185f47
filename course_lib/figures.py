"""Figures that everyone can read: alternative text on each, colour-blind-safe colours, pictures without blur."""

import io
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from PIL import Image
from torch import Tensor

__all__ = [
    "COLOURS",
    "MARKERS",
    "LiveFigure",
    "curves",
    "new_figure",
    "picture_grid",
    "png_bytes",
    "schematic",
    "show",
    "show_pictures",
    "style_schematic",
]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, distinguishable with any colour vision."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class _LiteralFigure(Figure):
    """A figure whose labels are literal: class names such as ``US$ and A$`` are no mathematics.

    Numbers at logarithmic axes, which Matplotlib itself writes as mathematics, stay.
    """

    def draw(self, renderer: Any) -> None:
        """Marks every text before it is drawn."""
        for axes in self.axes:
            axes.get_xticklabels(), axes.get_yticklabels()  # made only when they are asked for
        for text in self.findobj(Text):
            if "$" in text.get_text() and not text.get_text().startswith("$\\mathdefault{"):
                text.set_parse_math(False)
        super().draw(renderer)


def new_figure(width: float = 7.0, height: float = 3.2, columns: int = 1, rows: int = 1) -> tuple[Figure, list]:
    """An empty figure (inches) and its axes as a flat list, with light grids and no upper and right spines."""
    settings = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25}
    with matplotlib.rc_context(settings | {"axes.prop_cycle": matplotlib.cycler(color=COLOURS)}):
        figure = _LiteralFigure(figsize=(width, height), layout="constrained", dpi=100)
        axes = [figure.add_subplot(rows, columns, k + 1) for k in range(rows * columns)]
    return figure, axes


def show(figure: Figure, alt: str) -> None:
    """Displays ``figure`` as PNG with alternative text ``alt``, one or two sentences that say what is to be seen.

    The text is stored in the output's metadata; the course's HTML pages and screen readers use it.

    Raises:
        ValueError: ``alt`` is empty.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    _display("image/png", _compact(buffer.getvalue()), alt)


def show_pictures(figure: Figure, alt: str) -> None:
    """As :func:`show`, but as JPEG: for large grids of decoded pictures.

    Such pictures have no flat areas, so that as PNG they take four times the room, which a notebook with many of them
    does not have. Colour is not subsampled; progressive files are smaller, with the same pixels.

    Raises:
        ValueError: ``alt`` is empty.
    """
    buffer = io.BytesIO()
    options = {"quality": 70, "subsampling": 0, "optimize": True, "progressive": True}
    figure.savefig(buffer, format="jpeg", pil_kwargs=options)
    _display("image/jpeg", buffer.getvalue(), alt)


class LiveFigure:
    """A figure that is replaced while a cell runs; the last one stays.

    Args:
        alt: see :func:`show`; of the last figure.
    """

    def __init__(self, alt: str):
        self.alt, self.handle = alt, f"live-{id(self)}"
        self.shown = False

    def show(self, figure: Figure) -> None:
        """Displays ``figure`` in the place of the one before."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        _display("image/png", _compact(buffer.getvalue()), self.alt, display_id=self.handle, update=self.shown)
        self.shown = True


def _display(kind: str, content: bytes, alt: str, **options: Any) -> None:
    from IPython.display import display

    if not alt.strip():
        raise ValueError("every figure needs alternative text")
    # An undecorated bundle: the figure's own repr would carry a size that depends on the machine.
    display({kind: content, "text/plain": "<figure>"}, raw=True, metadata={kind: {"alt": alt}}, **options)


def _compact(png: bytes) -> bytes:
    """The same picture in 192 colours: a third of the size, so that notebooks full of pictures stay small."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    buffer = io.BytesIO()
    few = picture.quantize(192, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True)
    return min(png, buffer.getvalue(), key=len)


def _to_array(image: Tensor) -> np.ndarray:
    """``(3, S, S)`` in [−1, 1] as ``uint8 (S, S, 3)``."""
    return ((image.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def picture_grid(
    pictures: Tensor | list[Tensor],
    row_titles: list[str] | None = None,
    column_titles: list[str] | None = None,
    title: str | None = None,
    zoom: float = 1.0,
    labels: list[str] | None = None,
) -> Figure:
    """A grid of pictures with titles.

    Args:
        pictures: ``(R, C, 3, S, S)`` in [−1, 1], or a list of ``R`` tensors ``(C, 3, s, s)`` whose sizes may differ by
            row; smaller ones are enlarged without smoothing, so that their pixels are seen.
        row_titles, column_titles: one for each row or column; both may have several lines.
        zoom: 1 draws a picture 0.75 inch wide.
        labels: a line above every picture, row by row.
    """
    rows = list(pictures)
    columns = max(len(row) for row in rows)
    side, margin, line = 0.75 * zoom, 0.02 * zoom, 0.16 if labels else 0.0
    each = iter(labels or [])
    left = 0.085 * max((len(line) for text in row_titles or [] for line in text.splitlines()), default=0) + 0.06
    lines = max((text.count("\n") for text in column_titles or []), default=0)
    top = (0.24 + 0.13 * lines if column_titles else 0.04) + (0.3 if title else 0.0)
    width, height = left + columns * side, top + len(rows) * (side + line) + 0.04
    figure = _LiteralFigure(figsize=(width, height), dpi=max(100, round(64 / side) if zoom <= 1 else 100))
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            box = [(left + c * side + margin) / width, 1 - (top + (r + 1) * (side + line) - margin) / height]
            axes = figure.add_axes([*box, (side - 2 * margin) / width, (side - 2 * margin) / height])
            axes.imshow(_to_array(picture), interpolation="nearest" if picture.shape[-1] < 64 else "auto")
            axes.set_xticks([]), axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set(color="#cccccc", linewidth=0.5)
            if labels:
                axes.set_title(next(each), fontsize=7, pad=2)
            if r == 0 and column_titles:
                axes.set_title(column_titles[c], fontsize=8, pad=3)
            if c == 0 and row_titles:
                axes.set_ylabel(row_titles[r], fontsize=8, rotation=0, ha="right", va="center", labelpad=4)
    if title:
        figure.suptitle(title, fontsize=10, y=1 - 0.06 / height, va="top")
    return figure


def curves(lines: dict[str, tuple], x_label: str, y_label: str, title: str = "", log_y: bool = False) -> Figure:
    """Lines ``name → (x, y)`` that differ in colour and in marker, with a legend."""
    figure, (axes,) = new_figure()
    drawn = []
    for k, (x, y) in enumerate(lines.values()):
        every = max(1, len(list(x)) // 8)
        drawn += axes.plot(x, y, color=COLOURS[k % 7], marker=MARKERS[k % 7], markevery=every, markersize=5)
    axes.set(xlabel=x_label, ylabel=y_label, title=title, yscale="log" if log_y else "linear")
    # A fixed place: "best" warns on a slow machine that it takes long.
    axes.legend(drawn, list(lines), frameon=False, loc="upper right")  # named here: a label "_a" would be left out
    return figure


def png_bytes(pictures: Tensor, columns: int | None = None, enlarge: int = 2) -> bytes:
    """PNG of pictures ``(N, 3, S, S)`` in [−1, 1] side by side; what a widget shows.

    Args:
        pictures: the pictures.
        columns: pictures per row; all in one row by default.
        enlarge: whole-number factor, without smoothing.
    """
    columns = columns or len(pictures)
    size = pictures.shape[-1]
    sheet = np.full((-(-len(pictures) // columns) * (size + 2), columns * (size + 2), 3), 255, np.uint8)
    for k, picture in enumerate(pictures):
        y, x = divmod(k, columns)
        sheet[y * (size + 2) + 1 :, x * (size + 2) + 1 :][:size, :size] = _to_array(picture)
    image = Image.fromarray(sheet)
    buffer = io.BytesIO()
    image.resize((image.width * enlarge, image.height * enlarge), Image.NEAREST).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


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


def schematic(low: Tensor, samples: Tensor) -> Figure:
    """Net2Net in one picture: source expert → flow ← residual, flow → target expert.

    Args:
        low: the input, ``(3, s, s)`` in [−1, 1].
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


def style_schematic(pictures: Tensor) -> Figure:
    """A StyleGAN that draws latents: mapping → styles → synthesis → frozen decoder.

    Args:
        pictures: three or more samples, ``(N, 3, S, S)`` in [−1, 1]; three are drawn.
    """
    figure = Figure(figsize=(9.6, 3.0), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 9.6), ylim=(0, 3.0))
    axes.axis("off")
    for index, picture in enumerate(pictures[:3]):
        inset = figure.add_axes((8.4 / 9.6, (2.0 - 0.95 * index) / 3.0, 0.9 / 9.6, 0.9 / 3.0))
        inset.imshow(((picture.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
        inset.set(xticks=[], yticks=[])
    axes.text(0.45, 1.3, "noise\n$z\\sim N(0, I)$", ha="center", va="center", fontsize=9)
    _box(axes, 1.45, 1.2, "mapping\nnetwork\n$f$", COLOURS[1])
    _box(axes, 3.75, 1.5, "synthesis\nnetwork $G$\n4, 8, 8 cells", COLOURS[1])
    _box(axes, 6.5, 1.25, "decoder of the\nautoencoder\nfrozen", COLOURS[0], "////")
    _arrow(axes, (0.95, 1.3), (1.4, 1.3))
    _arrow(axes, (2.7, 1.3), (3.7, 1.3), "style\n$w=f(z)$")
    _arrow(axes, (5.3, 1.3), (6.45, 1.3), "latent\n16×8×8")
    _arrow(axes, (7.8, 1.3), (8.35, 1.3))
    _arrow(axes, (4.5, 2.45), (4.5, 1.9))
    axes.text(4.5, 2.5, "noise maps, one a block", ha="center", va="bottom", fontsize=9)
    return figure
