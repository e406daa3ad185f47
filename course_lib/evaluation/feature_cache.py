"""Features of real pictures, computed once on this machine and kept in the cache folder."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..data import ImageSet
from ..paths import cache_dir
from ..training.checkpoints import atomic_write
from .features import FeatureNetwork

__all__ = ["real_features"]


def real_features(
    data: ImageSet, network: FeatureNetwork, size: int | None = None, folder: Path | None = None
) -> Tensor:
    """``float32 (N, F)``: features of all pictures of ``data``, from the cache where it knows them.

    The file's name is made of the pictures' hash, their size and the network's hash: changed pictures, or another
    network, never meet old features. A missing or damaged file is computed again.

    Args:
        data: real pictures.
        network: what to look through.
        size: side in pixels to which pictures are brought before (the generator's, so that real and generated ones
            differ in nothing else); their own by default.
        folder: of the file; the cache folder by default.

    Raises:
        CourseError: the disk is full.
    """
    key = hashlib.sha256(f"{data.content_hash(labels=False)} {size or data.size} {network.key}".encode()).hexdigest()[
        :24
    ]
    path = (folder or cache_dir()) / f"features-{network.name.lower()}-{key}.safetensors"
    try:
        features = load_file(path)["features"]
        if len(features) == len(data):
            return features
    except (OSError, SafetensorError, KeyError):
        pass
    found = torch.cat([network.features(batch) for batch in data.batches(250, size)]).float().contiguous()
    atomic_write(path, lambda part: save_file({"features": found}, part))
    return found
