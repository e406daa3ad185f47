"""Grids of pictures that show what classes, truncation and single layers do, and walks between two points as rows: the
six kinds of the Hyper-Modulation code, except that a row keeps its noise maps, so that only the walk moves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import wrap

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..errors import CourseError
from ..figures import picture_grid
from ..training.files import atomic_write
from .generator import ConditionalGenerator


@dataclass(frozen=True)
class Grid:
    """Pictures ``(R, C, 3, S, S)`` in [−1, 1], and titles of rows and columns, empty for none."""

    pictures: Tensor
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()

    def figure(self, title: str = "", enlarge: int = 2) -> Figure:
        """The grid with its titles, see :func:`course_lib.figures.picture_grid`."""
        # A title wider than its picture would run into the next one; eight points are some 0.06 inch a letter.
        letters = round(0.34 * enlarge / 0.062)
        columns = ["\n".join(wrap(name, letters, break_long_words=False)) for name in self.columns]
        return picture_grid(self.pictures, self.rows, columns, title, enlarge=enlarge)


def save_grid(grid: Grid, path: Path, enlarge: int = 2) -> None:
    """Writes the figure; a CourseError for a suffix that is no picture's, or a folder that cannot be written to."""
    kind = path.suffix.lower()
    if kind not in (".png", ".jpg", ".pdf", ".svg"):
        raise CourseError(f"{path.name} is no picture file: end its name in .png, .jpg, .pdf or .svg.")
    atomic_write(path, lambda part: grid.figure(enlarge=enlarge).savefig(part, format=kind[1:]))


@dataclass(frozen=True)
class Walk:
    """What to draw; a picture takes from it what it knows."""

    classes: Sequence[str] = ()  # names; empty takes the generator's own, from the first on
    steps: int = 8  # columns
    rows: int = 4
    seed: int = 0  # of z and noise
    truncation: float = 1.0  # see ConditionalGenerator.draw
    spherical: bool | None = None  # ways on an arc or straight; None: z on an arc, for Gaussian vectors have one length
    fresh_noise: bool = False  # new noise maps for every picture of a walk, as published
    cut: int = 2  # coarse layers where layers are mixed
    reach: float | None = None  # of the shifts; None for 1 in z and 0.1 in class vectors, as published

    def __post_init__(self) -> None:
        if self.steps < 2 or self.rows < 1:
            raise CourseError(f"a walk needs two steps and one row at least, not {self.steps} and {self.rows}.")


def draw_grid(
    generator: ConditionalGenerator, z: Tensor, vectors: Tensor | None, seed: int, share: str = "row", psi: float = 1.0
) -> Tensor:
    """Pictures ``(R, C, 3, S, S)`` of z ``(R, C, latent)`` or ``(R, C, blocks, latent)`` and class vectors, with K in
    the place of latent, or None; R or C may be 1 in one of them, which is then repeated.

    ``share`` says which pictures get the same noise maps, drawn by ``seed``: those of a ``row``, of a ``column``,
    ``all`` or ``none``. ``psi`` is the truncation.
    """
    shape = torch.broadcast_shapes(z.shape[:2], z.shape[:2] if vectors is None else vectors.shape[:2])
    z = z.expand(*shape, *z.shape[2:]).flatten(0, 1)
    if vectors is not None:
        vectors = vectors.expand(*shape, *vectors.shape[2:]).flatten(0, 1)
    cells = torch.arange(shape.numel())
    owner = {"row": cells // shape[1], "column": cells % shape[1], "all": 0 * cells, "none": cells}[share]
    noise = [one[owner] for one in generator.noise(int(owner.max()) + 1, seed)]
    return generator.draw(z, vectors, noise, psi).unflatten(0, shape)


def _rows_of(generator: ConditionalGenerator, names: Sequence[str]) -> Tensor | None:
    """Class vectors ``(len(names), 1, K)``; None without names."""
    return generator.vectors_of(names)[:, None] if names else None


def _one_class(generator: ConditionalGenerator, walk: Walk) -> Tensor | None:
    """``(1, 1, K)`` of the class to stay in, the generator's first by default; None where it has none."""
    if len(walk.classes) > 1:
        raise CourseError(f"this picture shows one class, not {len(walk.classes)}: name one.")
    return _rows_of(generator, walk.classes or generator.classes[:1])


# --- grids ----------------------------------------


def class_grid(generator: ConditionalGenerator, walk: Walk) -> Grid:
    """A row for each class, all by default; down a column z and noise stay the same."""
    names = list(walk.classes or generator.classes)
    z = generator.latents(walk.steps, walk.seed)[None]
    return Grid(draw_grid(generator, z, _rows_of(generator, names), walk.seed, "column", walk.truncation), names)


def truncation_sweep(generator: ConditionalGenerator, walk: Walk, amounts: Sequence[float] | None = None) -> Grid:
    """From the mean picture to the whole distribution, an amount of truncation a column; a row keeps z and noise, and
    its class, which take turns."""
    amounts = [index / (walk.steps - 1) for index in range(walk.steps)] if amounts is None else amounts
    known = list(walk.classes or generator.classes)
    names = [known[row % len(known)] for row in range(walk.rows)] if known else []
    z, vectors = generator.latents(walk.rows, walk.seed)[:, None], _rows_of(generator, names)
    columns = [draw_grid(generator, z, vectors, walk.seed, "row", amount) for amount in amounts]
    return Grid(torch.cat(columns, 1), names, [f"ψ = {amount:.3g}" for amount in amounts])


def _mixed(generator: ConditionalGenerator, coarse: Tensor, fine: Tensor, cut: int) -> Tensor:
    """``(1, C, D)`` for layers before ``cut`` and ``(R, 1, D)`` for the rest → ``(R, C, blocks, D)``."""
    if generator.blocks == 1:
        raise CourseError(f"{generator.name} takes z at one layer only: its styles cannot be mixed.")
    if not 1 <= cut < generator.blocks:
        last = generator.blocks - 1
        raise CourseError(f"{generator.name} can change its style after layer 1 to {last}, not after {cut}.")
    shape = (len(fine), *coarse.shape[1:])
    return torch.stack([(coarse if block < cut else fine).expand(shape) for block in range(generator.blocks)], 2)


def style_mixing(generator: ConditionalGenerator, walk: Walk) -> Grid:
    """Layers before ``cut`` take z of the column, the others z of the row; the originals stand at the top and left. All
    pictures are of one class and have the same noise."""
    z = generator.latents(walk.rows + walk.steps, walk.seed)
    fine, coarse = z[: walk.rows, None], z[None, walk.rows :]
    vectors = _one_class(generator, walk)
    mixed, top, left = (
        draw_grid(generator, points, vectors, walk.seed, "all", walk.truncation)
        for points in (_mixed(generator, coarse, fine, walk.cut), coarse, fine)
    )
    corner = torch.ones_like(top[:, :1])
    pictures = torch.cat([torch.cat([corner, top], 1), torch.cat([left, mixed], 1)])
    first, rest = range(1, walk.cut + 1), range(walk.cut + 1, generator.blocks + 1)
    top, left = (f"block{'s' * (len(part) > 1)} {', '.join(map(str, part))}" for part in (first, rest))
    return Grid(pictures, [f"top row:\n{top} →", *[""] * walk.rows], [f"left column: {left} ↓", *[""] * walk.steps])


def class_mixing(generator: ConditionalGenerator, walk: Walk) -> Grid:
    """Layers before ``cut`` get the class of the column, by default of the first six, the others that of the row; one z
    and one noise for all."""
    names = list(walk.classes or generator.classes[:6])
    one = generator.vectors_of(names)
    vectors = _mixed(generator, one[None], one[:, None], walk.cut)
    pictures = draw_grid(generator, generator.latents(1, walk.seed)[None], vectors, walk.seed, "all", walk.truncation)
    return Grid(pictures, [f"fine: {name}" for name in names], [f"coarse: {name}" for name in names])


# --- walks ----------------------------------------


def slerp(start: Tensor, end: Tensor, amount: float | Tensor) -> Tensor:
    """Spherical interpolation between vectors ``(..., D)``; lengths are interpolated too. ``amount`` 0 gives ``start``,
    1 gives ``end``; a tensor is broadcast against ``(..., 1)``.

    Gaussian vectors in many dimensions have lengths of about √D. The straight line between two of them runs through
    short vectors, which a generator has hardly seen; the arc does not.
    """
    first, second = (x.norm(dim=-1, keepdim=True) for x in (start, end))
    amount = torch.as_tensor(amount, dtype=start.dtype, device=start.device)
    length = torch.lerp(first, second, amount)
    cosine = (start * end).sum(-1, keepdim=True) / (first * second).clamp_min(1e-12)
    angle = cosine.clamp(-1, 1).arccos()
    weights = ((1 - amount) * angle).sin() / first.clamp_min(1e-12), (amount * angle).sin() / second.clamp_min(1e-12)
    arc = length * (weights[0] * start + weights[1] * end) / angle.sin().clamp_min(1e-12)
    # Between parallel vectors every way is a straight one.
    return torch.where(angle.sin() < 1e-4, torch.lerp(start, end, amount), arc)


def way(start: Tensor, end: Tensor, steps: int, spherical: bool) -> Tensor:
    """``(..., D)`` twice → ``(..., steps, D)``: from ``start`` to ``end``, both included."""
    amounts = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)[:, None]
    start, end = start[..., None, :], end[..., None, :]
    return slerp(start, end, amounts) if spherical else torch.lerp(start, end, amounts)


def _walked(
    generator: ConditionalGenerator, walk: Walk, z: Tensor, vectors: Tensor | None, share: str = "row"
) -> Tensor:
    return draw_grid(generator, z, vectors, walk.seed, "none" if walk.fresh_noise else share, walk.truncation)


def _positions(steps: int) -> list[str]:
    return [f"{position:.2g}" for position in torch.linspace(0, 1, steps).tolist()]


def _between_classes(generator: ConditionalGenerator, walk: Walk, both: bool) -> Grid:
    """From class to class. Every row has one z; with ``both``, rows go from one z to another, with one noise."""
    names = walk.classes or generator.classes[:2]
    if len(names) != 2:
        example = ",".join(generator.classes[:2]) or "first,second"
        found = f"between two classes, not {len(names)}"
        raise CourseError(f"this walk goes {found}: name two, for example --classes {example}.")
    vectors = way(*generator.vectors_of(names), walk.steps, bool(walk.spherical))[None]
    columns = [names[0], *_positions(walk.steps)[1:-1], names[1]]
    if not both:
        z = generator.latents(walk.rows, walk.seed)[:, None]
        return Grid(_walked(generator, walk, z, vectors), [], columns)
    z = way(*generator.latents(2, walk.seed), max(2, walk.rows), walk.spherical is not False)[:, None]
    rows = [f"z {name}" for name in _positions(len(z))]
    return Grid(_walked(generator, walk, z, vectors, "all"), rows, columns)


def _noise_walk(generator: ConditionalGenerator, walk: Walk) -> Grid:
    """From one z to another inside a class; every row has a pair of its own."""
    start, end = generator.latents(2 * walk.rows, walk.seed).unflatten(0, (walk.rows, 2)).unbind(1)
    z = way(start, end, walk.steps, walk.spherical is not False)
    return Grid(_walked(generator, walk, z, _one_class(generator, walk)), [], _positions(walk.steps))


def _random_samples(generator: ConditionalGenerator, walk: Walk) -> Grid:
    """Nothing but chance: every picture of the class has a z and noise of its own."""
    z = generator.latents(walk.rows * walk.steps, walk.seed).unflatten(0, (walk.rows, walk.steps))
    return Grid(_walked(generator, walk, z, _one_class(generator, walk), "none"))


def _shift(generator: ConditionalGenerator, walk: Walk, of_class: bool) -> Grid:
    """The same number, from −reach to reach, is added to every coordinate of z or of the class vector."""
    reach = (0.1 if of_class else 1.0) if walk.reach is None else walk.reach
    z, vectors = generator.latents(walk.rows, walk.seed)[:, None], _one_class(generator, walk)
    amounts = torch.linspace(-reach, reach, walk.steps)
    if not of_class:
        z = z + amounts[:, None]
    elif vectors is None:
        raise CourseError(f"{generator.name} has no classes to shift: choose another checkpoint.")
    else:
        vectors = vectors + amounts[None, :, None]
    return Grid(_walked(generator, walk, z, vectors), [], [f"{amount:+.2g}" for amount in amounts.tolist()])


KINDS: dict[str, Callable[[ConditionalGenerator, Walk], Grid]] = {
    "class-grid": class_grid,
    "truncation": truncation_sweep,
    "mixing": style_mixing,
    "class-mixing": class_mixing,
    "class": partial(_between_classes, both=False),
    "noise": _noise_walk,
    "class-noise": partial(_between_classes, both=True),
    "random-z": _random_samples,
    "z-shift": partial(_shift, of_class=False),
    "class-shift": partial(_shift, of_class=True),
}
"""Name → what draws it."""


def draw_kind(generator: ConditionalGenerator, kind: str, walk: Walk) -> Grid:
    """The picture called ``kind``; a CourseError where there is none, or it does not suit the generator or classes."""
    if kind not in KINDS:
        raise CourseError(f"there is no kind {kind!r} of picture: choose one of {', '.join(KINDS)}.")
    return KINDS[kind](generator, walk)
