"""What a residual still says about the condition: the quantity that the loss bounds, read by a probe (paper §3)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import CourseError
from ..evaluation.probes import LinearProbe, balanced_accuracy
from .bench import Bench
from .choice import Choice

__all__ = ["Leakage", "leakage"]


@dataclass(frozen=True)
class Leakage:
    """A probe's success on held-out pictures.

    Attributes:
        explained: share of the condition's variance that it predicts from ``v``; 0 (or a little less) is nothing.
        accuracy: balanced accuracy for the condition's class.
        chance: what guessing one class gives.
    """

    explained: float
    accuracy: float
    chance: float


@torch.no_grad()
def leakage(bench: Bench, choice: Choice, truth: Choice, classes: tuple[Tensor, Tensor], seed: int = 0) -> Leakage:
    """Trains a linear probe to read a condition from residuals, and scores it on held-out pictures.

    Args:
        bench: gives the latents.
        choice: whose flow makes the residuals, from the conditions that it was trained with.
        truth: whose conditions are read; ``choice`` itself, or, for a control that never saw them, another one.
        classes: ``int64 (M,)`` and ``(N,)``: a class of the true condition, of training and of held-out pictures.
        seed: of the latents that are drawn from the posteriors.

    Raises:
        CourseError: a choice does not know its conditions for the training pictures.
    """
    if choice.pairs is None or truth.pairs is None:
        raise CourseError("the probe learns from the training pictures: give use_translator their pairs.")
    flow = choice.translator.flow
    known = flow.encode(bench.latents.latents(seed), choice.pairs.condition)
    held = flow.encode(bench.held_latents.latents(seed), choice.condition)
    reader = LinearProbe(known, truth.pairs.condition.flatten(1))
    explained = reader.explained(held, truth.condition.flatten(1))
    namer = LinearProbe(known, classes[0])
    accuracy = balanced_accuracy(namer.predict(held), classes[1])
    return Leakage(explained, accuracy, 1.0 / len(classes[1].unique()))
