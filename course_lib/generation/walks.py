"""Walks through latent space and between classes, as rows of pictures.

Source: the six kinds of the Hyper-Modulation code, which draws new noise maps for every picture; here a row keeps its
own unless it is asked otherwise, so that what moves is what the walk moves.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import CourseError
from .generator import ConditionalGenerator
from .grids import Grid, draw_grid
from .interpolation import way

__all__ = [
    "DEFAULT",
    "Walk",
    "class_noise_walk",
    "class_shift",
    "class_walk",
    "noise_walk",
    "random_samples",
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
