"""Opens the translators that come with the course."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..cinn import ConditionalFlow, FlowConfig, GridFlow, GridFlowConfig
from ..errors import CourseError
from ..experts import freeze, load_expert
from ..paths import CHECKPOINTS
from ..training import load_weights
from .regression import GridRegressor, Regressor
from .superresolution import LowResolution
from .translator import Translator

__all__ = ["load_flow", "load_regressor", "load_superresolution"]


def load_flow(name: str, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> ConditionalFlow | GridFlow:
    """A shipped conditional flow, flat or on a grid, frozen.

    Raises:
        CourseError: missing or damaged files, or a checkpoint of another kind.
    """
    builders = {
        "conditional flow": lambda config, _: ConditionalFlow(FlowConfig.from_dict(config)),
        "grid flow": lambda config, _: GridFlow(GridFlowConfig.from_dict(config)),
    }
    return _load(name, builders, device, folder)


def load_regressor(
    name: str, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS
) -> Regressor | GridRegressor:
    """A shipped baseline from condition to latent, flat or on a grid, frozen.

    Raises:
        CourseError: missing or damaged files, or a checkpoint of another kind.
    """
    builders = {
        "regressor": lambda config, recipe: Regressor.from_recipe(FlowConfig.from_dict(config), recipe),
        "grid regressor": lambda config, recipe: GridRegressor.from_recipe(GridFlowConfig.from_dict(config), recipe),
    }
    return _load(name, builders, device, folder)


def _load(
    name: str,
    builders: Mapping[str, Callable[[dict, dict], nn.Module]],
    device: str | torch.device,
    folder: Path,
) -> Any:
    """Reads weights and card, builds the network of that kind from configuration and recipe, and freezes it."""
    tensors, card = load_weights(name, folder)
    if card.kind not in builders:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a {' or '.join(builders)}.")
    network = builders[card.kind](card.config, card.recipe)
    network.load_state_dict(tensors)
    return freeze(network.to(device))


def load_superresolution(size: int = 8, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> Translator:
    """Super-resolution of people to 64 pixels: the flow from ``size`` (8 or 16) pixels and the grid autoencoder.

    Raises:
        CourseError: as :func:`load_flow`.
    """
    flow = load_flow(f"superresolution-{size}", device, folder)
    return Translator(LowResolution(size), flow, load_expert("avatar-autoencoder", device, folder))
