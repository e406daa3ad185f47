"""Invertible layers: ActNorm, activation, permutation, the affine coupling and its fully connected network."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.errors import CourseError

__all__ = ["LEAKY_SLOPE", "ActNorm", "AffineCoupling", "FullyConnectedNet", "InvertibleLeakyReLU", "Shuffle"]

LEAKY_SLOPE = 0.01
"""Of the LeakyReLUs inside coupling networks and the dense embedder."""


class ActNorm(nn.Module):
    """``y = scale * (x + loc)`` per channel; the first training batch leaves with mean 0 and standard deviation 1.

    After that batch both are ordinary parameters. In evaluation mode a layer that has not seen data is the identity and
    stays so. Inputs are ``(B, C)`` or ``(B, C, H, W)``. Source: Kingma and Dhariwal, "Glow", 2018, section 3.1; the
    order of operations is that of CompVis/net2net.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.loc = nn.Parameter(torch.zeros(channels))
        self.scale = nn.Parameter(torch.ones(channels))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))
        # Reading the buffer on an accelerator waits for the device, so the answer "yes" is remembered on the host.
        self._ready = False

    @property
    def is_initialized(self) -> bool:
        """Whether ``loc`` and ``scale`` were set from data or loaded from a checkpoint that had seen data."""
        if not self._ready and self.initialized.device.type != "meta":
            self._ready = bool(self.initialized.item())
        return self._ready

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._ready = False
        super()._load_from_state_dict(*args, **kwargs)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set ``loc`` and ``scale`` from a batch, that of all processes together: else the replicas would differ."""
        # In double precision, where there is one: the variance is a small difference when the mean is far from 0.
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        values = x.detach().to(wide).transpose(0, 1).flatten(1)
        total = _over_processes(torch.cat([values.new_tensor([values.shape[1]]), values.sum(1)]))
        count, mean = total[0], total[1:] / total[0]
        if count < 2:
            raise CourseError("ActNorm cannot set itself from one sample: give a first batch of at least 2 samples.")
        squares = _over_processes((values - mean[:, None]).square().sum(1))
        self.loc.copy_(-mean)
        self.scale.copy_(1.0 / ((squares / (count - 1)).sqrt() + 1e-6))
        self.initialized.fill_(1)
        self._ready = True

    def check_invertible(self) -> None:
        """Refuse an inverse that the next training batch would contradict."""
        if self.training and not self.is_initialized:
            raise CourseError(
                "ActNorm has not seen a batch, so it has no inverse: train, load weights or eval() first."
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise: ``y`` of the shape of ``x``, and ``log_det: (B,)``, the same for each sample."""
        shape = self._parameter_shape(x)
        if self.training and not self.is_initialized:
            self.initialize(x)
        y = self.scale.view(shape) * (x + self.loc.view(shape))
        return y, (math.prod(x.shape[2:]) * self.scale.abs().log().sum()).expand(x.shape[0])

    def inverse(self, y: Tensor) -> Tensor:
        shape = self._parameter_shape(y)
        self.check_invertible()
        return y / self.scale.view(shape) - self.loc.view(shape)

    def _parameter_shape(self, x: Tensor) -> tuple[int, ...]:
        if x.dim() not in (2, 4) or x.shape[1] != self.channels:
            raise CourseError(f"ActNorm was built for {self.channels} channels, not for inputs {tuple(x.shape)}.")
        return (1, -1) + (1,) * (x.dim() - 2)


def _over_processes(values: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values


class InvertibleLeakyReLU(nn.Module):
    """Multiply negative values of ``(B, D)`` by ``alpha > 0``; ``log_det`` counts the negatives, ``log(alpha)`` each.

    The released code (option "lrelu") reports 0 instead, which makes its likelihood wrong while its inverse stays
    right; ``count_log_det=False`` reproduces that.
    """

    def __init__(self, alpha: float = 0.9, count_log_det: bool = True) -> None:
        super().__init__()
        self.alpha, self.count_log_det = alpha, count_log_det

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        counted = math.log(self.alpha) if self.count_log_det else 0.0
        return torch.where(x < 0, x * self.alpha, x), (x < 0).sum(1).to(x.dtype) * counted

    def inverse(self, y: Tensor) -> Tensor:
        return torch.where(y < 0, y / self.alpha, y)


class Shuffle(nn.Module):
    """A fixed random permutation of the channels of ``(B, D)`` or ``(B, D, H, W)``; the log-determinant is 0.

    The order, drawn from a CPU ``generator``, is a buffer: it is part of the trained network.
    """

    def __init__(self, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        # The device is named so that a flow can be laid out on the "meta" device, where nothing can be drawn.
        order = torch.randperm(dim, generator=generator, device="cpu")
        self.register_buffer("order", order)
        self.register_buffer("inverse_order", order.argsort())

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.order]

    def inverse(self, y: Tensor) -> Tensor:
        return y[:, self.inverse_order]


class FullyConnectedNet(nn.Module):
    """``depth + 2`` linear layers with LeakyReLU 0.01 between them, and BatchNorm before that if asked for.

    Source: Net2Net, supplement, table 4a; CompVis/net2net, ``BasicFullyConnectedNet``.
    """

    def __init__(self, in_dim: int, hidden_dim: int, depth: int, out_dim: int, batch_norm: bool = False) -> None:
        super().__init__()
        widths = [in_dim] + [hidden_dim] * (depth + 1)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden_dim) if batch_norm else nn.Identity() for _ in self.hidden)
        self.out = nn.Linear(hidden_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        # Functions instead of layers, and activations in place: hundreds of calls and of copies less in a flow.
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            x = F.leaky_relu(norm(F.linear(x, linear.weight, linear.bias)), LEAKY_SLOPE, inplace=True)
        return F.linear(x, self.out.weight, self.out.bias)


class AffineCoupling(nn.Module):
    """Two affine couplings in a row, so that every channel is changed once; both read the condition's embedding.

    With ``h = [a, b]`` split along the channels and embedding ``e``::

        b' = b * exp(tanh(S0[a, e])) + T0[a, e]
        a' = a * exp(tanh(S1[b', e])) + T1[b', e]
        output [b', a']                       log_det = sum(tanh(S0)) + sum(tanh(S1))

    An odd number of channels is split into ``ceil(D / 2)`` and ``floor(D / 2)``; the inverse splits the other way round
    (the released unconditional code does not). ``net`` makes S and T from their numbers of channels in and out.
    Sources: Dinh et al., "Real NVP", 2017; Net2Net, supplement, table 4a and figure 15; CompVis/net2net,
    ``ConditionalDoubleVectorCouplingBlock``.
    """

    def __init__(self, dim: int, embedding_dim: int, net: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.large, self.small = (dim + 1) // 2, dim // 2
        shapes = ((self.large + embedding_dim, self.small), (self.small + embedding_dim, self.large))
        self.scale_nets = nn.ModuleList(net(*shape) for shape in shapes)
        self.shift_nets = nn.ModuleList(net(*shape) for shape in shapes)

    def terms(self, step: int, known: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scale and shift of the half that moves in ``step`` (0 or 1), from the ``known`` half."""
        inputs = torch.cat([known, embedding], 1)
        return self.scale_nets[step](inputs).tanh(), self.shift_nets[step](inputs)

    def forward(self, h: Tensor, embedding: Tensor, log_det: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Couple ``h``, ``(B, D)`` or ``(B, D, H, W)``, under ``(B, E)`` or ``(B, E, H, W)``, the halves swapped.

        Also returns ``log_det: (B,)``, that of what came before with what this adds.
        """
        a, b = h.split([self.large, self.small], 1)
        axes = tuple(range(1, h.dim()))
        log_scale, shift = self.terms(0, a, embedding)
        b, log_det = b * log_scale.exp() + shift, log_det + log_scale.sum(axes)
        log_scale, shift = self.terms(1, b, embedding)
        a, log_det = a * log_scale.exp() + shift, log_det + log_scale.sum(axes)
        return torch.cat([b, a], 1), log_det

    def inverse(self, h: Tensor, embedding: Tensor) -> Tensor:
        b, a = h.split([self.small, self.large], 1)
        log_scale, shift = self.terms(1, b, embedding)
        a = (a - shift) * (-log_scale).exp()
        log_scale, shift = self.terms(0, a, embedding)
        return torch.cat([a, (b - shift) * (-log_scale).exp()], 1)
