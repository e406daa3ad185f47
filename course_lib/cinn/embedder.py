"""How a flow reads its condition: embedders for the couplings, and a linear head start.

A shift subtracts what a linear function of the condition predicts of the latent, before the first block.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.cinn.layers import ActNorm, FullyConnectedNet
from course_lib.errors import CourseError

__all__ = ["FINE_WEIGHTS", "ConditionShift", "ConvEmbedder", "DenseEmbedder", "GridEmbedder", "LocalShift"]
__all__ += ["TaperedEmbedder", "ridge_regression"]

FINE_WEIGHTS = ("shift.linear.weight",)
"""What must not be stored in 8 bits: where a condition says nearly everything, the blocks magnify what the shift leaves
and its rounding with it (measured for super-resolution: 17 nats a picture; all other weights together 0.03)."""

_SLOPE = 0.2


class DenseEmbedder(nn.Module):
    """A fully connected network from ``(B, K)`` to ``(B, E)``; the embedder of every released model.

    With ``batch_norm`` it cannot train on a batch of one. CompVis/net2net, ``ConditionalFlatCouplingFlow.embedder``.
    """

    def __init__(self, in_dim: int, out_dim: int, hidden_dim: int = 256, depth: int = 2, batch_norm: bool = False):
        super().__init__()
        self.net = FullyConnectedNet(in_dim, hidden_dim, depth, out_dim, batch_norm)
        self.batch_norm = batch_norm

    def forward(self, condition: Tensor) -> Tensor:
        if self.batch_norm and self.training and condition.shape[0] == 1:
            raise CourseError("The embedder's BatchNorm needs at least 2 samples in training mode: use larger batches.")
        return self.net(condition)


class TaperedEmbedder(nn.Module):
    """``(B, K, 1, 1)`` to ``(B, E)``: linear layers of evenly falling widths, with ActNorm and LeakyReLU 0.2 between.

    ``widths`` counts both ends: 2048 to 128 in 6 gives 2048, 1664, 1280, 896, 512, 128. CompVis/net2net,
    ``DenseEmbedder``; wired to the flow in CompVis/invariances.
    """

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
    """Strided convolutions that shrink ``(B, C, H, W)``, then one that covers what is left, to ``(B, E)``.

    Each step is a 4×4 convolution with stride 2, ActNorm, LeakyReLU 0.2; widths 64, 128, … up to 1024. Source: Net2Net,
    supplement, table 4b; CompVis/net2net, ``Embedder``.
    """

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
    up leaves every place its own. ``side`` is G, a multiple of 2; of 4, or the quarter is left out.
    """

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


# --- the linear head start ------------------------------------------------------------------------------------------


def ridge_regression(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """The best linear map from ``x (N, K)`` to ``y (N, D)``: weight ``(D, K)`` and bias ``(D,)``, both ``float64``.

    The penalty ``ridge`` is relative to the mean variance of the numbers in ``x``.
    """
    x, y = x.double(), y.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    weight = _solve((x - x_mean).T @ (x - x_mean) / len(x), (x - x_mean).T @ (y - y_mean) / len(x), ridge)
    return weight, y_mean - weight @ x_mean


def _solve(gram: Tensor, cross: Tensor, ridge: float) -> Tensor:
    """Weight ``(D, K)`` from ``gram (K, K)``, which is changed, and ``cross (K, D)``."""
    gram.diagonal().add_((ridge * gram.diagonal().mean()).clamp_min(1e-12))
    return torch.linalg.solve(gram, cross).T


class _Shift(nn.Module):
    """``z - predict(condition)``, with log-determinant 0, so that the blocks begin with what is not linear."""

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
        weight, bias = ridge_regression(condition, latent, ridge)
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(bias)

    def predict(self, condition: Tensor) -> Tensor:
        """The linear prediction of latents, ``(B, D)``."""
        return self.linear(condition.flatten(1))


class LocalShift(_Shift):
    """On a grid: every cell is predicted from the part of a map that lies under and around it.

    One convolution, the same in all cells, and an offset for every cell, so that a few hundred pictures fix it:
    ``condition_shape (C, H, W)`` with H = W = stride · ``side``.
    """

    def __init__(self, condition_shape: tuple[int, int, int], channels: int, side: int) -> None:
        super().__init__()
        stride = condition_shape[1] // side
        # A cell's own places and a border of one: 3×3 where map and grid have equally many places.
        self.linear = nn.Conv2d(condition_shape[0], channels, stride + 2, stride, 1, bias=False)
        self.offset = nn.Parameter(torch.zeros(channels, side, side))
        nn.init.zeros_(self.linear.weight)

    @torch.no_grad()
    def fit(self, latent: Tensor, condition: Tensor, ridge: float = 1e-3) -> None:
        """Ridge regression of all cells of latents ``(N, D)`` on their neighbourhoods in maps ``(N, C, H, W)``.

        Both are first centred in every cell. There must be more cells than numbers in a neighbourhood.
        """
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
