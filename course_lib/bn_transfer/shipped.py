"""Transferred generators as files: only what is new is stored; old classes stay in the checkpoint they come from."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..experts import load_over_source
from ..gans import Generator
from ..paths import CHECKPOINTS
from ..training import load_card
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
    generator, card = load_over_source(name, KIND, _build, new_tensors, device, folder)
    source = card.config["source"]
    generator.class_names = list(card.config["classes"])
    generator.old_names = list(load_card(source, folder_of(source, folder)).recipe["classes"])
    return generator


def _build(source: Generator, config: dict[str, Any]) -> TransferGenerator:
    generator = TransferGenerator(source, len(config["classes"]), config["variant"])
    if not config["shared"]:
        generator.unshare()
    return generator
