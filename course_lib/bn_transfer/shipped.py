"""Transferred generators as files: only what is new is stored; old classes stay in the checkpoint they come from."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CourseError
from ..experts import freeze, load_expert
from ..paths import CHECKPOINTS
from ..training import load_card, load_weights
from ..training.weights import folder_of
from .generator import TransferGenerator

__all__ = ["KIND", "load_bn_transfer", "new_tensors", "transfer_config"]

KIND = "transferred biggan"


def transfer_config(generator: TransferGenerator, source: str, classes: list[str]) -> dict[str, Any]:
    """For the card: which generator it was made of, and what its new classes are called."""
    return {"source": source, "classes": classes, "variant": generator.variant, "shared": generator.shared}


def new_tensors(generator: TransferGenerator) -> dict[str, Tensor]:
    """What ``target`` does not share with ``source``: its batch norms and, after the second stage, the rest."""
    state = generator.target.state_dict()
    own = {name for name, module in generator.target.named_modules() if name.endswith((".bn1", ".bn2", "layer.0"))}
    return {
        name: t for name, t in state.items() if not generator.shared or name.startswith(tuple(f"{o}." for o in own))
    }


def load_bn_transfer(
    name: str = "bn-transfer32", device: str | torch.device = "cpu", folder: Path = CHECKPOINTS
) -> TransferGenerator:
    """A shipped transfer, frozen; ``class_names`` are its new classes and ``old_names`` those of its source.

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
    config = card.config
    sources = folder_of(config["source"], folder)
    generator = TransferGenerator(
        load_expert(config["source"], folder=sources), len(config["classes"]), config["variant"]
    )
    if not config["shared"]:
        generator.unshare()
    if set(tensors) != set(new_tensors(generator)):
        raise CourseError(f"checkpoint {name!r} does not fit this version of the course: update both with git.")
    generator.target.load_state_dict(tensors, strict=False)
    generator.class_names = list(config["classes"])
    generator.old_names = list(load_card(config["source"], sources).recipe["classes"])
    return freeze(generator.to(device, memory_format=torch.channels_last))
