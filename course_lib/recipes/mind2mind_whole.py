"""What Mind2Mind is measured against: the same game with all layers in it, played on pictures."""

import torch
from torch import Tensor, nn

from ..data import ImageSet
from ..mind2mind import MindConfig, MindCritic, MindGenerator, StyleExpert
from ..mind2mind.training import WassersteinMethod

__all__ = ["WholeMethod"]


def _trainable(expert: StyleExpert, seed: int | None) -> StyleExpert:
    """A copy to train: with the expert's weights, or with random ones of ``seed``."""
    old = (expert.alae, expert.autoencoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        networks = [type(part)(part.config) for part in old]
    if seed is None:
        for new, known in zip(networks, old, strict=True):
            new.load_state_dict(known.state_dict())
    return StyleExpert(*networks).to(memory_format=torch.channels_last)


class _Composite(nn.Module):
    """A MindGAN network and image layers whose batch norms may keep their running statistics in training."""

    def __init__(self, small: nn.Module, large: StyleExpert, batch_statistics: bool):
        super().__init__()
        self.small, self.large, self.batch_statistics = small, large, batch_statistics

    def train(self, mode: bool = True) -> "_Composite":
        super().train(mode)
        for module in self.large.modules():
            if isinstance(module, nn.BatchNorm2d) and not self.batch_statistics:
                module.eval()
        return self


class WholeGenerator(_Composite):
    """g = g₁ ∘ g₀: noise ``(B, noise)`` → pictures ``(B, 3, S, S)``, not clamped."""

    def forward(self, z: Tensor) -> Tensor:
        """Pictures; in training with fresh noise maps."""
        return self.large.render(self.small(z), self.training)


class WholeCritic(_Composite):
    """c = c₀ ∘ c₁: pictures ``(B, 3, S, S)`` → scores ``(B,)``."""

    def forward(self, images: Tensor) -> Tensor:
        """Scores."""
        return self.small(self.large.read(images))


class WholeMethod(WassersteinMethod):
    """MindGAN's game, every layer trained, on pictures: g = g₁ ∘ g₀ against c = c₀ ∘ c₁, the penalty by pixels.

    Image layers have the settings of Gulrajani et al. 2017 for pictures, Adam 1e-4, (0, 0.9); g₀ and c₀, which start
    from random weights in any case, MindGAN's rate. Batch norms of the critic never look at the batch, for the penalty
    is on the gradient of each picture by itself. Those of the generator do unless it starts from an expert, whose
    statistics belong to it.

    Args:
        data: target pictures.
        expert: gives the image layers; it is copied, and stays as it is.
        config: of the MindGAN part.
        fine_tuned: start the image layers from the expert's weights; else from random ones.
        seed: of the random ones.
        rate, small_rate: Adam's learning rates of image layers and MindGAN part.
        game: ``penalty``, ``drift``, ``critic_steps`` and ``average`` of :class:`WassersteinMethod`.
    """

    def __init__(
        self,
        data: ImageSet,
        expert: StyleExpert,
        config: MindConfig,
        fine_tuned: bool = True,
        seed: int = 0,
        rate: float = 1e-4,
        small_rate: float = 1e-3,
        **game: float,
    ):
        generator, critic = (_trainable(expert, None if fine_tuned else seed + k) for k in (0, 1))
        # Only the halves that are used, so that Adam and the moving average carry nothing else.
        del generator.alae.encoder, generator.alae.score, generator.alae.generator.mapping
        del critic.alae.generator, critic.alae.score
        for network, names in (
            (generator, ("encoder", "linear_in", "to_posterior")),
            (critic, ("from_latent", "linear_out", "decoder", "to_image")),
        ):
            for name in names:
                delattr(network.autoencoder, name)
        whole = WholeGenerator(MindGenerator(config), generator, not fine_tuned)
        super().__init__(whole, WholeCritic(MindCritic(config), critic, False), config, **game)
        self.data, self.size, self.length = data, expert.config.size, len(data)
        self.optimizers = {
            name: torch.optim.Adam(
                [
                    {"params": list(network.large.parameters()), "lr": rate},
                    {"params": list(network.small.parameters()), "lr": small_rate},
                ],
                betas=(0.0, 0.9),
                fused=True,
            )
            for name, network in self.modules.items()
        }

    def to_device(self, device: torch.device) -> None:
        """Moves the pictures."""
        super().to_device(device)
        self.data = self.data.to(device)

    def batch(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1]."""
        return self.data.batch(index, self.size)

    @staticmethod
    @torch.no_grad()
    def sample(network: WholeGenerator, z: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1] on the CPU, of a generator in evaluation mode."""
        device = next(network.parameters()).device
        return torch.cat([network(part.to(device)).float().clamp(-1, 1).cpu() for part in z.split(100)])
