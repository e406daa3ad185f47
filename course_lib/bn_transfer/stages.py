"""What trains and what is frozen in each stage, what that costs per new class, and the two penalties."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import CourseError
from ..gans import BigGANConfig
from .generator import TransferGenerator
from .propagation import PublishedPropagation

__all__ = ["STAGES", "ClassCost", "StageRow", "class_cost", "parameter_groups", "penalty", "set_stage", "stage_table"]

STAGES = ("bn", "ft", "free")
"""``bn``: only what belongs to the batch norms. ``ft``: then everything but the mixtures. ``free``: the baseline whose
gains and biases are learned freely: as ``bn``, but mixtures stay as they began and only the residuals learn."""

_PARTS = {
    "scores A": lambda part: [part.scores.weight],
    "score offsets a0": lambda part: [part.scores.bias],
    "old classes P": lambda part: list(
        (part.table if isinstance(part, PublishedPropagation) else part.update).parameters()
    ),
    "noise map Z, z0": lambda part: [] if part.noise is None else list(part.noise.parameters()),
    "residuals R": lambda part: [part.residual.weight],
}
_TRAINED = {
    "bn": {"scores A", "score offsets a0", "old classes P", "noise map Z, z0", "residuals R"},
    "ft": {"noise map Z, z0", "residuals R", "convolutions, first layer, attention", "output norm"},
    "free": {"noise map Z, z0", "residuals R"},
}


def _groups(generator: TransferGenerator) -> dict[str, list[nn.Parameter]]:
    """Every parameter once, by what it is; the first five belong to the batch norms of new classes."""
    parts = list(generator.propagations())
    groups = {name: [p for part in parts for p in select(part)] for name, select in _PARTS.items()}
    groups["output norm"] = list(generator.target.output_layer[0].parameters())
    known = {id(p) for group in groups.values() for p in group}
    kept = [p for p in generator.source.parameters() if not generator.shared or id(p) not in _layer_ids(generator)]
    groups["old tables, embedding and output norm"] = kept
    known |= {id(p) for p in kept}
    groups["convolutions, first layer, attention"] = [p for p in generator.target.parameters() if id(p) not in known]
    return groups


def _layer_ids(generator: TransferGenerator) -> set[int]:
    return {id(p) for p in generator.target.parameters()}


def set_stage(generator: TransferGenerator, stage: str) -> TransferGenerator:
    """Says which parameters train; the source never does.

    Args:
        generator: changed in place; ``ft`` gives it convolutions of its own.
        stage: one of :data:`STAGES`.

    Raises:
        CourseError: there is no such stage.
    """
    if stage not in STAGES:
        raise CourseError(f"there is no stage {stage!r}: choose one of {', '.join(STAGES)}.")
    if stage == "ft":
        generator.unshare()
    for name, group in _groups(generator).items():
        for parameter in group:
            parameter.requires_grad_(name in _TRAINED[stage])
    return generator


@dataclass(frozen=True)
class StageRow:
    """One line of :func:`stage_table`.

    Attributes:
        part: what the parameters are.
        numbers: how many.
        trained: whether they are trained now.
    """

    part: str
    numbers: int
    trained: bool


def stage_table(generator: TransferGenerator) -> list[StageRow]:
    """What the generator consists of, and what of it trains in the present stage.

    Raises:
        CourseError: a part trains in half.
    """
    rows = []
    for name, group in _groups(generator).items():
        flags = {p.requires_grad for p in group}
        if len(flags) > 1:
            raise CourseError(f"a part of {name!r} is trained and a part is not: call set_stage.")
        rows.append(StageRow(name, sum(p.numel() for p in group), True in flags))
    return rows


def parameter_groups(generator: TransferGenerator, rate: float, own: float = 1.0) -> Iterator[dict]:
    """Parameters for an optimiser; what belongs to single classes may learn faster than what all share.

    Args:
        generator: after :func:`set_stage`.
        rate: learning rate.
        own: factor on it for scores and residuals, whose gradients come from the pictures of one class each.
            Published: 1.
    """
    groups = _groups(generator)
    fast = [p for name in ("scores A", "residuals R") for p in groups.pop(name) if p.requires_grad]
    yield {"params": [p for group in groups.values() for p in group if p.requires_grad], "lr": rate}
    if fast:
        yield {"params": fast, "lr": rate * own}


def penalty(generator: TransferGenerator, scores: float = 0.01, residuals: float = 0.01) -> Tensor:
    """scores · Σ mean |A| + residuals · Σ mean R²: means over each tensor, summed over all tensors.

    A and a0 are tensors of their own. Published: 0.01 for the scores and, for the residuals, 0.1 at 128 pixels and
    0.01 at 32. Where the scores have a spectral norm, the raw A is penalised, so that the function cannot shrink.
    """
    total = torch.zeros((), device=next(generator.parameters()).device)
    for part in generator.propagations():
        total = total + scores * (part.scores.weight.abs().mean() + part.scores.bias.abs().mean())
        total = total + residuals * part.residual.weight.square().mean()
    return total


@dataclass(frozen=True)
class ClassCost:
    """Parameters that one more new class costs the generator.

    Attributes:
        scores: two sets a layer, one score for each old class.
        residual: a gain and a bias a channel; free gains and biases would cost as much.
        critic: a row of the critic's class embedding.
    """

    scores: int
    residual: int
    critic: int

    @property
    def generator(self) -> int:
        """Scores and residual together."""
        return self.scores + self.residual


def class_cost(config: BigGANConfig) -> ClassCost:
    """What one more class costs on top of an old generator.

    Args:
        config: of the old generator: its ``classes`` are the old ones.
    """
    widths = [width for pair in zip(config.generator, config.generator[1:], strict=False) for width in pair]
    return ClassCost(2 * len(widths) * config.classes, 2 * sum(widths), config.discriminator[-1])
