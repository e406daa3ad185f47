"""Grids of pictures that show what classes, truncation and single layers do."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..errors import CourseError
from ..figures import picture_grid
from .generator import ConditionalGenerator

__all__ = ["Grid", "class_grid", "class_mixing", "draw_grid", "style_mixing", "truncation_sweep"]


@dataclass(frozen=True)
class Grid:
    """Pictures in rows and columns.

    Attributes:
        pictures: ``(R, C, 3, S, S)`` in [−1, 1].
        rows, columns: titles; empty for none.
    """

    pictures: Tensor
    rows: list[str]
    columns: list[str]

    def figure(self, title: str = "", zoom: float = 1.0) -> Figure:
        """The grid with its titles, see :func:`course_lib.figures.picture_grid`."""
        # A title wider than its picture would run into the next one; eight points are some 0.06 inch a letter.
        letters = round(0.75 * zoom / 0.062)
        columns = ["\n".join(wrap(name, letters, break_long_words=False)) for name in self.columns]
        return picture_grid(self.pictures, self.rows or None, columns or None, title or None, zoom)


def draw_grid(
    generator: ConditionalGenerator,
    z: Tensor,
    vectors: Tensor | None,
    seed: int,
    share_noise: str = "row",
    truncation: float = 1.0,
) -> Tensor:
    """``(R, C, 3, S, S)``.

    Args:
        generator: that draws.
        z: ``(R, C, latent)`` or ``(R, C, blocks, latent)``; a dimension of 1 is repeated to fit ``vectors``.
        vectors: ``(R, C, K)`` or ``(R, C, blocks, K)``, a dimension of 1 is repeated to fit ``z``; or None.
        seed: of the noise maps.
        share_noise: which pictures get the same maps: those of a ``row``, of a ``column``, ``all`` or ``none``.
        truncation: see :meth:`ConditionalGenerator.draw`.
    """
    shape = torch.broadcast_shapes(z.shape[:2], z.shape[:2] if vectors is None else vectors.shape[:2])
    z = z.expand(*shape, *z.shape[2:]).flatten(0, 1)
    if vectors is not None:
        vectors = vectors.expand(*shape, *vectors.shape[2:]).flatten(0, 1)
    cells = torch.arange(shape.numel())
    owner = {"row": cells // shape[1], "column": cells % shape[1], "all": 0 * cells, "none": cells}[share_noise]
    noise = [one[owner] for one in generator.noise(int(owner.max()) + 1, seed)]
    return generator.draw(z, vectors, noise, truncation).unflatten(0, shape)


def class_grid(
    generator: ConditionalGenerator,
    classes: Sequence[str] | None = None,
    count: int = 8,
    seed: int = 0,
    truncation: float = 1.0,
) -> Grid:
    """A row for each class; down a column z and noise stay the same, so that only the class differs.

    Args:
        generator: that draws. Without classes there is one row.
        classes: names; all by default.
        count: columns.
        seed: of z and noise.
        truncation: see :meth:`ConditionalGenerator.draw`.
    """
    names = list(generator.classes if classes is None else classes)
    vectors = generator.vectors_of(names)[:, None] if names else None
    z = generator.latents(count, seed)[None]
    return Grid(draw_grid(generator, z, vectors, seed, "column", truncation), names, [])


def truncation_sweep(
    generator: ConditionalGenerator,
    classes: Sequence[str] | None = None,
    amounts: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    rows: int = 4,
    seed: int = 0,
) -> Grid:
    """From the mean picture to the whole distribution; a row keeps its class, z and noise.

    Args:
        generator: that draws.
        classes: of the rows in turn; the generator's by default.
        amounts: truncation of each column.
        rows: how many.
        seed: of z and noise.
    """
    names = _in_turn(generator, classes, rows)
    z = generator.latents(rows, seed)[:, None]
    vectors = generator.vectors_of(names)[:, None] if names else None
    columns = [draw_grid(generator, z, vectors, seed, "row", amount) for amount in amounts]
    return Grid(torch.cat(columns, 1), names, [f"{amount:g}" for amount in amounts])


def _in_turn(generator: ConditionalGenerator, classes: Sequence[str] | None, rows: int) -> list[str]:
    names = list(generator.classes if classes is None else classes)
    return [names[row % len(names)] for row in range(rows)] if names else []


def _mixed(coarse: Tensor, fine: Tensor, cut: int, blocks: int) -> Tensor:
    """``(1, C, D)`` for layers before ``cut`` and ``(R, 1, D)`` for the rest → ``(R, C, blocks, D)``."""
    shape = (len(fine), coarse.shape[1], coarse.shape[2])
    return torch.stack([(coarse if block < cut else fine).expand(shape) for block in range(blocks)], 2)


def _check_cut(generator: ConditionalGenerator, cut: int) -> None:
    if not 1 <= cut < generator.blocks:
        raise CourseError(
            f"{generator.name} can change its style after layer 1 to {generator.blocks - 1}, not after {cut}."
            if generator.blocks > 1
            else f"{generator.name} takes z at one layer only: its styles cannot be mixed."
        )


def style_mixing(
    generator: ConditionalGenerator,
    label: str | None = None,
    rows: int = 4,
    columns: int = 5,
    cut: int = 2,
    seed: int = 0,
    truncation: float = 1.0,
) -> Grid:
    """Layers before ``cut`` take z of the column, the others z of the row; the originals stand at the top and left.

    Args:
        generator: that draws.
        label: name of the class of all pictures; the first by default, None where there are no classes.
        rows, columns: without the originals.
        cut: number of coarse layers.
        seed: of z and of the noise, which is the same everywhere.
        truncation: see :meth:`ConditionalGenerator.draw`.

    Raises:
        CourseError: the generator has no such layer.
    """
    _check_cut(generator, cut)
    z = generator.latents(rows + columns, seed)
    fine, coarse = z[:rows, None], z[None, rows:]
    names = [label] if label else generator.classes[:1]
    vectors = generator.vectors_of(names)[:, None] if names else None

    def draw(points: Tensor) -> Tensor:
        return draw_grid(generator, points, vectors, seed, "all", truncation)

    mixed, top, left = draw(_mixed(coarse, fine, cut, generator.blocks)), draw(coarse), draw(fine)
    corner = torch.ones_like(top[:, :1])
    pictures = torch.cat([torch.cat([corner, top], 1), torch.cat([left, mixed], 1)])
    return Grid(pictures, ["coarse from", *[""] * rows], ["fine from", *[""] * columns])


def class_mixing(
    generator: ConditionalGenerator,
    classes: Sequence[str] | None = None,
    cut: int = 2,
    seed: int = 0,
    truncation: float = 1.0,
) -> Grid:
    """Layers before ``cut`` get the class of the column, the others that of the row; one z and one noise for all.

    On the diagonal stand the classes themselves.

    Args:
        generator: that draws.
        classes: names; the first six by default.
        cut: number of coarse layers.
        seed: of z and noise.
        truncation: see :meth:`ConditionalGenerator.draw`.

    Raises:
        CourseError: the generator has no such layer, or no classes.
    """
    _check_cut(generator, cut)
    names = list(generator.classes[:6] if classes is None else classes)
    one = generator.vectors_of(names)
    vectors = _mixed(one[None], one[:, None], cut, generator.blocks)
    z = generator.latents(1, seed)[None]
    pictures = draw_grid(generator, z, vectors, seed, "all", truncation)
    return Grid(pictures, [f"fine: {name}" for name in names], [f"coarse: {name}" for name in names])
