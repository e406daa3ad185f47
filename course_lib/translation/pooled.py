"""Feature maps of any size as a moderate condition, and the shipped translators that listen to one."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cinn import ConditionalFlow, FlowConfig, GridFlow, GridFlowConfig
from ..errors import CourseError
from ..experts import SourceExpert, TargetExpert, freeze
from ..paths import CHECKPOINTS
from ..training import load_weights
from .translator import Translator

__all__ = ["PooledSource", "load_choice"]

_MOST_VALUES = 2048
_MOST_NEIGHBOURS = 800


class PooledSource:
    """Source expert: another expert's output, averaged to few places and standardised.

    Maps get mean 0 and deviation 1 in every channel, vectors in every coordinate. For a flat latent, pooling keeps the
    number of values in a condition below 2048, so that a linear map can be fitted on some thousand pictures; it has no
    room for finer places anyway. For a grid of cells only what lies around one cell must be few numbers, so that maps
    keep as many places as the grid, or twice as many along each side.

    Args:
        expert: gives vectors or maps.
        output: ``(N, C, H, W)`` or ``(N, K)``, its output for training pictures.
        limit: largest absolute value of a condition; the rest is cut off. Activations have heavy tails, and a flow that
            meets a value ten deviations away answers with a latent as far away.
        grid: cells along one side of the target's latent; 0 if it is flat.
    """

    def __init__(self, expert: SourceExpert, output: Tensor, limit: float = float("inf"), grid: int = 0):
        self.expert, self.limit, self.condition_shape = expert, limit, tuple(output.shape[1:])
        if output.ndim == 4:
            channels, size = output.shape[1], output.shape[-1]
            if grid:
                fine = channels * 4**2 <= _MOST_NEIGHBOURS and 2 * grid <= size
                side = 2 * grid if fine else grid
            else:
                side = next(n for n in (8, 4, 2, 1) if channels * n * n <= _MOST_VALUES and n <= size)
            self.condition_shape = (channels, side, side)
        pooled = self.pool(output)
        axes = (0, 2, 3) if output.ndim == 4 else 0
        # What hardly varies is not blown up: its deviation counts as a twentieth of the mean one at least.
        deviation = pooled.std(axes, keepdim=True)
        self.mean, self.deviation = pooled.mean(axes, keepdim=True), deviation.clamp_min(0.05 * deviation.mean() + 1e-6)

    @classmethod
    def restore(cls, expert: SourceExpert, shape: tuple[int, ...], state: dict[str, Tensor]) -> "PooledSource":
        """The source without a limit that gave :meth:`state`, around an expert of the same kind."""
        source = cls.__new__(cls)
        source.expert, source.limit, source.condition_shape = expert, float("inf"), tuple(shape)
        source.mean, source.deviation = state["mean"], state["deviation"]
        return source

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep besides the expert and the shape."""
        return {"mean": self.mean, "deviation": self.deviation}

    def pool(self, output: Tensor) -> Tensor:
        """The expert's output, ``(B, C, H, W)`` averaged to few places; pooling twice changes nothing more."""
        return F.adaptive_avg_pool2d(output, self.condition_shape[1:]) if output.ndim == 4 else output

    def standardise(self, output: Tensor) -> Tensor:
        """Condition ``(B, *condition_shape)`` of the expert's output."""
        return ((self.pool(output) - self.mean) / self.deviation).clamp(-self.limit, self.limit)

    def encode(self, x: Tensor) -> Tensor:
        """Condition of images in [−1, 1]."""
        return self.standardise(self.expert.encode(x))


def load_choice(
    name: str,
    expert: SourceExpert,
    target: TargetExpert,
    device: str | torch.device = "cpu",
    folder: Path = CHECKPOINTS,
) -> Translator:
    """A shipped translator of notebook 06, around the experts it was trained with.

    Args:
        name: for example ``shape-appearance``.
        expert: its source expert, before pooling.
        target: its target expert.
        device: where to put the flow.
        folder: where weights and cards are.

    Raises:
        CourseError: missing or damaged files, a checkpoint of another kind, or experts of other shapes.
    """
    tensors, card = load_weights(name, folder)
    if card.kind != "choice":
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a choice of a source.")
    grid = "channels" in card.config
    config = GridFlowConfig.from_dict(card.config) if grid else FlowConfig.from_dict(card.config)
    state = {key.removeprefix("source."): tensors.pop(key).to(device) for key in list(tensors) if "source." in key}
    flow = GridFlow(config) if grid else ConditionalFlow(config)
    flow.load_state_dict(tensors)
    return Translator(PooledSource.restore(expert, config.condition_shape, state), freeze(flow.to(device)), target)
