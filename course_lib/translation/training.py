"""Training of a translator's flow, and of the regressor it is compared with, on pairs that were encoded once."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..cinn.flow import ConditionalFlow, GridFlow, GridFlowConfig, flow_loss
from ..cinn.layers import LEAKY_SLOPE, ConditionShift, GridEmbedder, LocalShift
from ..data.image_set import ImageSet
from ..errors import CourseError
from ..experts.autoencoder import GridAutoencoder
from ..training.method import Loss, Method

LATENT_NOISE = 0.2
"""Standard deviation of the noise on the latents that flows are trained on; their own is 1 to 2. The decoder hardly
shows it (34 dB with it, 37 without); without it a flow spends itself on the finest digits."""


@dataclass(frozen=True)
class Pairs:
    """Conditions and latents of the same pictures."""

    condition: Tensor  # (N, *condition_shape)
    mean: Tensor  # (N, D), of the target posterior; a latent is drawn from it at every step, which keeps a flow on few
    std: Tensor  # (N, D), pictures from learning them by heart

    def __post_init__(self) -> None:
        if not len(self.condition) == len(self.mean) == len(self.std):
            counts = f"{len(self.condition)}, {len(self.mean)} and {len(self.std)}"
            raise CourseError(f"pairs need one condition, mean and standard deviation for each picture, not {counts}.")

    def __len__(self) -> int:
        return len(self.mean)

    @classmethod
    def join(cls, parts: Sequence["Pairs"]) -> "Pairs":
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("condition", "mean", "std")))

    def to(self, device: torch.device | str) -> "Pairs":
        return Pairs(self.condition.to(device), self.mean.to(device), self.std.to(device))

    def latents(self, seed: int = 0) -> Tensor:
        """One sample of every picture's posterior, ``(N, D)``; the same seed gives the same latents on every device."""
        return self.draw(slice(None), torch.Generator().manual_seed(seed))

    def draw(self, index: Tensor | slice, generator: torch.Generator) -> Tensor:
        """Samples of the posteriors at ``index``, ``(B, D)``, with noise from a CPU ``generator``."""
        mean = self.mean[index]
        return mean + torch.randn(mean.shape, generator=generator).to(mean) * self.std[index]


@torch.no_grad()
def encode_pairs(
    data: ImageSet, condition: Callable[[Tensor], Tensor], target: GridAutoencoder, noise: float = 0.0
) -> Pairs:
    """Both experts' answers to all pictures; ``noise`` is the deviation of noise on latents, :data:`LATENT_NOISE`."""
    if not len(data):
        raise CourseError("there is nothing to encode: the set has no picture.")
    device = next(target.parameters()).device
    parts = []
    for images in data.batches(200):
        images = images.to(device)
        posterior = target.posterior(images)
        parts.append(Pairs(condition(images), posterior.mean, posterior.std(noise)))
    return Pairs.join(parts)


class _PairMethod(Method, ABC):
    """Draws pairs; the latent is a sample of the target's posterior. Subclasses define ``name`` and ``loss``.

    Args:
        pairs, network: encoded training pairs; the flow or the regressor to train.
        rate, weight_decay: AdamW's largest learning rate; its decay of weight matrices, which matters on few pictures.
        held: pairs that are never trained on; their loss is logged as ``held-out`` every ``held_every`` steps. Let
            ``log_every`` of the loop be the same number or a multiple.
    """

    name: str
    moved = ("pairs", "held")

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

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = index.to(self.device)
        return self.pairs.draw(index, generator), self.pairs.condition[index].float()

    @abstractmethod
    def loss(self, network: nn.Module, latent: Tensor, condition: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What is minimised, and further numbers to log."""

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        value, scalars = self.loss(self.modules[self.name], *batch)
        if self.held is not None and (step + 1) % self.held_every == 0:  # at the last step before a number is logged
            network = self.unwrapped(self.name)
            was_training = network.training
            with torch.no_grad():
                held = self.loss(network.eval(), self.held.latents(), self.held.condition.float())
            network.train(was_training)
            scalars["held-out"] = held[0]
        yield Loss(self.name, value, scalars)

    def learning_rate(self, progress: float) -> float:
        """A short warm-up, then half a cosine down to a fiftieth."""
        return min(1.0, progress / 0.02 + 0.02) * (0.51 + 0.49 * math.cos(math.pi * progress))


class FlowMethod(_PairMethod):
    """Conditional maximum likelihood (paper eq. 5): the loss bounds what ``v`` keeps of the condition.

    Logs ``loss/flow`` (the total) and ``nll``, both without the constant D/2 · log 2π. In healthy training ``nll``
    settles near D/2, where it is for Gaussian noise, while the total keeps falling.
    """

    name = "flow"

    def loss(self, network: nn.Module, latent: Tensor, condition: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        v, log_det = network(latent, condition)
        return flow_loss(v, log_det), {"nll": 0.5 * v.square().sum(1).mean()}

    def fit_residual_shift(self, flow: GridFlow, seed: int = 0, features: bool = False) -> None:
        """:meth:`GridFlow.fit_residual_shift` on all pairs as they are trained on, several latents of each; with
        ``features`` on random features of the condition, too."""
        generator, rows = torch.Generator().manual_seed(seed), torch.arange(len(self.pairs)).split(500)
        draws = max(4, 20_000 // len(self.pairs))  # few pairs would leave the noise of their latents in the fit
        batches = (self.batch(index, generator) for _ in range(draws) for index in rows)
        flow.fit_residual_shift(batches, *((1e-2, self.pairs.condition) if features else ()))


class RegressorMethod(_PairMethod):
    """Mean squared error on latents, summed over coordinates."""

    name = "regressor"

    def loss(self, network: nn.Module, latent: Tensor, condition: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return (network(condition) - latent).square().sum(1).mean(), {}


@torch.no_grad()
def residuals(flow: ConditionalFlow | GridFlow, pairs: Pairs, seed: int = 0) -> Tensor:
    """``v (N, D)`` of one latent drawn from every posterior."""
    drawn = zip(pairs.latents(seed).split(1000), pairs.condition.split(1000), strict=True)
    return torch.cat([flow.encode(z, condition.float()) for z, condition in drawn])


@torch.no_grad()
def held_out_nats(flow: ConditionalFlow | GridFlow, pairs: Pairs, seed: int = 0) -> float:
    """Mean negative conditional log-likelihood in nats a picture, with the constant D/2 · log 2π; lower is better.

    One latent is drawn from every posterior, as in training: a flow has not seen the posterior's mean alone.
    """
    total = 0.0
    for z, condition in zip(pairs.latents(seed).split(1000), pairs.condition.split(1000), strict=True):
        total -= flow.log_prob(z, condition.float()).sum().item()
    return total / len(pairs)


def choice_flow(pairs: Pairs, target: GridAutoencoder, seed: int = 0, ridge: float = 0.01, **sizes: Any) -> GridFlow:
    """An untrained flow for ``pairs`` with the linear start; ``sizes`` replace those of :class:`GridFlowConfig`."""
    small = {"hidden_dim": 24, "blocks": 4, "embedding_dim": 16}
    shape = tuple(pairs.condition.shape[1:])
    config = GridFlowConfig(target.config.channels, target.config.side, shape, **small | sizes)
    flow = GridFlow(config, torch.Generator().manual_seed(seed))
    flow.fit_shift(pairs.mean.cpu(), pairs.condition.cpu(), ridge)
    return flow


class GridRegressor(nn.Module):
    """The paper's baseline, a network from condition to latent, which has no residual and so gives one answer.

    It uses the flow's embedder and linear start, then three 3×3 convolutions of ``width`` channels. A fully connected
    net, as in the paper, would have to learn every cell anew, and would be no match for a flow whose cells share
    weights.
    """

    def __init__(self, config: GridFlowConfig, width: int = 64):
        super().__init__()
        self.config, self.width = config, width
        shape, side = config.condition_shape, config.side
        self.embedder: nn.Module
        self.shift: ConditionShift | LocalShift
        if len(shape) == 3:
            first, self.embedder = width, GridEmbedder(shape, width, side)
            self.shift = LocalShift(shape, config.channels, side)
        else:
            # Every cell reads a vector in its own way: convolutions alone would answer with the same in all of them.
            first = 16
            self.embedder = nn.Sequential(nn.Linear(shape[0], first * side**2), nn.Unflatten(1, (first, side, side)))
            self.shift = ConditionShift(shape[0], config.dim)
        self.net = nn.Sequential(
            nn.Conv2d(first, width, 3, 1, 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(width, config.channels, 3, 1, 1),
        )

    def forward(self, condition: Tensor) -> Tensor:
        embedded = self.embedder(condition)
        embedded = embedded[0] if isinstance(embedded, tuple) else embedded
        return self.shift.inverse(self.net(F.leaky_relu(embedded, LEAKY_SLOPE)).flatten(1), condition)

    def fit_shift(self, latent: Tensor, condition: Tensor, ridge: float = 1e-3) -> None:
        """Sets the linear map to the least-squares fit on pairs, before training; the net then begins at zero."""
        self.shift.fit(latent, condition, ridge)
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)
