"""Opens the translators that come with the course."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..cinn import ConditionalFlow, FlowConfig
from ..errors import CourseError
from ..experts import freeze, load_expert
from ..paths import CHECKPOINTS
from ..training import load_weights
from .superresolution import LowResolution
from .training import Regressor
from .translator import Translator

__all__ = ["load_flow", "load_regressor", "load_superresolution"]


def load_flow(name: str, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> ConditionalFlow:
    """A shipped conditional flow, frozen.

    Raises:
        CourseError: missing or damaged files, or a checkpoint of another kind.
    """
    return _load(name, "conditional flow", lambda config, _: ConditionalFlow(config), device, folder)


def load_regressor(name: str, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> Regressor:
    """A shipped baseline from condition to latent, frozen.

    Raises:
        CourseError: missing or damaged files, or a checkpoint of another kind.
    """
    return _load(name, "regressor", Regressor.from_recipe, device, folder)


def _load(
    name: str,
    kind: str,
    build: Callable[[FlowConfig, dict], nn.Module],
    device: str | torch.device,
    folder: Path,
) -> Any:
    """Reads weights and card, builds the network from the card's configuration and recipe, and freezes it."""
    tensors, card = load_weights(name, folder)
    if card.kind != kind:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a {kind}.")
    network = build(FlowConfig.from_dict(card.config), card.recipe)
    network.load_state_dict(tensors)
    return freeze(network.to(device))


def load_superresolution(device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> Translator:
    """16 → 64 pixels: both autoencoders and the flow between them."""
    source = LowResolution(load_expert("autoencoder16", device, folder))
    return Translator(
        source, load_flow("superresolution", device, folder), load_expert("autoencoder64", device, folder)
    )
