"""What the training loop needs to train a translator's flow, and the baseline that has no residual."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..cinn import ConditionalFlow, nll_terms
from ..cinn.config import FlowConfig
from ..cinn.embedder import build_embedder
from ..cinn.networks import FullyConnectedNet
from ..training.method import Loss, Method
from .pairs import Pairs

__all__ = ["FlowMethod", "Regressor", "RegressorMethod"]


class _PairMethod(Method):
    """Draws pairs; the latent is a sample of the target's posterior."""

    def __init__(self, pairs: Pairs, warm_up: float = 0.02):
        super().__init__()
        self.pairs, self.length, self.warm_up = pairs, len(pairs), warm_up

    def to_device(self, device: torch.device) -> None:
        """Moves the pairs."""
        super().to_device(device)
        self.pairs = self.pairs.to(device)

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latent ``(B, D)`` and condition."""
        index = index.to(self.device)
        mean = self.pairs.mean[index]
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        return mean + noise * self.pairs.deviation[index], self.pairs.condition[index].float()

    def learning_rate(self, progress: float) -> float:
        """A short warm-up, then half a cosine down to a fiftieth."""
        return min(1.0, progress / self.warm_up + 0.02) * (0.51 + 0.49 * math.cos(math.pi * progress))


class FlowMethod(_PairMethod):
    """Conditional maximum likelihood (paper eq. 5): the loss bounds the information that ``v`` keeps about the condition.

    Args:
        pairs: encoded training pairs.
        flow: the flow to train.
        rate: Adam's largest learning rate.
    """

    def __init__(self, pairs: Pairs, flow: ConditionalFlow, rate: float = 1e-3):
        super().__init__(pairs)
        self.modules = {"flow": flow}
        self.optimizers = {"flow": torch.optim.Adam(flow.parameters(), rate, (0.9, 0.99), fused=True)}
        self.ema = {"flow": 0.995}

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """One phase: total = nll − log-determinant, in nats a picture."""
        latent, condition = batch
        v, log_det = self.modules["flow"](latent, condition)
        terms = nll_terms(v, log_det, generator=generator)
        yield Loss("flow", terms.total, {"nll": terms.nll, "reference nll": terms.reference_nll})


class Regressor(nn.Module):
    """The baseline of the paper: a network from condition to latent that has nothing to be random with.

    It uses the flow's embedder and a fully connected net, trained on the mean squared error, so it learns the conditional
    mean.

    Args:
        config: of the flow it is compared with.
        width: hidden width.
    """

    def __init__(self, config: FlowConfig, width: int = 512):
        super().__init__()
        self.embedder = build_embedder(config)
        self.net = FullyConnectedNet(config.embedding_width, width, 2, config.dim)

    def forward(self, condition: Tensor) -> Tensor:
        """Latent ``(B, D)``."""
        return self.net(self.embedder(condition))


class RegressorMethod(_PairMethod):
    """Mean squared error on latents."""

    def __init__(self, pairs: Pairs, regressor: Regressor, rate: float = 1e-3):
        super().__init__(pairs)
        self.modules = {"regressor": regressor}
        self.optimizers = {"regressor": torch.optim.Adam(regressor.parameters(), rate, (0.9, 0.99), fused=True)}
        self.ema = {"regressor": 0.995}

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """One phase."""
        latent, condition = batch
        yield Loss("regressor", (self.modules["regressor"](condition) - latent).square().sum(1).mean())
