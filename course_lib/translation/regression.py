"""The paper's baseline: a regressor from condition to latent, which has no residual and so gives one answer."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..cinn import ConditionShift, GridFlowConfig, LocalShift
from ..cinn.config import FlowConfig
from ..cinn.embedder import GridEmbedder, build_embedder
from ..cinn.networks import LEAKY_SLOPE, FullyConnectedNet
from ..training.method import Loss
from .training import PairMethod

__all__ = ["GridRegressor", "Regressor", "RegressorMethod"]


class Regressor(nn.Module):
    """The baseline of the paper: a network from condition to latent that has nothing to be random with.

    It uses the flow's embedder and a fully connected net, trained on the mean squared error, so it learns the
    conditional mean. Where the flow starts from a linear map of the condition, it gets the same head start.

    Args:
        config: of the flow it is compared with.
        width: hidden width.
        depth: hidden-to-hidden layers behind the embedder.
        shift: add a linear map of the condition, see :meth:`fit_shift`; None takes the flow's choice.
    """

    def __init__(self, config: FlowConfig, width: int = 512, depth: int = 1, shift: bool | None = None):
        super().__init__()
        self.config, self.width, self.depth = config, width, depth
        self.embedder = build_embedder(config)
        self.net = FullyConnectedNet(config.embedding_width, width, depth, config.dim)
        shift = config.condition_shift if shift is None else shift
        self.shift = ConditionShift(math.prod(config.condition_shape), config.dim) if shift else None

    @classmethod
    def from_recipe(cls, config: FlowConfig, recipe: dict[str, Any]) -> "Regressor":
        """A fresh regressor of the sizes that a card's ``recipe`` names: ``width``, ``depth`` and maybe ``shift``."""
        return cls(config, recipe["width"], recipe["depth"], recipe.get("shift", False))

    def forward(self, condition: Tensor) -> Tensor:
        """Latent ``(B, D)``."""
        latent = self.net(self.embedder(condition))
        return latent if self.shift is None else self.shift.inverse(latent, condition)

    def fit_shift(self, latent: Tensor, condition: Tensor) -> None:
        """Sets the linear map to the least-squares fit on pairs, before training; without one it does nothing."""
        if self.shift is not None:
            self.shift.fit(latent, condition)


class GridRegressor(nn.Module):
    """The same baseline where latents are grids: the flow's embedder, then three 3×3 convolutions.

    A fully connected net would have to learn every cell anew, and would be no match for a flow whose cells share their
    weights. It gets the flow's linear head start, too.

    Args:
        config: of the flow it is compared with.
        width: channels inside.
    """

    def __init__(self, config: GridFlowConfig, width: int = 64):
        super().__init__()
        self.config, self.width = config, width
        shape, side = config.condition_shape, config.side
        if len(shape) == 3:
            self.embedder: nn.Module = GridEmbedder(shape, width, side)
            self.shift: nn.Module = LocalShift(shape, config.channels, side)
        else:
            # Every cell reads a vector in its own way: convolutions alone would answer with the same in all of them.
            self.embedder = nn.Sequential(nn.Linear(shape[0], 16 * side**2), nn.Unflatten(1, (16, side, side)))
            self.shift = ConditionShift(shape[0], config.dim)
        inputs = width if len(shape) == 3 else 16
        self.net = nn.Sequential(
            nn.Conv2d(inputs, width, 3, 1, 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(width, config.channels, 3, 1, 1),
        )

    @classmethod
    def from_recipe(cls, config: GridFlowConfig, recipe: dict[str, Any]) -> "GridRegressor":
        """A fresh regressor of the size that a card's ``recipe`` names: ``width``."""
        return cls(config, recipe["width"])

    def forward(self, condition: Tensor) -> Tensor:
        """Latent ``(B, D)``."""
        heard = self.embedder(condition)
        heard = heard[0] if isinstance(heard, tuple) else heard
        return self.shift.inverse(self.net(F.leaky_relu(heard, LEAKY_SLOPE)).flatten(1), condition)

    def fit_shift(self, latent: Tensor, condition: Tensor, ridge: float = 1e-3) -> None:
        """Sets the linear map to the least-squares fit on pairs, before training; the net then begins at zero."""
        self.shift.fit(latent, condition, ridge=ridge)
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)


class RegressorMethod(PairMethod):
    """Mean squared error on latents, summed over coordinates."""

    name = "regressor"

    def loss(self, network: nn.Module, latent: Tensor, condition: Tensor) -> Tensor:
        """Σ (found − latent)², mean over the batch."""
        return (network(condition) - latent).square().sum(1).mean()

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """One phase."""
        latent, condition = batch
        yield Loss("regressor", self.loss(self.modules["regressor"], latent, condition), self._held_out(step))
