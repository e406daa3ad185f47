"""Embedders: they turn the condition, a vector or a feature map, into one vector that every coupling reads."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.cinn.actnorm import ActNorm
from course_lib.cinn.config import FlowConfig
from course_lib.cinn.networks import FullyConnectedNet
from course_lib.errors import CourseError

__all__ = ["ConvEmbedder", "DenseEmbedder", "GridEmbedder", "TaperedEmbedder", "build_embedder"]

_SLOPE = 0.2
_MAX_WIDTH_FACTOR = 16


class DenseEmbedder(nn.Module):
    """A fully connected network on a vector; the embedder of every released model.

    Args:
        in_dim: ``K``.
        out_dim: ``E``.
        hidden_dim: width of its hidden layers.
        depth: see ``FullyConnectedNet``.
        batch_norm: BatchNorm before each LeakyReLU. It then depends on the batch in training mode, and cannot train on
            a batch of one.

    References:
        CompVis/net2net, ``ConditionalFlatCouplingFlow.embedder``.
    """

    def __init__(
        self, in_dim: int, out_dim: int, hidden_dim: int = 256, depth: int = 2, batch_norm: bool = False
    ) -> None:
        super().__init__()
        self.net = FullyConnectedNet(in_dim, hidden_dim, depth, out_dim, batch_norm=batch_norm)
        self.batch_norm = batch_norm

    def forward(self, condition: Tensor) -> Tensor:
        """Map ``(B, K)`` or ``(B, K, 1, 1)`` to ``(B, E)``.

        Raises:
            CourseError: a batch of one in training mode with BatchNorm.
        """
        if self.batch_norm and self.training and condition.shape[0] == 1:
            raise CourseError("The embedder's BatchNorm needs at least 2 samples in training mode: use larger batches.")
        return self.net(condition.flatten(1))


class TaperedEmbedder(nn.Module):
    """Linear layers whose widths go evenly from ``in_dim`` to ``out_dim``, with ActNorm and LeakyReLU 0.2 between.

    Args:
        in_dim: ``K``.
        out_dim: ``E``.
        widths: number of widths including both ends, so there are ``widths - 1`` linear layers; 2048 to 128 in 6 gives
            2048, 1664, 1280, 896, 512, 128.

    References:
        CompVis/net2net, ``DenseEmbedder``; wired to the flow in CompVis/invariances.
    """

    def __init__(self, in_dim: int, out_dim: int, widths: int = 4) -> None:
        super().__init__()
        # Integer arithmetic: a linear space computed in floating point may fall just below a whole number.
        sizes = [in_dim + (out_dim - in_dim) * i // (widths - 1) for i in range(widths)]
        self.sizes = tuple(sizes)
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(ActNorm(size) for size in sizes[1:-1])
        self.activation = nn.LeakyReLU(_SLOPE)

    def forward(self, condition: Tensor) -> Tensor:
        """Map ``(B, K)`` or ``(B, K, 1, 1)`` to ``(B, E)``."""
        h = self.linears[0](condition.flatten(1))
        for norm, linear in zip(self.norms, self.linears[1:], strict=True):
            h = linear(self.activation(norm(h)[0]))
        return h


class ConvEmbedder(nn.Module):
    """Strided convolutions that shrink a feature map, then one convolution that covers what is left.

    Each step is a 4×4 convolution with stride 2 and no bias, ActNorm, LeakyReLU 0.2; widths 64, 128, … up to 1024.

    Args:
        in_shape: ``(C, H, W)``.
        out_dim: ``E``.
        downsamplings: number of strided convolutions.

    Raises:
        CourseError: nothing would be left of the map.

    References:
        Net2Net, supplement, table 4b; CompVis/net2net, ``Embedder``.
    """

    def __init__(self, in_shape: tuple[int, int, int], out_dim: int, downsamplings: int) -> None:
        super().__init__()
        channels, height, width = in_shape
        if min(height, width) >> downsamplings < 1:
            raise CourseError(
                f"ConvEmbedder: {downsamplings} downsamplings leave nothing of a {height}×{width} map; use fewer."
            )
        widths = [channels] + [64 * min(2**i, _MAX_WIDTH_FACTOR) for i in range(downsamplings)]
        pairs = list(pairwise(widths))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1, bias=False) for a, b in pairs)
        self.norms = nn.ModuleList(ActNorm(b) for _, b in pairs)
        self.out = nn.Conv2d(widths[-1], out_dim, (height >> downsamplings, width >> downsamplings))
        self.activation = nn.LeakyReLU(_SLOPE)

    def forward(self, condition: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, E)``."""
        h = condition
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = self.activation(norm(conv(h))[0])
        return self.out(h).flatten(1)


class GridEmbedder(nn.Module):
    """A map as it is read by the cells of a grid: convolutions to the grid, to half of it and to a quarter, and back.

    The way down brings news from afar (what surrounds a hole), the way up leaves every place its own.

    Args:
        in_shape: ``(C, H, W)`` with H = W = stride · G.
        out_dim: ``E``, channels of both outputs.
        side: ``G``, a multiple of 2; of 4, or the quarter is left out.
        width: channels inside.
    """

    def __init__(self, in_shape: tuple[int, int, int], out_dim: int, side: int, width: int = 32) -> None:
        super().__init__()
        stride = in_shape[1] // side
        self.enter = nn.Conv2d(in_shape[0], width, stride + 2, stride, 1)
        self.halve = nn.Conv2d(width, width, 4, 2, 1)
        self.quarter = nn.Conv2d(width, width, 4, 2, 1) if side % 4 == 0 else None
        self.coarse, self.fine = nn.Conv2d(width, out_dim, 3, 1, 1), nn.Conv2d(width, out_dim, 3, 1, 1)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(B, C, H, W)`` to ``(B, E, G, G)`` and ``(B, E, G/2, G/2)``."""
        near = F.leaky_relu(self.enter(condition), _SLOPE)
        far = F.leaky_relu(self.halve(near), _SLOPE)
        if self.quarter is not None:
            far = far + F.interpolate(F.leaky_relu(self.quarter(far), _SLOPE), scale_factor=2)
        return self.fine(near + F.interpolate(far, scale_factor=2)), self.coarse(far)


def build_embedder(config: FlowConfig) -> nn.Module:
    """The embedder that ``config`` asks for.

    Returns:
        A module from ``(B, *condition_shape)`` to ``(B, E)``.
    """
    if config.embedder_kind == "conv":
        return ConvEmbedder(config.condition_shape, config.embedding_width, config.downsamplings)
    in_dim = config.condition_shape[0]
    if config.embedder_kind == "tapered":
        return TaperedEmbedder(in_dim, config.embedding_width, config.embedder_depth + 2)
    return DenseEmbedder(
        in_dim, config.embedding_width, config.embedder_hidden_dim, config.embedder_depth, config.embedder_batch_norm
    )
