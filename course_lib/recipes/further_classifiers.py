"""Training of two further classifiers, which look at translations beside the first (notebook 05).

A picture can fool one network: its gradient finds what this network takes for another style and nobody else does.
Networks that learned otherwise share few of each other's mistakes.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..data import load_emoji
from ..data.augment import affine
from ..experts.classifier import ClassifierConfig
from ..profiles import seed_everything
from ..training import Card
from ..training.method import Loss, frozen
from .biased_classifiers import BiasedClassifierMethod
from .classifiers import accuracy
from .recipe import Job, data_hash, publish

__all__ = ["RobustClassifierMethod", "train_augmented", "train_robust"]

_HEADS = ("subgroup", "style", "skin_tone")


class RobustClassifierMethod(BiasedClassifierMethod):
    """Adversarial training: every picture is first moved to where the network does worst, by one step of its gradient.

    The gradients of such a network are changes that people see, too (Santurkar et al., "Image Synthesis with a Single
    (Robust) Classifier", 2019). One step from a random start is enough for that (Wong et al., "Fast is better than
    free", 2020).

    Args:
        radius: Euclidean length of the largest change, pictures in [−1, 1].
        arguments, options: those of :class:`BiasedClassifierMethod`.
    """

    def __init__(self, *arguments: Any, radius: float = 1.5, **options: Any):
        super().__init__(*arguments, **options)
        self.radius = radius

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        images, labels = batch
        start = _of_length(torch.randn(images.shape, generator=generator), self.radius)
        start = start * torch.rand(len(images), 1, 1, 1, generator=generator)
        yield from super().losses((self.worst(images, labels, start.to(images)), labels), generator, step)

    def worst(self, images: Tensor, labels: Tensor, start: Tensor) -> Tensor:
        """``images`` changed within the radius.

        Args:
            images: ``(B, 3, S, S)``.
            labels: ``int64 (B, heads)``.
            start: changes ``(B, 3, S, S)`` to begin with.
        """
        net: nn.Module = self.unwrapped("classifier")
        start = start.requires_grad_()
        with frozen(net), self.autocast():
            outputs = net(images + start)
        (slope,) = torch.autograd.grad(sum(self.parts(outputs, labels).values()), start)
        change = start.detach() + _of_length(slope, 1.25 * self.radius)
        length = change.flatten(1).norm(dim=1)[:, None, None, None]
        return images + change * (self.radius / length.clamp_min(self.radius))


def _of_length(change: Tensor, length: float) -> Tensor:
    return change * (length / change.flatten(1).norm(dim=1).clamp_min(1e-12))[:, None, None, None]


def _train(job: Job, name: str, kind: type[BiasedClassifierMethod], width: int, steps: int, notes: str) -> Card:
    data = load_emoji()
    job = replace(job, precision="bf16-mixed")  # half the time on processors with such units
    seed_everything(job.seed)
    config = ClassifierConfig({head: len(data.classes[head]) for head in _HEADS}, width)
    method = kind(data.part("train"), config, affine)
    history = job.run(name, method, 64, steps)
    net = history.averaged["classifier"].eval()
    scores = {
        f"{head} accuracy on {part}": value
        for part in ("val", "test")
        for head, value in accuracy(net, data.part(part)).items()
    }
    recipe = {"batch_size": 64, "precision": job.precision}
    card = Card(name, "classifier", config.to_dict(), recipe, data=data_hash(data), metrics=scores, notes=notes)
    return publish(job, card, net.state_dict(), history, "style accuracy on val", higher=True, bits=8)


def train_augmented(job: Job) -> Card:
    """Sees every picture turned, zoomed and shifted."""
    notes = "Looks at translations beside the first classifier; trained with affine changes of every picture."
    steps = job.profile.pick(quick=200, cpu=10000, gpu=40000)
    return _train(job, "classifier-augmented", BiasedClassifierMethod, 16, steps, notes)


def train_robust(job: Job) -> Card:
    """The same, and every picture is changed adversarially."""
    notes = "Looks at translations beside the first classifier; trained adversarially (L2, radius 1.5 in [-1, 1])."
    steps = job.profile.pick(quick=200, cpu=5500, gpu=40000)
    return _train(job, "classifier-robust", RobustClassifierMethod, 20, steps, notes)
