"""The frozen halves: an encoder and a decoder of pictures, and the codes of a whole set. Any expert with ``encode`` and
``decode`` will do; the shipped ALAE draws latents of a grid autoencoder, and :class:`StyleExpert` joins the two."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ..data.image_set import ImageSet
from ..errors import CourseError, progress_bar
from ..evaluation.features import FeatureNetwork, real_features
from ..experts.autoencoder import GridAutoencoder, LatentSpace
from ..experts.protocol import TargetExpert, fingerprint, freeze, load_expert
from ..gans.alae import ALAE
from ..paths import CHECKPOINTS
from ..training.files import load_card


class StyleExpert(nn.Module):
    """Pictures ``(B, 3, S, S)`` in [−1, 1] ↔ styles ``(B, latent_dim)``: an ALAE on the scaled latents of a grid
    autoencoder whose channels are measured; ``config`` is the autoencoder's."""

    def __init__(self, alae: ALAE, autoencoder: GridAutoencoder):
        super().__init__()
        self.alae, self.autoencoder, self.config = alae, autoencoder, autoencoder.config
        self.latent_dim, self.condition_shape = alae.latent_dim, (alae.latent_dim,)
        self.shape = (self.config.channels, self.config.side, self.config.side)
        for name in ("centre", "scale"):
            self.register_buffer(name, getattr(LatentSpace(autoencoder), name), persistent=False)

    def read(self, images: Tensor) -> Tensor:
        """c₁ with gradients: styles of pictures."""
        grid = self.autoencoder.posterior(images).mean.view(-1, *self.shape)
        return self.alae.encoder((grid - self.centre) / self.scale)

    def render(self, styles: Tensor, fresh: bool = False) -> Tensor:
        """g₁ with gradients, not clamped: pictures of styles ``(B, latent)``, or one a slot. ``fresh`` draws noise maps
        for every picture, as in training; else all get the same, so that this is a function."""
        decoder = self.alae.generator.decoder
        grid = decoder(styles, decoder.noise(len(styles)) if fresh else decoder.same_noise(len(styles)))
        return self.autoencoder.render((grid.float() * self.scale + self.centre).flatten(1))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        return torch.cat([self.read(part) for part in images.split(250)])

    @torch.no_grad()
    def decode(self, styles: Tensor) -> Tensor:
        return torch.cat([self.render(part).clamp(-1, 1) for part in styles.split(100)])


class MainDirections(nn.Module):
    """Pictures in [−1, 1] ↔ codes ``(B, k)``: a grid autoencoder's scaled latents along their main directions in one
    set.

    Ours: a MindGAN for all of a grid's thousand numbers takes ten times as long. ``mean (D,)``; ``directions (D, k)``,
    orthogonal, all of one length, by which codes have variance 1 on average.
    """

    def __init__(self, autoencoder: GridAutoencoder, mean: Tensor, directions: Tensor):
        super().__init__()
        self.autoencoder, self.config, self.latent_dim = autoencoder, autoencoder.config, directions.shape[1]
        self.condition_shape, self.space = (self.latent_dim,), LatentSpace(autoencoder)
        self.register_buffer("mean", mean.to(self.space.centre.device))
        self.register_buffer("directions", directions.to(self.space.centre.device))

    @classmethod
    def fit(cls, autoencoder: GridAutoencoder, data: ImageSet, count: int) -> "MainDirections":
        """The ``count`` main directions of ``data``, frozen."""
        latents = LatentSpace(autoencoder).encode_set(data).flatten(1).double()
        values, vectors = torch.linalg.eigh(torch.cov(latents.T))
        length = values[-count:].mean().sqrt()
        return freeze(cls(autoencoder, latents.mean(0).float(), (length * vectors[:, -count:]).float()))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        return (self.space.encode(images).flatten(1) - self.mean) @ torch.linalg.pinv(self.directions).T

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        return self.space.decode((self.mean + codes @ self.directions.T).view(-1, *self.space.shape))


def load_halves(name: str, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> TargetExpert:
    """A shipped expert that reads and draws pictures, frozen; an ALAE of latents comes with its autoencoder."""
    expert = load_expert(name, device, folder)
    space = load_card(name, folder).recipe.get("space")
    if isinstance(expert, ALAE) and space:
        expert = freeze(StyleExpert(expert, load_expert(space, device, folder)))
    if not isinstance(expert, TargetExpert):
        raise CourseError(f"{name!r} does not decode: choose an ALAE or an autoencoder, such as avatar-alae.")
    return expert


def expert_device(expert: TargetExpert) -> torch.device:
    """Where the expert is."""
    return next(expert.parameters()).device


def encode_set(expert: TargetExpert, data: ImageSet, folder: Path | None = None, progress: bool = True) -> Tensor:
    """Codes ``float32 (N, D)`` of all pictures of ``data``, brought to the expert's size, on the CPU; kept in
    ``folder``, see :func:`~course_lib.evaluation.features.real_features`."""
    device = expert_device(expert)

    def encode(images: Tensor) -> Tensor:
        codes = expert.encode(images.to(device)).cpu()
        bar.update(len(images))
        return codes

    with progress_bar(progress, total=len(data), desc="encoding", unit="picture", delay=1) as bar:
        network = FeatureNetwork("codes", fingerprint(expert), encode, encode)
        return real_features(data, network, expert.config.size, folder)
