"""Parts of a flow: invertible layers, embedders of the condition for the couplings, and a linear head start. That
subtracts what a linear function of the condition predicts of the latent, before the first block."""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError

Batches = Iterable[tuple[Tensor, Tensor]]

LEAKY_SLOPE = 0.01
"""Of the LeakyReLUs inside coupling networks and the dense embedder; in the other embedders it is 0.2."""

_SLOPE = 0.2

FINE_WEIGHTS = ("shift.linear.weight",)
"""What must not be stored in 8 bits: where a condition says nearly everything, the blocks magnify what the shift leaves
and its rounding with it (measured for super-resolution: 17 nats a picture; all other weights together 0.03)."""


class ActNorm(nn.Module):
    """``y = scale * (x + loc)`` per channel; the first training batch leaves with mean 0 and standard deviation 1.
    After that batch both are ordinary parameters. In evaluation mode a layer that has not seen data is the identity and
    stays so. Inputs are ``(B, C)`` or ``(B, C, H, W)``. Source: Kingma and Dhariwal, "Glow", 2018, section 3.1; the
    order of operations is that of CompVis/net2net."""

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
            raise CourseError("ActNorm has not seen a batch and has no inverse: train, load weights or eval() first.")

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
    right; ``count_log_det=False`` reproduces that."""

    def __init__(self, alpha: float = 0.9, count_log_det: bool = True) -> None:
        super().__init__()
        self.alpha, self.count_log_det = alpha, count_log_det

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        counted = math.log(self.alpha) if self.count_log_det else 0.0
        return torch.where(x < 0, x * self.alpha, x), (x < 0).sum(1).to(x.dtype) * counted

    def inverse(self, y: Tensor) -> Tensor:
        return torch.where(y < 0, y / self.alpha, y)


class Shuffle(nn.Module):
    """A fixed random permutation of channels, a buffer because it is part of the trained network."""

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
    """``depth + 2`` linear layers, LeakyReLU 0.01 and perhaps BatchNorm between (Net2Net, supplement, table 4a)."""

    def __init__(self, in_dim: int, out_dim: int, hidden_dim: int, depth: int, batch_norm: bool = False) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([in_dim] + [hidden_dim] * (depth + 1)))
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
        """Couple ``h (B, D)`` or maps, under ``(B, E)``; the halves leave swapped, ``log_det (B,)`` grows."""
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


class DenseEmbedder(nn.Module):
    """A fully connected network from ``(B, K)`` to ``(B, E)``, as in every released model of CompVis/net2net."""

    def __init__(self, in_dim: int, out_dim: int, hidden_dim: int = 256, depth: int = 2, batch_norm: bool = False):
        super().__init__()
        self.net = FullyConnectedNet(in_dim, out_dim, hidden_dim, depth, batch_norm)
        self.batch_norm = batch_norm

    def forward(self, condition: Tensor) -> Tensor:
        if self.batch_norm and self.training and condition.shape[0] == 1:
            raise CourseError("The embedder's BatchNorm needs at least 2 samples in training mode: use larger batches.")
        return self.net(condition)


class TaperedEmbedder(nn.Module):
    """``(B, K, 1, 1)`` to ``(B, E)``: linear layers of evenly falling widths, with ActNorm and LeakyReLU 0.2 between.
    ``widths`` counts both ends: 2048 to 128 in 6 gives 2048, 1664, 1280, 896, 512, 128. CompVis/net2net,
    ``DenseEmbedder``; wired to the flow in CompVis/invariances."""

    def __init__(self, in_dim: int, out_dim: int, widths: int = 4) -> None:
        super().__init__()
        # Integer arithmetic: a linear space computed in floating point may fall just below a whole number.
        self.sizes = tuple(in_dim + (out_dim - in_dim) * i // (widths - 1) for i in range(widths))
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(self.sizes))
        self.norms = nn.ModuleList(ActNorm(size) for size in self.sizes[1:-1])

    def forward(self, condition: Tensor) -> Tensor:
        h = self.linears[0](condition.flatten(1))
        for norm, linear in zip(self.norms, self.linears[1:], strict=True):
            h = linear(F.leaky_relu(norm(h)[0], _SLOPE))
        return h


class ConvEmbedder(nn.Module):
    """Strided convolutions that shrink ``(B, C, H, W)``, then one that covers what is left, to ``(B, E)``. Each step is
    a 4×4 convolution with stride 2, ActNorm, LeakyReLU 0.2; widths 64, 128, … up to 1024. Source: Net2Net, supplement,
    table 4b; CompVis/net2net, ``Embedder``."""

    def __init__(self, in_shape: tuple[int, int, int], out_dim: int, downsamplings: int) -> None:
        super().__init__()
        channels, height, width = in_shape
        widths = [channels] + [64 * min(2**i, 16) for i in range(downsamplings)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(ActNorm(width) for width in widths[1:])
        self.out = nn.Conv2d(widths[-1], out_dim, (height >> downsamplings, width >> downsamplings))

    def forward(self, condition: Tensor) -> Tensor:
        h = condition
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = F.leaky_relu(norm(conv(h))[0], _SLOPE)
        return self.out(h).flatten(1)


class GridEmbedder(nn.Module):
    """Maps ``(B, C, H, W)``, H = W = stride · G, for the cells of a grid: ``(B, E, G, G)`` and ``(B, E, G/2, G/2)``.
    Convolutions to the grid, to half of it and to a quarter bring news from afar (what surrounds a hole), the way back
    up leaves every place its own. ``side`` is G, a multiple of 2; of 4, or the quarter is left out."""

    def __init__(self, in_shape: tuple[int, int, int], out_dim: int, side: int, width: int = 32) -> None:
        super().__init__()
        stride = in_shape[1] // side
        self.enter = nn.Conv2d(in_shape[0], width, stride + 2, stride, 1)
        self.halve = nn.Conv2d(width, width, 4, 2, 1)
        self.quarter = nn.Conv2d(width, width, 4, 2, 1) if side % 4 == 0 else None
        self.coarse, self.fine = nn.Conv2d(width, out_dim, 3, 1, 1), nn.Conv2d(width, out_dim, 3, 1, 1)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        near = F.leaky_relu(self.enter(condition), _SLOPE)
        far = F.leaky_relu(self.halve(near), _SLOPE)
        if self.quarter is not None:
            far = far + F.interpolate(F.leaky_relu(self.quarter(far), _SLOPE), scale_factor=2)
        return self.fine(near + F.interpolate(far, scale_factor=2)), self.coarse(far)


def ridge_regression(pairs: Batches, ridge: float) -> tuple[Tensor, Tensor]:
    """Weight ``(D, K)``, bias ``(D,)`` of x → y from batches of pairs of ``x (N, K)`` and ``y (N, D)``. ``ridge`` is
    relative to the variance of x. Only sums are kept, so that the batches may be many."""
    count, shift, total = 0, None, 0.0
    for x, y in pairs:
        both, width = torch.cat([x, y], 1).double(), x.shape[1]
        shift = both.mean(0) if shift is None else shift  # sums of squares lose digits far from the mean
        both = torch.cat([both - shift, both.new_ones(len(both), 1)], 1)
        count, total = count + len(both), total + both.T @ both
    mean = total[-1, :-1] / count
    covariance = total[:-1, :-1] / count - mean[:, None] * mean
    weight = _solve(covariance[:width, :width].clone(), covariance[:width, width:], ridge)
    x_mean, y_mean = (mean + shift).tensor_split([width])
    return weight, y_mean - weight @ x_mean


def _solve(gram: Tensor, cross: Tensor, ridge: float) -> Tensor:
    """Weight ``(D, K)`` from ``gram (K, K)``, which is changed, and ``cross (K, D)``."""
    gram.diagonal().add_((ridge * gram.diagonal().mean()).clamp_min(1e-12))
    return torch.linalg.solve(gram, cross).T


class _Shift(nn.Module):
    """``z - predict(condition)``, latents ``(B, D)`` without their prediction, with log-determinant 0, so that the
    blocks begin with what is not linear; ``features`` are what the prediction is linear in, ``(B, K)``."""

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        return latent - self.predict(condition)

    def inverse(self, latent: Tensor, condition: Tensor) -> Tensor:
        return latent + self.predict(condition)


class ConditionShift(_Shift):
    """A linear map of the whole condition of ``K`` numbers, all those of a feature map, to ``D``."""

    def __init__(self, condition_dim: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition_dim, dim)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    @torch.no_grad()
    def fit(self, latent: Tensor, condition: Tensor, ridge: float = 1e-3) -> None:
        """:func:`ridge_regression` of latents ``(N, D)`` on conditions ``(N, …)``, N larger than their length."""
        condition = condition.flatten(1)
        if len(condition) <= condition.shape[1]:
            raise CourseError(f"{len(condition)} pairs cannot fix a map from {condition.shape[1]} numbers: give more.")
        self.set(*ridge_regression([(condition, latent)], ridge))

    @torch.no_grad()
    def set(self, weight: Tensor, bias: Tensor) -> None:
        """Weight ``(D, K)`` and bias ``(D,)`` as :func:`ridge_regression` returns them."""
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(bias)

    def features(self, condition: Tensor) -> Tensor:
        return condition.flatten(1)

    def predict(self, condition: Tensor) -> Tensor:
        return self.linear(condition.flatten(1))


class FeatureShift(_Shift):
    """Linear in features of the whole condition: its first principal components and ReLUs of random sums of these.
    Least squares on random features fits what is not linear, too, without training (Rahimi and Recht 2007, "Random
    Features for Large-Scale Kernel Machines"). Of the prediction only the directions that vary most are kept
    (reduced-rank regression): few numbers, and less noise."""

    def __init__(self, condition_dim: int, dim: int, features: int, components: int = 64, rank: int = 128) -> None:
        super().__init__()
        components, generator = min(components, condition_dim), torch.Generator().manual_seed(0)
        self.components, self.random = nn.Linear(condition_dim, components), nn.Linear(components, features)
        self.reduced = nn.Linear(components + features, min(rank, dim), bias=False)
        self.linear = nn.Linear(min(rank, dim), dim)
        with torch.no_grad():
            self.random.weight.copy_(torch.randn(features, components, generator=generator) / math.sqrt(components))
            self.random.bias.copy_(torch.randn(features, generator=generator))

    @torch.no_grad()
    def fit_components(self, condition: Tensor) -> None:
        """Whitened principal components of conditions ``(N, …)``, before the regression on the features."""
        flat = condition.flatten(1).double()
        centred = flat - flat.mean(0)
        values, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
        kept = len(self.components.weight)
        std = values[-kept:].clamp_min(1e-6 * values[-1]).sqrt()
        self.components.weight.copy_((directions[:, -kept:] / std).T)
        self.components.bias.copy_(-self.components.weight.double() @ flat.mean(0))

    def features(self, condition: Tensor) -> Tensor:
        """``(B, components + features)``."""
        components = self.components(condition.flatten(1))
        return torch.cat([components, F.relu(self.random(components))], 1)

    @torch.no_grad()
    def set(self, weight: Tensor, bias: Tensor, condition: Tensor) -> None:
        """Weight ``(D, F)`` and bias ``(D,)`` of a regression on the features; of the directions in which predictions
        for ``condition (N, …)`` vary the first ``rank`` are kept."""
        predicted = self.features(condition).double() @ weight.T
        _, directions = torch.linalg.eigh(torch.cov(predicted.T))
        kept = directions[:, -len(self.reduced.weight) :]
        self.reduced.weight.copy_(kept.T @ weight)
        self.linear.weight.copy_(kept)
        mean = predicted.mean(0)
        self.linear.bias.copy_(bias + mean - kept @ (kept.T @ mean))

    def predict(self, condition: Tensor) -> Tensor:
        return self.linear(self.reduced(self.features(condition)))


class LocalShift(_Shift):
    """On a grid: every cell is predicted from the part of a map that lies under and around it. One convolution, the
    same in all cells, and an offset for every cell, so that a few hundred pictures fix it: ``condition_shape (C, H,
    W)`` with H = W = stride · ``side``."""

    def __init__(self, condition_shape: tuple[int, int, int], channels: int, side: int) -> None:
        super().__init__()
        stride = condition_shape[1] // side
        # A cell's own places and a border of one: 3×3 where map and grid have equally many places.
        self.linear = nn.Conv2d(condition_shape[0], channels, stride + 2, stride, 1, bias=False)
        self.offset = nn.Parameter(torch.zeros(channels, side, side))
        nn.init.zeros_(self.linear.weight)

    @torch.no_grad()
    def fit(self, latent: Tensor, condition: Tensor, ridge: float = 1e-3) -> None:
        """Ridge regression of all cells of ``(N, D)`` on more neighbourhoods in ``(N, C, H, W)`` than they have
        numbers."""
        kernel, stride, count = self.linear.kernel_size[0], self.linear.stride[0], self.linear.weight[0].numel()
        cells = self.offset[0].numel()
        if len(latent) * cells <= count:
            raise CourseError(f"{len(latent) * cells} cells cannot fix a map from {count} numbers: give more pairs.")
        wanted, mean = latent.view(len(latent), -1, cells), condition.mean(0)
        middle = wanted.mean(0)
        gram, cross = (torch.zeros(count, n, dtype=torch.float64, device=latent.device) for n in (count, len(middle)))
        for some, z in zip(condition.split(256), wanted.split(256), strict=True):  # unfolded maps are large
            x = F.unfold(some - mean, kernel, padding=1, stride=stride).transpose(1, 2).flatten(0, 1)
            y = (z - middle).transpose(1, 2).flatten(0, 1)
            gram += (x.T @ x).double()
            cross += (x.T @ y).double()
        self.linear.weight.copy_(_solve(gram, cross, ridge).view_as(self.linear.weight))
        self.offset.copy_(middle.view_as(self.offset) - self.linear(mean[None].to(self.offset.dtype))[0])

    def predict(self, condition: Tensor) -> Tensor:
        return (self.linear(condition) + self.offset).flatten(1)
