"""The 256-pixel autoencoder of Net2Net: a ResNet-101 with ActNorm encodes, a BigGAN generator decodes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from course_lib.errors import CourseError
from course_lib.experts.autoencoder import Posterior
from course_lib.released.biggan import Generator, GeneratorConfig, infer_generator_config
from course_lib.released.checkpoint import read_state_dict
from course_lib.released.layers import ActNorm, FrozenNetwork, Layers, blocks_of_stages, fully_connected, posterior_of
from course_lib.released.strict import drop_training_loss, load_exactly, reading_sizes, take

__all__ = ["RELEASED_AUTOENCODERS", "BigAutoencoder", "BigAutoencoderConfig", "infer_big_config", "load_big_ae"]

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FEATURES = 2048
"""Channels behind a ResNet's last stage of bottlenecks."""


@dataclass(frozen=True)
class BigAutoencoderConfig:
    """Sizes of a big autoencoder.

    Attributes:
        latent_dim: numbers in one latent.
        size: side of the pictures in pixels, 128 or 256.
        channels: width of the decoder's last block.
        encoder_layers: residual blocks in each of the encoder's four stages.
        classes: how many soft classes the decoder mixes.
        class_hidden: width of the network that chooses the mixture.
        class_dim: width of a class embedding.
        actnorm_at_end: ActNorm instead of BatchNorm before the decoder's last convolution. The norms inside its blocks
            are class-conditional BatchNorm in either case, although the option's name in the released code promises
            more.
        normalise_twice: bring pictures to the statistics of ImageNet and then do it again on the result. The released
            weights were trained with that mistake and need it.
    """

    latent_dim: int = 128
    size: int = 256
    channels: int = 96
    encoder_layers: tuple[int, ...] = (3, 4, 23, 3)
    classes: int = 1000
    class_hidden: int = 2000
    class_dim: int = 128
    actnorm_at_end: bool = True
    normalise_twice: bool = True

    @property
    def generator(self) -> GeneratorConfig:
        """The decoder's sizes."""
        return GeneratorConfig(
            self.size, self.latent_dim, self.channels, self.classes, self.class_dim, self.actnorm_at_end
        )


RELEASED_AUTOENCODERS: dict[str, BigAutoencoderConfig] = {
    "faces256": BigAutoencoderConfig(),
    "coco256": BigAutoencoderConfig(latent_dim=256),
    "anime_photography_256": BigAutoencoderConfig(),
    "celeba_celebahq_ffhq_256": BigAutoencoderConfig(),
    "portraits_photography_256": BigAutoencoderConfig(),
}


class _Encoder(nn.Module):
    def __init__(self, config: BigAutoencoderConfig):
        from torchvision.models.resnet import Bottleneck, ResNet  # here, since torchvision takes seconds to import

        super().__init__()
        self.passes = 2 if config.normalise_twice else 1
        self.model = ResNet(Bottleneck, list(config.encoder_layers), num_classes=1, norm_layer=ActNorm)
        self.model.fc = Layers(nn.Conv2d(_FEATURES, 2 * config.latent_dim, 1))

    def normalise(self, images: Tensor) -> Tensor:
        """From [−1, 1] to the statistics of ImageNet, once or twice."""
        mean, deviation = (images.new_tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _DEVIATION))
        for _ in range(self.passes):
            images = (0.5 * (images + 1) - mean) / deviation
        return images

    def forward(self, images: Tensor) -> Tensor:
        """Means and log-variances ``(B, 2 D, 1, 1)``; torchvision's own ``forward`` would flatten before ``fc``."""
        x = self.normalise(images)
        for layer in self.model.children():
            x = layer(x)
        return x


class _Decoder(nn.Module):
    def __init__(self, config: BigAutoencoderConfig):
        super().__init__()
        widths = [config.latent_dim, *[config.class_hidden] * 3, config.classes]
        self.map_to_class_embedding = fully_connected(widths)
        self.decoder = Generator(config.generator)

    def forward(self, latent: Tensor) -> Tensor:
        """The whole latent chooses a mixture of classes, and is the generator's code as well."""
        soft_class = self.map_to_class_embedding(latent).softmax(1)
        return self.decoder(latent, self.decoder.linear(soft_class))


class BigAutoencoder(FrozenNetwork):
    """Pictures ``(B, 3, S, S)`` in [−1, 1] ↔ latents ``(B, D)``.

    Attributes:
        latent_dim: ``D``.
        condition_shape: ``(D,)``; it can be a source expert too.

    References:
        Net2Net (Rombach et al. 2020), supplement, table 3; CompVis/net2net, ``BigAE``.
    """

    def __init__(self, config: BigAutoencoderConfig | None = None):
        super().__init__()
        self.config = config = config or BigAutoencoderConfig()
        self.latent_dim, self.condition_shape = config.latent_dim, (config.latent_dim,)
        self.encoder, self.decoder = _Encoder(config), _Decoder(config)
        self.frozen()

    @torch.no_grad()
    def posterior(self, images: Tensor) -> Posterior:
        """Distribution of the latent for each picture.

        Raises:
            CourseError: something else than pictures in colour.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise CourseError(f"this autoencoder takes pictures (B, 3, S, S), not {tuple(images.shape)}.")
        return posterior_of(self.encoder(images))

    def encode(self, x: Tensor, sample: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Latents ``(B, D)``: the posterior's mean, as the authors' demo, or a draw from it, as their training."""
        posterior = self.posterior(x)
        return posterior.sample(generator) if sample else posterior.mean

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1] for latents ``(B, D)``.

        Raises:
            CourseError: latents of another width.
        """
        latent = latent.flatten(1)
        if latent.shape[1] != self.latent_dim:
            raise CourseError(f"this autoencoder takes latents (B, {self.latent_dim}), not {tuple(latent.shape)}.")
        return self.decoder(latent)


def infer_big_config(state: Mapping[str, Tensor]) -> BigAutoencoderConfig:
    """Reads the sizes off tensors named ``encoder.model.*`` and ``decoder.*``.

    Raises:
        CourseError: a tensor that tells a size is missing.
    """
    generator = infer_generator_config(take(state, "decoder.decoder."))
    with reading_sizes("a big autoencoder"):
        stages = [take(state, f"encoder.model.layer{stage}.") for stage in (1, 2, 3, 4)]
        return BigAutoencoderConfig(
            latent_dim=generator.code_dim,
            size=generator.size,
            channels=generator.channels,
            encoder_layers=blocks_of_stages(stages),
            classes=generator.classes,
            class_hidden=state["decoder.map_to_class_embedding.main.0.weight"].shape[0],
            class_dim=generator.class_dim,
            actnorm_at_end=generator.actnorm_at_end,
        )


def load_big_ae(
    path: str | Path, config: BigAutoencoderConfig | str | None = None, normalise_twice: bool = True
) -> BigAutoencoder:
    """Reads the checkpoint of a big autoencoder; what its training loss saved is left out and noted.

    Args:
        path: ``.safetensors``, a torch file or a Lightning checkpoint.
        config: what the file must fit, or a name in ``RELEASED_AUTOENCODERS``; None reads the sizes off it.
        normalise_twice: see :class:`BigAutoencoderConfig`; it leaves no trace in the file.

    Raises:
        CourseError: the file cannot be read, or its names and shapes are not exactly those of the configuration.
    """
    if isinstance(config, str) and config not in RELEASED_AUTOENCODERS:
        raise CourseError(f"There is no released autoencoder {config!r}: choose of {', '.join(RELEASED_AUTOENCODERS)}.")
    state, notes = drop_training_loss(read_state_dict(path))
    config = RELEASED_AUTOENCODERS[config] if isinstance(config, str) else config or infer_big_config(state)
    with torch.device("meta"):
        network = BigAutoencoder(replace(config, normalise_twice=normalise_twice))
    load_exactly(network, state, "this big autoencoder")
    network.notes = notes
    return network
