"""Opens the experts that come with the course."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CourseError
from ..paths import CHECKPOINTS
from ..training.weights import Card, folder_of, load_weights
from .autoencoder import GridAutoencoder, GridAutoencoderConfig
from .classifier import Classifier, ClassifierConfig, Segmenter, SegmenterConfig
from .protocol import freeze

__all__ = ["load_expert", "load_over_source"]

_KINDS = {
    "grid autoencoder": (GridAutoencoder, GridAutoencoderConfig),
    "classifier": (Classifier, ClassifierConfig),
    "segmenter": (Segmenter, SegmenterConfig),
}


def _gan_kinds() -> dict[str, tuple[type[nn.Module], type]]:
    # Imported late: who opens an autoencoder or a classifier needs no generators.
    from ..gans import BigGANConfig, Discriminator, Generator
    from ..gans.alae import ALAE, ALAEConfig
    from ..gans.stylegan import StyleGAN, StyleGANConfig, StyleGANCritic

    return {
        "biggan generator": (Generator, BigGANConfig),
        "biggan critic": (Discriminator, BigGANConfig),
        "stylegan": (StyleGAN, StyleGANConfig),
        "stylegan critic": (StyleGANCritic, StyleGANConfig),
        "alae": (ALAE, ALAEConfig),
    }


def load_expert(name: str, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> torch.nn.Module:
    """A shipped network, frozen.

    Args:
        name: for example ``avatar-autoencoder``, ``avatar-classifier`` or ``avatar-biggan``.
        device: where to put it.
        folder: where weights and cards are.

    Raises:
        CourseError: missing, truncated or foreign files, or a card of a kind that is no expert.
    """
    tensors, card = load_weights(name, folder)
    kinds = _KINDS if card.kind in _KINDS else _KINDS | _gan_kinds()
    if card.kind not in kinds:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not an expert: choose {' or '.join(kinds)}.")
    network, config = kinds[card.kind]
    try:
        module = network(config(**card.config))
        module.load_state_dict(tensors)
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise CourseError(
            f"checkpoint {name!r} does not fit this version of the course ({str(error).splitlines()[-1].strip()}): "
            "update both with git."
        ) from error
    return freeze(module.to(device, memory_format=torch.channels_last))


@torch.no_grad()
def load_over_source(
    name: str,
    kind: str,
    build: Callable[[nn.Module, dict[str, Any]], nn.Module],
    own: Callable[[nn.Module], dict[str, Tensor]],
    device: str | torch.device = "cpu",
    folder: Path = CHECKPOINTS,
) -> tuple[nn.Module, Card]:
    """A shipped network that was made from another shipped one, frozen; its file has only what is new.

    Args:
        name: of the checkpoint; its card names the source, ``config["source"]``, which may lie among the shipped ones.
        kind: that the card must have.
        build: source and ``config`` → network.
        own: network → what the file holds, as in a state dict: the tensors themselves, which are overwritten.
        device: where to put it.
        folder: where weights and card are.

    Raises:
        CourseError: missing or damaged files, a checkpoint of another kind, or other tensors than the network's.
    """
    tensors, card = load_weights(name, folder)
    if card.kind != kind:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a {kind}.")
    source = card.config["source"]
    network = build(load_expert(source, folder=folder_of(source, folder)), card.config)
    wanted = own(network)
    if {key: t.shape for key, t in wanted.items()} != {key: t.shape for key, t in tensors.items()}:
        raise CourseError(f"checkpoint {name!r} does not fit this version of the course: update both with git.")
    for key, tensor in wanted.items():
        tensor.copy_(tensors[key])
    return freeze(network.to(device, memory_format=torch.channels_last)), card
