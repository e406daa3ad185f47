"""Noise vectors of the new classes' own pictures, in the space that the old generator was trained in."""

from pathlib import Path

import torch
from torch import Tensor

from ..data import ImageSet
from ..errors import CourseError
from ..experts import Autoencoder
from ..gans.codes import CodeSpace, encode_mirrored
from ..paths import CHECKPOINTS
from ..training import load_weights

__all__ = ["CODES_KIND", "load_code_space", "picture_codes"]

CODES_KIND = "code space"


def load_code_space(name: str = "biggan32-codes", folder: Path = CHECKPOINTS) -> CodeSpace:
    """The space of a shipped generator.

    Raises:
        CourseError: missing or damaged files, or a checkpoint of another kind.
    """
    tensors, card = load_weights(name, folder)
    if card.kind != CODES_KIND:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a {CODES_KIND}.")
    return CodeSpace(tensors["directions"], tensors["common"])


@torch.no_grad()
def picture_codes(autoencoder: Autoencoder, data: ImageSet, space: CodeSpace) -> Tensor:
    """``(2, N, noise)``: codes of pictures with ``labels["class"]``, and of their mirror images.

    Args:
        autoencoder: the one whose latents ``space`` is of, ``autoencoder64`` for the shipped one.
        data: training pictures.
        space: of the generator.
    """
    device = next(autoencoder.parameters()).device
    latent = encode_mirrored(lambda part: autoencoder.encode(part.to(device)), data.batches(250, 64))
    return space.codes(latent, data.labels["class"].repeat(2)).view(2, len(data), -1)
