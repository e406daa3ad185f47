"""What recipes of notebooks that still live on emoji share."""

import torch
from torch import Tensor

from ..data import ImageSet
from ..experts import Autoencoder
from ..gans.codes import class_codes, encode_mirrored

__all__ = ["encode_codes", "faces"]

_BUSTS = ("person", "person-role", "person-gesture", "person-fantasy")


def faces(data: ImageSet) -> ImageSet:
    """The source domain: smileys, and people drawn from the chest up, in all styles."""
    names = data.classes["subgroup"]
    chosen = [k for k, name in enumerate(names) if name.startswith("face-") or name in _BUSTS]
    return data.subset(torch.isin(data.labels["subgroup"], torch.tensor(chosen)))


def encode_codes(target: Autoencoder, data: ImageSet, labels: Tensor, dims: int) -> Tensor:
    """``(2, N, dims)``: :func:`class_codes` of the pictures and of their mirror images."""
    device = next(target.parameters()).device
    latent = encode_mirrored(lambda part: target.encode(part.to(device)), data.batches(250))
    codes = class_codes(latent, labels.repeat(2), dims)
    return codes.view(2, len(data), dims)
