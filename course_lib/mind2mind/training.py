"""Training of MindGAN: a WGAN with gradient penalty whose pictures are codes.

The same game can be played with pictures, see :mod:`course_lib.recipes.mind2mind_whole`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CourseError
from ..evaluation.distances import frechet_distance
from ..training.method import Loss, Method, frozen
from .networks import MindConfig, MindCritic, MindGenerator, uniform_noise

__all__ = ["MindMethod", "WassersteinMethod", "gradient_penalty"]


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """mean (‖∇ c₀(t h + (1 − t) ĥ)‖₂ − 1)² over a batch, all gradients in one backward pass (Gulrajani et al. 2017).

    Args:
        critic: codes, or pictures, → scores ``(B,)``.
        real, fake: ``(B, …)``; no gradient goes into either.
        share: t, ``(B, 1)`` in [0, 1], one a pair.
    """
    share = share.view(-1, *[1] * (real.ndim - 1))
    between = torch.lerp(fake.detach(), real.detach(), share).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


class WassersteinMethod(Method):
    """The published game: five critic steps on one batch, each with fresh noise, then one step of the generator.

    The critic minimises −E c(x) + E c(g(z)) + 10 · penalty + 0.01 · E c(x)²; the drift term on the real side keeps
    scores near zero, which nothing else in the loss does. The generator minimises −E c(g(z)).

    Logs ``wasserstein``, E c(x) − E c(g(z)): without the penalties the critic's estimate of the distance between
    the two laws.

    Args:
        generator, critic: noise → x ``(B, …)`` → scores ``(B,)``.
        config: gives the noise.
        penalty, drift: weights.
        critic_steps: to one step of the generator.
        average: decay of the generator's moving average; None for none, as published.
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        config: MindConfig,
        penalty: float = 10.0,
        drift: float = 0.01,
        critic_steps: int = 5,
        average: float | None = None,
    ):
        super().__init__()
        self.config, self.penalty, self.drift, self.critic_steps = config, penalty, drift, critic_steps
        self.modules = {"generator": generator, "critic": critic}
        self.ema = {} if average is None else {"generator": average}

    def losses(self, batch: Tensor, generator: torch.Generator, step: int) -> Iterator[Loss]:
        for _ in range(self.critic_steps):
            yield self._critic_step(batch, generator)
        with frozen(self.unwrapped("critic")), self.autocast():
            found = self.modules["generator"](self._noise(len(batch), generator))
            value = -self.unwrapped("critic")(found).mean()
        yield Loss("generator", value, self.held_out(step))

    def held_out(self, step: int) -> dict[str, float]:
        """Scores on held-out data, logged with the generator's step ``step``; none here."""
        return {}

    def _noise(self, count: int, generator: torch.Generator) -> Tensor:
        return uniform_noise(count, self.config, generator).to(self.device)

    def _critic_step(self, real: Tensor, generator: torch.Generator) -> Loss:
        critic = self.modules["critic"]
        with torch.no_grad(), self.autocast():
            fake = self.unwrapped("generator")(self._noise(len(real), generator)).float()
        share = torch.rand(len(real), 1, generator=generator).to(real)
        on_real, on_fake = critic(torch.cat([real, fake])).split(len(real))
        distance = on_real.mean() - on_fake.mean()
        penalty = gradient_penalty(critic, real, fake, share)
        value = -distance + self.penalty * penalty + self.drift * on_real.square().mean()
        return Loss("critic", value, {"wasserstein": distance.detach(), "penalty": penalty.detach()})


class MindMethod(WassersteinMethod):
    """The game on codes. Adam, 1e-3, (0, 0.5), as published.

    Args:
        codes: ``(N, D)``, the encoded target set.
        config: sizes.
        held: codes that are never trained on.
        rate: Adam's learning rate.
        held_every: steps between two Fréchet distances. Let ``log_every`` of the loop be the same or a multiple.
        game: ``penalty``, ``drift``, ``critic_steps`` and ``average`` of :class:`WassersteinMethod`.

    Raises:
        CourseError: codes of another length than ``config.latent``.
    """

    def __init__(
        self,
        codes: Tensor,
        config: MindConfig,
        held: Tensor | None = None,
        rate: float = 1e-3,
        held_every: int = 100,
        **game: Any,
    ):
        if codes.ndim != 2 or codes.shape[1] != config.latent:
            raise CourseError(
                f"codes must be (N, {config.latent}), not {tuple(codes.shape)}: change MindConfig.latent."
            )
        super().__init__(MindGenerator(config), MindCritic(config), config, **game)
        self.codes, self.held, self.held_every, self.length = codes, held, held_every, len(codes)
        self.optimizers = {
            name: torch.optim.Adam(network.parameters(), rate, (0.0, 0.5), fused=True)
            for name, network in self.modules.items()
        }

    def to_device(self, device: torch.device) -> None:
        """Moves the codes."""
        super().to_device(device)
        self.codes = self.codes.to(device)

    def batch(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Codes ``(B, D)``."""
        return self.codes[index.to(self.device)]

    @torch.no_grad()
    def held_out(self, step: int) -> dict[str, float]:
        """The Fréchet distance at the last step before a number is logged; the same noise every time."""
        if self.held is None or (step + 1) % self.held_every:
            return {}
        network = self.unwrapped("generator").eval()
        z = uniform_noise(len(self.held), self.config, torch.Generator().manual_seed(0)).to(self.device)
        value = frechet_distance(self.held, network(z).cpu())
        network.train()
        return {"Fréchet distance of codes": value}
