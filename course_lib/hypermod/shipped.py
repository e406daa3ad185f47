"""Hyper-modulated generators as files: heads and class network; the source has a file of its own."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CourseError
from ..experts import freeze, load_expert
from ..paths import CHECKPOINTS
from ..training import load_weights
from ..training.weights import folder_of
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
    tensors, card = load_weights(name, folder)
    if card.kind != KIND:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a {KIND}.")
    config = dict(card.config)
    name_of_source, names = config.pop("source"), config.pop("classes")
    source = load_expert(name_of_source, folder=folder_of(name_of_source, folder))
    network = HyperGenerator(source, len(names), **config)
    network.class_names = list(names)
    missing, unexpected = network.load_state_dict(tensors, strict=False)
    wanted = hyper_tensors(network).keys()
    if unexpected or wanted & set(missing):
        raise CourseError(f"checkpoint {name!r} does not fit this version of the course: update both with git.")
    return freeze(network.to(device, memory_format=torch.channels_last))
