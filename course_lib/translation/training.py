"""What the training loop needs to train a translator's flow."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..cinn import ConditionalFlow, GridFlow, nll_terms
from ..training.method import Loss, Method
from .pairs import Pairs

__all__ = ["FlowMethod", "PairMethod", "held_out_nats"]


class PairMethod(Method):
    """Draws pairs; the latent is a sample of the target's posterior.

    Subclasses give the network a ``name`` and define ``loss``.

    Args:
        pairs: encoded training pairs.
        network: the flow or the regressor to train.
        rate: AdamW's largest learning rate.
        weight_decay: AdamW's, of the weight matrices; it matters on few pictures.
        held: pairs that are never trained on; their loss is logged as ``held-out`` every ``held_every`` steps. Let
            ``log_every`` of the loop be the same number or a multiple.
        held_every: steps between two such numbers.
    """

    name: str

    def __init__(
        self,
        pairs: Pairs,
        network: nn.Module,
        rate: float = 1e-3,
        weight_decay: float = 0.0,
        held: Pairs | None = None,
        held_every: int = 100,
    ):
        super().__init__()
        self.pairs, self.held, self.held_every = pairs, held, held_every
        self.length, self.modules = len(pairs), {self.name: network}
        # Only matrices decay: a scale of ActNorm that is pulled to zero would be paid for in the log-determinant.
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for key, parameter in network.named_parameters():
            groups[key.endswith("weight")].append(parameter)
        parts = [{"params": groups[True], "weight_decay": weight_decay}, {"params": groups[False], "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(parts, rate, (0.9, 0.99), fused=True)
        self.optimizers, self.ema = {self.name: optimizer}, {self.name: 0.995}

    def to_device(self, device: torch.device) -> None:
        """Moves the pairs."""
        super().to_device(device)
        self.pairs = self.pairs.to(device)
        self.held = self.held.to(device) if self.held is not None else None

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latent ``(B, D)`` and condition."""
        index = index.to(self.device)
        mean = self.pairs.mean[index]
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        return mean + noise * self.pairs.std[index], self.pairs.condition[index].float()

    def learning_rate(self, progress: float) -> float:
        """A short warm-up, then half a cosine down to a fiftieth."""
        return min(1.0, progress / 0.02 + 0.02) * (0.51 + 0.49 * math.cos(math.pi * progress))

    def loss(self, network: nn.Module, latent: Tensor, condition: Tensor) -> Tensor:
        """What is minimised, a scalar."""
        raise TypeError(f"{type(self).__name__} must define loss()")

    def _held_out(self, step: int) -> dict[str, Tensor]:
        """The loss on held-out pairs, at the last step before a number is logged."""
        if self.held is None or (step + 1) % self.held_every:
            return {}
        network = self.unwrapped(self.name)
        was_training = network.training
        with torch.no_grad():
            value = self.loss(network.eval(), self.held.latents(), self.held.condition.float())
        network.train(was_training)
        return {"held-out": value}


class FlowMethod(PairMethod):
    """Conditional maximum likelihood (paper eq. 5): the loss bounds what ``v`` keeps of the condition.

    Logs ``loss/flow`` (the total), ``nll`` and ``reference nll``, without the constant D/2 · log 2π, as the released
    code.
    """

    name = "flow"

    def loss(self, network: nn.Module, latent: Tensor, condition: Tensor) -> Tensor:
        """Total = nll − log-determinant, in nats a picture."""
        v, log_det = network(latent, condition)
        return 0.5 * v.square().sum(1).mean() - log_det.mean()

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """One phase."""
        latent, condition = batch
        v, log_det = self.modules["flow"](latent, condition)
        terms = nll_terms(v, log_det, generator=generator)
        scalars = {"nll": terms.nll, "reference nll": terms.reference_nll, **self._held_out(step)}
        yield Loss("flow", terms.total, scalars)


@torch.no_grad()
def held_out_nats(flow: ConditionalFlow | GridFlow, pairs: Pairs, seed: int = 0, batch_size: int = 1000) -> float:
    """Mean negative conditional log-likelihood in nats a picture, with the constant D/2 · log 2π; lower is better.

    One latent is drawn from every posterior, as in training: the posterior's mean alone is a point the flow has not
    seen, and its likelihood is another quantity.
    """
    latent, total = pairs.latents(seed), 0.0
    for z, condition in zip(latent.split(batch_size), pairs.condition.split(batch_size), strict=True):
        total -= flow.log_prob(z, condition.float()).sum().item()
    return total / len(pairs)
