"""A conditional flow on a grid of latents: the same blocks, with convolutions in the couplings.

A flat flow has a weight for every pair of coordinates. On a grid a convolution uses the same weights in every cell, so
that a few thousand pictures are enough for hundreds of coordinates, and a change stays where its cause is. The
published flow is flat (:class:`ConditionalFlow`); couplings of channel halves with convolutional networks are those of
RealNVP and Glow.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.cinn.actnorm import ActNorm
from course_lib.cinn.config import read_config
from course_lib.cinn.embedder import GridEmbedder
from course_lib.cinn.inputs import check_vectors, draw_residual, prepare_condition
from course_lib.cinn.networks import LEAKY_SLOPE
from course_lib.cinn.shift import ConditionShift, LocalShift
from course_lib.cinn.shuffle import Shuffle
from course_lib.cinn.whitening import Whitening
from course_lib.errors import CourseError

__all__ = ["GridFlow", "GridFlowConfig"]


@dataclass(frozen=True)
class GridFlowConfig:
    """Everything that is needed to build a ``GridFlow``.

    Attributes:
        channels: ``C``, numbers in one cell, even.
        side: ``G``, cells along one side, even.
        condition_shape: of one condition: ``(K,)``, which every cell reads, or a map ``(C, H, W)`` of H = W = n · G
            places, of which every cell reads its own.
        hidden_dim: channels inside the coupling networks of fine blocks; coarse ones have twice as many.
        blocks: every other one is coarse: it sees 2×2 cells as one, so that news travels fast.
        embedding_dim: channels that carry the embedded condition.
        position_dim: learned channels that tell a cell where it is.
        whitened: directions of the residual that :class:`Whitening` rescales behind the last block; 0 leaves it out.
        seed: of the permutations.

    Raises:
        CourseError: a size is not possible.
    """

    channels: int
    side: int
    condition_shape: tuple[int, ...]
    hidden_dim: int = 48
    blocks: int = 8
    embedding_dim: int = 8
    position_dim: int = 4
    whitened: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "condition_shape", tuple(int(n) for n in self.condition_shape))
        if self.channels < 2 or self.channels % 2 or self.side < 2 or self.side % 2:
            raise CourseError(f"GridFlowConfig: channels and side must be even, not {self.channels} and {self.side}.")
        shape = self.condition_shape
        fits = len(shape) == 1 or (len(shape) == 3 and shape[1] == shape[2] and shape[1] % self.side == 0)
        if not fits or min(shape, default=0) < 1:
            raise CourseError(
                f"GridFlowConfig: condition_shape must be (K,) or (C, H, H) with H a multiple of {self.side}, not "
                f"{shape}."
            )
        for name in ("hidden_dim", "blocks", "embedding_dim", "position_dim"):
            if getattr(self, name) < 1:
                raise CourseError(f"GridFlowConfig: {name} must be at least 1, not {getattr(self, name)}.")
        if not 0 <= self.whitened <= self.dim:
            raise CourseError(f"GridFlowConfig: whitened must be between 0 and {self.dim}, not {self.whitened}.")

    @property
    def dim(self) -> int:
        """``D = C · G²``, numbers in one latent."""
        return self.channels * self.side**2

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {**asdict(self), "condition_shape": list(self.condition_shape)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "GridFlowConfig":
        """Rebuild from ``to_dict``.

        Raises:
            CourseError: a key is unknown or a required one is missing.
        """
        return read_config(cls, values)


class _CouplingNet(nn.Sequential):
    """3×3, 1×1 and 3×3 convolutions: a neighbourhood, a thought, a neighbourhood."""

    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__(
            nn.Conv2d(inputs, hidden, 3, 1, 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(hidden, hidden, 1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(hidden, outputs, 3, 1, 1),
        )


class _GridBlock(nn.Module):
    """ActNorm, two affine couplings of channel halves, permutation of channels.

    The equations are those of ``ConditionalCoupling``: the log-scale ends in a tanh, the shift is free.
    """

    def __init__(self, channels: int, context: int, hidden: int, generator: torch.Generator):
        super().__init__()
        half = channels // 2
        self.norm, self.shuffle = ActNorm(channels), Shuffle(channels, generator)
        self.scale_nets = nn.ModuleList(_CouplingNet(half + context, hidden, half) for _ in range(2))
        self.shift_nets = nn.ModuleList(_CouplingNet(half + context, hidden, half) for _ in range(2))

    def _terms(self, step: int, known: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        inputs = torch.cat([known, context], 1)
        return self.scale_nets[step](inputs).tanh(), self.shift_nets[step](inputs)

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        x, log_det = self.norm(x)
        a, b = x.chunk(2, 1)
        scale0, shift = self._terms(0, a, context)
        b = b * scale0.exp() + shift
        scale1, shift = self._terms(1, b, context)
        a = a * scale1.exp() + shift
        return self.shuffle(torch.cat([b, a], 1)), log_det + scale0.sum((1, 2, 3)) + scale1.sum((1, 2, 3))

    def inverse(self, y: Tensor, context: Tensor) -> Tensor:
        b, a = self.shuffle.inverse(y).chunk(2, 1)
        scale, shift = self._terms(1, b, context)
        a = (a - shift) * (-scale).exp()
        scale, shift = self._terms(0, a, context)
        b = (b - shift) * (-scale).exp()
        return self.norm.inverse(torch.cat([a, b], 1))


class GridFlow(nn.Module):
    """An invertible map between latents ``(B, C · G · G)`` and residuals of the same shape, given conditions ``(B, K)``
    or maps ``(B, C, H, W)``.

    It has the interface of :class:`ConditionalFlow` that translators use. First a linear function of the condition is
    subtracted (``fit_shift``), then come the blocks.

    Args:
        config: sizes.
        generator: CPU generator of the initial weights; None draws them from the global generator.
        gain: factor on the last layers of the coupling networks. Small: training starts near the identity, where the
            same ``v`` means the same content under every label.
    """

    def __init__(self, config: GridFlowConfig, generator: torch.Generator | None = None, gain: float = 0.05):
        super().__init__()
        self.config = config
        permutations = torch.Generator().manual_seed(config.seed)
        shape = config.condition_shape
        if self.reads_maps:
            self.label = GridEmbedder(shape, config.embedding_dim, config.side)
            self.shift = LocalShift(shape, config.channels, config.side)
        else:
            self.label = nn.Linear(shape[0], config.embedding_dim)
            self.shift = ConditionShift(shape[0], config.dim)
        self.places = nn.ParameterList(
            torch.zeros(1, config.position_dim, config.side // cells, config.side // cells) for cells in (1, 2)
        )
        context = config.embedding_dim + config.position_dim
        self.blocks = nn.ModuleList(
            _GridBlock(config.channels * cells**2, context, config.hidden_dim * cells, permutations)
            for cells in self._cells
        )
        self.whitening = Whitening(config.dim, config.whitened) if config.whitened else None
        self._reset(generator, gain)

    @property
    def reads_maps(self) -> bool:
        """Whether conditions are maps."""
        return len(self.config.condition_shape) == 3

    @property
    def _cells(self) -> list[int]:
        """Cells along one side that a block sees as one."""
        return [1 + index % 2 for index in range(self.config.blocks)]

    @torch.no_grad()
    def _reset(self, generator: torch.Generator | None, gain: float) -> None:
        for place in self.places:
            place.copy_(0.1 * torch.randn(place.shape, generator=generator))
        for module in [*self.label.modules(), *self.blocks.modules()]:
            if isinstance(module, nn.Linear | nn.Conv2d):
                bound = 1.0 / math.sqrt(module.weight[0].numel())
                for parameter in module.parameters(recurse=False):
                    parameter.copy_((2.0 * torch.rand(parameter.shape, generator=generator) - 1.0) * bound)
        for block in self.blocks:
            for net in (*block.scale_nets, *block.shift_nets):
                net[-1].weight.mul_(gain)
                net[-1].bias.zero_()

    def _contexts(self, condition: Tensor) -> dict[int, Tensor]:
        """For fine and coarse blocks: the embedded condition in every cell, and the cell's place."""
        if self.reads_maps:
            embedded = self.label(condition)
        else:
            everywhere = self.label(condition)[:, :, None, None]
            embedded = [everywhere.expand(-1, -1, *place.shape[2:]) for place in self.places]
        return {
            cells: torch.cat([told, place.expand(len(condition), -1, -1, -1)], 1)
            for cells, told, place in zip((1, 2), embedded, self.places, strict=True)
        }

    def _prepare(self, x: Tensor, condition: Tensor, what: str) -> Tensor:
        check_vectors(self.config, x, condition, what)
        return prepare_condition(self.config, condition, self.places[0].dtype)

    def forward(self, latent: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Data to residual.

        Returns:
            ``v: (B, D)`` and ``log_det: (B,)``, the logarithm of the absolute determinant of ``dv / dlatent``.

        Raises:
            CourseError: a shape does not fit.
        """
        condition = self._prepare(latent, condition, "latents")
        x, log_det = self._grid(self.shift(latent, condition)), latent.new_zeros(len(latent))
        contexts = self._contexts(condition)
        for cells, block in zip(self._cells, self.blocks, strict=True):
            x, part = block(F.pixel_unshuffle(x, cells), contexts[cells])
            x, log_det = F.pixel_shuffle(x, cells), log_det + part
        if self.whitening is None:
            return x.flatten(1), log_det
        v, part = self.whitening(x.flatten(1))
        return v, log_det + part

    def inverse(self, v: Tensor, condition: Tensor) -> Tensor:
        """Residual to data, ``(B, D)``; differentiable.

        Raises:
            CourseError: a shape does not fit, or the flow is in training mode and has not seen a batch.
        """
        condition = self._prepare(v, condition, "residuals")
        x = self._grid(v if self.whitening is None else self.whitening.inverse(v))
        contexts = self._contexts(condition)
        for cells, block in zip(self._cells[::-1], reversed(self.blocks), strict=True):
            x = F.pixel_shuffle(block.inverse(F.pixel_unshuffle(x, cells), contexts[cells]), cells)
        return self.shift.inverse(x.flatten(1), condition)

    def encode(self, latent: Tensor, condition: Tensor) -> Tensor:
        """The residual alone: ``(B, D)``."""
        return self(latent, condition)[0]

    @torch.no_grad()
    def sample(self, condition: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """One latent ``(B, D)`` for each condition ``(B, *condition_shape)``, as :meth:`ConditionalFlow.sample`.

        Raises:
            CourseError: the temperature is negative, a shape does not fit, or the flow has not seen a batch.
        """
        v = draw_residual((len(condition), self.config.dim), temperature, generator, self.places[0])
        return self.inverse(v, condition)

    def log_prob(self, latent: Tensor, condition: Tensor) -> Tensor:
        """The conditional log-density in nats, with the constant ``-D / 2 * log(2 pi)``: ``(B,)``."""
        v, log_det = self(latent, condition)
        return log_det - 0.5 * v.square().sum(1) - 0.5 * self.config.dim * math.log(2.0 * math.pi)

    def fit_shift(self, latent: Tensor, condition: Tensor, ridge: float = 1e-3) -> None:
        """Set the linear shift to the least-squares fit on latents ``(N, D)`` and conditions, before training."""
        self.shift.fit(latent, prepare_condition(self.config, condition, self.places[0].dtype), ridge)

    @torch.no_grad()
    def fit_whitening(self, latent: Tensor, condition: Tensor) -> None:
        """Set the whitening from the residuals of latents ``(N, D)`` under their conditions; without one do nothing.

        Likelihood on these pairs only grows by it, so it may be done before training, after it, or both.
        """
        if self.whitening is not None:
            self.whitening.change.zero_()
            parts = zip(latent.split(256), condition.split(256), strict=True)
            self.whitening.fit(torch.cat([self.encode(z, told) for z, told in parts]))

    def _grid(self, x: Tensor) -> Tensor:
        return x.view(-1, self.config.channels, self.config.side, self.config.side)
