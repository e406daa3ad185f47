"""Transfers as files: only what is new is stored; old classes stay in the checkpoint they come from."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CourseError
from ..experts import load_over_source
from ..gans import Generator
from ..gans.training import CodeSpace
from ..paths import CHECKPOINTS
from ..training import load_card, load_weights
from ..training.weights import folder_of
from .propagation import TransferGenerator

__all__ = ["CODES_KIND", "KIND", "load_bn_transfer", "load_codes", "new_tensors", "transfer_config"]

KIND, CODES_KIND = "transferred biggan", "code space"


def load_codes(source: str = "avatar-biggan", folder: Path = CHECKPOINTS) -> CodeSpace:
    """The space of the codes that a shipped generator learned to decode, from the checkpoint ``SOURCE-codes``.

    Raises:
        CourseError: missing or damaged files, or a checkpoint of another kind.
    """
    tensors, card = load_weights(f"{source}-codes", folder)
    if card.kind != CODES_KIND:
        raise CourseError(f"checkpoint {card.name!r} is a {card.kind}, not a {CODES_KIND}.")
    return CodeSpace(tensors["directions"], tensors["common"])


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
    name: str = "avatar-bn-transfer", device: str | torch.device = "cpu", folder: Path = CHECKPOINTS
) -> TransferGenerator:
    """A shipped transfer, frozen; ``class_names`` are its new classes and ``old_names`` those of its source.

    The source is looked for in ``folder`` and among the shipped ones.

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
