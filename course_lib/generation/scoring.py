"""Scores of one generator: all classes together, each by itself, and whether it knows its classes at all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..data import ImageSet, regroup
from ..data.few_shot import TRANSFER_CLASSES
from ..errors import CourseError
from ..evaluation.class_wise import INTRA_CLASS_MEAN, class_wise, feature_scores
from ..evaluation.feature_cache import real_features
from ..evaluation.features import FeatureNetwork
from ..evaluation.inception_score import inception_score
from .generator import ConditionalGenerator

__all__ = ["Scores", "match_classes", "score_generator"]

NEIGHBOURS = 5


@dataclass(frozen=True)
class Scores:
    """What :func:`score_generator` found; every number depends on the features and on how many pictures there were.

    Attributes:
        together: score → value, all classes in one set.
        classes: class → score → value; empty without classes.
        mean: score → mean over these classes.
        left_out: classes with too few real pictures to be scored by themselves.
        counts: real and generated pictures.
    """

    together: dict[str, float]
    classes: dict[str, dict[str, float]]
    mean: dict[str, float]
    left_out: list[str]
    counts: dict[str, int]


def match_classes(data: ImageSet, generator: ConditionalGenerator, only: Sequence[str] = ()) -> ImageSet:
    """The pictures of the generator's classes, with ``labels["class"]`` in its order.

    Args:
        data: with a label whose values are the names of the classes, such as ``class`` of a folder or ``subgroup`` of
            the emoji; the groups of class transfer are known too.
        generator: without classes all pictures are taken for one class.
        only: leaves out all other classes; for a generator without classes, pictures of other values.

    Raises:
        CourseError: the set has no such label, or none of their pictures.
    """
    names = list(only) or generator.classes
    if generator.classes:
        generator.labels(names)
    elif not names:
        nothing = torch.zeros(len(data), dtype=torch.int64)
        return replace(data, labels=data.labels | {"class": nothing}, classes=data.classes | {"class": ["all"]})
    found = _regrouped(data, names)
    if found is None or not len(found):
        raise CourseError(
            f"{data.name!r} has no pictures of the classes of {generator.name} ({', '.join(names[:5])}, …): give "
            "folder:PATH with one folder for each of them."
        )
    return found


def _regrouped(data: ImageSet, names: Sequence[str]) -> ImageSet | None:
    # A folder calls its label `class`; of the emoji's, subgroups are what generators of the course know.
    for label in ("class", "subgroup", *data.classes):
        if label in data.classes and set(names) <= set(data.classes[label]):
            return regroup(data, {name: (name,) for name in names}, label)
    if set(names) <= set(TRANSFER_CLASSES) and "subgroup" in data.classes:
        return regroup(data, {name: TRANSFER_CLASSES[name] for name in names})
    return None


def _samples(generator: ConditionalGenerator, names: Sequence[str], labels: Tensor, seed: int) -> Tensor:
    z, noise = generator.latents(len(labels), seed), generator.noise(len(labels), seed)
    vectors = generator.vectors_of(names)[labels] if generator.classes else None
    return generator.draw(z, vectors, noise)


def score_generator(
    generator: ConditionalGenerator,
    data: ImageSet,
    network: FeatureNetwork,
    samples: int | None = None,
    seed: int = 0,
) -> Scores:
    """Draws as many pictures of each class as there are real ones and compares the two sets.

    Args:
        generator: that is scored; no truncation.
        data: held-out real pictures, of :func:`match_classes`. They are brought to the generator's size.
        network: what both are seen through; real features are cached.
        samples: generated pictures a class instead.
        seed: of z and noise.

    Raises:
        CourseError: too few pictures.
    """
    names, labels = data.classes["class"], data.labels["class"]
    counts = labels.bincount(minlength=len(names))
    # Without classes the values that `only` chose are one set.
    wanted = counts if samples is None else torch.where(counts > 0, samples, 0)
    drawn = torch.arange(len(names)).repeat_interleave(wanted)
    pictures = _samples(generator, names, drawn, seed)
    real, fake = real_features(data, network, generator.size), network.features(pictures)
    together = feature_scores(real, fake, NEIGHBOURS)
    # Pictures lie class by class, and a split of the Inception score must hold all classes.
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
    splits = 10 if len(pictures) >= 1000 else 1
    together["Inception score"], _ = inception_score(network.probabilities(pictures)[order], splits)
    found: dict[str, dict[str, float]] = {}
    left_out: list[str] = []
    if generator.classes:
        enough = (torch.minimum(counts, wanted) > NEIGHBOURS).tolist()
        left_out = [name for name, kept in zip(names, enough, strict=True) if not kept]
        if any(enough):
            found = class_wise(real, fake, labels, drawn, names, feature_scores, NEIGHBOURS + 1)
    mean = found.pop(INTRA_CLASS_MEAN, {})
    return Scores(together, found, mean, left_out, {"real": len(real), "generated": len(fake)})
