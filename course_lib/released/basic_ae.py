"""The 32-pixel autoencoder of Net2Net: the source expert of its super-resolution."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from course_lib.errors import CourseError
from course_lib.experts.autoencoder import Posterior
from course_lib.released.checkpoint import read_state_dict
from course_lib.released.layers import ActNorm, FrozenNetwork, Layers, posterior_of
from course_lib.released.strict import drop_training_loss, load_exactly, reading_sizes

__all__ = ["BasicAutoencoder", "BasicAutoencoderConfig", "infer_basic_config", "load_basic_ae"]


@dataclass(frozen=True)
class BasicAutoencoderConfig:
    """Sizes of a basic autoencoder.

    Attributes:
        latent_dim: numbers in one latent.
        downsamplings: halvings, and doublings on the way back.
        bottleneck: side in pixels of the map between them.
        channels: of the pictures.
        base: width at half the side; it doubles with every halving, up to 16 times.
        sample_codes: ``encode`` draws from the posterior, as the released code always does. By default it is the mean,
            so that one picture has the same condition at every call.
    """

    latent_dim: int = 128
    downsamplings: int = 4
    bottleneck: int = 2
    channels: int = 3
    base: int = 64
    sample_codes: bool = False

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return self.bottleneck * 2**self.downsamplings

    def width(self, scale: int) -> int:
        """Channels after ``scale + 1`` halvings."""
        return self.base * min(2**scale, 16)


class _Network(nn.Module):
    def __init__(self, config: BasicAutoencoderConfig):
        super().__init__()
        scales = range(config.downsamplings)
        widths = [config.width(scale) for scale in scales]
        inputs = [config.channels, *widths]
        self.feature_layers = nn.ModuleList(
            Layers(nn.Conv2d(inputs[k], widths[k], 4, 2, 1, bias=False), ActNorm(widths[k]), nn.LeakyReLU(0.2))
            for k in scales
        )
        # Coarse layers come last here and run first.
        self.decoder_layers = nn.ModuleList(
            Layers(
                nn.ConvTranspose2d(widths[k + 1], widths[k], 4, 2, 1, bias=False),
                ActNorm(widths[k]),
                nn.LeakyReLU(0.2),
            )
            for k in scales[:-1]
        )
        self.dense_encode = Layers(nn.Conv2d(widths[-1], 2 * config.latent_dim, config.bottleneck))
        self.dense_decode = Layers(nn.ConvTranspose2d(config.latent_dim, widths[-1], config.bottleneck))
        self.image_layer = Layers(nn.ConvTranspose2d(widths[0], config.channels, 4, 2, 1, bias=False), nn.Tanh())


class BasicAutoencoder(FrozenNetwork):
    """Pictures ``(B, 3, S, S)`` in [−1, 1] ↔ latents ``(B, D)``.

    The released wrapper can only encode; the weights of the decoder are in its files, so here it decodes too.

    Attributes:
        latent_dim: ``D``.
        condition_shape: ``(D,)``.

    References:
        CompVis/net2net, ``BasicAE``; Net2Net (Rombach et al. 2020), section 4, AE → AE.
    """

    def __init__(self, config: BasicAutoencoderConfig | None = None):
        super().__init__()
        self.config = config = config or BasicAutoencoderConfig()
        self.latent_dim, self.condition_shape = config.latent_dim, (config.latent_dim,)
        self.autoencoder = _Network(config)
        self.frozen()

    @torch.no_grad()
    def posterior(self, images: Tensor) -> Posterior:
        """Distribution of the latent for each picture.

        Raises:
            CourseError: pictures of another size.
        """
        wanted = (self.config.channels, self.config.size, self.config.size)
        if tuple(images.shape[1:]) != wanted:
            raise CourseError(f"this autoencoder takes pictures (B, {', '.join(map(str, wanted))}): resize them first.")
        x = images
        for layer in self.autoencoder.feature_layers:
            x = layer(x)
        return posterior_of(self.autoencoder.dense_encode(x))

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents ``(B, D)``: the posterior's mean, or with ``sample_codes`` a draw from it."""
        posterior = self.posterior(x)
        return posterior.sample(generator) if self.config.sample_codes else posterior.mean

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1] for latents ``(B, D)``."""
        x = self.autoencoder.dense_decode(latent.flatten(1)[:, :, None, None])
        for layer in reversed(self.autoencoder.decoder_layers):
            x = layer(x)
        return self.autoencoder.image_layer(x)


def infer_basic_config(state: Mapping[str, Tensor]) -> BasicAutoencoderConfig:
    """Reads the sizes off tensors named ``autoencoder.*``.

    Raises:
        CourseError: a tensor that tells a size is missing.
    """
    with reading_sizes("a basic autoencoder"):
        scales = {name.split(".")[2] for name in state if name.startswith("autoencoder.feature_layers.")}
        code, _, side, _ = state["autoencoder.dense_encode.sub_layers.0.weight"].shape
        base, channels = state["autoencoder.feature_layers.0.sub_layers.0.weight"].shape[:2]
        return BasicAutoencoderConfig(code // 2, len(scales), side, channels, base)


def load_basic_ae(path: str | Path, config: BasicAutoencoderConfig | None = None) -> BasicAutoencoder:
    """Reads the checkpoint of a basic autoencoder; what its training loss saved is left out and noted.

    Args:
        path: ``.safetensors``, a torch file or a Lightning checkpoint.
        config: what the file must fit, ``BasicAutoencoderConfig()`` for the released one; None reads the sizes off it.

    Raises:
        CourseError: the file cannot be read, or its names and shapes are not exactly those of the configuration.
    """
    state, notes = drop_training_loss(read_state_dict(path))
    with torch.device("meta"):
        network = BasicAutoencoder(config or infer_basic_config(state))
    load_exactly(network, state, "this 32-pixel autoencoder" if network.config.size == 32 else "this autoencoder")
    network.notes = notes
    return network
