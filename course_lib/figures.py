"""Figures that everyone can read: alternative text on each, colour-blind-safe colours, pictures without blur."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from PIL import Image
from torch import Tensor

from course_lib.errors import CourseError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, distinguishable with any colour vision."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class _LiteralFigure(Figure):
    """A figure whose labels are literal: class names such as ``US$ and A$`` are no mathematics. Numbers at logarithmic
    axes, which Matplotlib itself writes as mathematics, stay."""

    def draw(self, renderer: Any) -> None:
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


def show(figure: Figure, alt: str, **options: Any) -> None:
    """Displays ``figure`` with alternative text ``alt``, one or two sentences that say what is to be seen; ``options``
    are those of ``display``. Where the figure has more than a hundred pixels an inch, the page shows it smaller."""
    content, kind = _file(figure)
    show_bytes(content, alt, kind, round(100 * figure.get_figwidth()), **options)


class LiveFigure:
    """A figure that is replaced while a cell runs; the last one stays, and ``alt`` describes it."""

    def __init__(self, alt: str):
        self.alt, self.shown = alt, False

    def show(self, figure: Figure) -> None:
        """Displays ``figure`` in the place of the one before."""
        show(figure, self.alt, display_id=f"live-{id(self)}", update=self.shown)
        self.shown = True


def show_bytes(content: bytes, alt: str, kind: str = "image/png", width: int | None = None, **options: Any) -> None:
    """Displays a picture file of the ``kind`` ``image/png`` or ``image/webp``; ``options`` are those of ``display``."""
    from IPython.display import display

    if not alt.strip():
        raise ValueError("every figure needs alternative text")
    # As HTML: JupyterLab shows image outputs without their metadata, so that no screen reader would find the text.
    display({"text/html": picture_html(content, alt, kind, width), "text/plain": "<figure>"}, raw=True, **options)


def picture_html(content: bytes, alt: str, kind: str = "image/png", width: int | None = None) -> str:
    """A picture file as an ``img`` element that holds all of it; ``runner.session.stored_picture`` reads it back."""
    wide = f' width="{width}"' if width else ""
    return f'<img alt="{html.escape(alt)}" src="data:{kind};base64,{base64.b64encode(content).decode()}"{wide}>'


def _file(figure: Figure) -> tuple[bytes, str]:
    """A small file, so that notebooks stay small, and its kind."""
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png")
    picture = Image.open(full).convert("RGB")
    if figure.dpi > 100:  # a grid: with losses that its enlarged pixels hide
        picture.save(small, "WEBP", quality=62, method=4)
        return small.getvalue(), "image/webp"
    # Without k-means a rare colour becomes its frequent neighbour.
    picture.quantize(256, Image.Quantize.MEDIANCUT, kmeans=3).save(small, "PNG", optimize=True)
    return min(full.getvalue(), small.getvalue(), key=len), "image/png"


def _to_array(image: Tensor) -> np.ndarray:
    """``(3, S, S)`` in [−1, 1] as ``uint8 (S, S, 3)``."""
    return ((image.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def picture_grid(
    pictures: Tensor | list[Tensor],
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    title: str = "",
    labels: Sequence[str] = (),
    enlarge: int = 0,
) -> Figure:
    """A grid of pictures ``(R, C, 3, S, S)`` in [−1, 1], or of ``R`` tensors ``(C, 3, s, s)``, the smaller ones
    enlarged without blur: a whole number of pixels shows each pixel. ``row_titles`` and ``column_titles`` may have
    several lines, ``labels`` stand above the pictures, row by row. A picture of 64 pixels is ``enlarge`` halves as wide
    on the page, by default 3 in small grids, else 2."""
    rows, each = list(pictures), iter(labels)
    columns, largest = max(map(len, rows)), max(row.shape[-1] for row in rows)
    enlarge = enlarge or (3 if columns <= 8 and len(rows) <= 6 else 2)
    pixels = largest * max(1, round(64 * enlarge / largest))  # of the figure, two for each of the page
    side, line = pixels + 8, 32 if labels else 0
    letters = max((len(line) for text in row_titles for line in text.splitlines()), default=0)
    left = round(17 * letters) + 12
    lines = max((text.count("\n") for text in column_titles), default=0)
    top = (48 + 26 * lines if column_titles else 8) + (60 if title else 0)
    width, height = left + side * columns, top + len(rows) * (side + line) + 8
    figure = _LiteralFigure(figsize=(width / 200, height / 200), dpi=200)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            corner = ((left + c * side + 4) / width, 1 - (top + (r + 1) * (side + line) - 4) / height)
            axes = figure.add_axes([*corner, pixels / width, pixels / height])
            axes.imshow(_to_array(picture), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color="#cccccc", linewidth=0.5)
            if labels:
                axes.set_title(next(each), fontsize=7, pad=2)
            if r == 0 and column_titles:
                axes.set_title(column_titles[c], fontsize=8, pad=3)
            if c == 0 and row_titles:
                axes.set_ylabel(row_titles[r], fontsize=8, rotation=0, ha="right", va="center", labelpad=4)
    if title:
        figure.suptitle(title, fontsize=10, y=1 - 12 / height, va="top")
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


def png_bytes(pictures: Tensor, columns: int = 0, enlarge: int = 2, wide: int = 0, colours: int = 0) -> bytes:
    """PNG of pictures ``(N, 3, S, S)`` in [−1, 1], ``columns`` in a row or all; what a widget shows. ``enlarge`` is a
    whole-number factor, without smoothing, or of the size that makes a picture ``wide`` pixels or a little less wide;
    ``colours`` so many at most, for a smaller file."""
    columns, size = columns or len(pictures), pictures.shape[-1]
    enlarge = max(1, wide // size) if wide else enlarge
    sheet = np.full((-(-len(pictures) // columns) * (size + 2), columns * (size + 2), 3), 255, np.uint8)
    for k, picture in enumerate(pictures):
        y, x = divmod(k, columns)
        sheet[y * (size + 2) + 1 :, x * (size + 2) + 1 :][:size, :size] = _to_array(picture)
    image = Image.fromarray(sheet)
    image = image.resize((image.width * enlarge, image.height * enlarge), Image.NEAREST)
    options, buffer = {"compress_level": 1}, io.BytesIO()
    if colours:
        image, options = (
            image.quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE),
            {"optimize": True},
        )
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


# --- densities on the plane -------------------------------------------------------------------------------------------


def plane(side: int = 96, extent: float = 1.2) -> Tensor:
    """Centres of ``side × side`` cells that tile the square [−extent, extent]², ``(side * side, 2)``, row by row from
    the top left, so that ``values.view(side, side)`` is an upright picture."""
    ticks = ((torch.arange(side) + 0.5) / side * 2 - 1) * extent
    y, x = torch.meshgrid(-ticks, ticks, indexing="ij")
    return torch.stack([x, y], -1).view(-1, 2)


def density_pictures(density: Tensor, peak: float) -> Tensor:
    """Densities ``(..., S, S)`` as pictures ``(..., 3, S, S)`` in [−1, 1], dark for 0 and not-a-number, yellow for
    ``peak`` or more; one peak for several pictures makes them comparable."""
    level = (density.detach().nan_to_num(0.0) / peak).clamp(0, 1).cpu().numpy()
    colours = colormaps["viridis"](level)[..., :3]
    return torch.from_numpy(np.moveaxis(colours, -1, -3)).float() * 2 - 1


def animation(frames: Tensor, milliseconds: int = 400, hold: int = 1600, enlarge: int = 1) -> bytes:
    """An animated PNG of ``frames (T, N, 3, S, S)`` in [−1, 1], N side by side; ``hold`` is how long the last one
    stays."""
    sheets = [Image.open(io.BytesIO(png_bytes(pictures, enlarge=enlarge))) for pictures in frames]
    # One palette for all frames: a third of the size, and smooth densities have few colours anyway.
    palette = Image.fromarray(np.concatenate([np.asarray(sheet) for sheet in sheets])).quantize(128)
    first, *others = [sheet.quantize(palette=palette, dither=Image.Dither.NONE) for sheet in sheets]
    durations, buffer = [milliseconds] * len(others) + [hold], io.BytesIO()
    first.save(buffer, "PNG", save_all=True, append_images=others, duration=durations, loop=0)
    return buffer.getvalue()


# --- schematics and the map of one method -----------------------------------------------------------------------------

_FRAMES = {
    "trained": (COLOURS[1], ""),
    "frozen": (COLOURS[0], "////"),
    "copied": (COLOURS[0], "//"),
    "given": ("black", ""),
}
"""Colour and hatching: what is frozen is hatched, so that colour is not the only sign."""


class Schematic:
    """Boxes, arrows, words and pictures on a canvas that is measured in inches from the lower left corner. A box is
    ``trained``, ``frozen``, ``copied`` (frozen first, then trained as a copy) or ``given``."""

    def __init__(self, width: float, height: float):
        self.size, self.figure = (width, height), Figure(figsize=(width, height), dpi=100)
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        self.axes.axis("off")

    def box(
        self, x: float, y: float, width: float, height: float, text: str, kind: str, size: float = 9, pad: float = 0.05
    ) -> None:
        colour, hatch = _FRAMES[kind]
        style = {"facecolor": "white", "edgecolor": colour, "linewidth": 2.0, "hatch": hatch}
        self.axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=f"round,pad={pad}", **style))
        backing = {"facecolor": "white", "edgecolor": "none", "pad": 2.0}
        self.text(x + width / 2, y + height / 2, text, size=size, bbox=backing)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], text: str = "", width: float = 1.5) -> None:
        self.axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "linewidth": width, "color": "black"})
        if text:
            self.text((start[0] + end[0]) / 2, start[1] + 0.1, text, va="bottom")

    def text(self, x: float, y: float, text: str, **options: Any) -> None:
        self.axes.text(x, y, text, **{"ha": "center", "va": "center", "size": 9} | options)

    def picture(self, picture: Tensor, x: float, y: float, side: float, frame: bool = True) -> None:
        width, height = self.size
        inset = self.figure.add_axes((x / width, y / height, side / width, side / height), xticks=[], yticks=[])
        inset.imshow(((picture.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
        inset.axison = frame


def schematic(image: Tensor, samples: Tensor, condition: Tensor | None = None, source: str = "source expert") -> Figure:
    """Net2Net in one picture, with the input ``(3, S, S)``, the first three of its translations ``(N, 3, S, S)`` and,
    where the condition is a picture ``(3, s, s)``, the condition; ``source`` names the source expert."""
    drawn = Schematic(9.6, 3.3)
    drawn.picture(image, 0.2, 0.8, 1.0)
    for k, sample in enumerate(samples[:3]):
        drawn.picture(sample, 8.35, 2.2 - 1.0 * k, 0.95)
    drawn.box(1.8, 0.75, 1.25, 1.1, f"{source}\n$\\Phi$\nfrozen", "frozen")
    drawn.box(4.1, 0.75, 1.25, 1.1, "flow\n$\\tau$\ntrained", "trained")
    drawn.box(6.4, 0.75, 1.25, 1.1, "target expert\n$\\Lambda$ (decoder)\nfrozen", "frozen")
    drawn.arrow((1.22, 1.3), (1.75, 1.3))
    drawn.arrow((3.1, 1.3), (4.05, 1.3), "condition\n$c=\\Phi(x)$")
    drawn.arrow((5.4, 1.3), (6.35, 1.3), "latent\n$z=\\tau(v|c)$")
    drawn.arrow((7.7, 1.3), (8.3, 1.3))
    drawn.arrow((4.72, 2.55), (4.72, 1.9))
    drawn.text(4.72, 2.62, "residual $v\\sim N(0, I)$: what the input leaves open", va="bottom")
    drawn.text(0.7, 0.72, "input $x$", va="top")
    drawn.text(8.3, 0.12, "one picture\nfor each $v$", ha="right", va="bottom")
    if condition is not None:
        drawn.picture(condition, 3.31, 1.8, 0.53)
    return drawn.figure


def reading_order(weights: Tensor, columns: int = 26) -> tuple[list[int], list[int]]:
    """Rows and columns of weights ``(new, old)`` in the order that makes the map readable: new classes that borrow
    alike stand together (average linkage of the rows' correlation), and the old classes that are used most below the
    new one that uses them most, so that strong entries lie near the diagonal."""
    if weights.ndim != 2 or not weights.isfinite().all():
        raise CourseError(f"the map needs finite weights (new classes, old classes), not {tuple(weights.shape)}.")
    weights = weights.detach().double().cpu()
    rows = list(range(len(weights)))
    if len(rows) > 2:
        from scipy.cluster import hierarchy

        unit = torch.nn.functional.normalize(weights - weights.mean(1, keepdim=True))
        rows = hierarchy.leaves_list(hierarchy.linkage(unit.numpy(), "average", optimal_ordering=True)).tolist()
    best, owner = (one.tolist() for one in weights.abs().max(0))
    kept = sorted(range(len(best)), key=lambda column: -best[column])[:columns]
    kept.sort(key=lambda column: (rows.index(owner[column]), -best[column]))
    return rows, kept


def borrowing_map(weights: Tensor, new: list[str], old: list[str], columns: int = 26, written: int = 3) -> Figure:
    """Weights ``(len(new), len(old))``: rows are new classes, columns the old ones that are used most. Blue lends,
    orange is subtracted; the ``written`` largest entries of each row carry their number."""
    if tuple(weights.shape) != (len(new), len(old)):
        raise CourseError(f"{len(new)} new and {len(old)} old names do not fit weights of {tuple(weights.shape)}.")
    rows, kept = reading_order(weights, columns)
    shown = weights.detach().float().cpu()[rows][:, kept]
    figure, (axes,) = new_figure(1.6 + 0.36 * len(kept), 1.5 + 0.27 * len(rows))
    limit = max(shown.abs().max().item(), 1e-12)
    colours = LinearSegmentedColormap.from_list("borrowed", [COLOURS[1], "white", COLOURS[0]])
    image = axes.imshow(shown, cmap=colours, vmin=-limit, vmax=limit, aspect="auto")
    axes.set_yticks(range(len(rows)), [new[row] for row in rows], fontsize=8)
    axes.set_xticks(range(len(kept)), [old[column] for column in kept], fontsize=8, rotation=55, ha="right")
    axes.grid(False)
    for y, row in enumerate(shown):
        for x in row.abs().topk(min(written, len(kept))).indices.tolist():
            colour = "white" if row[x].abs() > 0.6 * limit else "black"
            text = f"{row[x]:.2f}".replace("0.", ".", 1)
            axes.text(x, y, text, ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.7, pad=0.01, label="mixing weight")
    axes.set(xlabel="old class that lends", ylabel="new class")
    return figure
