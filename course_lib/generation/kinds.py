"""Every grid and walk by the name that the command line knows it by, and a file to put it in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import CourseError
from ..training.checkpoints import atomic_write
from . import grids, walks
from .generator import ConditionalGenerator
from .grids import Grid
from .walks import DEFAULT, Walk

__all__ = ["KINDS", "Request", "draw_kind", "save_grid"]

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
    return grids.class_grid(generator, request.classes or None, walk.steps, walk.seed, walk.truncation)


def _truncation(generator: ConditionalGenerator, request: Request) -> Grid:
    walk = request.walk
    amounts = [index / (walk.steps - 1) for index in range(walk.steps)]
    return grids.truncation_sweep(generator, request.classes or None, amounts, walk.rows, walk.seed)


def _mixing(generator: ConditionalGenerator, request: Request) -> Grid:
    walk = request.walk
    size = walk.rows, walk.steps
    return grids.style_mixing(generator, request.one(), *size, request.cut, walk.seed, walk.truncation)


def _class_mixing(generator: ConditionalGenerator, request: Request) -> Grid:
    walk = request.walk
    return grids.class_mixing(generator, request.classes or None, request.cut, walk.seed, walk.truncation)


KINDS: dict[str, Callable[[ConditionalGenerator, Request], Grid]] = {
    "class-grid": _class_grid,
    "truncation": _truncation,
    "mixing": _mixing,
    "class-mixing": _class_mixing,
    "class": lambda generator, request: walks.class_walk(generator, *request.pair(generator), request.walk),
    "noise": lambda generator, request: walks.noise_walk(generator, request.one(), request.walk),
    "class-noise": lambda generator, request: walks.class_noise_walk(generator, *request.pair(generator), request.walk),
    "random-z": lambda generator, request: walks.random_samples(generator, request.one(), request.walk),
    "z-shift": lambda generator, request: walks.z_shift(generator, request.one(), request.walk, **request.shift()),
    "class-shift": lambda generator, request: walks.class_shift(
        generator, request.one(), request.walk, **request.shift()
    ),
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
