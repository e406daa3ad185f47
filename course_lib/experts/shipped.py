"""Opens the experts that come with the course."""

from pathlib import Path

import torch

from ..errors import CourseError
from ..gans import BigGANConfig, Discriminator, Generator
from ..gans.alae import ALAE
from ..gans.alae_config import ALAEConfig
from ..gans.stylegan import StyleGAN, StyleGANConfig
from ..gans.stylegan_critic import StyleGANCritic
from ..paths import CHECKPOINTS
from ..training.weights import load_weights
from .autoencoder import Autoencoder, AutoencoderConfig
from .classifier import Classifier, ClassifierConfig
from .protocol import freeze
from .segmenter import Segmenter, SegmenterConfig

__all__ = ["load_expert"]

_KINDS = {
    "autoencoder": (Autoencoder, AutoencoderConfig),
    "classifier": (Classifier, ClassifierConfig),
    "segmenter": (Segmenter, SegmenterConfig),
    "biggan generator": (Generator, BigGANConfig),
    "biggan critic": (Discriminator, BigGANConfig),
    "stylegan": (StyleGAN, StyleGANConfig),
    "stylegan critic": (StyleGANCritic, StyleGANConfig),
    "alae": (ALAE, ALAEConfig),
}


def load_expert(name: str, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> torch.nn.Module:
    """A shipped network, frozen.

    Args:
        name: for example ``autoencoder64``, ``classifier`` or ``biggan32``.
        device: where to put it.
        folder: where weights and cards are.

    Raises:
        CourseError: missing, truncated or foreign files, or a card of a kind that is no expert.
    """
    tensors, card = load_weights(name, folder)
    if card.kind not in _KINDS:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not an expert: choose {' or '.join(_KINDS)}.")
    network, config = _KINDS[card.kind]
    try:
        module = network(config(**card.config))
        module.load_state_dict(tensors)
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise CourseError(
            f"checkpoint {name!r} does not fit this version of the course ({str(error).splitlines()[-1].strip()}): "
            "update both with git."
        ) from error
    return freeze(module.to(device, memory_format=torch.channels_last))
