"""Hyper-modulated generators as files: heads and class network; the source has a file of its own."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..experts import load_over_source
from ..gans.stylegan import StyleGAN
from ..paths import CHECKPOINTS
from .generator import HyperGenerator

__all__ = ["KIND", "hyper_config", "hyper_tensors", "load_hypermod"]

KIND = "hyper-modulated generator"
_TRAINED = ("heads.", "classes.", "own.", "style_head.")


def hyper_config(
    source: str, classes: list[str], width: int, rank: int | None, finetune: bool = False, class_styles: bool = False
) -> dict[str, Any]:
    """The ``config`` of the card: name of the source's checkpoint, names of the classes, options of the generator."""
    options = {"width": width, "rank": rank, "finetune": finetune, "class_styles": class_styles}
    return {"source": source, "classes": classes, **options}


def hyper_tensors(network: HyperGenerator) -> dict[str, Tensor]:
    """What the checkpoint holds: all that transfer trained."""
    return {name: value for name, value in network.state_dict().items() if name.startswith(_TRAINED)}


def load_hypermod(
    name: str = "hypermod32", device: str | torch.device = "cpu", folder: Path = CHECKPOINTS
) -> HyperGenerator:
    """A shipped hyper-modulated generator, frozen, over its shipped source; ``class_names`` says what it draws.

    Args:
        name: of the checkpoint.
        device: where to put it.
        folder: where weights and card are; the source may also be a shipped one.

    Raises:
        CourseError: missing or damaged files, or a checkpoint of another kind.
    """
    network, card = load_over_source(name, KIND, _build, hyper_tensors, device, folder)
    network.class_names = list(card.config["classes"])
    return network


def _build(source: StyleGAN, config: dict[str, Any]) -> HyperGenerator:
    options = {key: value for key, value in config.items() if key not in ("source", "classes")}
    return HyperGenerator(source, len(config["classes"]), **options)
