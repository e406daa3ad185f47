"""BigBiGAN from TensorFlow Hub as a black box: the target expert of the original text-to-image example."""

from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError

__all__ = ["BigBiGAN"]


class BigBiGAN:
    """Encoder and generator of BigBiGAN, called through TensorFlow and never looked into.

    Arrays cross the border as numpy, so no gradient does. TensorFlow is no dependency of the course; it is imported
    here and nowhere else, and needs the network once to fetch the weights (or a folder that holds them).

    Args:
        handle: of the TensorFlow Hub module, or a folder with it unpacked.
        upsample: pictures at 256 pixels, as Net2Net used them, instead of the generator's own 128.

    Attributes:
        latent_dim: 120.
        image_size: 256; side of the pictures that :meth:`encode` takes, others are resized.

    Raises:
        CourseError: TensorFlow or TensorFlow Hub is not installed, or the module cannot be opened.

    References:
        Donahue and Simonyan, "Large Scale Adversarial Representation Learning", 2019; its TensorFlow Hub page.
        Net2Net (Rombach et al. 2020), code, ``BigBiGAN`` first stage: a sample of the posterior, upsampled pictures.
    """

    latent_dim = 120
    image_size = 256
    resnet50 = "https://tfhub.dev/deepmind/bigbigan-resnet50/1"

    def __init__(self, handle: str = resnet50, upsample: bool = True):
        self._tensorflow, hub = _import()
        try:
            signatures = hub.load(handle).signatures
            self._encode, self._generate = signatures["encode"], signatures["generate"]
        except Exception as error:  # the hub raises what its transport, its file system or its parser raise
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise CourseError(
                f"BigBiGAN cannot be opened from {handle} ({first}): check the network, or give the folder of an "
                "unpacked module."
            ) from error
        self._picture = "upsampled" if upsample else "default"

    def encode(self, x: Tensor) -> Tensor:
        """A sample of the posterior ``float32 (B, 120)`` for images ``(B, 3, S, S)`` in [−1, 1]."""
        if x.ndim != 4 or x.shape[1] != 3:
            raise CourseError(f"BigBiGAN takes images (B, 3, S, S), not {tuple(x.shape)}.")
        if x.shape[-1] != self.image_size:
            x = F.interpolate(x, (self.image_size,) * 2, mode="bilinear", align_corners=False, antialias=True)
        found = self._encode(x=self._constant(x.permute(0, 2, 3, 1)))["z_sample"]
        return torch.from_numpy(np.array(found, np.float32)).to(x.device)

    def decode(self, latent: Tensor) -> Tensor:
        """Images ``float32 (B, 3, 256, 256)`` in [−1, 1] (128 pixels without ``upsample``)."""
        if latent.ndim != 2 or latent.shape[1] != self.latent_dim:
            raise CourseError(f"BigBiGAN takes latents (B, {self.latent_dim}), not {tuple(latent.shape)}.")
        found = self._generate(z=self._constant(latent))[self._picture]
        return torch.from_numpy(np.array(found, np.float32)).permute(0, 3, 1, 2).clamp(-1, 1).to(latent.device)

    def _constant(self, x: Tensor) -> object:
        return self._tensorflow.constant(x.detach().float().cpu().contiguous().numpy())


def _import() -> tuple[ModuleType, ModuleType]:
    try:
        import tensorflow
        import tensorflow_hub
    except ImportError as error:
        raise CourseError(
            f"BigBiGAN runs in TensorFlow, which is not part of the course ({error}): "
            "install it with `pip install tensorflow tensorflow-hub`, or use BlackBox with an ONNX file."
        ) from error
    return tensorflow, tensorflow_hub
