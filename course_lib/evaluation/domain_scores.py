"""Scores of unpaired translation by pairs that were held back: is it still the same person, and is it in the style?

With the linear map that needs no training: what an unpaired translator must be compared with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..data.avatars import load_kinds
from ..data.image_set import ImageSet, to_float
from ..data.people import ATTRIBUTES, draw, people
from ..errors import CourseError
from .scores import Judge, checked_sets, frechet_distance, nearest


def directions(domains: int) -> list[tuple[int, int]]:
    """All ordered pairs of different domains."""
    return [(s, t) for s in range(domains) for t in range(domains) if s != t]


def mean_scores(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every number, over directions."""
    return {name: sum(one[name] for one in scores) / len(scores) for name in scores[0]}


class PairedPictures:
    """The same people in several styles: person ``k`` of every style is the same one, or the set is refused. ``data``
    is a part of :func:`course_lib.data.load_people`; ``encode`` gives latents of pictures. At ``most`` so many people,
    taken evenly, are translated and looked for among all; ``pictures`` has those of each style."""

    def __init__(self, data: ImageSet, judge: Judge, encode: Callable[[Tensor], Tensor], most: int | None = None):
        self.names, self.judge, self.encode = data.classes["style"], judge, encode
        rows = [(data.labels["style"] == k).nonzero()[:, 0] for k in range(len(self.names))]
        people = [data.labels["person"][index] for index in rows]
        if any(not torch.equal(one, people[0]) for one in people):
            raise CourseError("the styles must show the same people in the same order: take a whole split of them.")
        self.chosen = torch.linspace(0, len(rows[0]) - 1, min(most or len(rows[0]), len(rows[0]))).long()
        self.pictures = [data.batch(index[self.chosen]) for index in rows]
        self.labels = {name: data.labels[name][rows[0][self.chosen]] for name in ATTRIBUTES}
        self._real = [self._spaces(data.batch(index))[0] for index in rows]

    def __len__(self) -> int:
        return len(self.pictures[0])

    def _spaces(self, pictures: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Where neighbours are looked for, and what the judge reads."""
        latents = torch.cat([self.encode(x) for x in pictures.split(128)]).cpu()
        features, seen = self.judge.read(pictures)
        return {"judge features": features, "pixels": pictures.flatten(1).cpu(), "latents": latents}, seen

    def score(self, pictures: Tensor, target: int) -> dict[str, float]:
        """Scores translations ``(len(self), 3, S, S)`` of all people into style number ``target``. ``style accuracy``:
        share that the judge takes for the target style. ``NAME agrees``: share for which it reads the person's
        attribute. ``found by SPACE`` (judge features, pixels, latents): share whose true counterpart is the nearest of
        all real ones. ``Fréchet distance`` to these, judge features."""
        here, seen = self._spaces(pictures)
        real, style = self._real[target], load_kinds().classes["kind"].index(self.names[target])
        right = {"style accuracy": seen["kind"] == style}
        right |= {f"{name} agrees": seen[name] == truth for name, truth in self.labels.items()}
        right |= {f"found by {space}": nearest(here[space], real[space])[:, 0] == self.chosen for space in here}
        distance = frechet_distance(real["judge features"], here["judge features"])
        return {name: one.float().mean().item() for name, one in right.items()} | {"Fréchet distance": distance}

    def score_all(self, translate: Callable[[Tensor, int, int], Tensor]) -> dict[str, float]:
        """The mean over all directions; ``translate`` takes pictures, their style and the style that is wanted."""
        ways = directions(len(self.names))
        return mean_scores([self.score(translate(self.pictures[s], s, t).cpu(), t) for s, t in ways])


@dataclass(frozen=True)
class _Flip:
    """People of whom one attribute is changed."""

    name: str  # of the attribute
    rows: Tensor  # int64 (M,), positions in the set
    values: Tensor  # int64 (M,), their new values
    truth: Tensor  # (M, 3, S, S) in [−1, 1]: the same people with the new value, drawn by the program


def flip_attribute(data: ImageSet, name: str, count: int, seed: int = 0) -> _Flip:
    """Another value of one of :data:`ATTRIBUTES` for ``count`` people of a part of ``load_people``, and the truth. Of
    the bald neither hair nor cut is changed, and nobody becomes bald: two attributes would change at once."""
    generator, values = torch.Generator().manual_seed(seed), data.labels[name]
    allowed, rows = torch.arange(len(ATTRIBUTES[name])), torch.arange(len(data))
    if name in ("hair", "cut"):
        bald = ATTRIBUTES["cut"].index("bald")
        rows, allowed = rows[data.labels["cut"] != bald], allowed[1:]  # the first is "none", or "bald"
    rows = rows[torch.randperm(len(rows), generator=generator)[:count]]
    shift = torch.randint(1, len(allowed), rows.shape, generator=generator)
    new = allowed[(values[rows] - allowed[0] + shift) % len(allowed)]
    known, drawn = people()[0], []
    for row, value in zip(rows.tolist(), new.tolist(), strict=True):
        person = replace(known[int(data.labels["person"][row])], **{name: ATTRIBUTES[name][value]})
        drawn.append(torch.from_numpy(draw(person, data.classes["style"][int(data.labels["style"][row])])))
    return _Flip(name, rows, new, to_float(torch.stack(drawn).permute(0, 3, 1, 2)))


@dataclass(frozen=True)
class _EditScores:
    changed: float  # share in which the judge reads the new value
    kept: float  # share of the other attributes, all together, that the judge reads as they are
    error: float  # root mean square distance in pixels to the exact counterpart, range 2
    before: float  # that distance of the unedited picture


def score_edit(edited: Tensor, one: _Flip, data: ImageSet, judge: Judge) -> _EditScores:
    """Scores edited pictures ``(M, 3, S, S)`` of the people in ``one``."""
    _, seen = judge.read(edited)
    kept = [seen[name] == data.labels[name][one.rows] for name in ATTRIBUTES if name != one.name]
    right = [part.float().mean().item() for part in (seen[one.name] == one.values, torch.stack(kept))]
    errors = [(x - one.truth).square().mean((1, 2, 3)).sqrt().mean().item() for x in (edited, data.batch(one.rows))]
    return _EditScores(*right, *errors)


def _powers(matrix: Tensor, *exponents: float) -> list[Tensor]:
    values, vectors = torch.linalg.eigh(matrix)
    return [(vectors * values.clamp_min(1e-10) ** exponent) @ vectors.T for exponent in exponents]


class GaussianTransport:
    """The optimal transport map between Gaussians fitted to latents ``own (N, D)`` and ``other (M, D)``: of all linear
    maps that make mean and covariance right, the one that moves pictures least. Source: Dowson and Landau 1982. z ↦ m₂
    + A (z − m₁) with A = Σ₁^−½ (Σ₁^½ Σ₂ Σ₁^½)^½ Σ₁^−½; ``ridge`` is added to both variances."""

    def __init__(self, own: Tensor, other: Tensor, ridge: float = 0.02):
        first, second = checked_sets(own, other, 2, "transport between latents")
        self.start, self.end = first.mean(0), second.mean(0)
        eye = ridge * torch.eye(own.shape[1], dtype=torch.float64, device=own.device)
        root, inverse = _powers(torch.cov(first.T) + eye, 0.5, -0.5)
        (middle,) = _powers(root @ (torch.cov(second.T) + eye) @ root, 0.5)
        self.matrix = inverse @ middle @ inverse

    def __call__(self, latent: Tensor) -> Tensor:
        return (self.end + (latent.double() - self.start) @ self.matrix).to(latent)
