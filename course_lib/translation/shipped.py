"""Opens the translators that come with the course."""

from pathlib import Path

import torch

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
    tensors, card = load_weights(name, folder)
    if card.kind != "conditional flow":
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a conditional flow.")
    flow = ConditionalFlow(FlowConfig.from_dict(card.config))
    flow.load_state_dict(tensors)
    return freeze(flow.to(device))


def load_regressor(name: str, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> Regressor:
    """A shipped baseline from condition to latent, frozen.

    Raises:
        CourseError: missing or damaged files, or a checkpoint of another kind.
    """
    tensors, card = load_weights(name, folder)
    if card.kind != "regressor":
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a regressor.")
    sizes = {name: card.recipe[name] for name in ("width", "depth")}
    regressor = Regressor(FlowConfig.from_dict(card.config), shift=card.recipe.get("shift", False), **sizes)
    regressor.load_state_dict(tensors)
    return freeze(regressor.to(device))


def load_superresolution(device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> Translator:
    """16 → 64 pixels: both autoencoders and the flow between them."""
    source = LowResolution(load_expert("autoencoder16", device, folder))
    return Translator(
        source, load_flow("superresolution", device, folder), load_expert("autoencoder64", device, folder)
    )
