"""What Mind2Mind is measured against: the same game with all layers in it, played on pictures.

The networks are the composites g = g₁ ∘ g₀ and c = c₀ ∘ c₁ of an autoencoder's halves and a MindGAN. Everything
trains; the image layers start from the frozen expert's weights (fine-tuning) or from random ones (from scratch).
"""

import torch
from torch import Tensor, nn

from ..data import ImageSet
from ..errors import CourseError
from ..experts import Autoencoder
from .networks import MindConfig, MindCritic, MindGenerator
from .training import WassersteinMethod

__all__ = ["WholeCritic", "WholeGenerator", "WholeMethod"]

_DECODER = ("from_latent", "linear_out", "decoder", "to_image")
_ENCODER = ("encoder", "linear_in", "to_posterior")


def _half(expert: Autoencoder, others: tuple[str, ...], fine_tuned: bool) -> Autoencoder:
    """A trainable network of the expert's shape without the layers ``others``; the expert may be frozen."""
    network = Autoencoder(expert.config)
    if fine_tuned:
        network.load_state_dict(expert.state_dict())
    for name in others:
        delattr(network, name)
    return network.to(memory_format=torch.channels_last)


class _Composite(nn.Module):
    """A MindGAN network and image layers; batch norms may keep their running statistics in training."""

    small: nn.Module
    large: Autoencoder

    def __init__(self, small: nn.Module, large: Autoencoder, batch_statistics: bool):
        super().__init__()
        self.small, self.large, self.batch_statistics = small, large, batch_statistics

    def train(self, mode: bool = True) -> "_Composite":
        super().train(mode)
        for module in self.large.modules():
            if isinstance(module, nn.BatchNorm2d) and not self.batch_statistics:
                module.eval()
        return self


class WholeGenerator(_Composite):
    """g = g₁ ∘ g₀: noise ``(B, noise)`` → pictures ``(B, 3, S, S)``, not clamped to [−1, 1].

    Args:
        small: g₀.
        expert: gives g₁: its weights if ``fine_tuned``, else only its shape.
        fine_tuned: also decides about batch norms: a start from an expert keeps the statistics that belong to it, a
            random start takes those of the batch.
    """

    def __init__(self, small: MindGenerator, expert: Autoencoder, fine_tuned: bool = True):
        super().__init__(small, _half(expert, _ENCODER, fine_tuned), not fine_tuned)

    def forward(self, z: Tensor) -> Tensor:
        """Pictures."""
        return self.large.render(self.small(z))


class WholeCritic(_Composite):
    """c = c₀ ∘ c₁: pictures ``(B, 3, S, S)`` → scores ``(B,)``.

    Its batch norms never look at the batch: that would mix pictures, and the penalty is on the gradient of each by
    itself.

    Args:
        small: c₀.
        expert: gives c₁: its weights if ``fine_tuned``, else only its shape.
        fine_tuned: see there.
    """

    def __init__(self, small: MindCritic, expert: Autoencoder, fine_tuned: bool = True):
        super().__init__(small, _half(expert, _DECODER, fine_tuned), False)

    def forward(self, images: Tensor) -> Tensor:
        """Scores."""
        return self.small(self.large.posterior(images).mean)


class WholeMethod(WassersteinMethod):
    """MindGAN's game, every layer trained, on pictures: as many critic steps, the penalty on gradients by pixels.

    Args:
        data: target pictures.
        expert: an autoencoder; it is copied, and stays as it is.
        config: of the MindGAN part.
        fine_tuned: start the image layers from the expert's weights; otherwise from random ones.
        rate: Adam's learning rate of the image layers, betas (0, 0.9) as usual for pictures.
        small_rate: of the MindGAN part, which starts from random weights in both cases.
        game: ``penalty``, ``drift``, ``critic_steps`` and ``average`` of :class:`WassersteinMethod`.

    Raises:
        CourseError: another kind of expert, or codes of another length than ``config.latent``.
    """

    def __init__(
        self,
        data: ImageSet,
        expert: Autoencoder,
        config: MindConfig,
        fine_tuned: bool = True,
        rate: float = 1e-4,
        small_rate: float = 1e-3,
        **game: float,
    ):
        if not isinstance(expert, Autoencoder) or expert.latent_dim != config.latent:
            raise CourseError(
                f"the whole GAN is made of an autoencoder whose codes have {config.latent} numbers: give another "
                "expert, or change MindConfig.latent."
            )
        generator = WholeGenerator(MindGenerator(config), expert, fine_tuned)
        super().__init__(generator, WholeCritic(MindCritic(config), expert, fine_tuned), config, **game)
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
    def sample(network: WholeGenerator, z: Tensor, batch_size: int = 250) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1] on the CPU, of a trained or averaged generator in evaluation mode."""
        device = next(network.parameters()).device
        parts = [network(part.to(device)).float().clamp(-1, 1).cpu() for part in z.split(batch_size)]
        return torch.cat(parts)
