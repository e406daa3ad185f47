"""A critic of translated latents: likelihood and adversary together, on a flow that goes there and back exactly.

The likelihood makes ``v`` forget the label only as far as the flow learns to, and the style that is left in ``v`` stays
in the translation. A critic that compares translated latents with real ones of the target domain sees exactly that
rest. Its gradient enters the flow through the inverse; no expert is touched, since everything happens in latents.

Sources: AlignFlow (Grover et al. 2020) joins both losses on flows, because an invertible network is cycle consistent by
construction. A critic with one class for each domain and one more for "translated" is that of Salimans et al. (2016).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..training.method import Loss, frozen
from .domains import DomainMethod

__all__ = ["AdversarialDomainMethod", "GridCritic"]


class GridCritic(nn.Module):
    """Says of latents ``(B, C · G · G)`` which of K domains they are from, or that they are translations.

    Logits ``(B, K + 1)``.

    Args:
        channels, side: ``C`` and ``G``.
        domains: ``K``.
        width: channels of the first layer.
    """

    def __init__(self, channels: int, side: int, domains: int, width: int = 64):
        super().__init__()
        wide = 2 * width
        self.main = nn.Sequential(
            nn.Unflatten(1, (channels, side, side)),
            nn.Conv2d(channels, width, 3, 1, 1),
            nn.GroupNorm(8, width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, wide, 4, 2, 1),
            nn.GroupNorm(8, wide),
            nn.LeakyReLU(0.2),
            nn.Conv2d(wide, wide, 3, 1, 1),
            nn.GroupNorm(8, wide),
            nn.LeakyReLU(0.2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(wide, domains + 1),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Logits."""
        return self.main(latent)


class AdversarialDomainMethod(DomainMethod):
    """:class:`DomainMethod` for one-hot domains, and a critic that sees real latents and translations.

    Logs ``critic``, the critic's loss on translations as the flow sees it, and ``taken for the target``.

    Args:
        critic: gives K + 1 logits, see :class:`GridCritic`.
        critic_weight: of its opinion in the flow's loss, in nats a picture.
        critic_start: share of the training after which the flow listens; until then the critic learns the domains.
        arguments, options: those of :class:`DomainMethod`.
    """

    def __init__(
        self, *arguments: Any, critic: nn.Module, critic_weight: float, critic_start: float = 0.2, **options: Any
    ):
        super().__init__(*arguments, **options)
        self.critic_weight, self.critic_start, self.progress = critic_weight, critic_start, 0.0
        self.modules["critic"] = critic
        self.optimizers["critic"] = torch.optim.AdamW(critic.parameters(), 1e-3, (0.5, 0.99), weight_decay=0.01)

    def learning_rate(self, progress: float) -> float:
        """As for flows."""
        self.progress = progress
        return super().learning_rate(progress)

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """The flow's phase, then the critic's."""
        latent, condition, count = batch
        rows = len(latent) - 2 * count
        real, own = latent[:rows], condition[:rows].argmax(1)
        total, scalars, v = self.terms(batch, generator, step)
        moved = None
        if self.progress >= self.critic_start:
            other = condition[:rows][torch.randperm(rows, generator=generator).to(own.device)]
            with self.autocast():
                moved = self.unwrapped("flow").inverse(v[:rows], other).float()
            with frozen(self.unwrapped("critic")):
                seen = self.unwrapped("critic")(moved)
            wanted = other.argmax(1)
            scalars["critic"] = F.cross_entropy(seen, wanted)
            scalars["taken for the target"] = (seen.argmax(1) == wanted).float().mean()
            total = total + self.critic_weight * scalars["critic"]
        yield Loss("flow", total, scalars)
        latents, classes = real, own
        if moved is not None:
            latents, classes = (
                torch.cat([real, moved.detach()]),
                torch.cat([own, torch.full_like(own, condition.shape[1])]),
            )
        logits = self.modules["critic"](latents).float()
        right = (logits[:rows].argmax(1) == own).float().mean()
        yield Loss("critic", F.cross_entropy(logits, classes), {"critic right on real": right})
