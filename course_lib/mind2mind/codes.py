"""The target set as codes: every picture goes through the frozen encoder once, and never again."""

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..data import ImageSet
from ..evaluation.feature_cache import real_features
from ..evaluation.features import FeatureNetwork
from ..experts import TargetExpert, fingerprint
from ..progress import progress_bar

__all__ = ["Frozen", "encode_set", "expert_device", "expert_size"]


class Frozen(TargetExpert, Protocol):
    """An expert with ``encode`` and ``decode`` whose pictures have one size: an ALAE or an autoencoder."""


def expert_size(expert: Frozen) -> int:
    """Side in pixels of the expert's pictures."""
    return expert.config.size


def expert_device(expert: Frozen) -> torch.device:
    """Where the expert is."""
    return next(expert.parameters()).device


def encode_set(expert: Frozen, data: ImageSet, folder: Path | None = None, progress: bool = True) -> Tensor:
    """Codes ``float32 (N, D)`` of all pictures of ``data``, on the CPU.

    They are kept in the cache folder, under a name made of the hashes of the pictures and of the expert, so a second
    call reads them. 3,000 codes of 64 numbers are 0.8 MB.

    Args:
        expert: frozen.
        data: the target set; pictures are brought to the expert's size.
        folder: of the file; the cache folder by default.
        progress: show a bar while encoding.

    Raises:
        CourseError: the disk is full.
    """
    size, device = expert_size(expert), expert_device(expert)
    bar = progress_bar(progress, total=len(data), desc="encoding", unit="picture", delay=1)

    def encode(images: Tensor) -> Tensor:
        codes = expert.encode(images.to(device)).cpu()
        bar.update(len(images))
        return codes

    with bar:
        network = FeatureNetwork("codes", fingerprint(expert), encode, encode)
        return real_features(data, network, size, folder)
