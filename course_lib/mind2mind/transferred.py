"""The transferred GAN: the new small networks behind the noise, the frozen ones in front of the pictures."""

import torch
from torch import Tensor

from ..errors import CourseError
from ..gans.alae import ALAE
from ..gans.stylegan import mix_styles
from .codes import Frozen, expert_device, expert_size
from .networks import MindCritic, MindGenerator, uniform_noise

__all__ = ["TransferredGAN"]


class TransferredGAN:
    """g = g₁ ∘ g₀ and c = c₀ ∘ c₁.

    Args:
        generator: g₀, trained.
        expert: (c₁, g₁), frozen: an ALAE, an autoencoder, anything with ``encode`` and ``decode``.
        critic: c₀, where pictures are to be scored.
        codes: of the target set; their mean is where truncation pulls to.

    Raises:
        CourseError: generator and expert have codes of different lengths.
    """

    def __init__(
        self,
        generator: MindGenerator,
        expert: Frozen,
        critic: MindCritic | None = None,
        codes: Tensor | None = None,
    ):
        if generator.config.latent != expert.latent_dim:
            raise CourseError(
                f"the generator makes codes of {generator.config.latent} numbers, the expert decodes "
                f"{expert.latent_dim}: train MindGAN on this expert's codes."
            )
        device = expert_device(expert)
        self.expert, self.generator = expert, generator.eval().to(device)
        self.critic = None if critic is None else critic.eval().to(device)
        self.mean = None if codes is None else codes.mean(0).to(device)

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return expert_size(self.expert)

    @torch.no_grad()
    def codes(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Codes ``(B, D)`` of noise ``(B, noise)`` in [−1, 1].

        Args:
            z: see :meth:`noise`.
            truncation: 1 keeps codes as they are, as published; 0 gives the mean code to all.

        Raises:
            CourseError: truncation, and the codes of the target set were not given.
        """
        found = self.generator(z.to(expert_device(self.expert)))
        if truncation == 1.0:
            return found
        if self.mean is None:
            raise CourseError("truncation needs the target's mean code: pass codes= to TransferredGAN.")
        return torch.lerp(self.mean.expand_as(found), found, truncation)

    def noise(self, count: int, seed: int = 0) -> Tensor:
        """``(count, noise)``, uniform in [−1, 1]."""
        return uniform_noise(count, self.generator.config, torch.Generator().manual_seed(seed))

    def draw(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1]."""
        return self.expert.decode(self.codes(z, truncation))

    def mix(self, z: Tensor, other: Tensor, seed: int = 0) -> Tensor:
        """Pictures whose fine layers follow a second code, from a layer drawn by chance on.

        Raises:
            CourseError: the expert reads its code in one place.
        """
        if not isinstance(self.expert, ALAE):
            raise CourseError("only a decoder that reads a style in every layer, an ALAE, can mix two.")
        slots = self.expert.config.slots
        return self.expert.decode(
            mix_styles(self.codes(z), self.codes(other), slots, torch.Generator().manual_seed(seed))
        )

    def sample(self, count: int, seed: int = 0, truncation: float = 1.0, batch_size: int = 250) -> Tensor:
        """``(count, 3, S, S)`` pictures on the CPU."""
        return torch.cat([self.draw(part, truncation).cpu() for part in self.noise(count, seed).split(batch_size)])

    @torch.no_grad()
    def score(self, images: Tensor) -> Tensor:
        """c₀(c₁(x)) ``(B,)`` of pictures ``(B, 3, S, S)`` in [−1, 1]: the transferred critic.

        Raises:
            CourseError: no critic was given.
        """
        if self.critic is None:
            raise CourseError("there is no critic to score with: pass critic= to TransferredGAN.")
        return self.critic(self.expert.encode(images.to(expert_device(self.expert)))).cpu()
