"""From the name of a checkpoint to a generator that can be drawn from."""

from collections.abc import Callable
from pathlib import Path

import torch

from ..bn_transfer.shipped import KIND as TRANSFERRED
from ..bn_transfer.shipped import load_bn_transfer
from ..errors import CourseError
from ..experts import LatentSpace, load_expert
from ..hypermod.files import KIND as HYPER_MODULATED
from ..hypermod.files import load_hypermod
from ..paths import CHECKPOINTS
from ..training import Card, load_card
from .adapters import ALAEPictures, BigGANPictures, HyperPictures, StylePictures
from .generator import ConditionalGenerator

__all__ = ["OPENERS", "checkpoint_place", "open_generator"]

Opener = Callable[[Card, Path, torch.device], ConditionalGenerator]


def _stylegan(card: Card, folder: Path, device: torch.device) -> ConditionalGenerator:
    return StylePictures(load_expert(card.name, device, folder), card.name)


def _alae(card: Card, folder: Path, device: torch.device) -> ConditionalGenerator:
    return ALAEPictures(load_expert(card.name, device, folder), card.name)


def _hypermod(card: Card, folder: Path, device: torch.device) -> ConditionalGenerator:
    network = load_hypermod(card.name, device, folder)
    return HyperPictures(network, network.class_names, card.name)


def _biggan(card: Card, folder: Path, device: torch.device) -> ConditionalGenerator:
    network = load_expert(card.name, device, folder)
    names = card.recipe.get("classes") or [f"class {label}" for label in range(network.config.classes)]
    return BigGANPictures(network, names, card.name)


def _bn_transfer(card: Card, folder: Path, device: torch.device) -> ConditionalGenerator:
    network = load_bn_transfer(card.name, device, folder)
    return BigGANPictures(network, network.class_names, card.name)


OPENERS: dict[str, Opener] = {
    "stylegan": _stylegan,
    "alae": _alae,
    HYPER_MODULATED: _hypermod,
    "biggan generator": _biggan,
    TRANSFERRED: _bn_transfer,
}
"""Kind of a card → what opens its checkpoint. A new kind of generator adds one line."""


def checkpoint_place(name: str | Path) -> tuple[str, Path]:
    """Name and folder of a checkpoint: ``avatar-biggan`` lies with the course's, anything with a slash is a path."""
    path = Path(name).expanduser()
    if path.suffix in (".safetensors", ".json"):
        path = path.with_suffix("")
    return path.name, CHECKPOINTS if path.parent == Path() else path.parent


def open_generator(name: str | Path, device: str | torch.device = "cpu") -> ConditionalGenerator:
    """A trained generator, frozen.

    Args:
        name: of a shipped checkpoint, for example ``avatar-biggan``, or a path to one, with or without suffix.
        device: where it runs.

    Raises:
        CourseError: a missing or damaged file, or a checkpoint that is no generator.
    """
    stem, folder = checkpoint_place(name)
    card = load_card(stem, folder)
    if card.kind not in OPENERS:
        raise CourseError(f"checkpoint {stem!r} is a {card.kind}, not a generator: choose a {' or a '.join(OPENERS)}.")
    generator = OPENERS[card.kind](card, folder, torch.device(device))
    if "space" in card.recipe:
        autoencoder = load_expert(card.recipe["space"], device)
        generator.space, generator.size = LatentSpace(autoencoder), autoencoder.config.size
    return generator
