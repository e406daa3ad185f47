"""A critic of translated latents: likelihood and adversary together, on a flow that goes there and back exactly.

The likelihood makes the distribution of ``v`` right only as far as the flow is able to, and what style is left in ``v``
stays in the translation. A critic that compares translated latents with real ones of the target domain sees exactly that
rest. Its gradient enters the flow through the inverse; no expert is touched, since everything happens in latents.

Source: AlignFlow (Grover et al. 2020), which joins both losses on flows, because an invertible network is cycle
consistent by construction. The critic is conditioned by projection (Miyato and Koyama 2018).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..cinn import nll_terms
from ..gans.losses import hinge_critic, hinge_generator
from ..training.method import Loss, frozen
from .domains import DomainMethod

__all__ = ["AdversarialDomainMethod", "GridCritic"]


class GridCritic(nn.Module):
    """Scores latents ``(B, C · G · G)`` under one-hot domains ``(B, K)``; ``(B,)``, real high.

    Args:
        channels, side: of the grid; a side of 8 cells.
        domains: ``K``.
        width: channels of the first layer.
    """

    def __init__(self, channels: int, side: int, domains: int, width: int = 64):
        super().__init__()
        self.channels, self.side = channels, side
        wide = 2 * width
        self.main = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, wide, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(wide, wide, 3, 1, 1),
            nn.LeakyReLU(0.2),
        )
        self.score = nn.Linear(wide, 1)
        self.domain = nn.Linear(domains, wide, bias=False)

    def forward(self, latent: Tensor, domain: Tensor) -> Tensor:
        """Mean score over places."""
        grid = latent.view(-1, self.channels, self.side, self.side)
        features = self.main(grid).mean((2, 3))
        return self.score(features)[:, 0] + (features * self.domain(domain)).sum(1)


class AdversarialDomainMethod(DomainMethod):
    """:class:`DomainMethod` and a critic that sees real latents and translations to random domains.

    Args:
        critic: scores latents under domains.
        critic_weight: of the critic's opinion in the flow's loss, in nats.
        critic_start: share of the training after which the critic joins; before, translations are far off anyway.
        arguments: those of :class:`DomainMethod`.
    """

    def __init__(self, *arguments: Any, critic: nn.Module, critic_weight: float, critic_start: float = 0.1, **options: Any):
        super().__init__(*arguments, **options)
        self.critic_weight, self.critic_start, self.progress = critic_weight, critic_start, 0.0
        self.modules["critic"] = critic
        self.optimizers["critic"] = torch.optim.Adam(critic.parameters(), 1e-3, (0.5, 0.99))

    def learning_rate(self, progress: float) -> float:
        """As for flows; remembers the progress."""
        self.progress = progress
        return super().learning_rate(progress)

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """The flow's phase, then the critic's."""
        if self.progress < self.critic_start:
            yield from super().losses(batch, generator, step)
            return
        latent, condition, count = batch
        flow, rows = self.unwrapped("flow"), len(latent) - 2 * count
        v, log_det = self.modules["flow"](latent, condition)
        terms = nll_terms(v, log_det, generator=generator)
        scalars = {"nll": terms.nll, "reference nll": terms.reference_nll, **self._held_out(step)}
        total = terms.total
        if count:
            scalars["alignment"] = 0.5 * (v[-2 * count : -count] - v[-count:]).square().sum(1).mean()
            total = total + self.weight * scalars["alignment"]
        real, own = latent[:rows], condition[:rows]
        other = own[torch.randperm(rows, generator=generator).to(own.device)]
        with self.autocast():
            moved = flow.inverse(v[:rows], other).float()
        with frozen(self.unwrapped("critic")):
            scalars["critic"] = hinge_generator(self.unwrapped("critic")(moved, other))
        yield Loss("flow", total + self.critic_weight * scalars["critic"], scalars)
        both = self.modules["critic"](torch.cat([real, moved.detach()]), torch.cat([own, other])).float()
        a, b = both.split(rows)
        yield Loss("critic", hinge_critic(a, b), {"real": a.mean(), "moved": b.mean()})
