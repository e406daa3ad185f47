"""Transferred GANs as files: the small networks and the target's mean code; the frozen halves stay where they are."""

from pathlib import Path

import torch
from torch import Tensor

from ..errors import CourseError
from ..experts import freeze, load_expert
from ..paths import CHECKPOINTS
from ..training.weights import load_weights
from .networks import MindConfig, MindCritic, MindGenerator
from .transferred import TransferredGAN

__all__ = ["KIND", "new_tensors", "open_transferred", "transfer_config"]

KIND = "mindgan"


def transfer_config(gan: TransferredGAN, source: str, target: str) -> dict:
    """``config`` of the card: sizes, whose codes these are, and what is drawn."""
    return {"source": source, "target": target, "networks": gan.generator.config.to_dict()}


def new_tensors(gan: TransferredGAN) -> dict[str, Tensor]:
    """Everything that was trained, and the mean code.

    Raises:
        CourseError: the critic or the mean is missing.
    """
    if gan.critic is None or gan.mean is None:
        raise CourseError("a shipped MindGAN has its critic and its mean code: give critic= and codes=.")
    parts = {"generator": gan.generator, "critic": gan.critic}
    found = {f"{part}.{name}": t for part, module in parts.items() for name, t in module.state_dict().items()}
    return found | {"mean": gan.mean}


def open_transferred(name: str, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> TransferredGAN:
    """A shipped transferred GAN, frozen; its expert is opened by the name in the card.

    Args:
        name: for example ``mind2mind64``.
        device: where to put it.
        folder: where weights and cards are; the expert's, too.

    Raises:
        CourseError: missing or foreign files, or a card of another kind.
    """
    tensors, card = load_weights(name, folder)
    if card.kind != KIND:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a MindGAN: choose mind2mind32 or mind2mind64.")
    config = MindConfig(**card.config["networks"])
    networks = {"generator": MindGenerator(config), "critic": MindCritic(config)}
    for part, network in networks.items():
        prefix = f"{part}."
        network.load_state_dict({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})
        freeze(network.to(device))
    expert = load_expert(card.config["source"], device, folder)
    return TransferredGAN(**networks, expert=expert, codes=tensors["mean"][None])
