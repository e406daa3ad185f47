"""Opens networks that come with the course by name: experts, and what a transfer begins from."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data import ImageSet
from ..errors import CourseError
from ..paths import CHECKPOINTS
from ..training.files import Card, folder_of, load_card, load_weights
from .autoencoder import LatentSpace
from .protocol import freeze

__all__ = ["SourceModel", "load_expert", "load_over_source"]

_KINDS = {
    "grid autoencoder": ("experts.autoencoder", "GridAutoencoder", "GridAutoencoderConfig"),
    "classifier": ("experts.classifier", "Classifier", "ClassifierConfig"),
    "segmenter": ("experts.classifier", "Segmenter", "SegmenterConfig"),
    "biggan generator": ("gans.biggan", "Generator", "BigGANConfig"),
    "biggan critic": ("gans.biggan", "Discriminator", "BigGANConfig"),
    "stylegan": ("gans.stylegan", "StyleGAN", "StyleGANConfig"),
    "stylegan critic": ("gans.stylegan", "StyleGANCritic", "StyleGANConfig"),
    "alae": ("gans.alae", "ALAE", "ALAEConfig"),
}
"""Kind of a card → module, network and its configuration. Who opens a classifier imports no generators."""


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
    if card.kind not in _KINDS:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not an expert: choose {' or '.join(_KINDS)}.")
    place, network, config = _KINDS[card.kind]
    found = import_module(f"course_lib.{place}")
    try:
        module = getattr(found, network)(getattr(found, config)(**card.config))
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
        device, folder: as for :func:`load_expert`, and so are the errors.
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


@dataclass(frozen=True)
class SourceModel:
    """What a transfer begins from, frozen: a trained generator, its discriminator, and the space that it draws in."""

    name: str  # of the generator's checkpoint
    generator: nn.Module
    discriminator: nn.Module
    space: LatentSpace
    classes: tuple[str, ...] = ()  # names of what a class-conditional generator draws, else empty

    @classmethod
    def load(cls, name: str, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> "SourceModel":
        """Opens ``NAME``, ``NAME-critic`` and the autoencoder that the card names; without one, a CourseError."""
        card = load_card(name, folder)
        if "space" not in card.recipe:
            raise CourseError(f"{name!r} does not draw latents of an autoencoder: take avatar-stylegan, for example.")
        networks = (load_expert(which, device, folder) for which in (name, f"{name}-critic"))
        space = LatentSpace(load_expert(card.recipe["space"], device, folder))
        return cls(name, *networks, space, tuple(card.recipe.get("classes", ())))

    def encode(self, data: ImageSet) -> Tensor:
        """Latents ``float16 (N, C, G, G)`` of a set, on the CPU."""
        return self.space.encode_set(data)
