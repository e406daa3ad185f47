"""Walks through latent space and between classes, as rows of pictures, and every picture's name for the command line.

Source: the six kinds of the Hyper-Modulation code, which draws new noise maps for every picture; here a row keeps its
own unless it is asked otherwise, so that what moves is what the walk moves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CourseError
from ..training.checkpoints import atomic_write
from .generator import ConditionalGenerator
from .grids import Grid, class_grid, class_mixing, draw_grid, style_mixing, truncation_sweep
from .interpolation import way

__all__ = [
    "DEFAULT",
    "KINDS",
    "Request",
    "Walk",
    "class_noise_walk",
    "class_shift",
    "class_walk",
    "draw_kind",
    "noise_walk",
    "random_samples",
    "save_grid",
    "z_shift",
]


@dataclass(frozen=True)
class Walk:
    """How to walk.

    Attributes:
        steps: columns.
        rows: of a grid.
        seed: of z and noise.
        spherical: on an arc, or straight. None: z on an arc, since Gaussian vectors have nearly one length, class
            vectors straight.
        fresh_noise: new noise maps for every picture, as published.
        truncation: see :meth:`ConditionalGenerator.draw`.
    """

    steps: int = 8
    rows: int = 4
    seed: int = 0
    spherical: bool | None = None
    fresh_noise: bool = False
    truncation: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 2 or self.rows < 1:
            raise CourseError(f"a walk needs two steps and one row at least, not {self.steps} and {self.rows}.")

    def draw(self, generator: ConditionalGenerator, z: Tensor, vectors: Tensor | None, share: str = "row") -> Tensor:
        """``(R, C, 3, S, S)``, see :func:`course_lib.generation.grids.draw_grid`."""
        share = "none" if self.fresh_noise else share
        return draw_grid(generator, z, vectors, self.seed, share, self.truncation)


DEFAULT = Walk()
"""Eight steps, four rows."""


def _vector(generator: ConditionalGenerator, label: str | None) -> tuple[Tensor | None, list[str]]:
    """``(1, 1, K)`` of a class, the first by default; None where there are none."""
    names = [label] if label is not None else generator.classes[:1]
    return (generator.vectors_of(names)[None] if names else None), names


def _positions(steps: int) -> list[str]:
    return [f"{position:.2g}" for position in torch.linspace(0, 1, steps).tolist()]


def class_walk(generator: ConditionalGenerator, first: str, second: str, walk: Walk = DEFAULT) -> Grid:
    """From class to class; every row has one z."""
    start, end = generator.vectors_of([first, second])
    vectors = way(start, end, walk.steps, bool(walk.spherical))[None]
    pictures = walk.draw(generator, generator.latents(walk.rows, walk.seed)[:, None], vectors)
    return Grid(pictures, [], [first, *_positions(walk.steps)[1:-1], second])


def noise_walk(generator: ConditionalGenerator, label: str | None = None, walk: Walk = DEFAULT) -> Grid:
    """From one z to another inside a class (the first by default); every row has a pair of its own."""
    vectors, _ = _vector(generator, label)
    start, end = generator.latents(2 * walk.rows, walk.seed).unflatten(0, (walk.rows, 2)).unbind(1)
    z = way(start, end, walk.steps, walk.spherical is not False)
    return Grid(walk.draw(generator, z, vectors), [], _positions(walk.steps))


def class_noise_walk(generator: ConditionalGenerator, first: str, second: str, walk: Walk = DEFAULT) -> Grid:
    """Both at once: down the rows from one z to another, along the columns from class to class; one noise for all."""
    start, end = generator.vectors_of([first, second])
    vectors = way(start, end, walk.steps, bool(walk.spherical))[None]
    z = way(*generator.latents(2, walk.seed), max(2, walk.rows), walk.spherical is not False)[:, None]
    columns = [first, *_positions(walk.steps)[1:-1], second]
    return Grid(walk.draw(generator, z, vectors, "all"), [f"z {name}" for name in _positions(len(z))], columns)


def random_samples(generator: ConditionalGenerator, label: str | None = None, walk: Walk = DEFAULT) -> Grid:
    """Nothing but chance: every picture of the class has a z and noise of its own."""
    vectors, _ = _vector(generator, label)
    z = generator.latents(walk.rows * walk.steps, walk.seed).unflatten(0, (walk.rows, walk.steps))
    return Grid(walk.draw(generator, z, vectors, "none"), [], [])


def z_shift(
    generator: ConditionalGenerator, label: str | None = None, walk: Walk = DEFAULT, reach: float = 1.0
) -> Grid:
    """The same number, from −``reach`` to ``reach``, is added to every coordinate of z; every row has one z."""
    vectors, _ = _vector(generator, label)
    amounts = torch.linspace(-reach, reach, walk.steps)
    z = generator.latents(walk.rows, walk.seed)[:, None] + amounts[:, None]
    return Grid(walk.draw(generator, z, vectors), [], [f"{amount:+.2g}" for amount in amounts.tolist()])


def class_shift(
    generator: ConditionalGenerator, label: str | None = None, walk: Walk = DEFAULT, reach: float = 0.1
) -> Grid:
    """As :func:`z_shift`, added to the class vector; 0.1 is the published reach.

    Raises:
        CourseError: the generator has no classes.
    """
    vectors, _ = _vector(generator, label)
    if vectors is None:
        raise CourseError(f"{generator.name} has no classes to shift: choose another checkpoint.")
    amounts = torch.linspace(-reach, reach, walk.steps)
    moved = vectors + amounts[None, :, None]
    pictures = walk.draw(generator, generator.latents(walk.rows, walk.seed)[:, None], moved)
    return Grid(pictures, [], [f"{amount:+.2g}" for amount in amounts.tolist()])


SUFFIXES = (".png", ".jpg", ".pdf", ".svg")


@dataclass(frozen=True)
class Request:
    """What to draw.

    Attributes:
        classes: names; empty takes the generator's own, from the first on.
        walk: steps, rows, seed, noise, truncation; a grid takes from it what it knows.
        cut: coarse layers where layers are mixed.
        reach: of the shifts; each has a default of its own.
    """

    classes: tuple[str, ...] = ()
    walk: Walk = DEFAULT
    cut: int = 2
    reach: float | None = None

    def pair(self, generator: ConditionalGenerator) -> tuple[str, str]:
        """The two classes to go between."""
        names = self.classes or tuple(generator.classes[:2])
        if len(names) != 2:
            raise CourseError(
                f"this walk goes between two classes, not {len(names)}: name two, for example "
                f"--classes {','.join(generator.classes[:2]) or 'first,second'}."
            )
        return names[0], names[1]

    def one(self) -> str | None:
        """The one class to stay in; None for the generator's first, or where it has none."""
        if len(self.classes) > 1:
            raise CourseError(f"this picture shows one class, not {len(self.classes)}: name one.")
        return self.classes[0] if self.classes else None

    def shift(self) -> dict[str, float]:
        """``reach`` as an argument where it is given."""
        return {} if self.reach is None else {"reach": self.reach}


def _class_grid(generator: ConditionalGenerator, request: Request) -> Grid:
    walk = request.walk
    return class_grid(generator, request.classes or None, walk.steps, walk.seed, walk.truncation)


def _truncation(generator: ConditionalGenerator, request: Request) -> Grid:
    walk = request.walk
    amounts = [index / (walk.steps - 1) for index in range(walk.steps)]
    return truncation_sweep(generator, request.classes or None, amounts, walk.rows, walk.seed)


def _mixing(generator: ConditionalGenerator, request: Request) -> Grid:
    walk = request.walk
    size = walk.rows, walk.steps
    return style_mixing(generator, request.one(), *size, request.cut, walk.seed, walk.truncation)


def _class_mixing(generator: ConditionalGenerator, request: Request) -> Grid:
    walk = request.walk
    return class_mixing(generator, request.classes or None, request.cut, walk.seed, walk.truncation)


KINDS: dict[str, Callable[[ConditionalGenerator, Request], Grid]] = {
    "class-grid": _class_grid,
    "truncation": _truncation,
    "mixing": _mixing,
    "class-mixing": _class_mixing,
    "class": lambda generator, request: class_walk(generator, *request.pair(generator), request.walk),
    "noise": lambda generator, request: noise_walk(generator, request.one(), request.walk),
    "class-noise": lambda generator, request: class_noise_walk(generator, *request.pair(generator), request.walk),
    "random-z": lambda generator, request: random_samples(generator, request.one(), request.walk),
    "z-shift": lambda generator, request: z_shift(generator, request.one(), request.walk, **request.shift()),
    "class-shift": lambda generator, request: class_shift(generator, request.one(), request.walk, **request.shift()),
}
"""Name → what draws it."""


def draw_kind(generator: ConditionalGenerator, kind: str, request: Request) -> Grid:
    """The picture called ``kind``.

    Raises:
        CourseError: there is no such kind, or it does not suit the generator or the classes named.
    """
    if kind not in KINDS:
        raise CourseError(f"there is no kind {kind!r} of picture: choose one of {', '.join(KINDS)}.")
    return KINDS[kind](generator, request)


def save_grid(grid: Grid, path: Path, title: str = "", zoom: float = 1.0) -> None:
    """Writes the figure.

    Raises:
        CourseError: a suffix that is no picture's, or a folder that cannot be written to.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise CourseError(f"{path.name} is no picture file: end its name in {', '.join(SUFFIXES)}.")
    kind = path.suffix[1:].lower()
    atomic_write(path, lambda part: grid.figure(title, zoom).savefig(part, format=kind))
