"""Scores of unpaired translation by pairs that were held back: is it still the same person, and is it in the style?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..data import ImageSet, load_kinds
from ..data.image_set import to_float
from ..data.people import ATTRIBUTES, Person, draw, people
from ..errors import CourseError
from .distances import frechet_distance
from .judge import Judge
from .neighbours import retrieval_accuracy

__all__ = ["DomainScores", "EditScores", "Flip", "PairedPictures", "directions", "flip", "mean_scores", "score_edit"]


@dataclass(frozen=True)
class DomainScores:
    """Scores of translations from one style to another.

    Attributes:
        style: share that the judge takes for the target style.
        agreement: attribute → share for which the judge reads what the person has.
        found: space (judge features, pixels, latents) → share of pictures whose true counterpart is the nearest of all
            real pictures of the target style.
        frechet: distance to the real pictures of the target style, judge features.
    """

    style: float
    agreement: dict[str, float]
    found: dict[str, float]
    frechet: float

    def flat(self) -> dict[str, float]:
        """One mapping of names to numbers, for a card or a table."""
        return {
            "style accuracy": self.style,
            **{f"{name} agrees": share for name, share in self.agreement.items()},
            **{f"found by {space}": share for space, share in self.found.items()},
            "Fréchet distance": self.frechet,
        }


def directions(domains: int) -> list[tuple[int, int]]:
    """All ordered pairs of different domains."""
    return [(s, t) for s in range(domains) for t in range(domains) if s != t]


def mean_scores(scores: Sequence[DomainScores]) -> DomainScores:
    """The mean over directions."""

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    return DomainScores(
        mean([one.style for one in scores]),
        {name: mean([one.agreement[name] for one in scores]) for name in scores[0].agreement},
        {name: mean([one.found[name] for one in scores]) for name in scores[0].found},
        mean([one.frechet for one in scores]),
    )


class PairedPictures:
    """The same people in several styles: person ``k`` of every style is the same one.

    Args:
        data: a part of :func:`course_lib.data.load_people`.
        judge: reads attributes and gives features.
        encode: pictures → latents, for retrieval among latents.
        most: people that are translated, taken evenly; all by default. They are looked for among all.

    Attributes:
        pictures: of each style, those to translate, ``(len(self), 3, S, S)``.

    Raises:
        CourseError: the styles do not hold the same people in the same order.
    """

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

    def score(self, pictures: Tensor, target: int) -> DomainScores:
        """Scores translations ``(len(self), 3, S, S)`` of all people into style number ``target``."""
        names = load_kinds().classes["kind"]
        here, seen = self._spaces(pictures)
        style = seen["kind"] == names.index(self.names[target])
        agreement = {name: (seen[name] == truth).float().mean().item() for name, truth in self.labels.items()}
        real = self._real[target]
        everybody = torch.arange(len(real["pixels"]))
        found = {space: retrieval_accuracy(here[space], real[space], self.chosen, everybody) for space in here}
        distance = frechet_distance(real["judge features"], here["judge features"])
        return DomainScores(style.float().mean().item(), agreement, found, distance)

    def score_all(self, translate: Callable[[Tensor, int, int], Tensor]) -> DomainScores:
        """The mean over all directions; ``translate`` takes pictures, their style and the style that is wanted."""
        return mean_scores(
            [self.score(translate(self.pictures[s], s, t).cpu(), t) for s, t in directions(len(self.names))]
        )


@dataclass(frozen=True)
class Flip:
    """People of whom one attribute is changed.

    Attributes:
        name: of the attribute.
        rows: ``int64 (M,)``, positions in the set.
        values: ``int64 (M,)``, their new values.
        truth: ``(M, 3, S, S)`` in [−1, 1]: the same people with the new value, drawn by the program.
    """

    name: str
    rows: Tensor
    values: Tensor
    truth: Tensor


def flip(data: ImageSet, name: str, count: int, seed: int = 0) -> Flip:
    """Another value of one attribute for ``count`` people, and the exact counterparts.

    Of the bald neither hair nor cut is changed, and nobody becomes bald: two attributes would change at once.

    Args:
        data: a part of :func:`course_lib.data.load_people`.
        name: a key of :data:`course_lib.data.people.ATTRIBUTES`.
    """
    generator, values = torch.Generator().manual_seed(seed), data.labels[name]
    allowed = torch.arange(len(ATTRIBUTES[name]))
    rows = torch.arange(len(data))
    if name in ("hair", "cut"):
        bald = ATTRIBUTES["cut"].index("bald")
        rows, allowed = rows[data.labels["cut"] != bald], allowed[1:]  # the first is "none", or "bald"
    rows = rows[torch.randperm(len(rows), generator=generator)[:count]]
    place = values[rows] - allowed[0]
    shift = torch.randint(1, len(allowed), place.shape, generator=generator)
    new = allowed[(place + shift) % len(allowed)]
    known = people()[0]
    drawn = []
    for row, value in zip(rows.tolist(), new.tolist(), strict=True):
        person: Person = replace(known[int(data.labels["person"][row])], **{name: ATTRIBUTES[name][value]})
        drawn.append(torch.from_numpy(draw(person, data.classes["style"][int(data.labels["style"][row])])))
    return Flip(name, rows, new, to_float(torch.stack(drawn).permute(0, 3, 1, 2)))


@dataclass(frozen=True)
class EditScores:
    """Scores of edits.

    Attributes:
        changed: share in which the judge reads the new value.
        kept: share of the other attributes, all together, that the judge reads as they are.
        error: root mean square distance in pixels to the exact counterpart, range 2.
        before: that distance of the unedited picture.
    """

    changed: float
    kept: float
    error: float
    before: float


def score_edit(edited: Tensor, one: Flip, data: ImageSet, judge: Judge) -> EditScores:
    """Scores edited pictures ``(M, 3, S, S)`` of the people in ``one``."""
    _, seen = judge.read(edited)
    kept = [seen[name] == data.labels[name][one.rows] for name in ATTRIBUTES if name != one.name]
    changed = seen[one.name] == one.values
    real = data.batch(one.rows)

    def distance(pictures: Tensor) -> float:
        return (pictures - one.truth).square().mean((1, 2, 3)).sqrt().mean().item()

    return EditScores(
        changed.float().mean().item(),
        torch.stack(kept).float().mean().item(),
        distance(edited),
        distance(real),
    )
