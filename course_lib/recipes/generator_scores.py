"""Scores of generators: samples against pictures that were not trained on, classes, and how far ways through z lead."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..data import ImageSet, fresh_people, load_kinds
from ..data.avatars import SOURCE_STYLES
from ..evaluation import Judge
from ..evaluation.class_scores import feature_scores
from ..evaluation.distances import copy_share, frechet_distance, path_length
from ..experts.autoencoder import LatentSpace
from ..gans.stylegan import StyleGAN

__all__ = ["class_accuracy", "score_samples", "style_path_length", "unseen_people"]


def unseen_people(each: int = 1) -> ImageSet:
    """New people of the combinations and styles that StyleGAN and ALAE are trained on: what their samples are held
    against. The test part would ask for combinations that were never shown; against it even real training pictures have
    a precision of 0.49."""
    return fresh_people(each, 9, SOURCE_STYLES)


@torch.no_grad()
def score_samples(
    draw: Callable[[int, torch.Generator], Tensor], real: ImageSet, train: ImageSet, judge: Judge, seed: int = 0
) -> dict[str, float]:
    """Scores of as many samples as there are real pictures, in the judge's features.

    Args:
        draw: count and CPU generator → pictures ``(count, 3, S, S)`` in [−1, 1].
        real: pictures that were not trained on.
        train: training pictures, to look for copies.

    Returns:
        See :func:`feature_scores`; ``Fréchet ratio``: to the distance between two halves of the real pictures;
        ``copies``: share of samples nearer to a training picture than half of the real ones are, 0.5 for the data.
    """
    draws = torch.Generator().manual_seed(seed)
    fake = judge.features(draw(len(real), draws))
    wanted = judge.features(torch.cat(list(real.batches(250))))
    order = torch.randperm(len(wanted), generator=draws)
    halves = frechet_distance(wanted[order[::2]], wanted[order[1::2]])
    known = judge.features(torch.cat(list(train.batches(250))))
    scores = feature_scores(wanted, fake)
    ratio = scores["Fréchet distance"] / halves
    return scores | {"Fréchet ratio": ratio, "copies": copy_share(fake, known, wanted)}


def class_accuracy(pictures: Tensor, part: ImageSet, judge: Judge) -> dict[str, float]:
    """How often the judge sees the kind asked for, over all and in the worst kind, and how often on real pictures.

    Args:
        pictures: one for each of ``part``, of its kind.
        part: of :func:`course_lib.recipes.generators.old_kinds`.
    """
    names, labels = part.classes["kind"], part.labels["kind"]
    every = torch.tensor([load_kinds().classes["kind"].index(name) for name in names])[labels]
    real = judge.predict(torch.cat(list(part.batches(250))), "kind") == every
    right = (judge.predict(pictures, "kind") == every).float()
    return {
        "class accuracy": right.mean().item(),
        "class accuracy of the worst class": min(right[labels == k].mean().item() for k in range(len(names))),
        "class accuracy of real pictures": real.float().mean().item(),
    }


@torch.no_grad()
def style_path_length(network: StyleGAN, space: LatentSpace, judge: Judge, seed: int, count: int = 500) -> float:
    """Perceptual path length along straight ways in z, in the judge's features, with one noise for all."""
    draws, device = torch.Generator().manual_seed(seed), space.centre.device
    ends = torch.randn(2, count, network.config.latent, generator=draws).to(device)
    noise = network.synthesis.noise(1, draws)

    def draw(z: Tensor, pairs: Tensor) -> Tensor:
        return space.decode(network(z, [one.expand(len(z), -1, -1, -1) for one in noise]))

    return path_length(draw, *ends, judge.features, epsilon=1e-2)
